"""Orbitals over spinors of j, as X2C runs have them, in PySCF's real harmonics and spins."""

from typing import Any

import numpy as np

from basis import Array

# Orbitals miss no more than this to be orthonormal in the overlap of the functions that they are made of.
ORTHONORMAL = 1e-3


def spinors_in_harmonics(molecule: Any, C_Mn: Array) -> Array | None:
    """The spinors of a molecule over its functions (all up, then all down), where the orbitals of a run are made of spinors.

    Both have as many functions as a GHF has, so the overlap in which the orbitals are orthonormal tells them apart.
    """
    norb = int(molecule.nao_nr())
    if molecule.cart or C_Mn.ndim != 2 or C_Mn.shape[0] != 2 * norb:
        return None
    U_MM = np.vstack(molecule.sph2spinor_coeff())
    S_MM = np.kron(np.eye(2), molecule.intor("int1e_ovlp"))
    misses = [
        np.abs(C.conj().T @ S_MM @ C - np.eye(C.shape[1])).max(initial=0) for C in (C_Mn, np.asarray(U_MM @ C_Mn))
    ]
    return U_MM if misses[1] < ORTHONORMAL < misses[0] else None
