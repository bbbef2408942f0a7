"""A density for new positions of atoms from those of earlier positions, without a model.

Overlaps are exact and cost nothing, and densities follow them: the combination of earlier overlaps that comes closest to
the new one is taken of the densities too. It knows of no time, so that the steps of an optimiser, the images of a
barrier and the steps of a trajectory are all the same to it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.folding import with_images_as_one
from converters.frames.frame import Frame, operator_on
from converters.frames.origin import Made, Origin
from converters.physics.overlap import Overlap
from converters.starts.fit import shift_atoms
from converters.starts.magnetism import are_opposed
from converters.starts.turned import turned_onto, turned_places
from converters.starts.whole import has_one_matrix, with_whole_orbitals

# So many of the earlier calculations for each atom, the nearest ones, are combined, at least and at most so many: more than the atoms and a strained cell have ways to move.
OF_AN_ATOM, FEW, MANY = 8, 24, 64
# Beyond the few only those that are not ten times as far as the nearest: steps of a trajectory that are long ago add nothing to the last ones.
AS_NEAR = 10.0
# What a converged density misses, for each root of an orbital: weights that make more of it than they gain are too large.
NOISE = 2e-5
# Densities are no straight lines: what a weight of 1 costs at the distance 1 from the new overlap, each for a root of an orbital.
CURVED = 0.02
# Electrons that were counted with rounding; a moment that differs by this much is that of another state.
COUNTED, TURNED = 1e-3, 0.5
# An atom that is so far from where it was (Angstrom) has gone into another cell, or the structure is another one.
FAR = 0.7


def weights_of(S: Array, earlier: Sequence[Array], most: int = FEW) -> Array:
    """The weight of each of the earlier overlaps, 1 in all, in the combination of the nearest ones (at `most` so many) that is nearest to S.

    Where there is one alone it is taken as it is.
    """
    distance_n = np.array([np.linalg.norm(S - one) for one in earlier])
    nearest, *others = np.argsort(distance_n, kind="stable")[:most]
    weight_n = np.zeros(len(earlier))
    if others:
        moved_xn = np.array([flat(earlier[n] - earlier[nearest]) for n in others]).T
        norb = np.sqrt(S.size)
        least = np.diag(NOISE**2 * norb + CURVED**2 / norb * distance_n[others] ** 4)
        wanted_x = flat(S - earlier[nearest])
        weight_n[others] = np.linalg.solve(moved_xn.T @ moved_xn + least, moved_xn.T @ wanted_x)
    weight_n[nearest] = 1 - weight_n.sum()
    return weight_n


def flat(matrix: Array) -> Array:
    """All real numbers of a matrix."""
    return np.ascontiguousarray(matrix).view(float).ravel()


def combined_frame(
    frames: Sequence[Frame], cell_cv: Array, positions_av: Array, fewest: int = 2, most: int | None = None
) -> Frame | None:
    """S of new positions and the DM that the frames of earlier ones make, on the pairs of the nearest; None where that is not known.

    It takes two frames (`fewest`) or more of the same atoms in the same order, calculated alike, with their radial functions. Molecules
    are turned onto the new positions first, and atoms of crystals go into the cells in which the new ones are.
    """
    alike = [with_images_as_one(one) for one in frames if {"S", "DM"} <= set(one) and are_alike(one, frames[-1])]
    if alike and alike[-1].pbc_c.any() and (cells_ac := cells_between(alike[-1], cell_cv, positions_av)).any():
        made = combined_frame(alike, cell_cv, positions_av - cells_ac @ cell_cv, fewest, most)
        return None if made is None else replace(shift_atoms(made, cells_ac), positions_av=positions_av)
    near = nearest_ones(alike, cell_cv, positions_av, most)
    if len(near) < max(fewest, 1) or (overlap := Overlap.of_frame(near[0])) is None:
        return None
    first = near[0]
    moved = replace(first, cell_cv=cell_cv, positions_av=positions_av)
    S_sx = overlap.like(moved)[None]
    weights_n = weights_of(S_sx, [operator_on(one, "S", first.pairs).values_sx for one in near], len(near))
    parts = (w * operator_on(one, "DM", first.pairs).values_sx for w, one in zip(weights_n, near, strict=True))
    operators = {"S": Operator(S_sx), "DM": Operator(sum(parts))}
    provenance = replace(first.provenance, origins={"S": Origin(Made.INTEGRATED)})
    made = replace(moved, operators=operators, provenance=provenance)
    # Where some lack elements that others have, a combination is too far from full and empty orbitals to be brought there.
    whole = has_one_matrix(made) and all(np.array_equal(one.pairs.key_p, first.pairs.key_p) for one in near)
    return with_whole_orbitals(made, first) if whole else made


def nearest_ones(frames: Sequence[Frame], cell_cv: Array, positions_av: Array, most: int | None) -> list[Frame]:
    """So many of some frames at most (None: as many as help), those whose atoms are nearest to other positions, the nearest first, brought there as a whole."""
    if not frames:
        return []
    periodic = bool(frames[0].pbc_c.any())
    shift_nac = np.array(
        [cells_between(one, cell_cv, positions_av) if periodic else 0 * one.positions_av for one in frames]
    )
    places_nav = np.array([one.positions_av + s @ one.cell_cv for one, s in zip(frames, shift_nac, strict=True)])
    if not periodic and frames[0].spin is not Spin.SPINOR:
        places_nav = turned_places(places_nav, positions_av)
    apart_nav = places_nav - positions_av
    chosen = [
        n
        for n in which_nearest(np.linalg.norm(apart_nav, axis=(1, 2)), len(positions_av), most)
        if np.abs(apart_nav[n]).max() < FAR
    ]
    if periodic:
        return [shifted(frames[n], shift_nac[n]) for n in chosen]
    return [turned_onto(frames[n], positions_av) for n in chosen]


def shifted(frame: Frame, cells_ac: Array) -> Frame:
    """A frame with its atoms in other cells, and its blocks where those of others are."""
    return with_images_as_one(shift_atoms(frame, cells_ac) if cells_ac.any() else frame)


def which_nearest(distance_n: Array, natoms: int, most: int | None = None) -> list[int]:
    """Which of several structures are combined, of their distances from the new one; the nearest first."""
    order = np.argsort(distance_n, kind="stable")
    if most is None:
        most = min(max(OF_AN_ATOM * natoms, FEW), MANY)
        as_near = int(np.count_nonzero(distance_n <= AS_NEAR * distance_n.min()))
        most = min(most, max(as_near, FEW))
    return [int(n) for n in order[:most]]


def cells_between(frame: Frame, cell_cv: Array, positions_av: Array) -> Array:
    """By how many cells the atoms of a frame have to move to be nearest to other positions: codes move them into the cell, from which they go in and out."""
    fractional_ac = frame.positions_av @ np.linalg.inv(frame.cell_cv)
    return np.round(positions_av @ np.linalg.inv(cell_cv) - fractional_ac).astype(np.int64)


def are_alike(one: Frame, other: Frame) -> bool:
    """Whether two frames are of the same atoms in the same basis, with as many electrons, the same spin, moment and order of moments and the same way of folding."""
    if one.basis != other.basis or not np.array_equal(one.species_a, other.species_a):
        return False
    mine, others = one.outcome, other.outcome
    if (one.spin, one.folded) != (other.spin, other.folded):
        return False
    same = is_near(mine.electrons, others.electrons, COUNTED) and is_near(mine.moment, others.moment, TURNED)
    return same and (one is other or not are_opposed(one, other))


def is_near(number: float | None, other: float | None, most: float) -> bool:
    return number == other if number is None or other is None else abs(number - other) < most
