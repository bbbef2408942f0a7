"""Spectra of large sparse (H, S): densities of states of all orbitals or of some atoms, and the Fermi levels that they say.

S is never taken for a unit matrix: moments are those of S^-1 H, with S solved by its factors where these fit, else by a local
inverse, whose work grows as the number of atoms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal

from basis import Array
from converters.errors import Kind, Refused
from converters.physics.factors import Matrix, choose_engine
from converters.physics.inverse import LocalInverse

# Factors of larger matrices do not fit (three-dimensional structures fill them almost wholly).
LARGEST_FACTOR = 16_000
# Relative error of the local inverse of S, by which levels are off at most, and of the roots of S by Lanczos.
SOLVED, ROOTED = 1e-4, 1e-6
MOST_STEPS = 3000
# Ends of the spectrum are found to this share of themselves and then widened by this factor, so that no level lies outside.
ENDED, WIDER = 1e-3, 1.02
# A gap holds fewer electrons than this.
GAP_COUNT = 1e-3
# Points of the energy grid on which states are counted, for each moment.
FINE = 4

Solve = Callable[[Array], Array]


def solver_of(S: Matrix, sizes_a: Array, accuracy: float, largest_factor: int) -> tuple[Solve, Solve, float]:
    """What multiplies with S^-1 and with a root of it, and their relative error; `sizes_a` are the orbitals of the atoms."""
    if S.shape[0] <= largest_factor:
        engine = choose_engine("auto", S)
        engine.factor(S)
        return engine.solve, lambda x: np.column_stack([inverse_root(S, column) for column in x.T]), ROOTED
    local = LocalInverse.of(S, sizes_a, accuracy)
    return local.solve, local.root, accuracy


def starting_vector(size: int) -> Array:
    """Where Lanczos' method starts: always the same, so that results do not differ from run to run."""
    return np.random.default_rng(0).standard_normal(size)


def ends_of_spectrum(H: Matrix, S: Matrix, solve: Solve) -> tuple[float, float]:
    """The lowest and the highest eigenvalue of S^-1 H, to a share of their distance, by Lanczos' method in the metric of S."""
    now, before = starting_vector(S.shape[0]).astype(S.dtype), np.zeros(S.shape[0], dtype=S.dtype)
    now = now / float(np.vdot(now, S @ now).real) ** 0.5
    alpha: list[float] = []
    beta: list[float] = []
    while len(alpha) < min(MOST_STEPS, S.shape[0]):
        image = H @ now
        alpha.append(float(np.vdot(now, image).real))
        rest = solve(image) - alpha[-1] * now - (beta[-1] * before if beta else 0)
        norm = float(np.vdot(rest, S @ rest).real) ** 0.5
        e_n, u = eigh_tridiagonal(np.array(alpha), np.array(beta))
        if len(alpha) > 1 and norm * np.abs(u[-1, [0, -1]]).max() < ENDED * (e_n[-1] - e_n[0]):
            return float(e_n[0]), float(e_n[-1])
        beta.append(norm)
        before, now = now, rest / norm
    return float(e_n[0]), float(e_n[-1])


