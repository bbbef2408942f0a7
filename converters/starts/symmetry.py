"""Whether a crystal has turns or mirrors, by which codes leave out k-points."""

import numpy as np

from basis import Array

# Atoms and lattice vectors are where a turned crystal has them up to this (Angstrom), as in ABACUS.
SAME = 1e-5
# Larger cells are not searched: displaced supercells have none, and take long.
MOST_ATOMS = 300


def has_turns(cell_cv: Array, positions_av: Array, kinds_a: Array) -> bool:
    """Whether any rotation or mirror but the inversion, with some translation, brings the crystal onto itself."""
    if len(positions_av) > MOST_ATOMS:
        return False
    inverse = np.linalg.inv(cell_cv)
    rarest = np.flatnonzero(kinds_a == min(set(kinds_a.tolist()), key=lambda kind: (kinds_a == kind).sum()))
    for turn_cc in turns_of_lattice(cell_cv):
        turned_av = positions_av @ inverse @ turn_cc @ cell_cv
        for a in rarest:
            if falls_on(turned_av + positions_av[a] - turned_av[rarest[0]], positions_av, kinds_a, cell_cv):
                return True
    return False


def turns_of_lattice(cell_cv: Array) -> list[Array]:
    """Integer matrices of the rotations and mirrors of a lattice, but for +1 and -1."""
    entries = np.stack(np.meshgrid(*[[-1, 0, 1]] * 9, indexing="ij"), axis=-1).reshape(-1, 3, 3)
    metric = cell_cv @ cell_cv.T
    turned = entries @ metric @ entries.swapaxes(-1, -2)
    same = np.abs(turned - metric).max(axis=(-1, -2)) < SAME * np.sqrt(np.diagonal(metric)).max()
    plain = np.eye(3, dtype=int)
    return [turn for turn in entries[same] if not ((turn == plain).all() or (turn == -plain).all())]


def falls_on(moved_av: Array, positions_av: Array, kinds_a: Array, cell_cv: Array) -> bool:
    """Whether each atom stands where one of its kind is, in some cell."""
    apart_abc = (moved_av[:, None] - positions_av) @ np.linalg.inv(cell_cv)
    apart_ab = np.linalg.norm((apart_abc - np.round(apart_abc)) @ cell_cv, axis=-1)
    apart_ab[kinds_a[:, None] != kinds_a] = np.inf
    return bool((apart_ab.min(axis=1) < SAME).all())
