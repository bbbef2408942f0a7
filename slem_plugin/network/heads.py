"""Heads: the weights by which the components of the blocks of one operator are read from the states of bonds and atoms; how all operators are read at once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from basis import Array
from slem_plugin.blocks.components import BlockForm
from slem_plugin.network.channels import Channels
from slem_plugin.network.reader import KindTable, Reader
from slem_plugin.network.regrouping import labels_of
from slem_plugin.network.turns import seen_from_the_reverse


class Head(nn.Module):
    """The components of one operator; a pair is read in both directions, so its two blocks are each other's transpose."""

    def __init__(self, form: BlockForm, channels: Channels) -> None:
        super().__init__()
        self.hopping = nn.ModuleList(HoppingHead(form, t, channels) for t in range(len(form.kinds)))
        self.onsite = nn.ModuleList(OnsiteHead(form, s, channels) for s in range(len(form.basis)))


class HoppingHead(nn.Module):
    """The components of the blocks of one kind of pairs."""

    def __init__(self, form: BlockForm, t: int, channels: Channels) -> None:
        super().__init__()
        axial = form.hopping_t[t]
        counts = (axial.counts[0], axial.odd, *axial.counts[1:])
        self.missing = counts[len(channels.about_bond) :]
        counts = counts[: len(channels.about_bond)]
        self.there = nn.ParameterList(
            nn.Parameter(torch.zeros(c, n)) for c, n in zip(channels.about_bond, counts, strict=False)
        )
        same = form.kinds[t][0] == form.kinds[t][1]
        self.back = None if same else nn.ParameterList(nn.Parameter(torch.zeros_like(W)) for W in self.there)
        place, sign = form.exchange_t[t]
        for k, count in enumerate(counts):
            here = slice(axial.slices[k].start, axial.slices[k].start + count)
            flip = -1.0 if k == 1 else 1.0
            self.register_buffer(f"place{k}", torch.from_numpy(place[here] - here.start))
            self.register_buffer(f"sign{k}", torch.from_numpy(flip * sign[here]).to(torch.get_default_dtype()))

    def table(self, labels: Sequence[Array]) -> list[Array]:
        """Labels of the weights of each irrep, those there above those back, of the labels of the parameters."""
        count = len(self.there)
        if self.back is not None:
            return [np.concatenate([labels[k], labels[count + k]]) for k in range(count)]
        # Of two like atoms the weights back are those there with the orbitals exchanged.
        back = [
            labels[k][:, getattr(self, f"place{k}").numpy()] * getattr(self, f"sign{k}").numpy().astype(int)
            for k in range(count)
        ]
        return [np.concatenate([labels[k], back[k]]) for k in range(count)]


class OnsiteHead(nn.Module):
    """The components of the onsite blocks of one species."""

    def __init__(self, form: BlockForm, s: int, channels: Channels) -> None:
        super().__init__()
        onsite = form.onsite_s[s]
        self.counts = list(zip(onsite.natural, onsite.unnatural, strict=True))
        sizes = zip(channels.natural, channels.unnatural, self.counts, strict=False)
        weights = [(torch.zeros(a, natural), torch.zeros(b, unnatural)) for a, b, (natural, unnatural) in sizes]
        self.natural = nn.ParameterList(plain for plain, _ in weights)
        self.unnatural = nn.ParameterList(other for _, other in weights)


def weights_of(heads: Sequence[Head], what: str) -> tuple[nn.Parameter, ...]:
    """The parameters of all operators for each kind of "hopping", or of "onsite", as its reader takes them."""
    kinds = zip(*(getattr(head, what) for head in heads), strict=True)
    return tuple(weight for kind in kinds for head in kind for weight in head.parameters())


def parameter_labels(modules: Sequence[nn.Module]) -> list[list[Array]]:
    """Labels of the parameters of each module, as they follow each other."""
    shapes = [[tuple(weight.shape) for weight in module.parameters()] for module in modules]
    flat = iter(labels_of([shape for own in shapes for shape in own]))
    return [[next(flat) for _ in own] for own in shapes]