@dataclass(frozen=True, eq=False)
class Pencil:
    """The pair (H, S) with its spectrum brought to the interval from -1 to 1."""

    H: Matrix
    S: Matrix
    solve: Solve
    root: Solve
    middle: float
    half: float
    error: float

    @classmethod
    def of(
        cls,
        H: Matrix,
        S: Matrix,
        sizes_a: Array,
        accuracy: float = SOLVED,
        largest_factor: int = LARGEST_FACTOR,
    ) -> "Pencil":
        """`sizes_a` are the orbitals of the atoms; an S that is larger than `largest_factor` is inverted locally, to `accuracy`."""
        solve, root, error = solver_of(S, sizes_a, accuracy, largest_factor)
        low, high = ends_of_spectrum(H, S, solve)
        return cls(H, S, solve, root, (low + high) / 2, WIDER * (high - low) / 2, error)

    def apply(self, x: Array) -> Array:
        """(S^-1 H - middle) / half times some columns."""
        return (self.solve(self.H @ x) - self.middle * x) / self.half

    def moments(self, left: Array, right: Array, count: int) -> Array:
        """left^H T_n(.) right of each column, n = 0 to count - 1."""
        before, now = right, self.apply(right)
        found = [dots(left, before), dots(left, now)]
        while len(found) < count:
            before, now = now, 2 * self.apply(now) - before
            found.append(dots(left, now))
        return np.array(found[:count])

    def total_moments(self, count: int, vectors: int, seed: int) -> tuple[Array, Array]:
        """Moments of all states, each the mean over some random vectors, and their standard errors."""
        random = np.random.default_rng(seed)
        signs = random.choice([-1.0, 1.0], size=(self.S.shape[0], vectors))
        start = self.root(signs)
        # In the metric of S the operator is Hermitian, and twice as many moments follow from the products of two vectors.
        before, now = start, self.apply(start)
        zero, one = dots(self.S @ before, before), dots(self.S @ before, now)
        found = [zero, one]
        while len(found) < count:
            image = self.S @ now
            found.append(2 * dots(image, now) - zero)
            before, now = now, 2 * self.apply(now) - before
            found.append(2 * dots(image, now) - one)
        moments_nv = np.array(found[:count])
        error_n = moments_nv.std(axis=1, ddof=1) / vectors**0.5 if vectors > 1 else np.full(count, np.nan)
        return moments_nv.mean(axis=1), error_n

    def atom_moments(self, orbitals: Array, count: int) -> Array:
        """Moments of the Mulliken share of some orbitals in all states; exact."""
        unit = np.zeros((self.S.shape[0], len(orbitals)), dtype=self.S.dtype)
        unit[orbitals, np.arange(len(orbitals))] = 1
        return self.moments(unit, unit, count).sum(axis=1)

    def density(self, moments_n: Array, energies_e: Array) -> Array:
        """States per eV: the series of the moments with Jackson's kernel, 0 outside of the spectrum."""
        x_e = (np.asarray(energies_e) - self.middle) / self.half
        inside_e = np.abs(x_e) < 1
        angle_e = np.arccos(x_e[inside_e])
        weights_n = jackson(len(moments_n)) * moments_n * np.where(np.arange(len(moments_n)) == 0, 1, 2)
        series_e = np.zeros(len(angle_e))
        for n, weight in enumerate(weights_n):
            series_e += weight * np.cos(n * angle_e)
        found_e = np.zeros(len(x_e))
        found_e[inside_e] = series_e / (np.pi * self.half * np.sin(angle_e))
        return found_e

    def states_below(self, moments_n: Array, energies_e: Array) -> Array:
        """States below each energy: the integral of the density."""
        angle_e = np.arccos(np.clip((np.asarray(energies_e) - self.middle) / self.half, -1, 1))
        order_n = np.arange(1, len(moments_n))
        weights_n = jackson(len(moments_n)) * moments_n
        series_e = weights_n[0] * (np.pi - angle_e)
        for n in order_n:
            series_e -= 2 * weights_n[n] * np.sin(n * angle_e) / n
        return series_e / np.pi

    def resolution(self, count: int) -> float:
        """Width (eV, standard deviation) of a level in the middle of the spectrum, for a number of moments."""
        return float(np.pi * self.half / count)


def fermi_level(counted: Sequence[tuple[Pencil, Array]], electrons: float, most: float) -> float:
    """The energy below which the states of all spins hold the electrons, `most` each; the middle of the gap where there is one."""
    low = min(pencil.middle - pencil.half for pencil, _ in counted)
    high = max(pencil.middle + pencil.half for pencil, _ in counted)
    energies_e = np.linspace(low, high, FINE * max(len(moments_n) for _, moments_n in counted))
    below_e = most * sum((pencil.states_below(moments_n, energies_e) for pencil, moments_n in counted), np.zeros(1))
    below_e = np.maximum.accumulate(below_e)
    edges = (np.interp(electrons + shift, below_e, energies_e) for shift in (-GAP_COUNT, GAP_COUNT))
    return float(sum(edges) / 2)


def dots(a: Array, b: Array) -> Array:
    """The products of each column of two matrices."""
    return np.asarray(np.einsum("Mv,Mv->v", a.conj(), b).real)


def jackson(count: int) -> Array:
    """Factors that keep a series of moments positive and its peaks narrow."""
    n, N = np.arange(count), count + 1
    return ((N - n) * np.cos(np.pi * n / N) + np.sin(np.pi * n / N) / np.tan(np.pi / N)) / N


def inverse_root(S: Matrix, vector: Array) -> Array:
    """S^-1/2 times a vector, by Lanczos' method."""
    norm = float(np.linalg.norm(vector))
    columns = [vector / norm]
    alpha: list[float] = []
    beta: list[float] = []
    last: Array | None = None
    while len(columns) <= MOST_STEPS:
        w = S @ columns[-1]
        if beta:
            w = w - beta[-1] * columns[-2]
        alpha.append(float(np.vdot(columns[-1], w).real))
        w = w - alpha[-1] * columns[-1]
        beta.append(float(np.linalg.norm(w)))
        exhausted = beta[-1] < 1e-12 * alpha[0] or len(columns) == S.shape[0]
        if len(alpha) % 20 == 0 or exhausted:
            y = root_of_chain(alpha, beta[:-1])
            if exhausted or (
                last is not None
                and np.linalg.norm(y - np.pad(last, (0, len(y) - len(last)))) < ROOTED * np.linalg.norm(y)
            ):
                return norm * (np.array(columns).T @ y)
            last = y
        columns.append(w / beta[-1])
    raise Refused(Kind.SINGULAR_OVERLAP, "S", f"is too near to singular: its root is not found in {MOST_STEPS} steps")


def root_of_chain(alpha: Sequence[float], beta: Sequence[float]) -> Array:
    """The first column of T^-1/2 of a tridiagonal matrix."""
    e_n, u = eigh_tridiagonal(np.array(alpha), np.array(beta))
    if e_n[0] <= 0:
        raise Refused(Kind.SINGULAR_OVERLAP, "S", f"is not positive definite: it has the eigenvalue {e_n[0]:.3g}")
    return np.asarray(u @ (u[0] / np.sqrt(e_n)))
