"""Rotations of real harmonics and of spins, for any element of O(3).

The matrices are polynomials in the elements of the 3x3 matrix, built up in l by the couplings. No angles occur, so
poles and axis-aligned bonds are as exact as any other direction.
"""

import numpy as np

from basis import Array
from basis.couplings import coupling

# Cartesian axes in the order of our l = 1 harmonics: (y, z, x). e3nn calls the same order (x, y, z).
CYCLE = [1, 2, 0]


def wigner(l: int, rotation: Array) -> Array:
    """D[..., m, m'] of degree l, with Y(Q r) = D Y(r) for the orthogonal matrices Q[..., v, v'] (det +1 or -1).

    Coefficients rotate the same way: if f = sum_m c_m Y_m is turned by Q, its new coefficients are D c.
    """
    Q = np.asarray(rotation, dtype=float)
    if Q.shape[-2:] != (3, 3) or np.abs(Q @ Q.swapaxes(-1, -2) - np.eye(3)).max(initial=0) > 1e-8:
        raise ValueError("a rotation must be a 3x3 orthogonal matrix")
    if l == 0:
        return np.ones((*Q.shape[:-2], 1, 1))
    first = Q[..., CYCLE, :][..., :, CYCLE]
    D = first
    for degree in range(2, l + 1):
        C = coupling(degree - 1, 1, degree)
        half = np.einsum("abc,...bd->...adc", C, first, optimize=True)  # rotate the l = 1 factor
        half = np.einsum("...adc,...ae->...edc", half, D, optimize=True)  # and the other one
        D = np.einsum("...edc,edf->...cf", half, C, optimize=True)
    return D


def spin_rotation(rotation: Array) -> Array:
    """SU(2) matrices U = exp(-i theta n.sigma/2) of the given O(3) matrices; inversion leaves a spin alone.

    An overall sign is free and cancels in every operator.
    """
    from scipy.spatial.transform import Rotation

    Q = np.asarray(rotation, dtype=float)
    proper = Q * np.sign(np.linalg.det(Q))[..., None, None]
    x, y, z, w = np.moveaxis(Rotation.from_matrix(proper).as_quat(), -1, 0)
    return np.stack([np.stack([w - 1j * z, -y - 1j * x], -1), np.stack([y - 1j * x, w + 1j * z], -1)], -2)
