"""Network: SLEM, strictly local and equivariant under O(3), with heads for several operators.

A bond state (i, j) sees only the surroundings of i; the state of atom i is gathered from its own bond states. The states
of both directions of a bond meet only in the outputs, which are never fed back: however many layers there are, an
output sees no atom farther than one cutoff from one of its two atoms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from slem_plugin.blocks.components import BlockForm
from slem_plugin.graphs.graph import Graph
from slem_plugin.network.channels import Channels
from slem_plugin.network.layers import BondUpdate, Distances, Gains, bounded, join, reverse, turn_in, turn_out


@dataclass(frozen=True)
class Output:
    """What the network says of one operator: [pairs, components] of each kind and [atoms, components] of each species."""

    hopping_t: tuple[Tensor, ...]
    onsite_s: tuple[Tensor, ...]

    @property
    def blocks(self) -> tuple[Tensor, ...]:
        return self.hopping_t + self.onsite_s


class Trunk(nn.Module):
    """The states of atoms and bonds after all layers."""

    def __init__(
        self,
        channels: Channels,
        layers: int,
        cutoff_ss: Tensor,
        messages: float,
        neighbours: float,
        latent: int,
        waves: int,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.scale = neighbours**-0.5
        k = channels.about_bond
        self.distances = Distances(cutoff_ss, messages, waves, latent)
        self.start = nn.Linear(latent, k[0])
        self.updates = nn.ModuleList(BondUpdate(tuple(2 * c for c in k), k, latent) for _ in range(layers))
        self.gathers = nn.ModuleList(Gather(channels) for _ in range(layers + 1))

    def forward(self, graph: Graph) -> tuple[list[Tensor], list[Tensor], Tensor]:
        latent, envelope = self.distances(graph)
        weight = (self.scale * envelope)[:, None, None]
        even = self.start(latent).unsqueeze(1)
        h = [
            even,
            *(even.new_zeros(len(even), min(k, 2), count) for k, count in enumerate(self.channels.about_bond) if k),
        ]
        n = self.gathers[0](None, turn_out([weight * x for x in h], graph, self.channels))
        for update, gather in zip(self.updates, list(self.gathers)[1:], strict=True):
            pieces = turn_in(n, graph, self.channels)
            for parts, feature in zip(pieces, h, strict=True):
                for part, row in zip(parts, feature.unbind(1), strict=True):
                    part.append(row)
            new = update(join(pieces), latent)
            h = [old + change for old, change in zip(h, new, strict=True)]
            n = gather(n, turn_out([weight * x for x in h], graph, self.channels))
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
            plain, other = message[l].split([natural, unnatural], dim=2)
            parts.append(plain @ (self.natural[l] * self.gains.values[2 * l]))
            parts.append(other @ (self.unnatural[l] * self.gains.values[2 * l + 1]))
        parts = self.gains.calibrated(parts)
        scalars = parts[0].squeeze(1)
        gates = 1 + bounded(self.gate(nn.functional.silu(self.hidden(scalars))))
        mixed = [torch.cat(pair, dim=2) for pair in zip(parts[::2], parts[1::2], strict=True)]
        new = [
            x * gate.unsqueeze(1) for x, gate in zip(mixed, gates.split(self.channels.by_degree, dim=1), strict=True)
        ]
        return new if n is None else [old + change for old, change in zip(n, new, strict=True)]


class Network(nn.Module):
    """Trunk, the meeting of both directions of each bond, and the heads of all operators."""

    def __init__(self, forms: dict[str, BlockForm], trunk: Trunk, latent: int) -> None:
        super().__init__()
        self.trunk, channels = trunk, trunk.channels
        k = channels.about_bond
        self.meeting = BondUpdate(tuple(2 * c for c in k), k, latent)
        self.heads = nn.ModuleDict({name: Head(form, channels) for name, form in forms.items()})

    def forward(self, graph: Graph) -> dict[str, Output]:
        h, n, latent = self.trunk(graph)
        hopping = self.hopping(h, latent, graph.reverse_e, graph.forward, graph.backward)
        onsite = self.onsite(n, graph.atoms_s)
        return {name: Output(hopping[name], onsite[name]) for name in self.heads}

    def hopping(
        self, h: list[Tensor], latent: Tensor, reverse_e: Tensor, forward: Sequence[Tensor], backward: Sequence[Tensor]
    ) -> dict[str, tuple[Tensor, ...]]:
        """The components of pairs of each kind, whose bonds forward and backward are among those with the states h."""
        pairs = zip(h, reverse(h, reverse_e), strict=True)
        z = self.meeting([torch.cat(pair, dim=2) for pair in pairs], latent)
        return {name: head.hopping_of(z, forward, backward) for name, head in self._heads()}

    def onsite(self, n: list[Tensor], atoms_s: Sequence[Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """The components of the onsite blocks of atoms with the states n, by species."""
        return {name: head.onsite_of(n, atoms_s) for name, head in self._heads()}

    def _heads(self) -> Iterator[tuple[str, "Head"]]:
        return ((name, cast("Head", head)) for name, head in self.heads.items())


def calibrate(network: Network, graph: Graph) -> None:
    """Set the gains of an untrained network on a typical graph, layer after layer in one pass."""
    gains = [module for module in network.modules() if isinstance(module, Gains)]
    for gain in gains:
        gain.measuring = True
    with torch.no_grad():
        network(graph)
    for gain in gains:
        gain.measuring = False


class Head(nn.Module):
    """The components of one operator; a pair is read in both directions, so its two blocks are each other's transpose."""

    def __init__(self, form: BlockForm, channels: Channels) -> None:
        super().__init__()
        self.hopping = nn.ModuleList(HoppingHead(form, t, channels) for t in range(len(form.kinds)))
        self.onsite = nn.ModuleList(OnsiteHead(form, s, channels) for s in range(len(form.basis)))

    def hopping_of(self, z: list[Tensor], forward: Sequence[Tensor], backward: Sequence[Tensor]) -> tuple[Tensor, ...]:
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

    def forward(self, z: list[Tensor], there: Tensor, back: Tensor) -> Tensor:
        seen = reverse(z, back)
        parts = []
        for k, W in enumerate(self.there):
            W_back = W[:, getattr(self, f"place{k}")] * getattr(self, f"sign{k}") if self.back is None else self.back[k]
            x = torch.cat([z[k][there], seen[k]], dim=2)
            parts.append((x.flatten(0, 1) @ torch.cat([W, W_back])).view(len(there), x.shape[1] * W.shape[1]))
        parts += [z[0].new_zeros(len(there), 2 * n) for n in self.missing]
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
            plain, other = n[l].split([self.channels.natural[l], self.channels.unnatural[l]], dim=2)
            parts.append(torch.cat([plain @ self.natural[l], other @ self.unnatural[l]], dim=2).flatten(1))
        return torch.cat(parts, dim=1)
