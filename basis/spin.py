"""Spin layouts of a matrix, and the maps between them.

none       1 real component; a density matrix holds both spins
collinear  2 real components, up and down
spinor     4 complex components, uu ud du dd
"""

from enum import Enum

import numpy as np

from basis import Array


class Spin(str, Enum):
    """How the spin components of a matrix are laid out."""

    NONE = "none"
    COLLINEAR = "collinear"
    SPINOR = "spinor"

    def __str__(self) -> str:
        return self.value

    @property
    def components(self) -> int:
        return {Spin.NONE: 1, Spin.COLLINEAR: 2, Spin.SPINOR: 4}[self]

    @property
    def channels(self) -> int:
        """Spin directions that a trace tells apart: 1 without spin, else up and down."""
        return 1 if self is Spin.NONE else 2

    @property
    def dtype(self) -> np.dtype[np.float64] | np.dtype[np.complex128]:
        return np.dtype(np.complex128) if self is Spin.SPINOR else np.dtype(np.float64)


# Transposing a spinor block exchanges its components ud and du.
TRANSPOSED = {Spin.NONE: [0], Spin.COLLINEAR: [0, 1], Spin.SPINOR: [0, 2, 1, 3]}


def to_pauli(M_s: Array) -> Array:
    """(O_0, O_x, O_y, O_z) of (uu, ud, du, dd), with O = O_0 1 + O_x sx + O_y sy + O_z sz.

    O_0 is a scalar and (O_x, O_y, O_z) an axial vector under rotations. Time reversal makes O_0 real and the vector
    imaginary in a basis of real orbitals.
    """
    uu, ud, du, dd = M_s
    return np.stack([(uu + dd) / 2, (ud + du) / 2, (ud - du) * 0.5j, (uu - dd) / 2])


def from_pauli(O_s: Array) -> Array:
    """(uu, ud, du, dd) of (O_0, O_x, O_y, O_z); the inverse of `to_pauli`."""
    O_0, O_x, O_y, O_z = O_s
    return np.stack([O_0 + O_z, O_x - 1j * O_y, O_x + 1j * O_y, O_0 - O_z])
