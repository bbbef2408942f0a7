"""Regrouping: numbers of features in another order, some with another sign, by one table.

A small molecule has few numbers and many kinds of them: tables made once take the place of hundreds of slices in every step.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from basis import Array

# Of more rows than these one copy costs more than the slices that it saves.
MANY_ROWS = 2000


def labels_of(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Numbers 1, 2, ... in arrays of these shapes: what is done to them says what is to be done to features."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [
        np.arange(end - int(np.prod(shape)), end).reshape(shape) + 1 for end, shape in zip(ends, shapes, strict=True)
    ]


class Regrouping(nn.Module):
    """Features [rows, *shape] of the shapes `before` as others; `after` holds the labels of their numbers, negative where the sign changes."""

    index: Tensor
    sign: Tensor

    def __init__(self, before: Sequence[tuple[int, ...]], after: Sequence[Array]) -> None:
        super().__init__()
        self.runs = [runs_of(labels.ravel(), np.cumsum([0, *map(np.prod, before)])) for labels in after]
        flat = np.concatenate([labels.ravel() for labels in after]).astype(int)
        place = np.abs(flat) - 1
        sign = np.empty(len(flat))
        sign[place] = np.sign(flat)
        self.shapes = [labels.shape for labels in after]
        self.widths = [labels.size for labels in after]
        self.signed = bool((sign < 0).any())
        self.register_buffer("index", torch.from_numpy(place), persistent=False)
        self.register_buffer("sign", torch.from_numpy(sign).to(torch.get_default_dtype()), persistent=False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        if len(features[0]) > MANY_ROWS:
            return self.by_slices([x.flatten(1) for x in features])
        flat = torch.cat([x.flatten(1) for x in features], dim=1)
        if self.signed:
            flat *= self.sign
        parts = zip(self.index.split_with_sizes(self.widths), self.shapes, strict=True)
        return [flat.index_select(1, index).view(len(flat), *shape) for index, shape in parts]

    def by_slices(self, flat: Sequence[Tensor]) -> list[Tensor]:
        """The same without a copy of all features."""
        pieces = [
            [flat[n][:, start:end] if positive else -flat[n][:, start:end] for n, start, end, positive in runs]
            for runs in self.runs
        ]
        each = zip(pieces, self.shapes, strict=True)
        return [torch.cat(parts, dim=1).view(len(flat[0]), *shape) for parts, shape in each]


def runs_of(labels: Array, starts: Array) -> list[tuple[int, int, int, bool]]:
    """Stretches of labels that follow each other: the array that holds them, the first number in it and that after the last, and their sign."""
    place, source = np.abs(labels) - 1, np.searchsorted(starts, np.abs(labels) - 1, side="right") - 1
    breaks = (np.diff(place) != 1) | (np.diff(source) != 0) | (np.diff(np.sign(labels)) != 0)
    ends = np.flatnonzero(np.concatenate([breaks, [True]])) if len(labels) else np.zeros(0, dtype=int)
    first = np.concatenate([[0], ends[:-1] + 1]) if len(labels) else ends
    return [
        (int(source[a]), int(place[a] - starts[source[a]]), int(place[b] + 1 - starts[source[a]]), bool(labels[a] > 0))
        for a, b in zip(first, ends, strict=True)
    ] or [(0, 0, 0, True)]


def there_and_back(before: Sequence[Array], after: Sequence[Array]) -> tuple[Regrouping, Regrouping]:
    """A regrouping of features with these labels, and its inverse, which is its transpose too."""
    flat = np.concatenate([labels.ravel() for labels in after]).astype(int)
    inverse = np.empty(len(flat), dtype=int)
    inverse[np.abs(flat) - 1] = (np.arange(len(flat)) + 1) * np.sign(flat)
    ends = np.cumsum([labels.size for labels in before])[:-1]
    back = [part.reshape(labels.shape) for part, labels in zip(np.split(inverse, ends), before, strict=True)]
    return Regrouping([x.shape for x in before], after), Regrouping([x.shape for x in after], back)
