"""Two-centre integrals: blocks of the overlap or the kinetic energy between atoms at any distance and in any direction.

>>> overlap = TwoCentre(shells_s, functions_s)
>>> overlap.blocks(0, 1, vectors_pv)      # <orbitals of species 0 | orbitals of species 1 at these vectors>
>>> overlap.gradients(0, 1, vectors_pv)   # their derivatives with respect to the vectors
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial, pi

import numpy as np

from basis import Array
from basis.couplings import coupling
from basis.harmonics import solid_harmonics
from basis.integrals import RadialIntegrals
from basis.radial import Functions, reach
from basis.shells import Shell
from basis.units import BOHR, HARTREE

# The operators, each the number of times that k^2 stands in its integral, and its factor.
OVERLAP, KINETIC = (0, 1.0), (2, HARTREE * BOHR**2 / 2)
# Distance of the points of a table (Angstrom), between which quintic splines are right to 1e-12.
STEP = 0.01
# Nearer atoms (Angstrom) are rare, and the sharpest functions are too sharp for a table.
NEAR = 0.5
# Pairs that are made together: few enough for the caches of a processor.
BATCH = 2000


class TwoCentre:
    """Two-centre integrals of one operator between all species of a basis."""

    def __init__(
        self,
        shells_s: Sequence[Sequence[Shell]],
        functions_s: Sequence[Functions],
        operator: tuple[int, float] = OVERLAP,
    ) -> None:
        self.shells_s, self.functions_s, self.operator = shells_s, functions_s, operator
        self._tables: dict[tuple[int, int], Table] = {}

    @cached_property
    def reach_ss(self) -> Array:
        """Distance from which on each two species have no integrals."""
        return np.array(
            [
                [max(reach(f, g) for f in first for g in second) for second in self.functions_s]
                for first in self.functions_s
            ]
        )

    def blocks(self, first: int, second: int, vectors_pv: Array) -> Array:
        """Blocks [p, orbitals of the first species, orbitals of the second]."""
        if first > second:
            return self.blocks(second, first, -vectors_pv).swapaxes(1, 2)
        table = self._table(first, second)
        blocks = np.empty((len(vectors_pv), table.rows, table.columns))
        for start in range(0, len(vectors_pv), BATCH):
            part = slice(start, start + BATCH)
            blocks[part] = table.blocks(vectors_pv[part])
        return blocks

    def gradients(self, first: int, second: int, vectors_pv: Array) -> Array:
        """Derivatives of the blocks [p, v, orbitals of the first species, orbitals of the second]."""
        if first > second:
            return -self.gradients(second, first, -vectors_pv).swapaxes(2, 3)
        table = self._table(first, second)
        parts = [table.gradients(vectors_pv[start : start + BATCH]) for start in range(0, len(vectors_pv), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, 3, table.rows, table.columns))

    def _table(self, first: int, second: int) -> "Table":
        if (first, second) not in self._tables:
            both = (first, second)
            shells = tuple(self.shells_s[s] for s in both)
            integrals = RadialIntegrals((shells[0], shells[1]), (self.functions_s[first], self.functions_s[second]))
            self._tables[both] = Table(integrals, float(self.reach_ss[both]), *self.operator)
        return self._tables[first, second]


@dataclass(frozen=True, eq=False)
class Degrees:
    """All blocks of shells of two degrees: where their T stand, how they couple, and where they go.

    `gaunt` is [L M, m1 m2], `column_abL` the columns of the table, `degree_M` the number of L of each L M.
    """

    gaunt: Array
    column_abL: Array
    degree_M: Array
    harmonics: Array
    rows: Array
    columns: Array


class Table:
    """T_L(r) of two species as splines of the distance."""

    def __init__(self, integrals: RadialIntegrals, farthest: float, power: int, factor: float) -> None:
        from scipy.interpolate import make_interp_spline

        self.integrals, self.farthest, self.power, self.factor = integrals, farthest, power, factor
        first, second = integrals.shells
        self.rows, self.columns = (sum(shell.size for shell in shells) for shells in (first, second))
        self.highest = max(shell.l for shell in first) + max(shell.l for shell in second)
        self.degrees = list(all_degrees(integrals))
        # One knot behind the last point keeps the longest distance inside.
        r_g = np.arange(0, int(np.ceil(farthest / STEP)) + 2) * STEP
        spline = make_interp_spline(r_g, integrals.values(r_g, power) * factor, k=5)
        # Powers of r - r_g, the highest first; all columns of one interval stand together in memory.
        powers = [spline.derivative(n)(r_g[:-1]) / factorial(n) if n else spline(r_g[:-1]) for n in range(5, -1, -1)]
        self._c_gnc = np.stack(powers, axis=1)

    def blocks(self, vectors_pv: Array) -> Array:
        r_p, harmonics_pM, _ = self._directions(vectors_pv)
        T_pc, _ = self._radial(r_p, slopes=False)
        blocks = np.empty((len(r_p), self.rows, self.columns))
        for degrees in self.degrees:
            angular_pM = harmonics_pM[:, degrees.harmonics]
            fill(blocks, degrees, (T_pc[:, degrees.column_abL][..., degrees.degree_M]) * angular_pM[:, None, None])
        return blocks

    def gradients(self, vectors_pv: Array) -> Array:
        """d(T Y)/dv = T' v/r Y + T/r (r dY/dv)."""
        r_p, harmonics_pM, turning_pvM = self._directions(vectors_pv, turning=True)
        T_pc, slopes_pc = self._radial(r_p, slopes=True)
        # T of odd L goes like r at the origin, that of even L has no part in what turns there.
        over_pc = np.where(r_p[:, None] > 0, T_pc / np.where(r_p > 0, r_p, 1.0)[:, None], slopes_pc)
        unit_pv = directions(vectors_pv, r_p)
        gradients = np.empty((len(r_p), 3, self.rows, self.columns))
        for degrees in self.degrees:
            for v in range(3):
                along = (slopes_pc * unit_pv[:, v, None])[:, degrees.column_abL][..., degrees.degree_M]
                around = over_pc[:, degrees.column_abL][..., degrees.degree_M]
                terms = along * harmonics_pM[:, degrees.harmonics][:, None, None]
                terms += around * turning_pvM[:, v, degrees.harmonics][:, None, None]
                fill(gradients[:, v], degrees, terms)
        return gradients

    def _directions(self, vectors_pv: Array, turning: bool = False) -> tuple[Array, Array, Array]:
        """Distances, harmonics Y_LM of the directions, and r times their gradients."""
        r_p = np.linalg.norm(vectors_pv, axis=1)
        unit_pv = directions(vectors_pv, r_p)
        harmonics = solid_harmonics(self.highest, unit_pv)
        turned = solid_gradients(harmonics, unit_pv) if turning else np.empty(0)
        return r_p, np.concatenate(harmonics, axis=1), turned

    def _radial(self, r_p: Array, *, slopes: bool) -> tuple[Array, Array]:
        """T and, where asked for, dT/dr of each pair and column."""
        g_p = np.minimum((r_p / STEP).astype(np.int64), len(self._c_gnc) - 1)
        x_p = (r_p - g_p * STEP)[:, None]
        c_pnc = self._c_gnc[g_p]
        T_pc = c_pnc[:, 0].copy()
        slopes_pc = np.zeros_like(T_pc) if slopes else np.empty(0)
        for power in range(1, c_pnc.shape[1]):
            if slopes:
                slopes_pc = slopes_pc * x_p + T_pc
            T_pc *= x_p
            T_pc += c_pnc[:, power]
        self._mend(r_p, T_pc, slopes_pc, slopes)
        return T_pc, slopes_pc

    def _mend(self, r_p: Array, T_pc: Array, slopes_pc: Array, slopes: bool) -> None:
        """Pairs that are too near for the splines, and those that are too far to have integrals."""
        near = np.flatnonzero(r_p < NEAR)
        if len(near):
            r, place = np.unique(r_p[near], return_inverse=True)
            T_pc[near] = self.integrals.values(r, self.power)[place] * self.factor
            if slopes:
                slopes_pc[near] = self.integrals.slopes(r, self.power)[place] * self.factor
        far = r_p >= self.farthest
        if far.any():
            T_pc[far] = 0
            if slopes:
                slopes_pc[far] = 0


