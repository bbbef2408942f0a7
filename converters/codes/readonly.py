"""What formats have in common that are only read: radial functions come with the frames, and nothing is written."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from basis.radial import Functions
from basis.shells import Species
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.starts.start import Options


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """Those that the frame has already."""
    known = {species: functions for species, functions in zip(frame.basis, frame.functions, strict=False) if functions}
    if known:
        yield FoundFunctions(known, (run.main,))


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """Nothing: no source is of these formats alone."""
    return {}


def refuse_to_write(title: str) -> Callable[[Frame, Path, Options], Sequence[Path]]:
    """The writer of a format that has none."""

    def write_matrices(frame: Frame, folder: Path, options: Options) -> Sequence[Path]:
        raise Refused(Kind.UNSUPPORTED, folder, f"cannot be written: {title} is only read")

    return write_matrices
