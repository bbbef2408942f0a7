"""Turns: features of atoms seen in the frames of their bonds, and back.

Atoms carry `n[l][a, m, channel]`, natural channels before unnatural ones, in the axes of the structure. Bonds carry
`x[k][e, part, channel]` in their own frame, for the irreps k = 0 even, 0 odd, m = 1, 2, ... about the bond.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from basis import Array
from slem_plugin.network.channels import Channels
from slem_plugin.network.regrouping import labels_of, there_and_back


def about_bonds(turned: Sequence[Array], channels: Channels) -> list[list[list[Array]]]:
    """Features [m, channel] of an atom in the frame of a bond, as rows to be joined by irrep about the bond and part."""
    rows: list[list[list[Array]]] = [[[] for _ in range(parts)] for parts, _ in channels.state_shapes]
    for l, natural in enumerate(channels.natural):
        plain, other = turned[l][:, :natural], turned[l][:, natural:]
        rows[0][0].append(plain[l])
        rows[1][0].append(other[l])
        for m in range(1, l + 1):
            rows[m + 1][0] += [plain[l + m], other[l - m]]
            rows[m + 1][1] += [plain[l - m], -other[l + m]]
    return rows


class Turns(nn.Module):
    """The tables of both ways for some channels."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        atoms = [(2 * l + 1, count) for l, count in enumerate(channels.by_degree)]
        n = labels_of(atoms)
        inward = [np.stack([np.concatenate(row) for row in parts]) for parts in about_bonds(n, channels)]
        self.inward, self.outward = there_and_back(n, inward)


# How c and s look from the reverse of their bond.
PARTS_FROM_THE_REVERSE = (1, -1)


def seen_from_the_reverse(irreps: int) -> list[Array]:
    """The signs [part, 1] with which each irrep about a bond looks from its reverse."""
    pairs = [np.array(PARTS_FROM_THE_REVERSE)[:, None]] * (irreps - 2)
    return [np.array([[1]]), np.array([[-1]]), *pairs]


def turned(n: Sequence[Tensor], rotations: Sequence[Tensor]) -> list[Tensor]:
    """Features of each atom in the frames of its bonds, [e, m, channel]."""
    return [torch.bmm(D, x).view(-1, *x.shape[1:]) for x, D in zip(n, rotations, strict=False)]


def summed(features: Sequence[Tensor], rotations: Sequence[Tensor]) -> list[Tensor]:
    """Sums over the bonds of each atom of features [e, m, channel] turned back to the axes of the structure; the transpose of `turned`."""
    return [torch.bmm(D.mT, x.view(len(D), -1, x.shape[2])) for x, D in zip(features, rotations, strict=False)]


def weighted(rotations: Sequence[Tensor], weight_e: Tensor) -> list[Tensor]:
    """Rotations that also multiply by a weight of each bond."""
    return [(turns.view(len(weight_e), -1) * weight_e[:, None]).view(turns.shape) for turns in rotations]