def directions(vectors_pv: Array, r_p: Array) -> Array:
    """Unit vectors; z for no distance, where only L = 0 counts."""
    unit_pv = vectors_pv / np.where(r_p > 0, r_p, 1.0)[:, None]
    unit_pv[r_p == 0] = (0, 0, 1)
    return np.asarray(unit_pv)


def fill(blocks: Array, degrees: Degrees, terms_pabM: Array) -> None:
    """Couple T Y of shells of two degrees, and put it where those shells stand."""
    pairs, na, nb, count = terms_pabM.shape
    coupled = (terms_pabM.reshape(-1, count) @ degrees.gaunt).reshape(pairs, na, nb, *degrees.rows.shape[1:], -1)
    blocks[:, degrees.rows[:, :, None, None], degrees.columns] = coupled.transpose(0, 1, 3, 2, 4)


def all_degrees(integrals: RadialIntegrals) -> Iterator[Degrees]:
    """The shells of two species by their degrees."""
    place = {column: c for c, column in enumerate(integrals.columns)}
    by_degree = [shells_by_degree(shells) for shells in integrals.shells]
    for l1, (a_n, rows) in by_degree[0].items():
        for l2, (b_n, columns) in by_degree[1].items():
            Ls = range(abs(l1 - l2), l1 + l2 + 1, 2)
            column_abL = np.array([[[place[a, b, L] for L in Ls] for b in b_n] for a in a_n])
            gaunt_M = [gaunt(l1, l2, L).reshape(-1, 2 * L + 1).T for L in Ls]
            harmonics = np.concatenate([np.arange(L * L, (L + 1) ** 2) for L in Ls])
            degree_M = np.concatenate([np.full(2 * L + 1, n) for n, L in enumerate(Ls)])
            yield Degrees(np.concatenate(gaunt_M), column_abL, degree_M, harmonics, rows, columns)


