"""How far a predicted DM is from the density of the predicted H: an error that shows without any run to compare with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basis import Array
from converters.errors import Refused
from converters.frames.frame import Frame
from converters.starts.density import LARGEST_DENSE, Density, Orbitals, Sampling, frame_of_levels, operator_on_mesh
from converters.starts.meshes import density_on_mesh

# Smaller overlaps (of normalised orbitals) are of shells that do not reach each other.
NO_OVERLAP = 1e-9
# Farther apart than this (electrons), predictions have saved nothing (docs/results.md).
MOST_APART = 0.15


@dataclass(frozen=True)
class Agreement:
    """The difference of a predicted DM and the density of the predicted H, a root of a mean over the electrons.

    `apart` is its norm in the metric of S, in electrons; `gradient` (eV) that of its commutator with H, the gradient of the
    energy in which an SCF would begin.
    """

    apart: float
    gradient: float

    @property
    def doubt(self) -> str:
        """Why neither should be trusted; empty where they agree."""
        return self.said(f" (more than {MOST_APART:g})") if self.apart > MOST_APART else ""

    def said(self, judged: str = "") -> str:
        apart = f"{self.apart:.3g}" if judged else f"{self.apart:.2g}"
        return f"the predicted H and DM are {apart} electrons apart{judged}, the gradient between them is {self.gradient:.2g} eV"

    def __str__(self) -> str:
        return self.said()


@dataclass(frozen=True, eq=False)
class Levels:
    """The frame with the density of the levels of its H in place of its DM, what was found on the way, and how well the two agree."""

    frame: Frame
    density: Density
    agreement: Agreement | None = None

    @property
    def doubt(self) -> str:
        """Why not to start from them; empty where nothing speaks against it."""
        if self.density.measured["S filter"]:
            return f"H has ghost states down to {self.density.measured['lowest level']:.0f} eV"
        return self.agreement.doubt if self.agreement is not None else ""


def levels_of(frame: Frame, sampling: Sampling) -> Levels:
    """The density of the levels of H and S on the k mesh of a run, beside the frame's own DM where it has one."""
    mesh = sampling.with_partners()
    frame, _ = density_on_mesh(frame, mesh, roughly=True)
    solved_at = mesh.without_partners()
    levels, density = frame_of_levels(frame, solved_at)
    if "DM" not in frame.operators:
        return Levels(levels, density)
    difference = overlapping_difference(frame, levels)
    differences = operator_on_mesh(difference, "DM", solved_at.kpoints_kc, mesh.kpoints_kc)
    return Levels(levels, density, agreement(density.orbitals, differences, solved_at))


def solvable(frame: Frame, sampling: Sampling) -> str:
    """Why the levels of a frame cannot be found; empty where they can."""
    if missing := [name for name in ("H", "S") if name not in frame.operators]:
        return f"{' and '.join(missing)} are missing" if len(missing) > 1 else f"{missing[0]} is missing"
    if not len(sampling.kpoints_kc):
        return "the k-points of the run are not known"
    return f"{frame.norb} orbitals are too many" if frame.norb > LARGEST_DENSE else ""


def measure_agreement(frame: Frame, sampling: Sampling) -> Agreement | None:
    """How well H and DM agree, where that can be found out."""
    if "DM" not in frame.operators or solvable(frame, sampling):
        return None
    try:
        return levels_of(frame, sampling).agreement
    except Refused:  # k-points that are no mesh, or an S that is none
        return None


def overlapping_difference(frame: Frame, other: Frame) -> Frame:
    """The frame with the difference of two DMs between shells that overlap; codes store no others, and nothing depends on them."""
    DM = frame.operators["DM"]
    apart_sx = np.where(overlapping_elements(frame), DM.values_sx - other.operators["DM"].values_sx, 0)
    return replace(frame, operators={**frame.operators, "DM": replace(DM, values_sx=apart_sx)})


def overlapping_elements(frame: Frame) -> Array:
    """Which elements are between shells that reach each other; single overlaps vanish by symmetry, as onsite ones of s and p do."""
    pairs, most = frame.pairs, 1 + max(len(species.shells) for species in frame.basis)
    numbers_s = [np.repeat(np.arange(len(s.shells)), [shell.size for shell in s.shells]) for s in frame.basis]
    shell_M = np.concatenate([numbers_s[s] for s in frame.species_a])
    row_x, column_x = pairs.row_column_x
    block_x = (pairs.pair_x * most + shell_M[row_x]) * most + shell_M[column_x]
    largest_b = np.zeros(len(pairs) * most**2)
    np.maximum.at(largest_b, block_x, np.abs(frame.operators["S"].values_sx[0]))
    return np.asarray((largest_b[block_x] > NO_OVERLAP) | pairs.onsite_p[pairs.pair_x])


def agreement(
    orbitals: Sequence[Sequence[Orbitals]], differences: Iterable[Sequence[Array]], sampling: Sampling
) -> Agreement:
    """The norms of the differences of two densities at each k-point, one for each spin channel, in the orbitals of H(k) and S(k)."""
    apart = gradient = 0.0
    for channels, parts, weight in zip(orbitals, differences, sampling.weights_k, strict=True):
        for known, difference in zip(channels, parts, strict=True):
            d_nn = known.Sc_Mn.conj().T @ (difference @ known.Sc_Mn)
            square_nn = d_nn.real**2 + d_nn.imag**2
            apart += weight * float(square_nn.sum())
            gradient += weight * float((np.subtract.outer(known.e_n, known.e_n) ** 2 * square_nn).sum())
    electrons = sampling.filling.electrons
    return Agreement((apart / electrons) ** 0.5, (gradient / electrons) ** 0.5)
