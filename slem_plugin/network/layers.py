"""Layers: features of atoms and of bonds, and the maps between them.

Atoms carry `n[l][a, m, channel]`, natural channels before unnatural ones, in the axes of the structure. Bonds carry
`x[k][e, part, channel]` in their own frame, for the irreps k = 0 even, 0 odd, m = 1, 2, ... about the bond, one part
(m = 0) or two (c, s). Any linear map of the channels of one k that treats c and s alike is exactly equivariant.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from basis import Array
from slem_plugin.graphs.graph import BEYOND, Graph, pair_kinds, pair_numbers
from slem_plugin.network.channels import Channels
from slem_plugin.network.spec import NetworkSpec

# Features smaller than this part of the largest ones are taken to be noise.
SMALLEST_SIZE = 0.01
SMALLEST_CUTOFF = 0.1  # Angstrom
# Features of a distance go on so far (Angstrom) beyond the nearest and the farthest one of the data and then stay what they are.
LEVEL = 0.1
# Gates stay below this: without a bound every layer squares what many more neighbours than in the data send, and a larger
# molecule gets matrices of any size.
LARGEST_GATE = 4.0


def bounded(gate: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """A gate times a constant; nearly itself where it is small."""
    return torch.tanh(gate / LARGEST_GATE) * (LARGEST_GATE * gain)


def turn_in(n: list[Tensor], graph: Graph, channels: Channels) -> list[list[list[Tensor]]]:
    """Features of each atom in the frames of its bonds: tensors [e, channel] to be joined, by k and part."""
    highest = channels.highest
    pieces: list[list[list[Tensor]]] = [[[] for _ in range(1 if k < 2 else 2)] for k in range(highest + 2)]
    for l, (natural, unnatural) in enumerate(zip(channels.natural, channels.unnatural, strict=True)):
        turned = torch.bmm(graph.rotations[l], n[l]).view(-1, 2 * l + 1, natural + unnatural)
        plain, other = turned.split_with_sizes([natural, unnatural], dim=2)
        if natural:
            rows = plain.unbind(1)
            pieces[0][0].append(rows[l])
            for m in range(1, l + 1):
                pieces[m + 1][0].append(rows[l + m])
                pieces[m + 1][1].append(rows[l - m])
        if unnatural:
            rows = other.unbind(1)
            pieces[1][0].append(rows[l])
            for m in range(1, l + 1):
                pieces[m + 1][0].append(rows[l - m])
                pieces[m + 1][1].append(-rows[l + m])
    return pieces


def turn_out(x: list[Tensor], graph: Graph, rotations: Sequence[Tensor], channels: Channels) -> list[Tensor]:
    """Sums over the bonds of each atom of features turned back to the axes of the structure, by the weighted rotations of the graph."""
    parts: list[list[list[Tensor]]] = []
    for k, feature in enumerate(x):
        widths = [
            count
            for l, kinds in enumerate(zip(channels.natural, channels.unnatural, strict=True))
            if l >= k - 1
            for count in (kinds if k > 1 else kinds[k : k + 1])
        ]
        parts.append([list(rows.split_with_sizes(widths, dim=1)) for rows in feature.unbind(1)])
    n = []
    for l, (natural, unnatural) in enumerate(zip(channels.natural, channels.unnatural, strict=True)):
        plain = [parts[0][0][l]]
        other = [parts[1][0][l]]
        for m in range(1, l + 1):
            c, s = parts[m + 1]
            place = 2 * (l - m)
            plain = [s[place], *plain, c[place]]
            other = [c[place + 1], *other, -s[place + 1]]
        both = torch.cat([part for rows in zip(plain, other, strict=True) for part in rows], dim=1)
        turned = both.view(graph.natoms, -1, natural + unnatural)
        n.append(torch.bmm(rotations[l].mT, turned))
    return n


def weighted(rotations: Sequence[Tensor], weight_e: Tensor) -> list[Tensor]:
    """Rotations that also multiply by a weight of each bond."""
    return [(turns.view(len(weight_e), -1) * weight_e[:, None]).view(turns.shape) for turns in rotations]


def join(pieces: list[list[list[Tensor]]]) -> list[Tensor]:
    """Features of bonds of their pieces."""
    return [
        torch.cat([row for part in parts for row in part], dim=1).view(len(parts[0][0]), len(parts), -1)
        for parts in pieces
    ]


def parts_of_irreps(states_ef: Tensor, channels: Channels) -> list[Tensor]:
    """Features of bonds of their flat states."""
    flat = states_ef.split_with_sizes([parts * count for parts, count in channels.state_shapes], dim=1)
    return [feature.view(len(feature), *shape) for feature, shape in zip(flat, channels.state_shapes, strict=True)]


def reverse(x: list[Tensor], bonds: Tensor | slice) -> list[Tensor]:
    """Features of other bonds, seen from the frames of their reverse."""
    even, odd, *pairs = (feature[bonds] for feature in x)
    return [even, -odd, *(pair * sign_of_parts(even) for pair in pairs)]


def sign_of_parts(like: Tensor) -> Tensor:
    """How c and s look from the reverse of their bond."""
    return like.new_tensor([1.0, -1.0])[:, None]


class BondLinear(nn.Module):
    """A linear map of the channels of each irrep about the bond."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(a, b) / max(a, 1) ** 0.5) for a, b in zip(inputs, outputs, strict=True)
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [
            (feature.flatten(0, 1) @ W).view(*feature.shape[:2], W.shape[1])
            for feature, W in zip(x, self.weights, strict=True)
        ]


