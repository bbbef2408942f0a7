"""Heads: the components of the blocks of one operator, read from the states of bonds and atoms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slem_plugin.blocks.components import BlockForm
from slem_plugin.network.channels import Channels
from slem_plugin.network.layers import reverse


class Head(nn.Module):
    """The components of one operator; a pair is read in both directions, so its two blocks are each other's transpose."""

    def __init__(self, form: BlockForm, channels: Channels) -> None:
        super().__init__()
        self.hopping = nn.ModuleList(HoppingHead(form, t, channels) for t in range(len(form.kinds)))
        self.onsite = nn.ModuleList(OnsiteHead(form, s, channels) for s in range(len(form.basis)))

    def hopping_of(
        self, z: list[Tensor], forward: Sequence[Tensor | slice], backward: Sequence[Tensor | slice]
    ) -> tuple[Tensor, ...]:
        return tuple(kind(z, *bonds) for kind, *bonds in zip(self.hopping, forward, backward, strict=True))

    def onsite_of(self, n: list[Tensor], atoms_s: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(one([x[atoms] for x in n]) for one, atoms in zip(self.onsite, atoms_s, strict=True))


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

    def forward(self, z: list[Tensor], there: Tensor | slice, back: Tensor | slice) -> Tensor:
        seen = reverse(z, back)
        parts = []
        for k, W in enumerate(self.there):
            W_back = W[:, getattr(self, f"place{k}")] * getattr(self, f"sign{k}") if self.back is None else self.back[k]
            rows = torch.addmm(z[k][there].flatten(0, 1) @ W, seen[k].flatten(0, 1), W_back)
            parts.append(rows.view(len(seen[k]), seen[k].shape[1] * W.shape[1]))
        parts += [z[0].new_zeros(len(seen[0]), 2 * n) for n in self.missing]
        return torch.cat(parts, dim=1)


class OnsiteHead(nn.Module):
    """The components of the onsite blocks of one species."""

    def __init__(self, form: BlockForm, s: int, channels: Channels) -> None:
        super().__init__()
        onsite = form.onsite_s[s]
        self.channels, self.counts = channels, list(zip(onsite.natural, onsite.unnatural, strict=True))
        sizes = zip(channels.natural, channels.unnatural, self.counts, strict=False)
        weights = [(torch.zeros(a, natural), torch.zeros(b, unnatural)) for a, b, (natural, unnatural) in sizes]
        self.natural = nn.ParameterList(plain for plain, _ in weights)
        self.unnatural = nn.ParameterList(other for _, other in weights)

    def forward(self, n: list[Tensor]) -> Tensor:
        parts = []
        for l, (natural, unnatural) in enumerate(self.counts):
            if l > self.channels.highest:
                parts.append(n[0].new_zeros(len(n[0]), (2 * l + 1) * (natural + unnatural)))
                continue
            plain, other = n[l].split_with_sizes([self.channels.natural[l], self.channels.unnatural[l]], dim=2)
            parts.append(torch.cat([plain @ self.natural[l], other @ self.unnatural[l]], dim=2).flatten(1))
        return torch.cat(parts, dim=1)
