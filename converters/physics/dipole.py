"""The dipole of a molecule from its density matrix and the radial functions of its atoms.

(r - R_j) times an orbital of atom j is a sum of orbitals of the neighbouring degrees l - 1 and l + 1 with r R(r) in place of R(r), so
that <phi_i | r | phi_j> = R_j S_ij + <phi_i | (r - R_j) phi_j> takes two-centre overlaps alone.
"""

from functools import lru_cache

import numpy as np

from basis import Array
from basis.radial import Functions, GaussianFunction, RadialFunction, TabulatedFunction
from basis.shells import Shell, Species
from basis.twocentre import TwoCentre, gaunt
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.overlap import Overlap

# The components x, y, z among the harmonics of l = 1.
X_Y_Z = [2, 0, 1]
# r^2 exp(-a r^2) is the difference of two Gaussians, their exponents so far (of a) from a: its error is 1e-9 of it.
APART = 1e-4


def dipole(frame: Frame, nuclei_a: Array) -> Array:
    """sum_a Z_a R_a - Tr(DM r), in e Angstrom, of atoms whose orbitals reach no other cell."""
    if frame.pairs.R_pc.any() or frame.folded:
        raise Refused(Kind.UNSUPPORTED, frame.formula, "has orbitals that reach other cells, and so no dipole")
    if Overlap.of_frame(frame) is None:
        raise Refused(Kind.WRONG_FUNCTIONS, frame.formula, "has no radial functions, of which its dipole is made")
    pairs, table = frame.pairs, moments_of(frame.basis, frame.functions)
    electrons_v = np.zeros(3)
    rho_x = frame["DM"].values_sx[[0, 3] if len(frame["DM"].values_sx) == 4 else slice(None)].real.sum(axis=0)
    share_x = np.repeat(pairs.copies_p, pairs.size_p) * rho_x
    kind_p = frame.species_a[pairs.i_p] * len(frame.basis) + frame.species_a[pairs.j_p]
    for kind in np.unique(kind_p).tolist():
        a, b = divmod(kind, len(frame.basis))
        for p in np.flatnonzero(kind_p == kind):
            x = slice(pairs.start_p[p], pairs.start_p[p + 1])
            moment_vx = table.blocks(a, b, frame.vectors_pv[[p]]).reshape(3, -1)
            place_v = frame.positions_av[pairs.j_p[p]]
            electrons_v += (moment_vx + place_v[:, None] * frame["S"].values_sx[0, x]) @ share_x[x]
    return np.asarray(nuclei_a @ frame.positions_av - electrons_v)


class Moments:
    """<phi_i | (r - R_j) phi_j> between all species of a basis."""

    def __init__(self, basis: tuple[Species, ...], functions: tuple[Functions, ...]) -> None:
        raised = [raised_by_r(species.shells, mine) for species, mine in zip(basis, functions, strict=True)]
        self.first, self.coupling_s = len(basis), [coupling for *_, coupling in raised]
        shells_s = [*(species.shells for species in basis), *(shells for shells, *_ in raised)]
        self.integrals = TwoCentre(shells_s, [*functions, *(higher for _, higher, _ in raised)])

    def blocks(self, a: int, b: int, vectors_pv: Array) -> Array:
        """Blocks [p, v, orbitals of species a, orbitals of species b]."""
        return np.einsum("pam,vmb->pvab", self.integrals.blocks(a, self.first + b, vectors_pv), self.coupling_s[b])


@lru_cache(maxsize=8)
def moments_of(basis: tuple[Species, ...], functions: tuple[Functions, ...]) -> Moments:
    return Moments(basis, functions)


def raised_by_r(shells: tuple[Shell, ...], functions: Functions) -> tuple[tuple[Shell, ...], Functions, Array]:
    """Shells and functions of which (r - R) phi is made, and how: coupling [v, their orbitals, orbitals of the shells]."""
    new: list[Shell] = []
    higher: list[RadialFunction] = []
    parts: list[tuple[int, int, Array]] = []
    row = column = 0
    for shell, function in zip(shells, functions, strict=True):
        for L in (shell.l - 1, shell.l + 1):
            if L >= 0:
                new.append(Shell(L, zeta=len(new) + 1))
                higher.append(times_r(function, L))
                parts.append((row, column, np.sqrt(4 * np.pi / 3) * gaunt(1, shell.l, L)[X_Y_Z].swapaxes(1, 2)))
                row += 2 * L + 1
        column += shell.size
    coupling = np.zeros((3, row, column))
    for first_row, first_column, part in parts:
        _, rows, columns = part.shape
        coupling[:, first_row : first_row + rows, first_column : first_column + columns] = part
    return tuple(new), tuple(higher), coupling


def times_r(function: RadialFunction, L: int) -> RadialFunction:
    """r R(r), for orbitals of degree L."""
    if isinstance(function, TabulatedFunction):
        r_g = function.r_g
        values_g, slopes_g = r_g * function.values_g, function.values_g + r_g * function.slopes_g
        return TabulatedFunction(r_g, values_g, slopes_g, function.cutoff, function.largest_wave, function.step)
    if function.l < L:
        return GaussianFunction(L, function.exponents_n, function.coefficients_n)
    exponents_n, half_n = function.exponents_n, function.coefficients_n / (2 * APART * function.exponents_n)
    return GaussianFunction(
        L, np.concatenate([exponents_n * (1 - APART), exponents_n * (1 + APART)]), np.concatenate([half_n, -half_n])
    )
