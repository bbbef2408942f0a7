"""A density for new positions of atoms from those of earlier positions, without a model.

Overlaps are exact and cost nothing, and densities follow them: the combination of earlier overlaps that comes closest to
the new one is taken of the densities too. It knows of no time, so that the steps of an optimiser, the images of a
barrier and the steps of a trajectory are all the same to it.
"""

from collections.abc import Sequence

import numpy as np

from basis import Array

# So many of the earlier calculations, the nearest ones, are combined.
COMBINED = 8
# What a converged density misses, for each root of an orbital: weights that make more of it than they gain are too large.
NOISE = 2e-5


def weights_of(S: Array, earlier: Sequence[Array]) -> Array:
    """The weight of each of the earlier overlaps, 1 in all, in the combination that is nearest to S.

    Where there is one alone it is taken as it is.
    """
    distance_n = np.array([np.linalg.norm(S - one) for one in earlier])
    nearest, *others = np.argsort(distance_n, kind="stable")[:COMBINED]
    weight_n = np.zeros(len(earlier))
    if others:
        moved_xn = np.array([flat(earlier[n] - earlier[nearest]) for n in others]).T
        least = NOISE**2 * S.shape[-1] * np.eye(len(others))
        wanted_x = flat(S - earlier[nearest])
        weight_n[others] = np.linalg.solve(moved_xn.T @ moved_xn + least, moved_xn.T @ wanted_x)
    weight_n[nearest] = 1 - weight_n.sum()
    return weight_n


def flat(matrix: Array) -> Array:
    """All real numbers of a matrix."""
    return np.ascontiguousarray(matrix).view(float).ravel()
