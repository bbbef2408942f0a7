"""Origins: where each matrix of a frame is from, what was done to it since, and what should be known of it.

>>> print(frame.origin("DM"))
from dmrs1_nao.csr; put into the order and signs of this program; doubtful: symmetry 1 sums DM over a part of the k-points
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Made(Enum):
    """How a matrix came to be."""

    GIVEN = "given in memory"
    READ = "read from files"
    RESTORED = "restored from the orbitals of the run and their energies"
    INTEGRATED = "integrals of the radial functions"
    FILLED = "made of H and S by filling their levels"
    PREDICTED = "predicted by a model"


class Step(Enum):
    """The kinds of things that are done to a matrix."""

    REORDERED = "put into the order and signs of this program"
    SCALED = "times"
    AVERAGED = "mean of its two stored halves"
    UPPER = "upper triangle, as the code hands it to its solver"
    COMPLETED = "what the code left out was completed"
    CONJUGATED = "conjugated"
    REPLACED = "put in the place of the code's own, which was not whole"
    FOLDED = "each block is the sum over its images in the supercell of the k mesh"
    LOCAL = "put in the place of the run's own, which is not local"
    MESHED = "brought onto the k mesh of the run that it starts"


class Parts(Enum):
    """Which parts of its elements a code stored."""

    ALL = "all parts"
    REAL_PAULI = "real Pauli parts alone"


@dataclass(frozen=True)
class Treatment:
    """One thing that was done to a matrix: what, with which constant or why."""

    step: Step
    constant: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        said = self.step.value if self.constant is None else f"{self.step.value} {self.constant:.12g}"
        return f"{said} ({self.reason})" if self.reason else said


@dataclass(frozen=True)
class Origin:
    """Where one matrix is from: how it came to be, the files, what was done to it in turn, and what to know of it.

    `error` is how far an element may be off by the code's own integration, `grid_error` how far S may break the symmetry about a bond since its
    integrals are sums over a grid; `doubt` why the code may have written it wrong, empty
    where nothing is suspected; `mesh` the k mesh of a DM, where that is not the run's own but a finer one, on which it is local.
    """

    made: Made = Made.GIVEN
    files: tuple[str, ...] = ()
    treatments: tuple[Treatment, ...] = ()
    parts: Parts = Parts.ALL
    error: float = 0.0
    doubt: str = ""
    grid_error: float = 0.0
    mesh: tuple[int, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is, as far as is known, all of what it should be."""
        return self.parts is Parts.ALL and not self.doubt

    def __str__(self) -> str:
        said = [f"from {', '.join(self.files)}"] if self.made is Made.READ and self.files else [self.made.value]
        if self.made is not Made.READ and self.files:
            said[0] += f" ({', '.join(self.files)})"
        said += [f"on {'x'.join(map(str, self.mesh))} k-points"] * bool(self.mesh)
        said += map(str, self.treatments)
        said += [self.parts.value] * (self.parts is not Parts.ALL)
        said += [f"integrals of the code may be off by {self.error:g}"] * bool(self.error)
        said += [f"doubtful: {self.doubt}"] * bool(self.doubt)
        return "; ".join(said)


def scaled(constant: float, unit: str) -> Treatment:
    """The treatment of a matrix that was multiplied by a constant, such as 13.6 of "eV per Ry"."""
    return Treatment(Step.SCALED, constant, unit)


REORDERED, AVERAGED, UPPER, FOLDED = (
    Treatment(step) for step in (Step.REORDERED, Step.AVERAGED, Step.UPPER, Step.FOLDED)
)


@dataclass(frozen=True)
class FileForm:
    """How the files of a run were written, as far as a writer needs it to make them again; None: they do not say.

    `rydberg` (eV) and `bohr` (Angstrom) are the constants of the code, `spin_components` how many the file had, `supercell` the cells of its
    pattern, `k_cell` (3 x 3, row after row) and `k_shift` its k mesh, `k_axis` whether its arrays have an axis of k-points, `constants_from` what
    told the constants, `harmonics` the signed labels of the orbitals of each l in the order of the code.
    """

    rydberg: float | None = None
    bohr: float | None = None
    spin_components: int | None = None
    supercell: tuple[int, ...] | None = None
    k_cell: tuple[int, ...] | None = None
    k_shift: tuple[float, ...] | None = None
    k_axis: bool | None = None
    constants_from: str | None = None
    harmonics: tuple[tuple[str, ...], ...] | None = None


def origins_read(
    files: Mapping[str, tuple[str, ...]], *treatments: Treatment, energies: Treatment | None = None
) -> dict[str, Origin]:
    """The origins of matrices that were read from some files and treated alike; `energies` is what H needs besides."""
    return {
        name: Origin(Made.READ, names, (*treatments, *([energies] if energies is not None and name == "H" else [])))
        for name, names in files.items()
    }
