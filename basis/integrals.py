"""Radial parts of two-centre integrals, by Fourier-Bessel transforms.

The overlap of two shells is sum_L T_L(r) G_L Y_L(direction) with Gaunt coefficients G and
T_L(r) = 4 pi i^(l1 - l2 - L) int k^2 j_L(kr) f1(k) f2(k) dk, where f(k) = sqrt(2/pi) int r^2 j_l(kr) R(r) dr. More powers of k make the
kinetic energy of it, and the slopes. Gaussians have all of it in closed form; of tables the waves are summed, which
is exact for wave vectors close enough together, since the functions end.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import factorial, pi

import numpy as np
from scipy.special import eval_genlaguerre

from basis import Array
from basis.bessel import spherical_bessels
from basis.radial import Functions, GaussianFunction, TabulatedFunction
from basis.shells import Shell

# Bessel functions that are made together: few enough for the caches of a processor.
MOST_AT_ONCE = 1 << 15
# A norm that is not worth a wave.
NO_NORM = 1e-15
# A column of a table: which shell of the first species, which of the second, and L.
Column = tuple[int, int, int]


class RadialIntegrals:
    """T_L(r) of all shells of two species; `columns` lists (first shell, second shell, L)."""

    def __init__(self, shells: tuple[Sequence[Shell], Sequence[Shell]], functions: tuple[Functions, Functions]) -> None:
        self.shells, self.functions = shells, functions
        self.columns: list[Column] = [
            (a, b, L)
            for a, first in enumerate(shells[0])
            for b, second in enumerate(shells[1])
            for L in range(abs(first.l - second.l), first.l + second.l + 1, 2)
        ]

    def values(self, r: Array, power: int = 0) -> Array:
        """T of each distance and column, with so many more powers of k (2: twice the kinetic energy)."""
        return self._waves(r, power, [(L, 1.0) for _, _, L in self.columns])

    def slopes(self, r: Array, power: int = 0) -> Array:
        """dT/dr of each distance and column, by j_L' = (L j_(L-1) - (L+1) j_(L+1)) / (2L+1)."""
        down = [(L - 1, L / (2 * L + 1)) for _, _, L in self.columns]
        up = [(L + 1, -(L + 1) / (2 * L + 1)) for _, _, L in self.columns]
        return self._waves(r, power + 1, down) + self._waves(r, power + 1, up)

    def _waves(self, r: Array, power: int, bessel: Sequence[tuple[int, float]]) -> Array:
        """Sums of k^(2 + power) j_L(kr) f1 f2 times a factor, with L and factor of each column."""
        values = np.zeros((len(r), len(self.columns)))
        chosen: dict[int, list[int]] = {}
        for c, (L, factor) in enumerate(bessel):
            if factor:
                chosen.setdefault(L, []).append(c)
        gaussian = any(isinstance(function, GaussianFunction) for both in self.functions for function in both)
        for L, waves in (self._gaussian_waves if gaussian else self._table_waves)(r, power, chosen):
            values[:, chosen[L]] = waves * np.array([self._phase(c) * bessel[c][1] for c in chosen[L]])
        return values

    def _phase(self, column: int) -> float:
        """4 pi i^(l1 - l2 - L)."""
        a, b, L = self.columns[column]
        return 4 * pi * (-1) ** ((self.shells[0][a].l - self.shells[1][b].l - L) // 2)

    def _table_waves(self, r: Array, power: int, chosen: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, Array]]:
        k, first_bk, second_bk = self._spectra
        weights_L = {}
        for L, columns in chosen.items():
            weights = np.array([first_bk[self.columns[c][0]] * second_bk[self.columns[c][1]] for c in columns])
            weights *= k ** (2 + power) * (k[1] - k[0])
            weights[:, -1] /= 2
            weights_L[L] = weights
        yield from bessel_sums(r, k, weights_L).items()

    @cached_property
    def _spectra(self) -> tuple[Array, Array, Array]:
        """Wave vectors close enough together, and the transforms of all functions at them."""
        one, two = (tuple(f for f in both if isinstance(f, TabulatedFunction)) for both in self.functions)
        largest = min(function.largest_wave for function in (*one, *two))
        # Two functions and the distance between them span at most twice the sum of their lengths.
        longest = max(function.r_g[-1] for function in one) + max(function.r_g[-1] for function in two)
        k = np.linspace(0, largest, int(np.ceil(largest * 1.1 * longest / pi)) + 1)
        first_bk = spectra_of(one, self.shells[0], k)
        same = one == two and [shell.l for shell in self.shells[0]] == [shell.l for shell in self.shells[1]]
        second_bk = first_bk if same else spectra_of(two, self.shells[1], k)
        last = last_wave(k, np.concatenate([first_bk, second_bk]))
        return k[:last], first_bk[:, :last], second_bk[:, :last]

    def _gaussian_waves(self, r: Array, power: int, chosen: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, Array]]:
        for L, columns in chosen.items():
            yield L, np.column_stack([self._gaussians(r, L, power, *self.columns[c][:2]) for c in columns])

    def _gaussians(self, r: Array, L: int, power: int, a: int, b: int) -> Array:
        first, second = self.functions[0][a], self.functions[1][b]
        if not (isinstance(first, GaussianFunction) and isinstance(second, GaussianFunction)):
            raise ValueError("tables and Gaussians do not stand in one basis")
        waves = first.l + second.l + power
        n = (waves - L) // 2
        p, q = (array.ravel() for array in np.meshgrid(first.exponents_n, second.exponents_n, indexing="ij"))
        c = np.outer(first.coefficients_n, second.coefficients_n).ravel()
        # f(k) of r^l exp(-p r^2) is sqrt(2/pi) sqrt(pi) k^l / (2^(l+2) p^(l+3/2)) exp(-k^2/4p).
        c = c * 2 / (2.0 ** (first.l + second.l + 4) * p ** (first.l + 1.5) * q ** (second.l + 1.5))
        s = (p + q) / (4 * p * q)
        c = c * np.sqrt(pi) / 2.0 ** (L + 2) * factorial(n) / s ** (L + n + 1.5)
        x = r[:, None] ** 2 / (4 * s)
        return np.asarray(r**L * ((eval_genlaguerre(n, L + 0.5, x) * np.exp(-x)) @ c))


