"""Checks of datasets and of run folders, frame by frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Kind, Refused, reading
from converters.frames.frame import Frame
from converters.physics.checks import Result, Tolerances, check_frame
from converters.physics.checks_in_parts import check_source, in_parts
from converters.physics.sparse import Source
from converters.runs import code_module, search
from converters.storage.dataset import Dataset
from converters.storage.files import HDF5_MAGIC, SQLITE_MAGIC, starts_with
from workflows.terminal.cures import CURES

Item = TypeVar("Item")


@dataclass(frozen=True)
class Report:
    """The checks of one frame and where its matrices are from, or why it could not be read."""

    place: str
    results: tuple[Result, ...] = ()
    refusal: Refused | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.refusal is None and all(result.ok is not False for result in self.results)

    @property
    def faults(self) -> list[tuple[str, Kind]]:
        """All that is wrong, each in a line with its kind."""
        if self.refusal:
            return [(str(self.refusal), self.refusal.kind)]
        return [(f"{self.place}: {result}", result.kind) for result in self.results if result.ok is False]

    @property
    def cures(self) -> list[str]:
        """What to do about what is wrong."""
        return [CURES[kind] for kind in dict.fromkeys(kind for _, kind in self.faults)]

    def as_dict(self) -> dict[str, Any]:
        checks = [{**vars(result), "kind": result.kind.value} for result in self.results]
        return {
            "place": self.place,
            "ok": self.ok,
            "refusal": self.refusal.reason if self.refusal else "",
            "cures": self.cures,
            "checks": checks,
            "origins": dict(self.origins),
        }


def count_frames(paths: Sequence[Path]) -> int | None:
    """How many frames there are; None where runs have to be read for that."""
    if not all(holds_frames(path) for path in paths):
        return None
    try:
        return sum(len(Dataset(path)) for path in paths)
    except Refused:
        return None


def check_path(path: Path, codes: list[str], step: Callable[[], None]) -> Iterator[Report]:
    """Reports of all frames of a dataset, of a run or of all runs below a folder."""
    frames = checkable_of_dataset(path) if holds_frames(path) else frames_of_runs(path, codes)
    with threadpool_limits(1), np.errstate(all="ignore"):  # the checks judge numbers that are not finite
        for place, frame in frames:
            step()
            if isinstance(frame, Refused):
                yield Report(frame.place, refusal=frame)
                continue
            outline = frame.outline if isinstance(frame, Source) else frame
            origins = {name: str(outline.origin(name)) for name in outline.operators}
            try:
                results = check_source(frame) if isinstance(frame, Source) else check_frame(frame, Tolerances())
            except Refused as refusal:
                yield Report(refusal.place, refusal=refusal)
            else:
                yield Report(place, tuple(results), origins=origins)


def holds_frames(path: Path) -> bool:
    """False for a folder and for a file of a DFT code."""
    may_be_run = starts_with(path, HDF5_MAGIC) or starts_with(path, SQLITE_MAGIC)
    return path.is_file() and (not may_be_run or is_dataset(path))


def is_dataset(path: Path) -> bool:
    """False for an HDF5 file that is a run of a code; a damaged file counts as a dataset, whose reader says what is wrong."""
    return not any(run.main == path for name in KNOWN for run in code_module(name).find_runs(path.parent, [path]))


def checkable_of_dataset(path: Path) -> Iterator[tuple[str, Frame | Source | Refused]]:
    """The frames of a dataset; of large predictions what reads them in parts."""
    yield from each_of_dataset(
        path, lambda data, n: Source.of_dataset(data, n) if in_parts(data.outline(n)) else data[n]
    )


def frames_of_dataset(path: Path) -> Iterator[tuple[str, Frame | Refused]]:
    yield from each_of_dataset(path, lambda data, n: data[n])


def each_of_dataset(path: Path, read: Callable[[Dataset, int], Item]) -> Iterator[tuple[str, Item | Refused]]:
    """What is read of each frame, or why it cannot be."""
    try:
        with Dataset(path) as data:
            for n in range(len(data)):
                place = f"{path} frame {n}"
                try:
                    yield place, read(data, n)
                except Refused as refusal:
                    yield place, refusal
    except Refused as refusal:
        yield refusal.place, refusal


def frames_of_runs(path: Path, codes: list[str]) -> Iterator[tuple[str, Frame | Refused]]:
    for run in search(path, codes):
        if isinstance(run, Refused):
            yield run.place, run
            continue
        try:
            frames = read_frames(run)
        except Refused as refusal:
            yield refusal.place, refusal
        else:
            yield from ((run.place, frame) for frame in frames)


def read_frames(run: Run) -> list[Frame]:
    with reading(run.main):
        return list(code_module(run.code).read_run(run))
