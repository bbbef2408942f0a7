"""What ABACUS's files mean: its constants, its order of orbitals, and its spin components."""

from collections.abc import Sequence

import numpy as np

from basis import Array
from basis.conventions import label_of
from basis.spin import Spin, from_pauli, to_pauli

RYDBERG, BOHR = 13.605698, 0.529177

# Spin layouts, by nspin.
LAYOUT = {1: Spin.NONE, 2: Spin.COLLINEAR, 4: Spin.SPINOR}


def magnetic_numbers(l: int) -> list[int]:
    """m in ABACUS's order: 0, 1, -1, 2, -2, .. ."""
    return [0] + [sign * m for m in range(1, l + 1) for sign in (1, -1)]


def convention(l: int) -> Sequence[str]:
    """The functions in this order, with the Condon-Shortley phase: p = z, -x, -y."""
    return [f"-{label_of(m)}" if m % 2 else label_of(m) for m in magnetic_numbers(l)]


def density_from_pauli(file_s: Array) -> Array:
    """Our (uu, ud, du, dd) of the file's real (rho_0, rho_x, rho_y, rho_z).

    The file holds the real parts of the Pauli components of the conjugate projector; their imaginary parts are lost.
    """
    return from_pauli(file_s / 2)


def pauli_from_density(DM_s: Array) -> Array:
    """The file's (rho_0, rho_x, rho_y, rho_z); the inverse of `density_from_pauli` up to the imaginary parts."""
    return np.ascontiguousarray(2 * to_pauli(DM_s).real)