class Gains(nn.Module):
    """Constants that bring features to unit size; they are measured once on data, before the training.

    Without them features of high m and of unnatural parity begin a thousand times smaller than the others.
    """

    values: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.ones(count))
        self.measuring = False

    def calibrated(self, features: list[Tensor]) -> list[Tensor]:
        """The features, which the caller has multiplied by the gains; while measuring, brought to unit size by new gains."""
        if not self.measuring:
            return features
        sizes = [float(x.square().mean().sqrt()) if x.numel() else 0.0 for x in features]
        # What is almost nothing may be all noise, and is not blown up without limit.
        least = SMALLEST_SIZE * max(sizes)
        ratios = [1 / max(size, least) if size else 1.0 for size in sizes]
        self.values *= self.values.new_tensor(ratios)
        return [ratio * x for ratio, x in zip(ratios, features, strict=True)]


def calibrate(network: nn.Module, graph: Graph) -> None:
    """Set the gains of an untrained network on a typical graph, layer after layer in one pass."""
    gains = [module for module in network.modules() if isinstance(module, Gains)]
    for gain in gains:
        gain.measuring = True
    with torch.no_grad():
        network(graph)
    for gain in gains:
        gain.measuring = False


class BondUpdate(nn.Module):
    """New features of bonds: a linear map, then a gate from the even ones and the distance on all others."""

    channels_k: Tensor

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.linear = BondLinear(inputs, outputs)
        self.distance = nn.Linear(latent, outputs[0])
        self.gate = nn.Linear(outputs[0], sum(outputs))
        self.gains = Gains(len(outputs))
        self.register_buffer("channels_k", torch.arange(len(outputs)).repeat_interleave(torch.tensor(outputs)))

    def forward(self, x: list[Tensor], latent: Tensor) -> list[Tensor]:
        return self.gated(self.linear(x), latent)

    def of_both(self, x: list[Tensor], reverse_e: Tensor | None, latent: Tensor) -> list[Tensor]:
        """The same of each bond beside its reverse, seen from its frame; without `reverse_e` the second half of the bonds are those of the first.

        The products with both halves of the weights come first: so nothing is copied but their results.
        """
        both = []
        for k, (feature, W) in enumerate(zip(x, self.linear.weights, strict=True)):
            own, other = W.view(2, feature.shape[2], W.shape[1])
            results = feature.flatten(0, 1) @ torch.cat([own, other], dim=1)
            here, there = results.view(*feature.shape[:2], 2, W.shape[1]).unbind(2)
            seen = there.roll(len(there) // 2, 0) if reverse_e is None else there[reverse_e]
            both.append(here - seen if k == 1 else here + seen if k == 0 else here + seen * sign_of_parts(seen))
        return self.gated(both, latent)

    def gated(self, x: list[Tensor], latent: Tensor) -> list[Tensor]:
        """Features times gates that are made of the even ones and of the distance."""
        even, *others = x
        hidden = nn.functional.silu(even.squeeze(1) + self.distance(latent))
        new, gates = self.gate(hidden).unsqueeze(1).split_with_sizes([self.outputs[0], sum(self.outputs[1:])], dim=2)
        first, gain = self.gains.values[0], self.gains.values[self.channels_k[self.outputs[0] :]]
        factors = bounded(gates, gain).split_with_sizes(self.outputs[1:], dim=2)
        return self.gains.calibrated([new * first, *(y * x for y, x in zip(others, factors, strict=True))])


class Distances(nn.Module):
    """Smooth features of the length of each bond, its own for each ordered pair of species, and a cutoff function.

    Messages end a little beyond the farthest distance of the data, or at a part of the cutoff where that distance is not known.
    """

    cutoff_ss: Tensor
    near_ss: Tensor
    far_ss: Tensor
    wave_numbers: Tensor

    def __init__(self, spec: NetworkSpec, cutoff_ss: Array) -> None:
        super().__init__()
        species, width = len(cutoff_ss), spec.latent
        self.messages = spec.messages
        self.knows_the_data = bool(spec.learned)
        self.register_buffer("cutoff_ss", torch.from_numpy(cutoff_ss))
        learned_t = np.array(spec.learned or [(0.0, 0.0)] * len(pair_kinds(species)))
        for name, values_ss in zip(("near_ss", "far_ss"), learned_t.T[:, pair_numbers(species)], strict=True):
            self.register_buffer(name, torch.from_numpy(values_ss), persistent=False)
        self.register_buffer("wave_numbers", torch.arange(1, spec.waves + 1) * torch.pi)
        self.scale = nn.Parameter(1 + 0.5 * torch.randn(species**2, width))
        self.shift = nn.Parameter(0.5 * torch.randn(species**2, width))
        self.first = nn.Linear(spec.waves, width)
        self.second = nn.Linear(width, width)
        self.gains = Gains(1)

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        own_e, other_e = graph.species_a.repeat_interleave(graph.slots), graph.neighbour_e
        latent = self.features(own_e, other_e, graph.length_e)
        return latent, envelope(graph.length_e / self.end_of_messages[own_e, other_e]) * graph.present_e

    @property
    def end_of_messages(self) -> Tensor:
        """How far each two species hear each other."""
        # Species that were never near each other have no cutoff; their only bonds are empty places.
        cutoff_ss = self.cutoff_ss.clamp(min=SMALLEST_CUTOFF)
        return torch.minimum(self.far_ss + BEYOND, cutoff_ss) if self.knows_the_data else cutoff_ss * self.messages

    def features(self, own_e: Tensor, other_e: Tensor, length_e: Tensor) -> Tensor:
        """Features of bonds from one species to another."""
        if self.knows_the_data:
            length_e = levelled(length_e, self.near_ss[own_e, other_e], self.far_ss[own_e, other_e])
        x = length_e / self.cutoff_ss[own_e, other_e].clamp(min=SMALLEST_CUTOFF)
        waves = torch.sin(x[:, None] * self.wave_numbers) / x[:, None]
        pair_e = own_e * len(self.cutoff_ss) + other_e
        hidden = nn.functional.silu(self.first(waves) * self.scale[pair_e] + self.shift[pair_e])
        (latent,) = self.gains.calibrated([nn.functional.silu(self.second(hidden)) * self.gains.values])
        return latent


def levelled(length_e: Tensor, near_e: Tensor, far_e: Tensor) -> Tensor:
    """Distances that stay as they are in the range of the data, and leave it by no more than `LEVEL`; twice differentiable."""
    inside_e = torch.minimum(torch.maximum(length_e, near_e), far_e)
    return inside_e + LEVEL * torch.tanh((length_e - inside_e) / LEVEL)


def envelope(x: Tensor) -> Tensor:
    """1 at 0 and 0 from 1 on, with two continuous derivatives."""
    return torch.where(x < 1, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, torch.zeros_like(x))
