"""The order of moments: whether a density starts the one that the input of a run asks for, and whether names of atoms tell it."""

from collections.abc import Iterable

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.physics.populations import populations
from converters.starts.start import Target

# Moments of atoms (magnetons) below this say nothing: neighbours of magnets have such of either sign.
LEAST = 0.5
MOST_NAMED = 6


def other_order(frame: Frame, target: Target | None) -> str:
    """Why a collinear DM would start another order of moments than the input's; empty where it does not, and where the input says nothing.

    Where the signs of all moments differ, the state is the same turned over.
    """
    if target is None or target.moments_a is None or frame.spin is not Spin.COLLINEAR:
        return ""
    if not {"DM", "S"} <= set(frame.operators):
        return ""
    up_a, down_a = populations(frame)
    asked_a, found_a = target.moments_a, up_a - down_a
    clear_a = np.flatnonzero((np.abs(asked_a) >= LEAST) & (np.abs(found_a) >= LEAST))
    same_a = asked_a[clear_a] * found_a[clear_a] > 0
    if same_a.all() or not same_a.any():
        return ""
    wanted, given = in_words(asked_a, clear_a), in_words(found_a, clear_a)
    return f"begins with moments {wanted} on the atoms {numbers_of(clear_a)}; the prediction has {given} there, which is another magnetic order"


def unasked_order(frame: Frame, target: Target | None) -> str:
    """Which opposed moments a collinear DM has where the input names none, so that the code would begin with all of them up, or with none; empty where it has none."""
    if target is None or target.moments_a is not None or target.spin is not Spin.COLLINEAR:
        return ""
    if frame.spin is not Spin.COLLINEAR or not {"DM", "S"} <= set(frame.operators):
        return ""
    up_a, down_a = populations(frame)
    found_a = up_a - down_a
    clear_a = np.flatnonzero(np.abs(found_a) >= LEAST)
    if not clear_a.size or abs(np.sign(found_a[clear_a]).sum()) == clear_a.size:
        return ""
    return f"names no moments to begin with; the prediction has {in_words(found_a, clear_a)} on the atoms {numbers_of(clear_a)}, and the run starts from them"


def in_words(moments_a: Array, atoms: Array) -> str:
    return " ".join(f"{moment:+.1f}" for moment in moments_a[atoms[:MOST_NAMED]])


def numbers_of(atoms: Array) -> str:
    return " ".join(str(a + 1) for a in atoms[:MOST_NAMED])


def are_opposed(one: Frame, other: Frame) -> bool:
    """Whether an atom has clear moments of opposite signs in two collinear frames of the same atoms: means of such densities have none."""
    if one.spin is not Spin.COLLINEAR or not {"DM", "S"} <= set(one.operators) & set(other.operators):
        return False
    (up_a, down_a), (other_up_a, other_down_a) = populations(one), populations(other)
    moment_a, other_a = up_a - down_a, other_up_a - other_down_a
    return bool(((moment_a * other_a < 0) & (np.minimum(np.abs(moment_a), np.abs(other_a)) >= LEAST)).any())


def names_of_both_signs(frames: Iterable[Frame]) -> list[str]:
    """Species whose atoms have moments of either sign, in one frame or in several, so that their name does not tell it."""
    signs: dict[str, set[bool]] = {}
    for frame in frames:
        if frame.spin is not Spin.COLLINEAR or not {"DM", "S"} <= set(frame.operators):
            continue
        up_a, down_a = populations(frame)
        for species, moment in zip(frame.species_a, up_a - down_a, strict=True):
            if abs(moment) >= LEAST:
                signs.setdefault(frame.basis[species].name, set()).add(bool(moment > 0))
    return [name for name, found in signs.items() if len(found) == 2]
