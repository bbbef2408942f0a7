"""Tables: features of atoms turned into the frames of many bonds, and sums of what many bonds send.

`T[k][a, (slot, part), row]` holds those rows of the rotations of the bonds of an atom that turn its features, of each degree and parity, into those of
irrep k about the bond. Weights are applied to the features of atoms, of which there are few, and one product for each atom and irrep
turns what they give; another one sums what its bonds send. Where atoms have few bonds, `Turns` cost less.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from basis import Array
from slem_plugin.network.channels import Channels
from slem_plugin.network.gradients import as_one
from slem_plugin.network.regrouping import labels_of, there_and_back

# Atoms with so many places for bonds are turned by tables.
MANY_BONDS = 24


def made_of(k: int, highest: int) -> list[int]:
    """The numbers 2 l + parity (1: unnatural) of the features of atoms that irrep k about a bond is made of, in the order of its channels."""
    return list(range(k, 2 * highest + 2, 2)) if k < 2 else list(range(2 * (k - 1), 2 * highest + 2))


def rotated(k: int, number: int, D: Array) -> list[Array]:
    """The row of the rotations D[m, m'] of a degree that turns natural or other features into each part of irrep k."""
    l, unnatural = divmod(number, 2)
    if k < 2:
        return [D[l]]
    plus, minus = D[l + k - 1], D[l - k + 1]
    return [minus, -plus] if unnatural else [plus, minus]


class Tables(nn.Module):
    """What of the features of atoms stands where in the tables of some channels, and how these are made.

    Features of atoms of each degree and parity have the number 2 l + parity; `irreps` are those that have a part of them, `blocks` the rows and
    the channels of that part.
    """

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels = channels.about_bond
        self.parts = [parts for parts, _ in channels.state_shapes]
        self.widths = [list(both) for both in zip(channels.natural, channels.unnatural, strict=True)]
        by_parity = [width for both in self.widths for width in both]
        self.irreps = [[n % 2, *range(2, n // 2 + 2)] for n in range(len(by_parity))]
        self.blocks = [blocks_of(made_of(k, channels.highest), by_parity) for k in range(len(self.parts))]
        self.keep_weights()
        self.keep_sums()
        self.keep_rotations()

    def keep_weights(self) -> None:
        """How weights come to the features of atoms, and how what they give comes to the rows of irreps."""
        W = labels_of([(count, count) for count in self.channels])
        own = [
            np.concatenate([W[k][self.blocks[k][n][1]] for k in irreps], axis=1) for n, irreps in enumerate(self.irreps)
        ]
        back = np.argsort(np.concatenate([labels.ravel() for labels in own]))
        self.weights_of = Places([labels - 1 for labels in own])
        self.weights_back = Places([back[labels - 1] for labels in W])
        met = labels_of([(2 * (n // 2) + 1, part.shape[1]) for n, part in enumerate(own)])
        rows: list[list[Array]] = [[] for _ in self.channels]
        for irreps, x in zip(self.irreps, met, strict=True):
            ends = np.cumsum([self.channels[k] for k in irreps])[:-1]
            for k, part in zip(irreps, np.split(x, ends, axis=1), strict=True):
                rows[k].append(part)
        self.rows_of, self.met_of = there_and_back(met, [np.concatenate(parts) for parts in rows])

    def keep_sums(self) -> None:
        """Where features of atoms stand in the rows of irreps: each in several of them; other numbers of rows are zero."""
        rows = labels_of(
            [(own[max(own)][0].stop, count) for own, count in zip(self.blocks, self.channels, strict=True)]
        )
        n_l = labels_of([(2 * l + 1, sum(both)) for l, both in enumerate(self.widths)])
        inside, together = [np.zeros_like(x) for x in rows], []
        for l, both in enumerate(n_l):
            copies = []
            for pair in zip(*self.irreps[2 * l : 2 * l + 2], strict=True):
                places = [self.blocks[k][2 * l + parity] for parity, k in enumerate(pair)]
                copies.append(np.concatenate([rows[k][place] for k, place in zip(pair, places, strict=True)], axis=1))
                for k, place, x in zip(pair, places, np.split(both, [self.widths[l][0]], axis=1), strict=True):
                    inside[k][place] = x
            together.append(np.stack(copies) - 1)
        # A zero comes before the features of atoms.
        self.sums, self.spread = Places(together), Places(inside)

    def keep_rotations(self) -> None:
        """Where the numbers of the rotations of a bond stand in the tables, and with which sign."""
        D = labels_of([(2 * l + 1, 2 * l + 1) for l in range(len(self.widths))])
        for k, parts in enumerate(self.parts):
            turns = zip(*(rotated(k, n, D[n // 2]) for n in self.blocks[k]), strict=True)
            labels = np.stack([np.concatenate(row) for row in turns])
            self.register_buffer(f"place{k}", torch.from_numpy(np.abs(labels).ravel() - 1), persistent=False)
            sign = torch.from_numpy(np.sign(labels).ravel()).to(torch.get_default_dtype())
            self.register_buffer(f"sign{k}", sign if parts > 1 else None, persistent=False)

    def of(self, rotations: Sequence[Tensor]) -> list[Tensor]:
        """The tables T[k] of rotations [a, (slot, m), m'] of each degree."""
        atoms, slots = rotations[0].shape[:2]
        flat = torch.cat([D.reshape(atoms * slots, -1) for D in rotations[: len(self.widths)]], dim=1)
        tables = []
        for k, parts in enumerate(self.parts):
            T, sign = flat.index_select(1, getattr(self, f"place{k}")), getattr(self, f"sign{k}")
            tables.append((T if sign is None else T.mul_(sign)).view(atoms, slots * parts, -1))
        return tables

    def by_parity(self, n: Sequence[Tensor]) -> list[Tensor]:
        """Features of each degree and parity."""
        return [part for x, widths in zip(n, self.widths, strict=True) for part in x.split_with_sizes(widths, dim=2)]

    def by_degree(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat(both, dim=2) for both in zip(features[::2], features[1::2], strict=True)]

    def by_features(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The rows of the weights of all irreps that each features of atoms are multiplied by, beside each other."""
        flat = torch.cat([W[:count].flatten() for W, count in zip(weights, self.channels, strict=True)])
        return [W.squeeze(0) for W in self.weights_of(flat.unsqueeze(0))]

    def by_irrep(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The inverse of `by_features`."""
        flat = torch.cat([W.flatten() for W in weights])
        return [W.squeeze(0) for W in self.weights_back(flat.unsqueeze(0))]

    def together(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Features of atoms of each degree: the sum of what the rows of all irreps have of them."""
        return [copies.sum(1) for copies in self.sums(torch.cat([x.flatten(1) for x in rows], dim=1))]

    def apart(self, n: Sequence[Tensor]) -> list[Tensor]:
        """The transpose of `together`."""
        return self.spread(torch.cat([n[0].new_zeros(len(n[0]), 1), *(x.flatten(1) for x in n)], dim=1))


class Places(nn.Module):
    """Arrays of the numbers that tables name in each row."""

    index: Tensor

    def __init__(self, tables: Sequence[Array]) -> None:
        super().__init__()
        self.shapes, self.sizes = [table.shape for table in tables], [table.size for table in tables]
        index = torch.from_numpy(np.concatenate([table.ravel() for table in tables]))
        self.register_buffer("index", index, persistent=False)

    def forward(self, flat: Tensor) -> list[Tensor]:
        parts = flat.index_select(1, self.index).split_with_sizes(self.sizes, dim=1)
        return [part.view(len(flat), *shape) for part, shape in zip(parts, self.shapes, strict=True)]


def blocks_of(numbers: Sequence[int], widths: Sequence[int]) -> dict[int, tuple[slice, slice]]:
    """Rows and channels of the features of which an irrep is made."""
    rows = np.cumsum([0, *(2 * (n // 2) + 1 for n in numbers)]).tolist()
    ends = np.cumsum([0, *(widths[n] for n in numbers)]).tolist()
    return {n: (slice(*rows[i : i + 2]), slice(*ends[i : i + 2])) for i, n in enumerate(numbers)}


def turned(rows: Sequence[Tensor], T: Sequence[Tensor]) -> list[Tensor]:
    """Rows of each irrep of the atoms as features of their bonds [a, (slot, part), channel]."""
    return [torch.bmm(turns, Y) for turns, Y in zip(T, rows, strict=False)]


def summed(features: Sequence[Tensor], T: Sequence[Tensor], tables: Tables) -> list[Tensor]:
    """Sums over the bonds of each atom of their features, as rows of each irrep; the transpose of `turned`. Irreps that are not given are zero."""
    given = [torch.bmm(turns.mT, x.view(*turns.shape[:2], x.shape[-1])) for turns, x in zip(T, features, strict=False)]
    rest = zip(T[len(given) :], tables.channels[len(given) :], strict=True)
    return [*given, *(turns.new_zeros(len(turns), turns.shape[2], count) for turns, count in rest)]


def met_by_tables(
    n: Sequence[Tensor], h: Sequence[Tensor], T: Sequence[Tensor], tables: Tables, weights: Sequence[Tensor]
) -> list[Tensor]:
    """`of_atoms_and_bonds` of the gradients, for many bonds."""
    if torch.compiler.is_compiling():
        return each_met_by_tables(n, h, T, tables, weights)
    return list(as_one(MetByTables, T, tables, len(n), len(h), *n, *h, *weights))


def each_met_by_tables(
    n: Sequence[Tensor], h: Sequence[Tensor], T: Sequence[Tensor], tables: Tables, weights: Sequence[Tensor]
) -> list[Tensor]:
    met = [x @ W for x, W in zip(tables.by_parity(n), tables.by_features(weights), strict=True)]
    bonds = T[0].shape[:2].numel()
    found = []
    for k, (product, W) in enumerate(zip(turned(tables.rows_of(met), T), weights, strict=True)):
        if k < len(h):
            product.flatten(0, 1).addmm_(h[k].flatten(0, 1), W[tables.channels[k] :])
        found.append(product.view(bonds, tables.parts[k], W.shape[1]))
    return found


class MetByTables(torch.autograd.Function):
    """`met_by_tables`."""

    @staticmethod
    def forward(
        ctx: Any, T: Sequence[Tensor], tables: Tables, atoms: int, irreps: int, *given: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*given)
        ctx.T, ctx.tables, ctx.ends = T, tables, (atoms, atoms + irreps)
        n, h, weights = parted(given, ctx.ends)
        return tuple(each_met_by_tables(n, h, T, tables, weights))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        tables: Tables = ctx.tables
        n, h, weights = parted(ctx.saved_tensors, ctx.ends)
        of_met = tables.met_of(summed(gradients, ctx.T, tables))
        by_features = zip(tables.by_parity(n), tables.by_features(weights), of_met, strict=True)
        of_n, of_own = zip(*((g @ W.mT, x.flatten(0, 1).mT @ g.flatten(0, 1)) for x, W, g in by_features), strict=True)
        of_h, of_weights = [], []
        for k, (W, g, of_W) in enumerate(zip(weights, gradients, tables.by_irrep(of_own), strict=True)):
            own, flat = tables.channels[k], g.flatten(0, 1)
            if k < len(h):
                of_h.append((flat @ W[own:].mT).view(h[k].shape))
                of_weights.append(torch.cat([of_W, h[k].flatten(0, 1).mT @ flat]))
            else:
                of_weights.append(torch.cat([of_W, torch.zeros_like(W[own:])]))
        return (None, None, None, None, *tables.by_degree(of_n), *of_h, *of_weights)


def parted(
    given: Sequence[Tensor], ends: tuple[int, int]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Tensors up to the first end, up to the second, and the others."""
    return given[: ends[0]], given[ends[0] : ends[1]], given[ends[1] :]


def sent_by_tables(h: Sequence[Tensor], T: Sequence[Tensor], tables: Tables) -> list[Tensor]:
    """`sent` of the gradients, for many bonds; what `h` lacks is zero."""
    if torch.compiler.is_compiling():
        return tables.together(summed(h, T, tables))
    return list(as_one(SentByTables, T, tables, *h))


class SentByTables(torch.autograd.Function):
    """`sent_by_tables`."""

    @staticmethod
    def forward(ctx: Any, T: Sequence[Tensor], tables: Tables, *h: Tensor) -> tuple[Tensor, ...]:
        ctx.T, ctx.tables, ctx.shapes = T, tables, [x.shape for x in h]
        return tuple(tables.together(summed(h, T, tables)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        of_h = turned(ctx.tables.apart(gradients)[: len(ctx.shapes)], ctx.T)
        return (None, None, *(g.view(shape) for g, shape in zip(of_h, ctx.shapes, strict=True)))
