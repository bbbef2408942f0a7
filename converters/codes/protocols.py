"""What the modules of a code must give: `Code` for every one, `Restart` or `Script` where runs can be started.

A module is such an object: its functions are the methods. mypy compares each code's modules with these protocols, where its record
loads them (`converters/codes/known/`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from basis.radial import Functions
from basis.shells import Species
from converters.codes.run import FoundFunctions, Run
from converters.frames.frame import Frame
from converters.starts.start import Options, Progress, Route, Target, Written

if TYPE_CHECKING:
    from ase import Atoms

    from converters.physics.sparse import Source


class Code(Protocol):
    """Reads the runs of a code and writes its files."""

    def find_runs(self, folder: Path, files: list[Path]) -> Iterator[Run]:
        """The runs in a folder with these files; known by what is in the files, never by the name of the folder."""

    def read_run(self, run: Run) -> Iterator[Frame]:
        """The frames of a run in eV, Angstrom and our order of orbitals, checked as far as the files themselves allow."""

    def write_matrices(self, frame: Frame, folder: Path, options: Options) -> Sequence[Path]:
        """The files written: the matrices of a frame as a run of the code would have left them."""

    def find_functions(self, run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
        """Radial functions of the species of a run, of those whose files lie in the folders, beside the run or where its input says.

        Where it is not known how the run integrated them there are several possibilities, the likeliest first.
        """

    def read_functions(self, source: str, symbols: Sequence[str]) -> Mapping[Species, Functions]:
        """Species and functions of a source that is this code's (a file, the name of a basis for some elements); nothing of another."""


class Restart(Protocol):
    """Starts runs that read files: from the input of the run to the question whether it took the start."""

    def is_input(self, path: Path) -> bool:
        """Whether a file that is named like an input is one."""

    def read_target(self, path: Path) -> Target:
        """What the input of a run says, a file or the folder that has only one."""

    def read_structure(self, path: Path) -> "Atoms":
        """The structure in a file whose name the record calls this code's."""

    def choose_route(self, frame: Frame, target: Target | None, options: Options) -> Route:
        """What the run starts from best, and why."""

    def write_guess(self, frame: Frame, route: str, folder: Path, target: Target | None, options: Options) -> Written:
        """The files from which the run starts, written into a folder, and the keywords that make it read them."""

    def patch(self, target: Target, keywords: Mapping[str, str]) -> tuple[str, str]:
        """Name and text of the input with these keywords."""

    def read_progress(self, folder: Path) -> Progress:
        """How the newest run in a folder went."""


@runtime_checkable
class RestartInParts(Restart, Protocol):
    """The same for predictions that are too large to be held in memory."""

    def write_density_of(self, source: "Source", factor: float, folder: Path, target: Target | None) -> Written:
        """The files of write_guess by the route dm, for DM times a number; `source` has the atoms in the order of the run."""


class Script(Protocol):
    """Starts runs that are scripts of the user, which ask for their start themselves."""

    def write_start(
        self, frame: Frame, given: Path | None, folder: Path, route: str, how: str
    ) -> tuple[Route, Written]:
        """The files that a script reads, for the molecule of a given file or folder, and what they hold."""

    def energy_tolerance(self, folder: Path) -> float:
        """Energies (eV) of two starts that differ by less are of the same state."""

    def read_progress(self, folder: Path) -> Progress:
        """How the newest run in a folder went."""
