"""Levels of large sparse (H, S): how many lie below an energy, those next to it, all of a window, and the gap.

The counts are exact, since they come from the inertia of H - E S. They prove that Lanczos' method, which finds the
levels themselves, has missed none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg as dense
from scipy import sparse
from scipy.sparse import linalg

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import distinct
from converters.physics.factors import INSTALL, Matrix, choose_engine

# Matrices up to this size are solved densely where no solver counts.
LARGEST_DENSE = 4000
# Levels that Lanczos' method looks for at once; wider windows are cut. Where no solver is asked for, matrices that have no more are solved densely.
AT_ONCE = 80
# Matrices up to this size are solved densely by all: Lanczos' method finds too few of their levels.
TOO_SMALL = 8
# How exact a level is found, relative to its distance from where it is looked for.
LEVEL = 1e-10
# Counts are taken so far (eV) from the levels that they prove: where they stand, the matrix is singular.
BESIDE = 1e-5
# Windows are cut and searched so far (of their width) from their middle, where levels of symmetric structures may stand.
OFF = 1e-6
# A Fermi level is looked for by counts until it is so many levels away, and then by Lanczos' method.
CLOSE = 12
MOST_COUNTS = 60
# Width (eV) that occupied levels have about, for a first guess.
VALENCE = 12.0


class Levels:
    """The levels of H c = e S c of one spin channel at one k-point, by a direct solver."""

    def __init__(self, H: Matrix, S: Matrix, solver: str = "auto", largest_dense: int | None = None) -> None:
        """SuperLU, which cannot count, leaves matrices up to `largest_dense` (LARGEST_DENSE) to a dense solver."""
        self.size = H.shape[0]
        self.H, self.S = on_one_pattern(H, S)
        self.all: Array | None = None
        if solver == "dense" or (solver == "auto" and self.size <= AT_ONCE):
            self.all, self.name = solve_all(H, S), "dense"
            return
        self.engine = choose_engine(solver, sparse.csr_array(self.H))
        self.name = self.engine.name
        self.at: float | None = None
        self.counted: dict[float, int] = {}
        largest = LARGEST_DENSE if largest_dense is None else largest_dense
        if self.size <= TOO_SMALL or (self.name == "superlu" and self.size <= largest):
            self.all, self.name = solve_all(H, S), "dense"

    @property
    def counts(self) -> bool:
        """Whether levels can be counted."""
        return self.all is not None or self.name != "superlu"

    @property
    def most(self) -> int:
        """The most levels that can be found at once."""
        return self.size if self.all is not None else self.size - 2

    def factor(self, energy: float) -> None:
        if self.at != energy:
            self.at = None
            self.engine.factor(shifted(self.H, self.S, energy))
            self.at = energy

    def below(self, energy: float) -> int:
        """The number of levels below an energy (eV)."""
        if self.all is not None:
            return int(np.searchsorted(self.all, energy))
        if energy not in self.counted:
            if not self.counts:
                raise Refused(
                    Kind.NOT_INSTALLED,
                    self.name,
                    f"cannot count the levels of {self.size} orbitals",
                    f"a solver with symmetric factors: {INSTALL}",
                )
            self.factor(energy)
            found = self.engine.below
            if found is None:
                raise Refused(
                    Kind.NO_SUCH_CHOICE, self.name, f"cannot count: a level stands at {energy} eV", "another energy"
                )
            self.counted[energy] = found
        return self.counted[energy]

    def near(self, energy: float, count: int) -> Array:
        """The `count` levels next to an energy (eV), ascending, by shift and invert."""
        self.require_count(count)
        if self.all is not None:
            return np.sort(self.all[np.argsort(np.abs(self.all - energy), kind="stable")[:count]])
        return self.states_near(energy, count)[0]

    def states_near(self, energy: float, count: int) -> tuple[Array, Array]:
        """The same levels, and of each the coefficients of its orbitals (M, n), normalised in the metric of S."""
        self.require_count(count)
        if self.all is not None:
            e_n, c_Mn = dense.eigh(self.H.toarray(), self.S.toarray(), check_finite=False)
            kept_n = np.sort(np.argsort(np.abs(e_n - energy), kind="stable")[:count])
            return e_n[kept_n], c_Mn[:, kept_n]
        self.factor(energy)
        inverse = linalg.LinearOperator(self.H.shape, matvec=self.engine.solve, dtype=self.H.dtype)
        start = np.random.default_rng(0).standard_normal(self.size)  # always the same, and so are results
        e_n, c_Mn = linalg.eigsh(self.H, count, self.S, sigma=energy, OPinv=inverse, v0=start, tol=LEVEL)
        order_n = np.argsort(e_n)
        return e_n[order_n], c_Mn[:, order_n]

    def require_count(self, count: int) -> None:
        if not 0 < count <= self.most:
            raise Refused(Kind.NO_SUCH_CHOICE, "levels", f"are {count} of {self.size}", f"1 to {self.most}")

    def within(self, low: float, high: float, guess: Array | None = None) -> Array:
        """All levels from one energy to another, ascending; their number is proven by counts, also that of a guess."""
        if not low < high:
            raise Refused(Kind.NO_SUCH_CHOICE, "window", f"goes from {low} to {high} eV", "a lower energy first")
        if self.all is not None:
            return inside(self.all, low, high)
        expected = self.below(high) - self.below(low)
        found = inside(np.zeros(0) if guess is None else guess, low, high)
        middle = (low + high) / 2 + OFF * (high - low)
        if expected > min(AT_ONCE, self.most) and high - low > BESIDE:
            return np.concatenate([self.within(low, middle), self.within(middle, high)])
        for more in (2, 20, 60):
            if len(found) == expected:
                return found
            found = inside(self.near(middle, min(expected + more, self.most)), low, high)
        raise Refused(
            Kind.NO_SUCH_CHOICE,
            f"the window from {low} to {high} eV",
            f"holds {expected} levels, of which {len(found)} are found",
            "one whose ends are no levels",
        )


def inside(levels: Array, low: float, high: float) -> Array:
    return levels[(levels >= low) & (levels < high)]


def solve_all(H: Matrix, S: Matrix) -> Array:
    try:
        return np.asarray(dense.eigh(H.toarray(), S.toarray(), eigvals_only=True, check_finite=False))
    except np.linalg.LinAlgError as error:
        raise Refused(Kind.SINGULAR_OVERLAP, "S", "is not positive definite, so that H has no levels") from error


def shifted(H: Matrix, S: Matrix, energy: float) -> Matrix:
    """H - E S on the pattern that both have."""
    return sparse.csr_array((H.data - energy * S.data, H.indices, H.indptr), shape=H.shape)


def on_one_pattern(H: Matrix, S: Matrix) -> tuple[Matrix, Matrix]:
    """The same matrices with the same elements stored, the diagonal among them."""
    same = H.nnz == S.nnz and np.array_equal(H.indptr, S.indptr) and np.array_equal(H.indices, S.indices)
    if same and H.has_sorted_indices and (H.diagonal() != 0).all():
        return H, S
    size = H.shape[0]
    places = [np.arange(size, dtype=np.int64) * (size + 1)]
    for matrix in (H, S):
        coo = matrix.tocoo()
        places.append(coo.row.astype(np.int64) * size + coo.col)
    place_e = distinct(np.concatenate(places))
    row_e, column_e = np.divmod(place_e, size)
    start_M = np.searchsorted(row_e, np.arange(size + 1)).astype(np.int32)
    both = []
    for matrix, place in zip((H, S), places[1:], strict=True):
        data = np.zeros(len(place_e), dtype=np.result_type(H.dtype, S.dtype))
        data[np.searchsorted(place_e, place)] = matrix.tocoo().data
        both.append(sparse.csr_array((data, column_e.astype(np.int32), start_M), shape=(size, size)))
    return both[0], both[1]


@dataclass(frozen=True)
class Gap:
    """The highest occupied and the lowest empty level (eV), between which the Fermi level lies, and how it was found."""

    homo: float
    lumo: float
    occupied: int
    counts: int

    @property
    def fermi(self) -> float:
        return (self.homo + self.lumo) / 2

    @property
    def width(self) -> float:
        return self.lumo - self.homo


def find_gap(spins: Sequence[Levels], electrons: float, most: float, guess: float) -> Gap:
    """Between which levels the electrons end, `most` in each; where the highest one is filled in part it is both of them."""
    occupied = int(np.floor(electrons / most + 1e-6))
    partly = electrons / most - occupied > 1e-6
    size = sum(levels.size for levels in spins)
    if not 0 < occupied < size:
        raise Refused(Kind.NO_BANDS, "the electrons", f"are {electrons:g} for {size} levels")
    energy, counts = close_to(spins, occupied, guess)
    below = below_all(spins, energy)
    for more in (4, 24, 64):
        count = 2 * (abs(below - occupied) + more)
        around = [levels.near(energy, min(count, levels.most)) for levels in spins]
        found = np.sort(np.concatenate(around))
        # Level number n (from 1) of all has this place among those that were found, if none of them is missing.
        place = occupied - 1 - (below - int(np.searchsorted(found, energy)))
        if not 0 <= place < len(found) - 1:
            continue
        low, high = float(found[place]) - BESIDE, float(found[place + 1]) + BESIDE
        proven = [levels.within(low, high, mine) for levels, mine in zip(spins, around, strict=True)]
        found = np.sort(np.concatenate(proven))
        place = occupied - 1 - below_all(spins, low)
        if 0 <= place < len(found) - 1:
            homo, lumo = float(found[place]), float(found[place + 1])
            return Gap(lumo if partly else homo, lumo, occupied, counts + 2)
    raise Refused(
        Kind.NO_BANDS, "the Fermi level", f"is not found about {energy:.4f} eV", "levels that can be told apart"
    )


def below_all(spins: Sequence[Levels], energy: float) -> int:
    return sum(levels.below(energy) for levels in spins)


def close_to(spins: Sequence[Levels], wanted: int, guess: float) -> tuple[float, int]:
    """An energy below which nearly as many levels lie as are wanted, and how often was counted: by the rule of false position."""
    low, high = (-np.inf, 0), (np.inf, 0)
    energy, step = guess, 0.0
    for n in range(1, MOST_COUNTS):
        found = below_all(spins, energy)
        if abs(found - wanted) <= CLOSE:
            return energy, n
        if found < wanted:
            low = (energy, found)
        else:
            high = (energy, found)
        if np.isinf(low[0]) or np.isinf(high[0]):
            step = 2 * step if step else VALENCE * abs(wanted - found) / wanted
            energy += min(step, VALENCE) if found < wanted else -min(step, VALENCE)
        else:
            share = (wanted - low[1]) / (high[1] - low[1])
            share = 0.5 if n % 4 == 0 else min(max(share, 0.05), 0.95)
            energy = low[0] + share * (high[0] - low[0])
        if high[0] - low[0] < BESIDE:
            return energy, n
    raise Refused(Kind.NO_BANDS, "the Fermi level", f"is not bracketed in {MOST_COUNTS} counts")


def atomic_fermi(H: Matrix, S: Matrix, sizes_a: Array, occupied: float) -> float:
    """Where the levels of the atoms, each for itself, would be filled: a first guess."""
    levels = []
    for end, size in zip(np.cumsum(sizes_a).tolist(), sizes_a.tolist(), strict=True):
        part = slice(end - size, end)
        levels.append(dense.eigh(H[part, part].toarray(), S[part, part].toarray(), eigvals_only=True))
    ordered = np.sort(np.concatenate(levels))
    return float(ordered[min(int(occupied), len(ordered) - 1)])
