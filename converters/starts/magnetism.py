"""The order of moments: whether a density starts the one that the input of a run asks for, and whether names of atoms tell it."""

from collections.abc import Iterable

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.frames.moments import UP, along_one_axis, moments_of, onsite_moments, spins_along, with_moments_along
from converters.physics.populations import populations
from converters.starts.start import Target

# Moments of atoms (magnetons) below this say nothing: neighbours of magnets have such of either sign.
LEAST = 0.5
MOST_NAMED = 6
# The cosine of the angle by which moments of runs that are one state may differ: spin-orbit coupling turns them by some degrees.
SAME_DIRECTION = 0.9


def other_order(frame: Frame, target: Target | None) -> str:
    """Why a DM would start another order of moments than the input's; empty where it does not, and where the input says nothing.

    Where the signs of all moments differ, the state is the same turned over.
    """
    asked = asked_of(target)
    if asked is None or not has_moments(frame):
        return ""
    asked_a, found_a = asked[1], found_along(frame, asked[0])
    clear_a = np.flatnonzero((np.abs(asked_a) >= LEAST) & (np.abs(found_a) >= LEAST))
    same_a = asked_a[clear_a] * found_a[clear_a] > 0
    if same_a.all() or not same_a.any():
        return ""
    wanted, given = in_words(asked_a, clear_a), in_words(found_a, clear_a)
    return f"begins with moments {wanted} on the atoms {numbers_of(clear_a)}; the prediction has {given} there, which is another magnetic order"


def unasked_order(frame: Frame, target: Target | None) -> str:
    """Which opposed moments a DM has where the input names none, so that the code would begin with all of them up, or with none; empty where it has none."""
    if target is None or asked_of(target) is not None or target.spin is not frame.spin or not has_moments(frame):
        return ""
    found_a = found_along(frame, UP)
    clear_a = np.flatnonzero(np.abs(found_a) >= LEAST)
    if not clear_a.size or abs(np.sign(found_a[clear_a]).sum()) == clear_a.size:
        return ""
    return f"names no moments to begin with; the prediction has {in_words(found_a, clear_a)} on the atoms {numbers_of(clear_a)}, and the run starts from them"


def lost_moments(frame: Frame, target: Target | None) -> str:
    """Which moments of an input a DM has none of, so that the run begins without, and where symmetry forbids them ends without; empty where there are some."""
    asked = asked_of(target)
    if asked is None or not has_moments(frame):
        return ""
    clear_a = np.flatnonzero(np.abs(asked[1]) >= LEAST)
    if not clear_a.size or (np.abs(found_along(frame, asked[0])) >= LEAST).any():
        return ""
    return f"begins with moments {in_words(asked[1], clear_a)} on the atoms {numbers_of(clear_a)}; the prediction has none, and the run starts without"


def asked_of(target: Target | None) -> tuple[Array, Array] | None:
    """The axis and the moments along it with which an input begins, where it names any."""
    if target is not None and target.spin is Spin.COLLINEAR and target.moments_a is not None:
        return UP, target.moments_a
    if target is not None and target.spin is Spin.SPINOR and target.moments_av is not None:
        return along_one_axis(target.moments_av)
    return None


def has_moments(frame: Frame) -> bool:
    return frame.spin is not Spin.NONE and {"DM", "S"} <= set(frame.operators)


def found_along(frame: Frame, axis_v: Array) -> Array:
    """The moments (magnetons) of the atoms of a DM, of spinors along an axis."""
    up_a, down_a = populations(spins_along(frame, axis_v) if frame.spin is Spin.SPINOR else frame)
    return np.asarray(up_a - down_a)


def turned_to_input(frame: Frame, target: Target) -> Frame:
    """A predicted frame of a magnet whose moments point up, with moments as the input of a run turns them; the whole is turned over where all signs differ."""
    asked = asked_of(target)
    if asked is None or frame.spin is not Spin.SPINOR:
        return frame
    axis_v, asked_a = asked
    found_a = onsite_moments(frame)
    return with_moments_along(frame, -axis_v if found_a @ asked_a < 0 else axis_v)


def in_words(moments_a: Array, atoms: Array) -> str:
    return " ".join(f"{moment:+.1f}" for moment in moments_a[atoms[:MOST_NAMED]])


def numbers_of(atoms: Array) -> str:
    return " ".join(str(a + 1) for a in atoms[:MOST_NAMED])


def are_opposed(one: Frame, other: Frame) -> bool:
    """Whether an atom has clear moments in two frames of the same atoms that point elsewhere: means of such densities have none, or smaller ones."""
    if one.spin is not other.spin or not has_moments(one) or not has_moments(other):
        return False
    mine_av, others_av = vectors_of(one), vectors_of(other)
    lengths_a, other_a = (np.linalg.norm(vectors_av, axis=1) for vectors_av in (mine_av, others_av))
    clear_a = np.minimum(lengths_a, other_a) >= LEAST
    return bool((clear_a & ((mine_av * others_av).sum(axis=1) < SAME_DIRECTION * lengths_a * other_a)).any())


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
        for species, moment in zip(frame.species_a, found_along(frame, moments.axis_v if moments else UP), strict=True):
            if abs(moment) >= LEAST:
                signs.setdefault(frame.basis[species].name, set()).add(bool(moment > 0))
    return [name for name, found in signs.items() if len(found) == 2]