def shells_by_degree(shells: Sequence[Shell]) -> dict[int, tuple[list[int], Array]]:
    """Shells of each degree, and the orbitals of each."""
    ends = np.cumsum([shell.size for shell in shells])
    found: dict[int, tuple[list[int], Array]] = {}
    for l in sorted({shell.l for shell in shells}):
        mine = [n for n, shell in enumerate(shells) if shell.l == l]
        found[l] = mine, np.array([np.arange(ends[n] - 2 * l - 1, ends[n]) for n in mine])
    return found


def gaunt(l1: int, l2: int, L: int) -> Array:
    """Integrals of three real harmonics [m1, m2, M]."""
    C = coupling(l1, l2, L)
    return np.asarray(C * (C[l1, l2, L] * np.sqrt((2 * l1 + 1) * (2 * l2 + 1) / (4 * pi * (2 * L + 1)))))


def solid_gradients(harmonics: Sequence[Array], unit_pv: Array) -> Array:
    """r times the gradients of Y_LM(direction), [p, v, L M].

    The gradient of r^L Y is made of harmonics of the degree below; what it has along the direction is taken away.
    """
    found = [np.zeros((len(unit_pv), 3, 1))]
    for L in range(1, len(harmonics)):
        solid = np.einsum("pm,vmM->pvM", harmonics[L - 1], solid_derivative(L))
        found.append(solid - L * unit_pv[:, :, None] * harmonics[L][:, None])
    return np.concatenate(found, axis=2)


def solid_derivative(L: int) -> Array:
    """D[v, m, M]: d(r^L Y_LM)/dv = r^(L-1) sum_m D Y_(L-1)m; in the integral over a sphere, d/dv acts as (2L + 1) v/r."""
    x_y_z = [2, 0, 1]
    return np.sqrt(4 * pi / 3) * (2 * L + 1) * gaunt(1, L - 1, L)[x_y_z]
