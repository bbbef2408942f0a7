"""Matrices that a run stored without lattice vectors: where do their blocks belong?"""

import numpy as np

from basis import Array


def closest_images(positions_av: Array, cell_cv: Array, reach_aa: Array) -> tuple[Array, bool]:
    """R_aac of the closest image of each pair of atoms, and whether any pair has a second image within its reach.

    A run at Gamma alone adds up all images of a block. Where the reach of the orbitals (Angstrom) sees only one image of
    each pair, the block is that image's and nothing is lost; otherwise the matrix is folded.
    """
    inverse_vc = np.linalg.inv(cell_cv)
    images_nc = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    between_aav = positions_av[None] - positions_av[:, None]
    # The shift is odd under exchange of the atoms: R_ij = -R_ji.
    shift_aac = -np.round(np.triu(np.ones(between_aav.shape[:2]))[..., None] * (between_aav @ inverse_vc))
    shift_aac = shift_aac - shift_aac.swapaxes(0, 1)
    R_naac = images_nc[:, None, None] + shift_aac
    distance_naa = np.linalg.norm(between_aav + R_naac @ cell_cv, axis=-1)
    best_aa = distance_naa.argmin(axis=0)
    upper_aa = np.triu(np.ones(best_aa.shape, dtype=bool), 1)
    R_aac = np.take_along_axis(R_naac, best_aa[None, ..., None], axis=0)[0] * upper_aa[..., None]
    second_aa = np.partition(distance_naa, 1, axis=0)[1]
    return (R_aac - R_aac.swapaxes(0, 1)).astype(np.int64), bool((second_aa < reach_aa).any())
