"""The order of moments: whether a density starts the one that the input of a run asks for, and whether names of atoms tell it."""

from collections.abc import Iterable

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.frames.moments import (
    MOST_ACROSS,
    UP,
    along_one_axis,
    moments_of,
    onsite_moments,
    spins_along,
    with_moments_along,
)
from converters.physics.populations import populations
from converters.starts.start import Target

# Moments of atoms (magnetons) below this say nothing: neighbours of magnets have such of either sign.
LEAST = 0.5
MOST_NAMED = 6
# The cosine of the angle by which moments of runs that are one state may differ: spin-orbit coupling turns them by some degrees.
SAME_DIRECTION = 0.9


def other_order(frame: Frame, target: Target | None) -> str:
    """Why a DM would start another order of moments than the input's; empty where it does not, and where the input says nothing.

    Where all moments are turned alike, or turned over, the order is the same.
    """
    asked_av = asked_of(target)
    if asked_av is None or not has_moments(frame):
        return ""
    found_av = vectors_of(frame)
    clear_a = np.flatnonzero(np.minimum(lengths(asked_av), lengths(found_av)) >= LEAST)
    left_vn, _, right_nv = np.linalg.svd(found_av[clear_a].T @ asked_av[clear_a])
    if are_along(found_av[clear_a] @ left_vn @ right_nv, asked_av[clear_a]).all():
        return ""
    wanted, given = in_words(asked_av, clear_a), in_words(found_av, clear_a)
    return f"begins with moments {wanted} on the atoms {numbers_of(clear_a)}; the prediction has {given} there, which is another magnetic order"


def unasked_order(frame: Frame, target: Target | None) -> str:
    """Which opposed moments a DM has where the input names none, so that the code would begin with all of them up, or with none; empty where it has none."""
    if target is None or asked_of(target) is not None or target.spin is not frame.spin or not has_moments(frame):
        return ""
    found_a = found_along(frame, UP)
    clear_a = np.flatnonzero(np.abs(found_a) >= LEAST)
    if not clear_a.size or abs(np.sign(found_a[clear_a]).sum()) == clear_a.size:
        return ""
    return f"names no moments to begin with; the prediction has {in_words(np.outer(found_a, UP), clear_a)} on the atoms {numbers_of(clear_a)}, and the run starts from them"


def other_moments(frame: Frame, target: Target | None) -> str:
    """Which moments of an input a DM has none of, so that the run begins without, or has along another axis; empty where it has them.

    Where symmetry forbids moments, a run that begins without ends without.
    """
    asked_av = asked_of(target)
    if asked_av is None or not has_moments(frame):
        return ""
    found_av, clear_a = vectors_of(frame), np.flatnonzero(lengths(asked_av) >= LEAST)
    begins = f"begins with moments {in_words(asked_av, clear_a)} on the atoms {numbers_of(clear_a)}; the prediction has"
    if clear_a.size and (lengths(found_av) < LEAST).all():
        return f"{begins} none, and the run starts without"
    clear_a = clear_a[lengths(found_av)[clear_a] >= LEAST]
    if are_along(found_av[clear_a], asked_av[clear_a]).all() or are_along(-found_av[clear_a], asked_av[clear_a]).all():
        return ""
    return f"{begins} them along another axis, and the run starts there"


def asked_of(target: Target | None) -> Array | None:
    """The moments with which an input begins, where it names any, of collinear spins along z."""
    if target is not None and target.spin is Spin.COLLINEAR and target.moments_a is not None:
        return np.outer(target.moments_a, UP)
    return None if target is None or target.spin is not Spin.SPINOR else target.moments_av


def has_moments(frame: Frame) -> bool:
    return frame.spin is not Spin.NONE and {"DM", "S"} <= set(frame.operators)


def found_along(frame: Frame, axis_v: Array) -> Array:
    """The moments (magnetons) of the atoms of a DM, of spinors along an axis."""
    up_a, down_a = populations(spins_along(frame, axis_v) if frame.spin is Spin.SPINOR else frame)
    return np.asarray(up_a - down_a)


def lengths(vectors_av: Array) -> Array:
    return np.asarray(np.linalg.norm(vectors_av, axis=1))


def are_along(mine_av: Array, others_av: Array) -> Array:
    """Whether vectors point nearly where others do."""
    return np.asarray((mine_av * others_av).sum(axis=1) >= SAME_DIRECTION * lengths(mine_av) * lengths(others_av))


def turned_to_input(frame: Frame, target: Target) -> Frame:
    """A predicted frame of a magnet with its moments along the axis of the input of a run; the whole is turned over where all signs differ.

    An input with moments in several directions turns nothing.
    """
    asked_av = asked_of(target)
    asked = None if asked_av is None else along_one_axis(asked_av)
    moments = moments_of(frame)
    if asked is None or moments is None:
        return frame
    axis_v, asked_a = asked
    found_a = onsite_moments(frame, moments.axis_v)
    return with_moments_along(frame, -axis_v if found_a @ asked_a < 0 else axis_v)


def in_words(moments_av: Array, atoms: Array) -> str:
    """Moments along z as numbers, others as vectors."""
    named_av = moments_av[atoms[:MOST_NAMED]]
    if np.allclose(named_av[:, :2], 0, atol=0.05):
        return " ".join(f"{moment:+.1f}" for moment in named_av[:, 2])
    return " ".join(f"({x:+.1f} {y:+.1f} {z:+.1f})" for x, y, z in named_av)


def numbers_of(atoms: Array) -> str:
    return " ".join(str(a + 1) for a in atoms[:MOST_NAMED])


def are_opposed(one: Frame, other: Frame) -> bool:
    """Whether an atom has clear moments in two frames of the same atoms that point elsewhere: means of such densities have none, or smaller ones."""
    if one.spin is not other.spin or not has_moments(one) or not has_moments(other):
        return False
    mine_av, others_av = vectors_of(one), vectors_of(other)
    clear_a = np.minimum(lengths(mine_av), lengths(others_av)) >= LEAST
    return bool((clear_a & ~are_along(mine_av, others_av)).any())


def vectors_of(frame: Frame) -> Array:
    """The moments of the atoms, of collinear spins along z."""
    if frame.spin is Spin.COLLINEAR:
        return np.outer(found_along(frame, UP), UP)
    return np.stack([found_along(frame, axis_v) for axis_v in np.eye(3)], axis=1)


def names_of_both_signs(frames: Iterable[Frame]) -> list[str]:
    """Species whose atoms have moments of either sign, in one frame or in several, so that their name does not tell it."""
    signs: dict[str, set[bool]] = {}
    for frame in frames:
        if not has_moments(frame):
            continue
        moments = moments_of(frame)
        if moments is not None and moments.across > MOST_ACROSS:
            continue
        for species, moment in zip(frame.species_a, found_along(frame, moments.axis_v if moments else UP), strict=True):
            if abs(moment) >= LEAST:
                signs.setdefault(frame.basis[species].name, set()).add(bool(moment > 0))
    return [name for name, found in signs.items() if len(found) == 2]
