"""What FHI-aims has no files for: radial functions, and matrices to write."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from basis.radial import Functions
from basis.shells import Species
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.starts.start import Options


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """None: the code makes its functions from a few words of control.in, by solving for free atoms."""
    return iter(())


def read_functions(source: str, symbols: Sequence[str]) -> Mapping[Species, Functions]:
    return {}


def write_matrices(frame: Frame, folder: Path, options: Options) -> Sequence[Path]:
    raise Refused(
        Kind.UNSUPPORTED, folder, "files of FHI-aims are read and not written", "another format, such as deeph"
    )
