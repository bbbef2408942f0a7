"""Orders and signs of real harmonics, written as signed labels.

A label names one real harmonic: "c2" goes with cos(2 phi), "s1" with sin(phi), "c0" has no phi. All are positive
without a Condon-Shortley phase, so for l = 1: s1 = y, c0 = z, c1 = x. A minus sign in front says that a code uses the
negative function. Our own order inside a shell is m = -l..l: (s_l .. s1, c0, c1 .. c_l).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np

from basis import Array
from basis.shells import Shell

# What a code writes down about itself: the signed labels of a shell, by l.
Convention: TypeAlias = Callable[[int], Sequence[str]]


def label_of(m: int) -> str:
    """Label of the real harmonic m."""
    return f"c{m}" if m >= 0 else f"s{-m}"


def standard(l: int) -> list[str]:
    """Our own labels: m = -l..l, all positive."""
    return [label_of(m) for m in range(-l, l + 1)]


def permutation_and_signs(source: Sequence[str], target: Sequence[str]) -> tuple[Array, Array]:
    """Order and signs with target[t] = signs[t] * source[order[t]] for functions named by signed labels."""
    place = {label.lstrip("-"): index for index, label in enumerate(source)}
    wanted = [label.lstrip("-") for label in target]
    if len(place) != len(source) or sorted(place) != sorted(wanted):
        raise ValueError(f"labels {' '.join(source)} and {' '.join(target)} do not name the same functions")
    order = np.array([place[label] for label in wanted], dtype=np.intp)
    negative = [
        source[index].startswith("-") != label.startswith("-") for index, label in zip(order, target, strict=True)
    ]
    return order, np.where(negative, -1.0, 1.0)


def to_standard(shells: Iterable[Shell], convention: Convention) -> tuple[Array, Array]:
    """Order and signs that bring the orbitals of some shells from a code's convention to ours; shells keep their places.

    The shells are those of an atom, or of all atoms of a cell one after the other.
    """
    orders, signs, start = [], [], 0
    of_degree: dict[int, tuple[Array, Array]] = {}
    for shell in shells:
        if shell.l not in of_degree:
            of_degree[shell.l] = permutation_and_signs(convention(shell.l), standard(shell.l))
        order, sign = of_degree[shell.l]
        orders.append(start + order)
        signs.append(sign)
        start += shell.size
    if not orders:
        return np.empty(0, dtype=np.intp), np.empty(0)
    return np.concatenate(orders), np.concatenate(signs)
