"""Run folders into a dataset: search, read and check in parallel, append in order; what an earlier call converted is left alone."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from basis.radial import Functions
from basis.shells import Species
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused, reading
from converters.frames.frame import Frame
from converters.physics.checks import Tolerances, require_sound
from converters.physics.locality import local_density
from converters.physics.overlap import Overlap
from converters.physics.repair import rebuilt_density, sound_without_bad_density, without_density
from converters.runs import code_module, search
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from workflows.processes.engines import Engine, Lost
from workflows.scf.copies import DEFAULT, GUESS, suffix_of
from workflows.terminal.cures import CURES

# Functions whose S is so near to that of the run are integrated as the run integrates them.
CERTAIN = 1e-6
SECOND_START = "runs that slem-scf started from a prediction are left out where the default start of the same is there: no structure is to be learned twice"


@dataclass(frozen=True)
class InputOutcome:
    """What became of one input: "converted", "there already", "refused" or, where this program failed, "internal error"."""

    path: str
    code: str
    status: str
    frames: int = 0
    note: str = ""
    refusal: Refused | None = None

    @classmethod
    def of_refusal(cls, refusal: Refused, code: str) -> "InputOutcome":
        status = "internal error" if refusal.kind is Kind.INTERNAL else "refused"
        return cls(refusal.place, code, status, refusal=refusal)

    @property
    def reason(self) -> str:
        return self.refusal.reason if self.refusal else ""

    @property
    def cure(self) -> str:
        """What to do about a refusal."""
        return CURES[self.refusal.kind] if self.refusal else ""

    def as_dict(self) -> dict[str, Any]:
        kind = self.refusal.kind.value if self.refusal else ""
        facts = {"path": self.path, "code": self.code, "status": self.status, "frames": self.frames, "note": self.note}
        return {**facts, "kind": kind, "reason": self.reason, "cure": self.cure}


@dataclass(frozen=True)
class Options:
    """How inputs are judged."""

    tolerances: Tolerances = field(default_factory=Tolerances)
    strict: bool = False
    rebuild_density: bool = False
    drop_density: bool = False
    density_mesh: str = "run"
    find_functions: bool = True
    basis_folders: tuple[Path, ...] = ()
    belongs: Callable[[Frame], bool] | None = None  # frames that do not are refused


def find(paths: list[Path], codes: list[str], rows: slice = slice(None)) -> list[Run | Refused]:
    """All runs below the paths, each once, in the order of the paths; of databases some of the rows.

    Those of the code that most are of come first: a dataset is of the code of its first run, and a test that lies among
    hundreds of runs shall not have them refused.
    """
    found: dict[object, Run | Refused] = {}
    for path in paths:
        for item in search(path, codes):
            found.setdefault((item.matrices, item.row) if isinstance(item, Run) else str(item), item)
    of_file: dict[Path, list[Run]] = {}
    for item in found.values():
        if isinstance(item, Run) and item.row is not None:
            of_file.setdefault(item.main, []).append(item)
    wanted = {id(run) for runs in of_file.values() for run in runs[rows]}
    items = [item for item in found.values() if not isinstance(item, Run) or item.row is None or id(item) in wanted]
    count = Counter(item.code for item in items if isinstance(item, Run))
    if len(count) < 2:
        return items
    return sorted(items, key=lambda item: -count[item.code] if isinstance(item, Run) else 0)


def convert(
    items: list[Run | Refused], output: Path, options: Options, engine: Engine, tell: Callable[[InputOutcome], None]
) -> list[InputOutcome]:
    """Append the runs to the dataset in their order; `tell` hears of each one as soon as it is done.

    All frames of a run are committed together, so an interrupted conversion goes on where it stopped.
    """
    outcomes = []
    by_default: set[Path] = set()
    have: set[str] = set()
    if output.exists():
        with Dataset(output) as data:
            have = data.sources()
    elif not output.parent.is_dir():
        raise Refused(Kind.NOT_THERE, output, "lies in a folder that does not exist")
    read = partial(read_new, have=frozenset(have), options=options)
    # More threads only wait for each other in problems of this size.
    with threadpool_limits(1), DatasetWriter(output, commit_every=1 << 62) as writer:
        for item, result in engine.run(read, items):
            again = isinstance(item, Run) and not by_default.isdisjoint(twins_by_default(item))
            found = None if again else lost(item) if isinstance(result, Lost) else result
            outcome = store(item, found, writer, have, options)
            if again:
                outcome = replace(outcome, note=SECOND_START)
            elif isinstance(item, Run) and not outcome.refusal:
                by_default.update(item.folder.parents, [item.folder])
            outcomes.append(outcome)
            tell(outcome)
    return outcomes


def twins_by_default(run: Run) -> list[Path]:
    """Folders beside those of a run that `slem-scf --compare` started from a prediction, in which it started the same by default."""
    guess, default = map(suffix_of, (GUESS, DEFAULT))
    places = [place for place in (run.folder, *run.folder.parents) if place.name.endswith(guess)]
    return [place.with_name(place.name.removesuffix(guess) + default) for place in places]


def store(
    item: Run | Refused,
    result: list[Frame] | Refused | None,
    writer: DatasetWriter,
    have: set[str],
    options: Options,
) -> InputOutcome:
    """Put what was read of one run into the dataset."""
    path, code = (item.place, item.code) if isinstance(item, Run) else (item.place, "")
    if isinstance(result, Refused):
        return InputOutcome.of_refusal(result, code)
    if result is None or result[0].provenance.source in have:  # a copy of a run may stand in the same call
        return InputOutcome(path, code, "there already")
    notes = dict.fromkeys(note for frame in result for note in frame.provenance.notes)
    try:
        if isinstance(item, Run) and options.find_functions:
            result[0], note = with_functions(item, result[0], writer.functions, options)
            notes |= {note: None} if note else {}
        for frame in result:
            writer.append(frame)
    except Refused as refusal:
        writer.forget_pending()
        return InputOutcome.of_refusal(refusal, code)
    writer.commit()
    have.update(frame.provenance.source for frame in result)
    return InputOutcome(path, code, "converted", frames=len(result), note="; ".join(notes))


def with_functions(run: Run, frame: Frame, known: Mapping[Species, Functions], options: Options) -> tuple[Frame, str]:
    """A frame with the radial functions of those of its species that the dataset has none of, once S shows that they are right."""
    wanted = [species for species in frame.basis if species not in known]
    if not wanted:
        return frame, ""
    try:
        with reading(run.place):
            possible = code_module(run.code).find_functions(run, frame, options.basis_folders)
            found, files, difference, where = best_functions(frame, known, possible)
    except Refused as refusal:
        if refusal.kind is Kind.INTERNAL:
            raise
        return frame, f"radial functions are left out: {refusal}"
    there = [species for species, mine in zip(frame.basis, found.functions, strict=False) if mine is not None]
    names = ", ".join(species.name for species in wanted if species in there)
    if not names:
        return frame, ""
    names += f" from {', '.join(dict.fromkeys(map(str, files)))}"
    if difference is None:
        return found, f"radial functions of {names}, not checked"
    if not difference <= options.tolerances.overlap:
        why = f"S of the run is not theirs: {difference:.3g} apart, most for {where}"
        return frame, f"radial functions of {names} are left out: {why} (expected {options.tolerances.overlap:.3g})"
    return found, f"radial functions of {names}: their S is that of the run to {difference:.1e}"


def best_functions(
    frame: Frame, known: Mapping[Species, Functions], possible: Iterable[FoundFunctions]
) -> tuple[Frame, tuple[Path, ...], float | None, str]:
    """A frame with those of several possible functions whose S is nearest to its own, their files, how near, and where they differ most.

    The first one is taken where S cannot be compared.
    """
    best, difference, where = frame, None, ""
    files: tuple[Path, ...] = ()
    for found in possible:
        functions = tuple(found.functions.get(species, known.get(species)) for species in frame.basis)
        one = replace(frame, functions=functions)
        overlap = Overlap.of_frame(one) if "S" in frame.operators else None
        if overlap is None:
            return one, found.files, None, ""
        off, place = overlap.difference(one)
        if difference is None or off < difference:
            best, files, difference, where = one, found.files, off, place
        if off < CERTAIN:
            break
    return best, files, difference, where


def lost(item: Run | Refused) -> Refused:
    place = item.place
    return Refused(
        Kind.TOO_LITTLE_MEMORY, place, "ended the process that read it; it may need more memory than there is"
    )


def mesh_named(text: str) -> tuple[int, ...] | None:
    """The k mesh that a text such as 9x9x9 means; None for auto."""
    if text == "auto":
        return None
    numbers = text.lower().split("x")
    if len(numbers) != 3 or not all(number.isdecimal() and int(number) for number in numbers):
        raise Refused(Kind.NO_SUCH_CHOICE, "k mesh of DM", f'is "{text}"', "run, auto or a mesh such as 9x9x9")
    return tuple(map(int, numbers))


def read_new(run: Run | Refused, have: frozenset[str], options: Options) -> list[Frame] | Refused | None:
    """Checked frames of a run, the reason why there are none, or None when the dataset has it already."""
    if isinstance(run, Refused):
        return run
    try:
        with reading(run.place), np.errstate(all="ignore"):  # the checks judge numbers that are not finite
            return None if run.source in have else read_checked(run, options)
    except Refused as refusal:
        return refusal


def read_checked(run: Run, options: Options) -> list[Frame]:
    """Frames of a run that pass the checks; in strict mode a check that could not be done fails."""
    frames = []
    for frame in code_module(run.code).read_run(run):
        if options.belongs is not None and not options.belongs(frame):
            raise Refused(Kind.OTHER_STRUCTURE, run.place, "is of other atoms or other places than the input beside it")
        if options.drop_density:
            frame = without_density(frame, "that was asked for")
        elif options.rebuild_density:
            frame = rebuilt_density(frame, options.tolerances)
        if options.strict:
            results = require_sound(frame, options.tolerances)
        else:
            frame, results = sound_without_bad_density(frame, options.tolerances)
        if options.density_mesh != "run":
            frame = local_density(frame, mesh_named(options.density_mesh))
        for result in results:
            if options.strict and result.ok is None:
                raise Refused(Kind.UNFINISHED_SCF, run.place, f"{result.name} could not be checked: {result.expected}")
        frames.append(frame)
    if not frames:
        raise Refused(Kind.NO_RUN, run.place, "holds no frame")
    return frames
