"""Slem: the network, strictly local and equivariant under O(3), with heads for several operators.

A bond state (i, j) sees only the surroundings of i; the state of atom i is gathered from its own bond states. The states
of both directions of a bond meet only in the outputs, which are never fed back: however many layers there are, an
output sees no atom farther than one cutoff from one of its two atoms.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from basis import Array
from slem_plugin.blocks.components import BlockForm
from slem_plugin.graphs.graph import Graph, pair_kinds
from slem_plugin.network.channels import Channels
from slem_plugin.network.gates import bounded
from slem_plugin.network.gradients import by_parity, mixed, scaled
from slem_plugin.network.heads import Head, hopping_reader, onsite_reader, weights_of
from slem_plugin.network.layers import BondUpdate, Distances, Gains, parts_of_irreps
from slem_plugin.network.meeting import met, read_pairs
from slem_plugin.network.network import Network, Output, PairStates
from slem_plugin.network.reader import beside, rows_of
from slem_plugin.network.spec import NetworkSpec
from slem_plugin.network.surroundings import Surroundings


class Trunk(nn.Module):
    """The states of atoms and bonds after all layers."""

    def __init__(self, spec: NetworkSpec, cutoff_ss: Array) -> None:
        super().__init__()
        self.channels = spec.channels
        self.scale = spec.neighbours**-0.5
        k = spec.channels.about_bond
        self.distances = Distances(spec, cutoff_ss)
        self.surroundings = Surroundings(spec.channels)
        self.start = nn.Linear(spec.latent, k[0])
        self.updates = nn.ModuleList(BondUpdate(tuple(2 * c for c in k), k, spec.latent) for _ in range(spec.layers))
        self.gathers = nn.ModuleList(Gather(spec.channels) for _ in range(spec.layers + 1))

    def forward(self, graph: Graph) -> tuple[list[Tensor], list[Tensor], Tensor]:
        latent, envelope = self.distances(graph)
        seen = self.surroundings(graph, self.scale * envelope)
        h = [self.start(latent).unsqueeze(1)]
        n = self.gathers[0](None, seen.sent(h))
        for update, gather in zip(self.updates, list(self.gathers)[1:], strict=True):
            h = update(n, h, seen, latent)
            n = gather(n, seen.sent(h))
        return h, n, latent


class Gather(nn.Module):
    """The new state of atoms: what their bonds sent, mixed, gated by its scalars and added to the old state."""

    parity_c: Tensor

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels = channels
        self.natural = nn.ParameterList(nn.Parameter(torch.randn(c, c) / max(c, 1) ** 0.5) for c in channels.natural)
        self.unnatural = nn.ParameterList(
            nn.Parameter(torch.randn(c, c) / max(c, 1) ** 0.5) for c in channels.unnatural
        )
        self.widths = [width for both in zip(channels.natural, channels.unnatural, strict=True) for width in both]
        self.gains = Gains(len(self.widths))
        parity_c = torch.arange(len(self.widths)).repeat_interleave(torch.tensor(self.widths))
        self.register_buffer("parity_c", parity_c, persistent=False)
        scalars = channels.natural[0]
        self.hidden = nn.Linear(scalars, 2 * scalars)
        self.gate = nn.Linear(2 * scalars, sum(channels.by_degree))

    def forward(self, n: list[Tensor] | None, message: list[Tensor]) -> list[Tensor]:
        weights = [W for both in zip(self.natural, self.unnatural, strict=True) for W in both]
        new = mixed(message, weights)
        if self.gains.measuring:
            self.gains.calibrated([part for parts in by_parity(new, self.widths) for part in parts])
        gain = self.gains.values
        scalars = new[0][:, 0, : self.widths[0]] * gain[0]
        gates = 1 + bounded(self.gate(nn.functional.silu(self.hidden(scalars))))
        return scaled(new, gates * gain[self.parity_c], n)


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
        heads = [cast("Head", head) for head in self.heads.values()]
        self.pair_reader = hopping_reader(heads, spec.channels)
        self.atom_reader = onsite_reader(heads, spec.channels)
        self.pair_weights, self.atom_weights = weights_of(heads, "hopping"), weights_of(heads, "onsite")

    def forward(self, graph: Graph) -> dict[str, Output]:
        h, n, latent = self.trunk(graph)
        z = self.meeting.of_both(h, graph.reverse_e, latent)
        both = rows_of(z, torch.cat([*graph.forward, *graph.backward])).chunk(2)
        hopping = self._by_operator(self.pair_reader(both, [len(t) for t in graph.forward], self.pair_weights))
        onsite = self._onsite(n, graph.atoms_s)
        return {name: Output(hopping[name], onsite[name]) for name in self.heads}

    def states(self, graph: Graph, bonds: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, ...]]]:
        h, n, _ = self.trunk(graph)
        states_ef = beside(h)
        every = len(bonds) == len(states_ef) and bool((bonds == torch.arange(len(bonds)).to(bonds)).all())
        return states_ef if every else states_ef[bonds], self._onsite(n, graph.atoms_s)

    @torch.no_grad()
    def hopping(self, pairs: PairStates) -> dict[str, tuple[Tensor, ...]]:
        A_h, B_h = (
            torch.from_numpy(np.repeat(species, pairs.count_t)).to(pairs.length_h.device)
            for species in zip(*self.kinds, strict=True)
        )
        h = parts_of_irreps(pairs.states_hf, self.trunk.channels)
        there = self.trunk.distances.features(A_h, B_h, pairs.length_h)
        # From both ends pairs of one species look the same.
        back = there if len(self.kinds) == 1 else self.trunk.distances.features(B_h, A_h, pairs.length_h)
        z = self.meeting.gated(met(h, list(self.meeting.linear.weights)), torch.cat([there, back]))
        products_t = read_pairs(z, pairs.count_t, self.pair_reader.matrices(self.pair_weights))
        return self._by_operator(
            [x for t, found in enumerate(products_t) for x in self.pair_reader.components(t, found)]
        )

    def _onsite(self, n: list[Tensor], atoms_s: Sequence[Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """The components of the onsite blocks of atoms with the states n, by species."""
        rows = rows_of(n, torch.cat(list(atoms_s)))
        return self._by_operator(self.atom_reader([rows], [len(atoms) for atoms in atoms_s], self.atom_weights))

    def _by_operator(self, read: list[Tensor]) -> dict[str, tuple[Tensor, ...]]:
        return {name: tuple(read[n :: len(self.heads)]) for n, name in enumerate(self.heads)}
