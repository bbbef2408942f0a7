"""A start of a run, in nouns: the run that is to start, the route to its density, what is written for it, and how it went."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.spin import Spin
from basis.units import HARTREE
from converters.errors import Kind, Refused
from converters.storage.files import file_among

if TYPE_CHECKING:
    from ase import Atoms

# Names the model for scripts that name none; slem-scf sets it for the run that is to start from a guess.
MODEL_VARIABLE = "SLEM_MODEL"
# Stands there in place of a model where a campaign makes starts of its earlier runs.
EARLIER_RUNS = "slem:earlier-runs"


@dataclass(frozen=True, eq=False)
class Target:
    """A run that is to be started, as its input files describe it; None or nothing where they do not say.

    `labels_a` and `radials` (label to orbital file) are the run's own names. `settings` holds what only its code knows.
    `moments_a` are those of collinear spins with which the SCF begins by default, where the input names any, `moments_av` those of spinors.
    """

    code: str
    path: Path
    cell_cv: Array
    positions_av: Array
    labels_a: tuple[str, ...]
    numbers_a: Array
    radials: Mapping[str, str]
    spin: Spin
    kpoints_kc: Array | None = None
    weights_k: Array | None = None
    smearing: str = "fixed"
    width: float = 0.0
    electrons: float | None = None
    moment: float | None = None
    nonmagnetic: bool = False
    energy_tolerance: float = 1e-4  # eV: two starts of this run that differ by less are the same state
    settings: Mapping[str, str] = field(default_factory=dict)
    moments_a: Array | None = None
    moments_av: Array | None = None
    files: tuple[Path, ...] = ()  # that the input names and that were read

    @property
    def outside(self) -> tuple[Path, ...]:
        """Files that were read and do not lie in the folder of the run."""
        return tuple(file for file in self.files if leaves(self.folder, file))

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def atoms(self) -> "Atoms":
        """The structure as ase.Atoms, in the order of the run, with the run's names of its species as `labels`."""
        from ase import Atoms

        atoms = Atoms(numbers=self.numbers_a, positions=self.positions_av, cell=self.cell_cv, pbc=True)
        atoms.set_array("labels", np.array(self.labels_a))
        return atoms


@dataclass(frozen=True)
class Route:
    """What a run starts from, and why this."""

    name: str
    why: str


@dataclass(frozen=True)
class Options:
    """What a writer may need besides the frame: the version that will read, radial functions, a template, the grid.

    `mesh` are the k-points at which orbitals are made orthogonal, `functions` is "all" of them or a "minimal" set, `kpoint` (fractions) is the one at which matrices are wanted;
    `fermi` (eV) is given where the frame says none, or another one.
    """

    version: str = ""
    basis_dir: Path | None = None
    template: Path | None = None
    grid: tuple[int, int, int] | None = None
    mesh: tuple[int, int, int] | None = None
    functions: str = "all"
    kpoint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fermi: float | None = None


@dataclass(frozen=True)
class Written:
    """Files of a guess, the input lines that make a run take it, and what the user should know."""

    files: tuple[Path, ...]
    keywords: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How a run went: iterations, final energy (eV), residual and energy (eV) after each iteration as the code printed them, and whether it took the guess.

    `moment` (magnetons) is the one at the end, of noncollinear spins its length, `absolute` the integral of the absolute spin density (OpenMX: the sum of the lengths of the moments of its atoms).
    So many `residuals_of_any_start` come first: they are the same whatever the run starts from, and say nothing of its start.
    `atoms` is for scripts, whose structure only the log knows.
    """

    iterations: int | None = None
    energy: float | None = None
    converged: bool | None = None
    residuals: tuple[float, ...] = ()
    took_guess: bool | None = None
    note: str = ""
    energies: tuple[float, ...] = ()
    atoms: int | None = None
    moment: float | None = None
    absolute: float | None = None
    residuals_of_any_start: int = 0

    @property
    def first_residual(self) -> float | None:
        """The first residual that says how near the start was."""
        return next(iter(self.residuals[self.residuals_of_any_start :]), None)


def basis_file(name: str, folders: Iterable[Path]) -> Path:
    """The file of radial functions of a name, in the first folder that has it."""
    path = file_among(folders, name)
    if path is None:
        raise Refused(
            Kind.MISSING_FILES, name, "is not where it was looked for", "a file of radial functions of the run"
        )
    return path


def replace_lines(keyed: Iterable[tuple[str, str]], new: Mapping[str, str], *, in_front: bool = False) -> str:
    """The text of an input, given as keyword and line, with new lines for some keywords.

    A new line takes the place of the first that sets its keyword, and those without a place come last; `in_front` puts all of them first.
    """
    lines, left = (list(new.values()), {}) if in_front else ([], dict(new))
    for key, line in keyed:
        if key not in new:
            lines.append(line)
        elif key in left:
            lines.append(left.pop(key))
    return "\n".join([*lines, *left.values()]) + "\n"


def numbers_of(words: Sequence[str], iterations: int | None) -> tuple[float, ...]:
    """The numbers that a log prints after each iteration, of the last SCF in it; stars, where a number had no room, are left out."""
    last = words[-(iterations or 0) :]
    return tuple(float(word) for word in last if re.fullmatch(r"-?\d+\.?\d*(?:[Ee][-+]?\d+)?", word))


def last_length(pattern: str, content: str) -> float | None:
    """The number, or the length of the vector, that a pattern finds last in a log; None where it finds none."""
    found = re.findall(pattern, content, re.I)
    numbers = [float(word) for word in re.findall(r"-?\d+\.?\d*(?:[Ee][-+]?\d+)?", found[-1])] if found else []
    return float(np.linalg.norm(numbers)) if len(numbers) > 1 else next(iter(numbers), None)


def ending_at(lines: Mapping[str, str], energy: float) -> dict[str, str]:
    """The lines of an input with which an SCF ends once its energy changes by less than so many eV."""
    return {key: text.format(eV=energy, hartree=energy / HARTREE) for key, text in lines.items()}


def leaves(folder: Path, path: Path) -> bool:
    """Whether a path that an input file names lies outside of the folder of its run."""
    return not path.resolve().is_relative_to(folder.resolve())
