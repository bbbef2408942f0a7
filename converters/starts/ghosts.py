"""Ghost states: levels of a predicted H that are far too low, since they live where S is nearly nothing and errors of H are all that there is.

Orbitals are dense, of each k-point and spin channel; occupied ones alone are looked at, among them those above semicore levels.
"""

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from basis import Array

# Directions of S below these eigenvalues are left out, one threshold after the other, until no ghost state is left.
GHOST_FILTERS = (1e-3, 1e-2, 5e-2)
# A level that rises by more than this (eV) when directions of tiny overlap are left out lived on them.
GHOST_RISE = 2.0
# Part of an orbital on such directions from which on it may be a ghost; of occupied orbitals of sound runs at most 0.03 lies there.
GHOST_WEIGHT = 0.5

Solved = list[list[tuple[Array, Array]]]
Counts = Sequence[Sequence[int]]


def without_ghosts(
    best: Solved, H: Sequence[Sequence[Array]], S: Sequence[Array], occupied_ks: Counts
) -> tuple[Solved, float, float]:
    """Levels and orbitals of each k-point and spin without ghost states, the filter of S that was needed (0: none), and the lowest ghost, else the lowest level (eV).

    A ghost's level lies far below the one of the same number without directions of tiny overlap: these lift all levels, those of physics a little.
    """
    used, ghosts = 0.0, list[float]()
    lowest = min(float(e_n[0]) for pairs in best for e_n, _ in pairs)
    if not may_have_ghosts(best, S, occupied_ks):
        return best, used, lowest
    directions = [np.linalg.eigh(overlap) for overlap in S]
    for threshold in GHOST_FILTERS:
        weights = ghost_weights(best, directions, threshold, occupied_ks)
        if max(weight_n.max(initial=0.0) for parts in weights for weight_n in parts) < GHOST_WEIGHT:
            continue
        filtered = [
            [solve_filtered(part, *direction, threshold) for part in parts]
            for parts, direction in zip(H, directions, strict=True)
        ]
        found = [
            float(e)
            for before, after, parts in zip(best, filtered, weights, strict=True)
            for (e_n, _), (new_n, _), weight_n in zip(before, after, parts, strict=True)
            for e, new, weight in zip(e_n, new_n, weight_n)  # noqa: B905 - of occupied orbitals alone
            if weight >= GHOST_WEIGHT and new > e + GHOST_RISE
        ]
        if found:
            best, used = filtered, threshold
            ghosts += found
    return best, used, min(ghosts, default=lowest)


def may_have_ghosts(solved: Solved, S: Sequence[Array], occupied_ks: Counts) -> bool:
    """Whether an occupied orbital may lie on directions of tiny overlap, from a bound that costs less than finding these.

    With t the largest filter, t / (s + t) is at least 1/2 for the directions below it, so that 2 t <c| S (S + t)^-1 |c> is
    no less than what of the orbital c lies there.
    """
    most = GHOST_FILTERS[-1]
    for pairs, overlap, occupied_s in zip(solved, S, occupied_ks, strict=True):
        factor = linalg.cho_factor(overlap + most * np.eye(len(overlap)), check_finite=False)
        for (_, c_Mn), count in zip(pairs, occupied_s, strict=True):
            c = c_Mn[:, :count]
            if (
                count
                and 2 * most * ((overlap @ c).conj() * linalg.cho_solve(factor, c)).sum(axis=0).real.max()
                >= GHOST_WEIGHT
            ):
                return True
    return False


def ghost_weights(
    solved: Solved, directions: Sequence[tuple[Array, Array]], threshold: float, occupied_ks: Counts
) -> list[list[Array]]:
    """How much of each occupied orbital is made of directions of S below a threshold, for each k-point and spin channel."""
    weights = []
    for pairs, (s_m, U), occupied_s in zip(solved, directions, occupied_ks, strict=True):
        s_t, U_t = s_m[s_m < threshold], U[:, s_m < threshold]
        of_channels = [np.abs(U_t.conj().T @ c[:, :n]) ** 2 for (_, c), n in zip(pairs, occupied_s, strict=True)]
        weights.append([s_t @ part_tn for part_tn in of_channels])
    return weights


def solve_filtered(H: Array, s_m: Array, U: Array, threshold: float) -> tuple[Array, Array]:
    """Levels and orbitals in the space of the eigenvectors of S above a threshold; the missing ones lie far up and are zero."""
    X = U[:, s_m > threshold] / np.sqrt(s_m[s_m > threshold])
    e_n, c = np.linalg.eigh(X.conj().T @ H @ X)
    missing = len(H) - len(e_n)
    far = np.full(missing, e_n[-1] + 1e4)
    return np.concatenate([e_n, far]), np.concatenate([X @ c, np.zeros((len(H), missing))], axis=1)
