"""Reader: the components that the heads of all operators read from features, as few large products.

Rows of features (pairs or atoms) are sorted by kind; what all operators read of one irrep of one kind is one product of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from basis import Array
from slem_plugin.network.gradients import as_one
from slem_plugin.network.regrouping import labels_of, there_and_back


@dataclass(frozen=True)
class KindTable:
    """How one kind is read: the parts and the labels of the weights of each irrep, and the components of each operator.

    Irreps come as features do, and those after the last one of a kind say nothing of it. `components` are labels of what the products
    give, of each irrep [parts, outputs]; labels beyond those are zeros.
    """

    parts: tuple[int, ...]
    weights: tuple[Array, ...]
    components: tuple[Array, ...]


def rows_of(features: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Some rows of features, all their numbers beside each other; each row at most once."""
    if torch.compiler.is_compiling():
        return beside(features).index_select(0, rows)
    return as_one(RowsOf, rows, *features)


def beside(features: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.flatten(1) for x in features], dim=1)


class RowsOf(torch.autograd.Function):
    """`rows_of`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *features: Tensor) -> Tensor:
        ctx.rows, ctx.shapes = rows, [x.shape for x in features]
        return beside(features).index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        whole = gradient.new_zeros(ctx.shapes[0][0], gradient.shape[1])
        whole[ctx.rows] = gradient
        widths = [shape[1:].numel() for shape in ctx.shapes]
        each = zip(whole.split_with_sizes(widths, dim=1), ctx.shapes, strict=True)
        return (None, *(part.view(shape) for part, shape in each))


class Reader(nn.Module):
    """Products of features with the weights of all operators; `regroup` makes of the features of a row those of each irrep [parts, inputs]."""

    place: Tensor
    sign: Tensor

    def __init__(self, before: Sequence[Array], after: Sequence[Array], kinds: Sequence[KindTable]) -> None:
        super().__init__()
        self.regroup, self.apart = there_and_back(before, after)
        self.shapes = [[labels.shape for labels in kind.weights] for kind in kinds]
        self.parts = [kind.parts for kind in kinds]
        flat = np.concatenate([labels.ravel() for kind in kinds for labels in kind.weights])
        self.register_buffer("place", torch.from_numpy(np.abs(flat) - 1), persistent=False)
        self.register_buffer("sign", torch.from_numpy(np.sign(flat)).to(torch.get_default_dtype()), persistent=False)
        self.missing, outputs = [], []
        for kind in kinds:
            products = labels_of([(p, W.shape[1]) for p, W in zip(kind.parts, kind.weights, strict=True)])
            made = sum(labels.size for labels in products)
            self.missing.append(sum(labels.size for labels in kind.components) - made)
            outputs.append(there_and_back([*products, np.arange(made, made + self.missing[-1]) + 1], kind.components))
        self.said = nn.ModuleList(there for there, _ in outputs)
        self.asked = nn.ModuleList(back for _, back in outputs)

    def matrices(self, weights: Sequence[Tensor]) -> list[list[Tensor]]:
        """The matrices of each kind and irrep, of all weights."""
        flat = torch.cat([W.flatten() for W in weights]).index_select(0, self.place) * self.sign
        shapes = [shape for kind in self.shapes for shape in kind]
        parts = iter(flat.split_with_sizes([a * b for a, b in shapes]))
        return [[next(parts).view(shape) for shape in kind] for kind in self.shapes]

    def read(
        self, features: Sequence[Tensor], counts: Sequence[int], matrices: Sequence[Sequence[Tensor]]
    ) -> list[Tensor]:
        """Components [rows, components] of each kind and operator."""
        read = []
        by_kind = zip(*(x.split_with_sizes(list(counts)) for x in features), strict=True)
        for t, (rows, products) in enumerate(zip(by_kind, matrices, strict=True)):
            found = [
                (x.flatten(0, 1) @ W).view(len(x), x.shape[1], W.shape[1]) for x, W in zip(rows, products, strict=False)
            ]
            read += self.components(t, found)
        return read

    def components(self, t: int, found: list[Tensor]) -> list[Tensor]:
        """Components of a kind by operator, of its products."""
        return list(self.said[t]([*found, found[0].new_zeros(len(found[0]), self.missing[t])]))

    def forward(self, features: Sequence[Tensor], counts: Sequence[int], weights: Sequence[Tensor]) -> list[Tensor]:
        """The same of features as they come, by kind and, within, operator."""
        if torch.compiler.is_compiling():
            return self.read(self.regroup(features), counts, self.matrices(weights))
        return list(as_one(Read, self, counts, len(features), *features, *weights))


class Read(torch.autograd.Function):
    """`Reader.forward`."""

    @staticmethod
    def forward(ctx: Any, reader: Reader, counts: Sequence[int], number: int, *both: Tensor) -> tuple[Tensor, ...]:
        ctx.reader, ctx.counts, ctx.shapes = reader, counts, [W.shape for W in both[number:]]
        ctx.features, ctx.matrices = reader.regroup(both[:number]), reader.matrices(both[number:])
        return tuple(reader.read(ctx.features, counts, ctx.matrices))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        reader: Reader = ctx.reader
        operators = len(gradients) // len(ctx.counts)
        of_features = [torch.zeros_like(x) for x in ctx.features]
        of_matrices = []
        by_kind = zip(
            zip(*(x.split_with_sizes(list(ctx.counts)) for x in ctx.features), strict=True),
            zip(*(x.split_with_sizes(list(ctx.counts)) for x in of_features), strict=True),
            ctx.matrices,
            strict=True,
        )
        for t, (rows, of_rows, matrices) in enumerate(by_kind):
            asked = reader.asked[t](gradients[t * operators : (t + 1) * operators])
            for x, of_x, W, g in zip(rows, of_rows, matrices, asked, strict=False):  # not those that are always zero
                flat = g.flatten(0, 1)
                torch.mm(flat, W.mT, out=of_x.flatten(0, 1))
                of_matrices.append((x.flatten(0, 1).mT @ flat).flatten())
        sizes = [shape.numel() for shape in ctx.shapes]
        of_weights = gradients[0].new_zeros(sum(sizes))
        of_weights.index_add_(0, reader.place, torch.cat(of_matrices) * reader.sign)
        each = zip(of_weights.split_with_sizes(sizes), ctx.shapes, strict=True)
        return (None, None, None, *reader.apart(of_features), *(g.view(shape) for g, shape in each))
