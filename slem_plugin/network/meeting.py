"""Meeting of both bonds of pairs in a prediction: products into their places, without the copies that gradients would need.

Features [rows, part, channel] of each irrep about a bond hold the bonds there and, after those, the bonds back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from slem_plugin.network.turns import PARTS_FROM_THE_REVERSE


def seen_from(k: int, part: int) -> int:
    """The sign with which a part of irrep k looks from the reverse of its bond."""
    return 1 if k == 0 else -1 if k == 1 else PARTS_FROM_THE_REVERSE[part]


def met(x: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Features of each bond times the first half of the weights, and of its reverse, seen from its frame, times the second."""
    found = []
    for k, (feature, W) in enumerate(zip(x, weights, strict=True)):
        own, other = W.chunk(2)
        there, back = feature.chunk(2)
        result = feature.new_empty(*feature.shape[:2], W.shape[1])
        for rows, a, b in zip(result.chunk(2), (there, back), (back, there), strict=True):
            for part in range(feature.shape[1]):
                product(a[:, part], own, b[:, part], other, seen_from(k, part), rows[:, part])
        found.append(result)
    return found


def read_pairs(x: Sequence[Tensor], counts: Sequence[int], matrices: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """The products [pairs, part, output] of each kind of pairs and irrep, with the bonds there beside those back."""
    halves = [feature.chunk(2) for feature in x]
    by_kind, start = [], 0
    for count, weights in zip(counts, matrices, strict=True):
        found = []
        for k, ((there, back), W) in enumerate(zip(halves, weights, strict=False)):
            own, other = W.chunk(2)
            result = there.new_empty(count, there.shape[1], W.shape[1])
            for part in range(there.shape[1]):
                a, b = (rows[start : start + count, part] for rows in (there, back))
                product(a, own, b, other, seen_from(k, part), result[:, part])
            found.append(result)
        by_kind.append(found)
        start += count
    return by_kind


def product(a: Tensor, A: Tensor, b: Tensor, B: Tensor, sign: int, result: Tensor) -> None:
    """a A + sign b B."""
    torch.mm(a, A, out=result)
    result.addmm_(b, B, alpha=sign)
