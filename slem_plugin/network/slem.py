"""Slem: the network, strictly local and equivariant under O(3), with heads for several operators.

A bond state (i, j) sees only the surroundings of i; the state of atom i is gathered from its own bond states. The states
of both directions of a bond meet only in the outputs, which are never fed back: however many layers there are, an
output sees no atom farther than one cutoff from one of its two atoms.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from basis import Array
from slem_plugin.blocks.components import BlockForm
from slem_plugin.graphs.graph import Graph, pair_kinds
from slem_plugin.network.channels import Channels
from slem_plugin.network.heads import Head
from slem_plugin.network.layers import (
    BondUpdate,
    Distances,
    Gains,
    bounded,
    join,
    parts_of_irreps,
    turn_in,
    turn_out,
    weighted,
)
from slem_plugin.network.network import Network, Output, PairStates
from slem_plugin.network.spec import NetworkSpec


class Trunk(nn.Module):
    """The states of atoms and bonds after all layers."""

    def __init__(self, spec: NetworkSpec, cutoff_ss: Array) -> None:
        super().__init__()
        self.channels = spec.channels
        self.scale = spec.neighbours**-0.5
        k = spec.channels.about_bond
        self.distances = Distances(spec, cutoff_ss)
        self.start = nn.Linear(spec.latent, k[0])
        self.updates = nn.ModuleList(BondUpdate(tuple(2 * c for c in k), k, spec.latent) for _ in range(spec.layers))
        self.gathers = nn.ModuleList(Gather(spec.channels) for _ in range(spec.layers + 1))

    def forward(self, graph: Graph) -> tuple[list[Tensor], list[Tensor], Tensor]:
        latent, envelope = self.distances(graph)
        out = weighted(graph.rotations[: self.channels.highest + 1], self.scale * envelope)
        even = self.start(latent).unsqueeze(1)
        h = [
            even,
            *(even.new_zeros(len(even), min(k, 2), count) for k, count in enumerate(self.channels.about_bond) if k),
        ]
        n = self.gathers[0](None, turn_out(h, graph, out, self.channels))
        for update, gather in zip(self.updates, list(self.gathers)[1:], strict=True):
            pieces = turn_in(n, graph, self.channels)
            for parts, feature in zip(pieces, h, strict=True):
                for part, row in zip(parts, feature.unbind(1), strict=True):
                    part.append(row)
            new = update(join(pieces), latent)
            h = [old + change for old, change in zip(h, new, strict=True)]
            n = gather(n, turn_out(h, graph, out, self.channels))
        return h, n, latent


class Gather(nn.Module):
    """The new state of atoms: what their bonds sent, mixed, gated by its scalars and added to the old state."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels = channels
        self.natural = nn.ParameterList(nn.Parameter(torch.randn(c, c) / max(c, 1) ** 0.5) for c in channels.natural)
        self.unnatural = nn.ParameterList(
            nn.Parameter(torch.randn(c, c) / max(c, 1) ** 0.5) for c in channels.unnatural
        )
        self.gains = Gains(2 * len(channels.natural))
        scalars = channels.natural[0]
        self.hidden = nn.Linear(scalars, 2 * scalars)
        self.gate = nn.Linear(2 * scalars, sum(channels.by_degree))

    def forward(self, n: list[Tensor] | None, message: list[Tensor]) -> list[Tensor]:
        parts = []
        for l, (natural, unnatural) in enumerate(zip(self.channels.natural, self.channels.unnatural, strict=True)):
            plain, other = message[l].split_with_sizes([natural, unnatural], dim=2)
            parts.append(plain @ (self.natural[l] * self.gains.values[2 * l]))
            parts.append(other @ (self.unnatural[l] * self.gains.values[2 * l + 1]))
        parts = self.gains.calibrated(parts)
        scalars = parts[0].squeeze(1)
        gates = 1 + bounded(self.gate(nn.functional.silu(self.hidden(scalars))))
        mixed = [torch.cat(pair, dim=2) for pair in zip(parts[::2], parts[1::2], strict=True)]
        new = [
            x * gate.unsqueeze(1)
            for x, gate in zip(mixed, gates.split_with_sizes(self.channels.by_degree, dim=1), strict=True)
        ]
        return new if n is None else [old + change for old, change in zip(n, new, strict=True)]


class Slem(Network):
    """Trunk, the meeting of both directions of each bond, and the heads of all operators."""

    def __init__(self, spec: NetworkSpec, forms: Mapping[str, BlockForm], cutoff_ss: Array) -> None:
        super().__init__()
        self.state_size = spec.channels.state_size
        self.kinds = pair_kinds(len(cutoff_ss))
        self.trunk = Trunk(spec, cutoff_ss)
        k = spec.channels.about_bond
        self.meeting = BondUpdate(tuple(2 * c for c in k), k, spec.latent)
        self.heads = nn.ModuleDict({name: Head(form, spec.channels) for name, form in forms.items()})

    def forward(self, graph: Graph) -> dict[str, Output]:
        h, n, latent = self.trunk(graph)
        hopping = self._meet(h, latent, graph.reverse_e, graph.forward, graph.backward)
        onsite = self._onsite(n, graph.atoms_s)
        return {name: Output(hopping[name], onsite[name]) for name in self.heads}

    def states(self, graph: Graph, bonds: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, ...]]]:
        h, n, _ = self.trunk(graph)
        return torch.cat([feature.flatten(1)[bonds] for feature in h], dim=1), self._onsite(n, graph.atoms_s)

    def hopping(self, pairs: PairStates) -> dict[str, tuple[Tensor, ...]]:
        A_h, B_h = (
            torch.from_numpy(np.repeat(species, pairs.count_t)).to(pairs.length_h.device)
            for species in zip(*self.kinds, strict=True)
        )
        h = parts_of_irreps(torch.cat([pairs.there_hf, pairs.back_hf]), self.trunk.channels)
        own, other = torch.cat([A_h, B_h]), torch.cat([B_h, A_h])
        latent = self.trunk.distances.features(own, other, pairs.length_h.repeat(2))
        ends = np.cumsum([0, *pairs.count_t, *pairs.count_t]).tolist()
        places = [slice(start, end) for start, end in pairwise(ends)]
        forward, backward = places[: len(pairs.count_t)], places[len(pairs.count_t) :]
        return self._meet(h, latent, None, forward, backward)

    def _meet(
        self,
        h: list[Tensor],
        latent: Tensor,
        reverse_e: Tensor | None,
        forward: Sequence[Tensor | slice],
        backward: Sequence[Tensor | slice],
    ) -> dict[str, tuple[Tensor, ...]]:
        """The components of pairs of each kind, whose bonds forward and backward are among those with the states h."""
        z = self.meeting.of_both(h, reverse_e, latent)
        return {name: head.hopping_of(z, forward, backward) for name, head in self._heads()}

    def _onsite(self, n: list[Tensor], atoms_s: Sequence[Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """The components of the onsite blocks of atoms with the states n, by species."""
        return {name: head.onsite_of(n, atoms_s) for name, head in self._heads()}

    def _heads(self) -> Iterator[tuple[str, Head]]:
        return ((name, cast("Head", head)) for name, head in self.heads.items())
