"""Couplings: a block of two shells as a sum of irreducible parts, with and without spin.

`coupling(l1, l2, L)` holds <l1 m1, l2 m2 | L M> for real harmonics in our order. Together the L of one (l1, l2) form
an orthogonal matrix, so a block and its irreducible parts carry the same numbers in two bases.
"""

from functools import cache
from math import factorial, sqrt
from typing import NamedTuple

import numpy as np

from basis import Array


class Irrep(NamedTuple):
    """An irreducible representation of O(3): degree and parity (+1 even, -1 odd)."""

    l: int
    parity: int

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.parity > 0 else 'o'}"


@cache
def real_from_complex(l: int) -> Array:
    """Unitary U with Y_real[m] = sum_m' U[m, m'] Y_complex[m'] (complex ones with Condon-Shortley phase)."""
    U_mm = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    U_mm[l, l] = 1
    for m in range(1, l + 1):
        phase = (-1) ** m / sqrt(2)
        U_mm[l + m, l + m], U_mm[l + m, l - m] = phase, 1 / sqrt(2)
        U_mm[l - m, l + m], U_mm[l - m, l - m] = -1j * phase, 1j / sqrt(2)
    U_mm.setflags(write=False)
    return U_mm


def clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j: int, m: int) -> float:
    """<j1 m1 j2 m2 | j m> by Racah's formula, the sum over exact integers."""
    if m1 + m2 != m or not abs(j1 - j2) <= j <= j1 + j2:
        return 0.0
    f = factorial
    front = (2 * j + 1) * f(j + j1 - j2) * f(j - j1 + j2) * f(j1 + j2 - j)
    front *= f(j + m) * f(j - m) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    top = f(j1 + j2 + j + 1)
    total = 0.0
    for t in range(max(0, j2 - j - m1, j1 - j + m2), min(j1 + j2 - j, j1 - m1, j2 + m2) + 1):
        bottom = f(t) * f(j1 + j2 - j - t) * f(j1 - m1 - t) * f(j2 + m2 - t) * f(j - j2 + m1 + t) * f(j - j1 - m2 + t)
        total += (-1) ** t / bottom
    return total * sqrt(front / top)


@cache
def coupling(l1: int, l2: int, L: int) -> Array:
    """C[m1, m2, M] of real harmonics: sum_{m1 m2} C a[m1] b[m2] transforms as degree L if a, b do as l1, l2.

    For even l1 + l2 + L it is a positive multiple of the Gaunt integral or its continuation; for odd ones (such as the
    cross product) the complex coefficients come out imaginary and the factor -i makes them real.
    """
    if not abs(l1 - l2) <= L <= l1 + l2:
        raise ValueError(f"l = {l1} and {l2} do not couple to {L}")
    C_mmM = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * L + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -L - m1), min(l2, L - m1) + 1):
            C_mmM[l1 + m1, l2 + m2, L + m1 + m2] = clebsch_gordan(l1, m1, l2, m2, L, m1 + m2)
    U1, U2, U = real_from_complex(l1).conj(), real_from_complex(l2).conj(), real_from_complex(L)
    C = np.einsum("ax,by,cz,xyz->abc", U1, U2, U, C_mmM, optimize=True)
    real = (C if (l1 + l2 + L) % 2 == 0 else -1j * C).real
    real.setflags(write=False)
    return real


@cache
def block_to_irreps(l1: int, l2: int) -> tuple[tuple[Irrep, ...], Array]:
    """Irreps of a block of shells l1, l2, and the orthogonal Q[f, m1 m2] that takes the flat block to them."""
    degrees = range(abs(l1 - l2), l1 + l2 + 1)
    parts = [coupling(l1, l2, L).reshape(-1, 2 * L + 1).T for L in degrees]
    return tuple(Irrep(L, (-1) ** (l1 + l2)) for L in degrees), np.concatenate(parts)


@cache
def spinor_block_to_irreps(l1: int, l2: int) -> tuple[tuple[Irrep, ...], Array]:
    """Irreps of a block of shells with spin, and the orthogonal Q[f, (0 x y z) m1 m2] that takes it to them.

    The block comes as its spin scalar and spin vector (`basis.spin.to_pauli`). The vector is axial, a 1e, and its
    (y, z, x) order is ours for l = 1. The irreps of the scalar come first.
    """
    spatial, Q = block_to_irreps(l1, l2)
    size = Q.shape[0]
    irreps, rows = list(spatial), [np.concatenate([Q, np.zeros((size, 3 * size))], axis=1)]
    Q_parts = np.split(Q, np.cumsum([2 * irrep.l + 1 for irrep in spatial])[:-1])
    for (L, parity), Q_Lx in zip(spatial, Q_parts, strict=True):
        for J in range(abs(L - 1), L + 2):
            vector = np.einsum("Lyj,Lx->jyx", coupling(L, 1, J), Q_Lx)[:, [2, 0, 1]]
            rows.append(np.concatenate([np.zeros((2 * J + 1, size)), vector.reshape(2 * J + 1, -1)], axis=1))
            irreps.append(Irrep(J, parity))
    return tuple(irreps), np.concatenate(rows)
