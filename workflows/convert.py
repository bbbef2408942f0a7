"""Run folders into a dataset: search, read and check in parallel, append in order."""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from converters.blocks import Operator
from converters.checks import Tolerances, require_sound
from converters.dataset import Dataset, DatasetWriter
from converters.errors import Refused
from converters.frame import Frame
from converters.kspace import Filling, density_matrix
from converters.runs import Run, code_module, search

# What a damaged file can make a reader raise without the reader having foreseen it.
BAD_INPUT = (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError, RuntimeError, MemoryError, EOFError)


@dataclass(frozen=True)
class InputOutcome:
    """What became of one input: "converted", "there already" or "refused"."""

    path: str
    code: str
    status: str
    frames: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Options:
    """How inputs are judged."""

    tolerances: Tolerances = field(default_factory=Tolerances)
    strict: bool = False
    rebuild_density: bool = False


def find(paths: list[Path], codes: list[str]) -> list[Run | Refused]:
    """All runs below the paths, each once, in the order of the paths."""
    found: dict[object, Run | Refused] = {}
    for path in paths:
        for item in search(path, codes):
            found.setdefault(item.matrices if isinstance(item, Run) else str(item), item)
    return list(found.values())


def convert(
    items: list[Run | Refused], output: Path, options: Options, jobs: int, tell: Callable[[InputOutcome], None]
) -> list[InputOutcome]:
    """Append the runs to the dataset in their order; `tell` hears of each one as soon as it is done.

    All frames of a run are committed together, so an interrupted conversion goes on where it stopped.
    """
    outcomes = []
    have: set[str] = set()
    if output.exists():
        with Dataset(output) as data:
            have = data.sources()
    elif not output.parent.is_dir():
        raise Refused(output, "lies in a folder that does not exist")
    read = partial(read_new, have=frozenset(have), options=options)
    with DatasetWriter(output, commit_every=1 << 62) as writer:
        for item, result in read_all(items, read, jobs):
            outcome = store(item, result, writer, have)
            outcomes.append(outcome)
            tell(outcome)
    return outcomes


def store(
    item: Run | Refused, result: list[Frame] | Refused | None, writer: DatasetWriter, have: set[str]
) -> InputOutcome:
    """Put what was read of one run into the dataset."""
    path, code = (str(item.main), item.code) if isinstance(item, Run) else (item.place, "")
    if isinstance(result, Refused):
        return InputOutcome(result.place, code, "refused", reason=result.reason)
    if result is None or result[0].provenance.source in have:  # a copy of a run may stand in the same call
        return InputOutcome(path, code, "there already")
    try:
        for frame in result:
            writer.append(frame)
    except Refused as refusal:
        writer.forget_pending()
        return InputOutcome(refusal.place, code, "refused", reason=refusal.reason)
    writer.commit()
    have.update(frame.provenance.source for frame in result)
    return InputOutcome(path, code, "converted", frames=len(result))


def read_new(run: Run, have: frozenset[str], options: Options) -> list[Frame] | Refused | None:
    """Checked frames of a run, the reason why there are none, or None when the dataset has it already."""
    try:
        with np.errstate(all="ignore"):  # the checks judge numbers that are not finite
            return None if run.source in have else read_checked(run, options)
    except Refused as refusal:
        return refusal
    except BAD_INPUT as error:
        return Refused(run.main, f"cannot be read: {error or type(error).__name__}")


def read_checked(run: Run, options: Options) -> list[Frame]:
    """Frames of a run that pass the checks; in strict mode a check that could not be done fails."""
    frames = []
    for frame in code_module(run.code).read_run(run):
        if options.rebuild_density:
            frame = rebuild_density(frame)
        for result in require_sound(frame, options.tolerances):
            if options.strict and result.ok is None:
                raise Refused(run.main, f"{result.name} could not be checked: {result.expected}")
        frames.append(frame)
    if not frames:
        raise Refused(run.main, "holds no frame")
    return frames


def rebuild_density(frame: Frame) -> Frame:
    """The frame with the DM of its (H, S), where the DM that the code wrote is known to be wrong or not whole."""
    settings, spectrum = frame.provenance.settings, frame.spectrum
    whole = not settings.get("DM doubtful") and not settings.get("DM parts")
    if whole or frame.folded or spectrum is None or not spectrum.smearing or frame.outcome.electrons is None:
        return frame
    moment = frame.outcome.moment if spectrum.fixed_moment else None
    filling = Filling(frame.outcome.electrons, spectrum.smearing, spectrum.width, moment)
    rebuilt = density_matrix(frame, spectrum.kpoints_kc, spectrum.weights_k, filling)
    known_x = frame.operators["DM"].known_x
    values_sx = rebuilt.values_sx if known_x is None else np.where(known_x, rebuilt.values_sx, 0)
    density = Operator(values_sx, known_x)
    kept = {name: value for name, value in settings.items() if name not in ("DM doubtful", "DM parts")}
    notes = (*frame.provenance.notes, "DM was built anew from H and S: the code's own was not whole")
    provenance = replace(frame.provenance, settings=kept | {"DM from": "H and S"}, notes=notes)
    return replace(frame, operators={**frame.operators, "DM": density}, provenance=provenance)


def read_all(
    items: list[Run | Refused], read: Callable[[Run], Any], jobs: int
) -> Iterator[tuple[Run | Refused, list[Frame] | Refused | None]]:
    """Each item with what reading it gave, in order; a few are read ahead by `jobs` processes."""
    if jobs == 1:
        with threadpool_limits(1):  # more threads only wait for each other in problems of this size
            for item in items:
                yield item, item if isinstance(item, Refused) else read(item)
        return
    pool = make_pool(jobs)
    rest = iter(items)
    waiting: deque[tuple[Run | Refused, Future[Any]]] = deque()
    try:
        while True:
            waiting.extend((item, submit(pool, read, item)) for item in islice(rest, 2 * jobs - len(waiting)))
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # One reader was killed and took the pool along: read this item alone, the others again.
                result = read_alone(item, read)
                pool = make_pool(jobs)
                waiting = deque((other, submit(pool, read, other)) for other, _ in waiting)
            yield item, result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def submit(pool: ProcessPoolExecutor, read: Callable[[Run], Any], item: Run | Refused) -> Future[Any]:
    """What reading an item will give; a refusal stays what it is."""
    if isinstance(item, Run):
        return pool.submit(read, item)
    future: Future[Any] = Future()
    future.set_result(item)
    return future


def read_alone(item: Run | Refused, read: Callable[[Run], Any]) -> Any:
    """What reading gives in a process of its own."""
    with make_pool(1) as pool:
        try:
            return submit(pool, read, item).result()
        except BrokenProcessPool:
            place = item.main if isinstance(item, Run) else item.place
            return Refused(place, "ended the process that read it; it may need more memory than there is")


def make_pool(jobs: int) -> ProcessPoolExecutor:
    """Processes that inherit what is imported already, where the system can do that, and use one thread each."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_work)


def begin_work() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are loaded later
    threadpool_limits(1)
    Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent was killed; a pool's processes would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
