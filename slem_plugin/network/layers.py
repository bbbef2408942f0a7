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
from slem_plugin.network.gates import GateWeights, gated
from slem_plugin.network.gradients import of_both_directions
from slem_plugin.network.spec import NetworkSpec
from slem_plugin.network.surroundings import FewBonds, ManyBonds

# Features smaller than this part of the largest ones are taken to be noise.
SMALLEST_SIZE = 0.01
SMALLEST_CUTOFF = 0.1  # Angstrom
# Features of a distance go on so far (Angstrom) beyond the nearest and the farthest one of the data and then stay what they are.
LEVEL = 0.1


def parts_of_irreps(states_ef: Tensor, channels: Channels) -> list[Tensor]:
    """Features of bonds of their flat states."""
    flat = states_ef.split_with_sizes([parts * count for parts, count in channels.state_shapes], dim=1)
    return [feature.view(len(feature), *shape) for feature, shape in zip(flat, channels.state_shapes, strict=True)]


class BondLinear(nn.Module):
    """The weights of a linear map of the channels of each irrep about the bond."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(a, b) / max(a, 1) ** 0.5) for a, b in zip(inputs, outputs, strict=True)
        )


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

    def forward(self, n: list[Tensor], h: list[Tensor], seen: FewBonds | ManyBonds, latent: Tensor) -> list[Tensor]:
        """The features of bonds and what they change by, from those of their atoms; irreps that `h` lacks are zero."""
        return self.gated(seen.met(n, h, list(self.linear.weights)), latent, h)

    def of_both(self, x: list[Tensor], reverse_e: Tensor, latent: Tensor) -> list[Tensor]:
        """The same of each bond beside its reverse, seen from its frame."""
        return self.gated(of_both_directions(x, list(self.linear.weights), reverse_e), latent)

    def gated(self, x: list[Tensor], latent: Tensor, old: Sequence[Tensor] = ()) -> list[Tensor]:
        """Features times gates that are made of the even ones and of the distance, added to old ones."""
        weights = GateWeights(
            (self.distance.weight, self.distance.bias),
            (self.gate.weight, self.gate.bias),
            self.gains.values[0],
            self.gains.values[self.channels_k[self.outputs[0] :]],
        )
        if not self.gains.measuring:
            return gated(x, latent, weights, old)
        changes = self.gains.calibrated(gated(x, latent, weights, ()))
        return [*(a + b for a, b in zip(old, changes, strict=False)), *changes[len(old) :]]


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
        scale: Tensor = self.scale
        shift: Tensor = self.shift
        if len(scale) > 1:
            pair_e = own_e * len(self.cutoff_ss) + other_e
            scale, shift = scale[pair_e], shift[pair_e]
        hidden = nn.functional.silu(torch.addcmul(shift, self.first(waves), scale))
        (latent,) = self.gains.calibrated([nn.functional.silu(self.second(hidden)) * self.gains.values])
        return latent


def levelled(length_e: Tensor, near_e: Tensor, far_e: Tensor) -> Tensor:
    """Distances that stay as they are in the range of the data, and leave it by no more than `LEVEL`; twice differentiable."""
    inside_e = torch.minimum(torch.maximum(length_e, near_e), far_e)
    return inside_e + LEVEL * torch.tanh((length_e - inside_e) / LEVEL)


def envelope(x: Tensor) -> Tensor:
    """1 at 0 and 0 from 1 on, with two continuous derivatives."""
    return torch.where(x < 1, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, torch.zeros_like(x))