def hopping_reader(heads: Sequence[Head], channels: Channels) -> Reader:
    """Reads pairs from the states of their bonds there and of those back."""
    shapes = channels.state_shapes
    there, back = np.split(np.array(labels_of([(channels.state_size,)] * 2)), 2)
    ends = np.cumsum([parts * count for parts, count in shapes])[:-1]
    split = [
        [part.reshape(shape) for part, shape in zip(np.split(x[0], ends), shapes, strict=True)] for x in (there, back)
    ]
    seen = [part * sign for part, sign in zip(split[1], seen_from_the_reverse(len(shapes)), strict=True)]
    beside = [np.concatenate(both, axis=1) for both in zip(split[0], seen, strict=True)]
    kinds = list(zip(*(head.hopping for head in heads), strict=True))
    weights = iter(parameter_labels([head for kind in kinds for head in kind]))
    tables = []
    for kind in kinds:
        by_operator = [head.table(next(weights)) for head in kind]
        matrices = [np.concatenate(own, axis=1) for own in zip(*by_operator, strict=True)]
        parts = tuple(count for count, _ in shapes[: len(matrices)])
        products = labels_of([(count, W.shape[1]) for count, W in zip(parts, matrices, strict=True)])
        borders = [np.cumsum([W.shape[1] for W in own])[:-1] for own in zip(*by_operator, strict=True)]
        pieces = [np.split(found, border, axis=1) for found, border in zip(products, borders, strict=True)]
        made = sum(found.size for found in products)
        components = []
        for n, head in enumerate(kind):
            silent = 2 * sum(head.missing)
            components.append(np.concatenate([own[n].ravel() for own in pieces] + [np.arange(made, made + silent) + 1]))
            made += silent
        tables.append(KindTable(parts, tuple(matrices), tuple(components)))
    return Reader([there[0], back[0]], beside, tables)


def onsite_reader(heads: Sequence[Head], channels: Channels) -> Reader:
    """Reads atoms from their states."""
    labels = labels_of([(2 * l + 1, count) for l, count in enumerate(channels.by_degree)])
    whole = np.concatenate([own.ravel() for own in labels])
    split = [part for n, own in zip(channels.natural, labels, strict=True) for part in (own[:, :n], own[:, n:])]
    kinds = list(zip(*(head.onsite for head in heads), strict=True))
    weights = iter(parameter_labels([head for kind in kinds for head in kind]))
    tables = []
    for kind in kinds:
        by_operator = []
        for head in kind:
            own = next(weights)
            degrees = len(head.natural)
            by_operator.append([W for l in range(degrees) for W in (own[l], own[degrees + l])])
        matrices = [np.concatenate(both, axis=1) for both in zip(*by_operator, strict=False)]
        parts = tuple(2 * (n // 2) + 1 for n in range(len(matrices)))
        products = labels_of([(count, W.shape[1]) for count, W in zip(parts, matrices, strict=True)])
        made = sum(found.size for found in products)
        ends = [np.cumsum([W.shape[1] for W in both])[:-1] for both in zip(*by_operator, strict=False)]
        pieces = [np.split(found, end, axis=1) for found, end in zip(products, ends, strict=True)]
        components = []
        for n, head in enumerate(kind):
            rows = []
            for l, counts in enumerate(head.counts):
                if l <= channels.highest:
                    rows.append(np.concatenate([pieces[2 * l][n], pieces[2 * l + 1][n]], axis=1).ravel())
                else:
                    silent = (2 * l + 1) * sum(counts)
                    rows.append(np.arange(made, made + silent) + 1)
                    made += silent
            components.append(np.concatenate(rows))
        tables.append(KindTable(parts, tuple(matrices), tuple(components)))
    return Reader([whole], split, tables)