def spectra_of(functions: Sequence[TabulatedFunction], shells: Sequence[Shell], k: Array) -> Array:
    """f(k) of tables; those that are sampled at the same points share their Bessel functions."""
    samples = [function.samples() for function in functions]
    spectra_bk = np.empty((len(functions), len(k)))
    left = sorted(range(len(functions)), key=lambda b: -len(samples[b][0]))
    while left:
        r_q = samples[left[0]][0]
        together = [b for b in left if np.array_equal(samples[b][0], r_q[: len(samples[b][0])])]
        left = [b for b in left if b not in together]
        weights_l: dict[int, list[Array]] = {}
        for b in together:
            weight_q = np.zeros(len(r_q))
            weight_q[: len(samples[b][1])] = samples[b][1]
            weights_l.setdefault(shells[b].l, []).append(weight_q)
        for l, sums in bessel_sums(k, r_q, {l: np.array(weights) for l, weights in weights_l.items()}).items():
            spectra_bk[[b for b in together if shells[b].l == l]] = np.sqrt(2 / pi) * sums.T
    return spectra_bk


def bessel_sums(x: Array, y: Array, weights_l: Mapping[int, Array]) -> dict[int, Array]:
    """Sums of j_l(xy) w(y) over y, of each degree with each of its weights, [x, weight]."""
    sums = {l: np.empty((len(x), len(weights))) for l, weights in weights_l.items()}
    step = max(1, MOST_AT_ONCE // len(y))
    for part in (slice(start, start + step) for start in range(0, len(x), step)):
        for l, bessel in enumerate(spherical_bessels(max(weights_l), np.outer(x[part], y))):
            if l in weights_l:
                sums[l][part] = bessel @ weights_l[l].T
    return sums


def last_wave(k: Array, spectra_bk: Array) -> int:
    """How many wave vectors matter: behind them the norm of no function is larger than its rounding."""
    norm_bk = np.cumsum(k[::-1] ** 2 * spectra_bk[:, ::-1] ** 2, axis=1) * (k[1] - k[0])
    return len(k) - int((norm_bk.max(axis=0) < NO_NORM).sum())
