"""What SIESTA's files mean: signs of orbitals, and spin components."""

from collections.abc import Sequence

import numpy as np

from basis import Array
from basis.conventions import standard
from basis.spin import TRANSPOSED, Spin


def convention(l: int) -> Sequence[str]:
    """m = -l..l, each with the sign (-1)^m."""
    return [f"-{label}" if (m - l) % 2 else label for m, label in enumerate(standard(l))]


def spinor_of(M_se: Array, *, conjugate: bool) -> Array:
    """(uu, ud, du, dd) of 4 or 8 components; the Hermitian conjugate in spin when asked."""
    if len(M_se) == 4:
        uu, dd, real, imaginary = M_se
        spinor = np.stack([uu, real - 1j * imaginary, real + 1j * imaginary, dd])
    else:
        M1, M2, M3, M4, M5, M6, M7, M8 = M_se
        spinor = np.stack([M1 + 1j * M5, M3 - 1j * M4, M7 + 1j * M8, M2 + 1j * M6])
    return spinor[TRANSPOSED[Spin.SPINOR]].conj() if conjugate else spinor


def components_of(spinor_se: Array, count: int, *, conjugate: bool) -> Array:
    """The 4 or 8 components of (uu, ud, du, dd); the inverse of `spinor_of`."""
    uu, ud, du, dd = spinor_se[TRANSPOSED[Spin.SPINOR]].conj() if conjugate else spinor_se
    return np.stack([uu.real, dd.real, ud.real, -ud.imag, uu.imag, dd.imag, du.real, du.imag][:count])


def images_of(cells_c: Array) -> Array:
    """Lattice vectors of the auxiliary supercell in SIESTA's order: 0, 1, .., n//2, -(n//2), .., -1, first axis fastest."""
    axes = [np.concatenate([np.arange(n // 2 + 1), np.arange(-(n // 2), 0)]) for n in np.asarray(cells_c).tolist()]
    c, b, a = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([a.ravel(), b.ravel(), c.ravel()], axis=-1)


def image_numbers(R_tc: Array, cells_c: Array) -> Array:
    """Place of lattice vectors in the order of `images_of`."""
    a, b, c = np.mod(R_tc, cells_c).T
    return a + cells_c[0] * (b + cells_c[1] * c)
