"""The inverse of a large S without its factors: a local one of each atom, and a short polynomial that makes it as exact as is asked for.

Each atom's rows of G come from S among the atoms that overlap with it and come before it, so that G S G^H is near to one: Gram and
Schmidt's orthogonalisation, cut off. Its spectrum is narrow; Chebyshev's iteration of a fixed number of steps then gives
S^-1 with a relative error that is known beforehand, and is a linear, positive operator: moments do not go astray.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg as dense
from scipy import sparse
from scipy.sparse import linalg

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import distinct
from converters.physics.factors import Matrix

# Elements of S that are not used, and those from which on two atoms overlap.
NOTHING, OVERLAPPING = 1e-10, 1e-6
# Ends of the spectrum of G S G^H are found to this share, and widened by it twice.
ENDS = 0.02
# A worse conditioned G S G^H would need more steps than this.
MOST_STEPS = 400


@dataclass(frozen=True, eq=False)
class LocalInverse:
    """S^-1 as G^H p(G S G^H) G, with its relative error."""

    S: Matrix
    G: Matrix
    adjoint: Matrix
    low: float
    high: float
    accuracy: float

    @classmethod
    def of(cls, S: Matrix, sizes_a: Array, accuracy: float) -> "LocalInverse":
        """`sizes_a` are the orbitals of the atoms."""
        S = without(S, NOTHING)
        G = local_factors(S, sizes_a)
        found = cls(S, G, sparse.csr_array(G.conj().T.tocsr()), 0.0, 0.0, accuracy)
        operator = linalg.LinearOperator(S.shape, matvec=found.product, dtype=S.dtype)
        start = np.random.default_rng(0).standard_normal(S.shape[0])
        low, high = (
            float(linalg.eigsh(operator, 1, which=end, tol=ENDS, v0=start, return_eigenvectors=False)[0])
            for end in ("SA", "LA")
        )
        found = cls(S, G, found.adjoint, (1 - 2 * ENDS) * low, (1 + 2 * ENDS) * high, accuracy)
        if low <= 0 or found.steps > MOST_STEPS:
            raise Refused(
                Kind.SINGULAR_OVERLAP,
                "S",
                f"is too near to singular: its local inverse leaves eigenvalues from {low:.2g} to {high:.2g}",
            )
        return found

    @property
    def steps(self) -> int:
        """Steps after which the residual of Chebyshev's iteration is as small as asked for."""
        ratio = (self.high + self.low) / (self.high - self.low)
        return int(np.ceil(np.arccosh(1 / self.accuracy) / np.arccosh(ratio)))

    def product(self, x: Array) -> Array:
        """G S G^H times some columns."""
        return self.G @ (self.S @ (self.adjoint @ x))

    def solve(self, b: Array) -> Array:
        """S^-1 times some columns, by a fixed number of steps of Chebyshev's iteration."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        residual = self.G @ b
        ratio = half / middle
        step = residual / middle
        x = step.copy()
        for _ in range(self.steps - 1):
            residual = residual - self.product(step)
            before, ratio = ratio, 1 / (2 * middle / half - ratio)
            step = ratio * before * step + 2 * ratio / half * residual
            x += step
        return self.adjoint @ x

    def root(self, x: Array) -> Array:
        """G^H (G S G^H)^-1/2 times some columns: a root of S^-1 by the right."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        count = 2 * self.steps + 8
        angle_j = np.pi * (np.arange(count) + 0.5) / count
        values_j = 1 / np.sqrt(middle + half * np.cos(angle_j))
        series = 2 / count * np.cos(np.outer(np.arange(count), angle_j)) @ values_j
        series[0] /= 2
        before, now = x, (self.product(x) - middle * x) / half
        total = series[0] * before + series[1] * now
        for weight in series[2:]:
            before, now = now, 2 * (self.product(now) - middle * now) / half - before
            total = total + weight * now
        return self.adjoint @ total


def without(matrix: Matrix, least: float) -> Matrix:
    """The matrix without its tiny elements."""
    kept = matrix.copy()
    kept.data[np.abs(kept.data) < least] = 0
    kept.eliminate_zeros()
    kept.sort_indices()
    return kept


def local_factors(S: Matrix, sizes_a: Array) -> Matrix:
    """G, whose rows of each atom are those of the inverse Cholesky factor of S among the atoms that overlap with it and come before it."""
    atom_M = np.repeat(np.arange(len(sizes_a)), sizes_a)
    first_a = np.cumsum(sizes_a) - sizes_a
    rows, columns, values = [], [], []
    for a, near in enumerate(neighbours_before(S, atom_M, len(sizes_a))):
        orbitals = np.concatenate([np.arange(first_a[b], first_a[b] + sizes_a[b]) for b in near])
        size = int(sizes_a[a])
        block = S[orbitals][:, orbitals].toarray()
        try:
            unit = np.zeros((len(orbitals), size), dtype=S.dtype)
            unit[-size:] = np.eye(size)
            X = dense.cho_solve(dense.cho_factor(block, lower=True, check_finite=False), unit, check_finite=False)
            own = np.linalg.cholesky(X[-size:])
        except np.linalg.LinAlgError as error:
            raise Refused(Kind.SINGULAR_OVERLAP, "S", f"is not positive definite about atom {a}") from error
        values.append(dense.solve_triangular(own, X.conj().T, lower=True, check_finite=False).ravel())
        rows.append(np.repeat(np.arange(first_a[a], first_a[a] + size), len(orbitals)))
        columns.append(np.tile(orbitals, size))
    places = (np.concatenate(rows).astype(np.int32), np.concatenate(columns).astype(np.int32))
    return sparse.csr_array(sparse.coo_array((np.concatenate(values), places), shape=S.shape))


def neighbours_before(S: Matrix, atom_M: Array, natoms: int) -> list[Array]:
    """Of each atom those before it with which it overlaps, itself the last one."""
    row_e = np.repeat(atom_M, np.diff(S.indptr))
    column_e = atom_M[S.indices]
    kept_e = (np.abs(S.data) > OVERLAPPING) & (column_e <= row_e)
    key = distinct(np.concatenate([row_e[kept_e] * natoms + column_e[kept_e], np.arange(natoms) * (natoms + 1)]))
    i, j = np.divmod(key, natoms)
    return np.split(j, np.searchsorted(i, np.arange(1, natoms)))
