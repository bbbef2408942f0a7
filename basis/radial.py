"""Radial functions: R(r) of a shell, whose orbital is R(r) Y_lm; lengths in Angstrom.

Codes integrate their tables in their own ways, and the difference is larger than what a near-singular overlap forgives. So a
table says at which points and up to which wave vector its code integrates it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.shells import Shell

if TYPE_CHECKING:
    from scipy.interpolate import CubicHermiteSpline

# Overlaps of Gaussians smaller than this are left out.
SMALLEST_OVERLAP = 1e-13
# Lengths (Angstrom) and numbers of waves and points that no basis has: a damaged file may claim them.
LONGEST, SHORTEST, MOST_SAMPLES = 1000.0, 1e-9, 1e5
# A damaged number may be finite and its square may not; no function comes near to this.
LARGEST = 1e60
# Between two points of a table that is integrated exactly.
GAUSS_POINTS, GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclass(frozen=True, eq=False)
class TabulatedFunction:
    """R(r) of a table: cubic pieces through values and slopes, with int R^2 r^2 dr = 1 as exactly as the code has it.

    Atoms farther apart than the sum of their cutoffs have no overlap; the table may end a little behind the cutoff, and
    integrals see all of it. `step` is the distance of the points at which the code samples the function in its integrals (0: as exactly as
    can be), `largest_wave` the largest wave vector in them.
    """

    r_g: Array
    values_g: Array
    slopes_g: Array
    cutoff: float
    largest_wave: float
    step: float = 0.0

    def __post_init__(self) -> None:
        if (
            not len(self.r_g) == len(self.values_g) == len(self.slopes_g) >= 2
            or not (np.diff(self.r_g) > SHORTEST).all()
        ):
            raise ValueError("a table of a radial function needs two points or more, at growing r")
        numbers = np.concatenate([self.r_g, self.values_g, self.slopes_g, [self.cutoff, self.largest_wave, self.step]])
        if not (np.abs(numbers) < LARGEST).all() or 0 != self.r_g[0] < SHORTEST or self.step < 0:
            raise ValueError("a table of a radial function has numbers beyond all bounds, or negative lengths")
        if not 0 < self.cutoff <= self.r_g[-1] * (1 + 1e-9) or not self.largest_wave > 0:
            raise ValueError(f"a radial function has the cutoff {self.cutoff}; its table ends at {self.r_g[-1]}")
        waves, points = self.largest_wave * self.r_g[-1], self.r_g[-1] / self.step if self.step else 0
        if self.r_g[-1] > LONGEST or max(waves, points) > MOST_SAMPLES:
            raise ValueError(
                f"a radial function claims {waves:.3g} waves, {points:.3g} points and {self.r_g[-1]:.3g} A"
            )

    def __call__(self, r: Array) -> Array:
        """R at any distances."""
        return np.where(r < self.cutoff, self.whole(r), 0.0)

    def whole(self, r: Array) -> Array:
        """R up to the end of the table, which may lie behind the cutoff; before its first point it is constant."""
        return np.where(r <= self.r_g[-1], self._curve(np.clip(r, self.r_g[0], self.r_g[-1])), 0.0)

    @cached_property
    def _curve(self) -> "CubicHermiteSpline":
        from scipy.interpolate import CubicHermiteSpline  # takes half as long as all else that a command imports

        return CubicHermiteSpline(self.r_g, self.values_g, self.slopes_g)

    def samples(self) -> tuple[Array, Array]:
        """Points r and R(r) r^2 dr, of which an integral is the sum."""
        if self.step:
            r_q = np.arange(0.0, self.r_g[-1], self.step)
            width_q = np.full(len(r_q), self.step)
        else:
            edges = np.concatenate([[0.0] * bool(self.r_g[0] > 0), self.r_g])
            half = np.diff(edges)[:, None] / 2
            r_q = (edges[:-1, None] + half * (1 + GAUSS_POINTS)).ravel()
            width_q = (half * GAUSS_WEIGHTS).ravel()
        return r_q, self.whole(r_q) * r_q**2 * width_q


@dataclass(frozen=True, eq=False)
class GaussianFunction:
    """R(r) = r^l sum_n c_n exp(-a_n r^2), with int R^2 r^2 dr = 1."""

    l: int
    exponents_n: Array
    coefficients_n: Array

    def __post_init__(self) -> None:
        if not len(self.exponents_n) == len(self.coefficients_n) >= 1 or self.l < 0:
            raise ValueError("a contracted Gaussian needs as many coefficients as exponents, and l >= 0")
        if not (np.abs([self.coefficients_n, self.exponents_n]) < LARGEST).all():
            raise ValueError("a contracted Gaussian has numbers beyond all bounds")
        if not (self.exponents_n > 0).all() or self.cutoff > LONGEST:
            raise ValueError("a contracted Gaussian has an exponent that is not positive, or next to nothing")

    def __call__(self, r: Array) -> Array:
        """R at any distances."""
        r = np.asarray(r, dtype=float)
        return r**self.l * (np.exp(-self.exponents_n * r[..., None] ** 2) @ self.coefficients_n)

    @property
    def cutoff(self) -> float:
        """A distance beyond which the function is nothing."""
        return float(np.sqrt(-np.log(SMALLEST_OVERLAP) / self.exponents_n.min()))


RadialFunction = TabulatedFunction | GaussianFunction
# The functions of the shells of one species, in their order.
Functions = tuple[RadialFunction, ...]


def values_of(functions: Sequence[RadialFunction], r: Array) -> Array:
    """R(r) of each function, in columns; those of one table, which have points and cutoff in common, are looked up together."""
    curve, first = joint_curve(tuple(functions)), functions[0]
    if curve is None or not isinstance(first, TabulatedFunction):
        return np.stack([function(r) for function in functions], axis=-1)
    values = curve(np.clip(r, first.r_g[0], first.r_g[-1]))
    values[(r >= first.cutoff) | (r > first.r_g[-1])] = 0.0
    return np.asarray(values)


@lru_cache(maxsize=64)
def joint_curve(functions: Functions) -> "CubicHermiteSpline | None":
    """The curves of functions with the same points and cutoff, as one."""
    from scipy.interpolate import CubicHermiteSpline

    tables = [function for function in functions if isinstance(function, TabulatedFunction)]
    if len(tables) < len(functions) or any(
        table.cutoff != tables[0].cutoff or not np.array_equal(table.r_g, tables[0].r_g) for table in tables
    ):
        return None
    values, slopes = (
        np.stack(parts, axis=-1) for parts in zip(*((t.values_g, t.slopes_g) for t in tables), strict=True)
    )
    return CubicHermiteSpline(tables[0].r_g, values, slopes)


def reach(first: RadialFunction, second: RadialFunction) -> float:
    """Distance from which on two functions have no overlap."""
    if isinstance(first, TabulatedFunction) and isinstance(second, TabulatedFunction):
        return first.cutoff + second.cutoff
    if isinstance(first, GaussianFunction) and isinstance(second, GaussianFunction):
        a, b = first.exponents_n.min(), second.exponents_n.min()
        return float(np.sqrt(-np.log(SMALLEST_OVERLAP) * (a + b) / (a * b)))
    raise ValueError("tables and Gaussians do not stand in one basis")


def table_of_points(r_g: Array, values_g: Array, cutoff: float, largest_wave: float, step: float) -> TabulatedFunction:
    """A table without slopes: they are those of the cubic spline."""
    from scipy.interpolate import CubicSpline

    slopes_g = CubicSpline(r_g, values_g)(r_g, 1)
    return TabulatedFunction(r_g, values_g, slopes_g, cutoff, largest_wave, step)


def same_functions(first: Functions, second: Functions) -> bool:
    """Whether two species have the same functions, up to rounding."""
    packed = [pack_functions(functions) for functions in (first, second)]
    return all(
        one.shape == other.shape and np.allclose(one, other, rtol=1e-9, atol=1e-9)
        for one, other in zip(*packed, strict=True)
    )


# Files hold all functions of a basis in two arrays: `rows` with (r, value, slope) or (exponent, coefficient, 0), and for each
# shell (first row, end, kind, l, cutoff, largest wave, step), where a shell of unknown function has no rows.
TABLE, GAUSSIANS = 0, 1
ABOUT = ("first", "end", "kind", "l", "cutoff", "largest_wave", "step")


def pack_functions(by_shell: Sequence[RadialFunction | None]) -> tuple[Array, Array]:
    """The arrays of functions, None where one is unknown: what each is, and the rows of all."""
    rows, about, first = [np.empty((0, 3))], [], 0
    for function in by_shell:
        if isinstance(function, TabulatedFunction):
            rows.append(np.column_stack([function.r_g, function.values_g, function.slopes_g]))
            facts = (TABLE, 0, function.cutoff, function.largest_wave, function.step)
        elif isinstance(function, GaussianFunction):
            rows.append(np.column_stack([function.exponents_n, function.coefficients_n, 0 * function.exponents_n]))
            facts = (GAUSSIANS, function.l, 0.0, 0.0, 0.0)
        else:
            rows.append(np.empty((0, 3)))
            facts = (TABLE, 0, 0.0, 0.0, 0.0)
        about.append((first, first + len(rows[-1]), *facts))
        first += len(rows[-1])
    return np.array(about, dtype=float).reshape(-1, len(ABOUT)), np.concatenate(rows)


def unpack_functions(about: Array, rows: Array, shells_s: Sequence[Sequence[Shell]]) -> tuple[Functions | None, ...]:
    """The functions of species with some shells each, None for a species of which they are not known."""
    sizes = [len(shells) for shells in shells_s]
    if len(about) != sum(sizes) or about.shape[1:] != (len(ABOUT),) or rows.shape[1:] != (3,):
        raise ValueError("the arrays of the radial functions do not fit the basis")
    found = []
    for start, stop in pairwise(np.cumsum([0, *sizes]).tolist()):
        whole = all(first < end for first, end, *_ in about[start:stop])
        found.append(tuple(unpack(one, rows) for one in about[start:stop]) if whole and stop > start else None)
    for functions, shells in zip(found, shells_s, strict=True):
        for function, shell in zip(functions or (), shells, strict=False):
            if isinstance(function, GaussianFunction) and function.l != shell.l:
                raise ValueError(f"a shell of l = {shell.l} has a radial function of l = {function.l}")
    return tuple(found)


def unpack(about: Array, rows: Array) -> RadialFunction:
    first, end, kind, l = (int(number) for number in about[:4])
    if not 0 <= first < end <= len(rows):
        raise ValueError("a radial function lies outside of its array")
    one, two, three = rows[first:end].T
    if kind == GAUSSIANS:
        return GaussianFunction(l, one, two)
    if kind != TABLE:
        raise ValueError(f"a radial function is of the kind {kind}; this program knows {TABLE} and {GAUSSIANS}")
    cutoff, largest_wave, step = (float(number) for number in about[4:])
    return TabulatedFunction(one, two, three, cutoff, largest_wave, step)
