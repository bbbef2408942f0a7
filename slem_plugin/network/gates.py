"""Gates: features of bonds times factors that are made of the even ones and of the distance, as one node of autograd."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from slem_plugin.network.gradients import as_one, each_scaled

# Gates stay below this: without a bound every layer squares what many more neighbours than in the data send, and a larger
# molecule gets matrices of any size.
LARGEST_GATE = 4.0


def bounded(gate: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """A gate times a constant; nearly itself where it is small: LARGEST_GATE tanh(gate / LARGEST_GATE), by a function that costs a quarter."""
    largest = torch.as_tensor(LARGEST_GATE * gain, dtype=gate.dtype, device=gate.device)
    return torch.addcmul(-largest, torch.sigmoid(gate * (2 / LARGEST_GATE)), 2 * largest)


@dataclass(frozen=True, eq=False)
class GateWeights:
    """The linear maps (weights, shift) of the features of distance and of what is made of them and of even features.

    They give new even features, which are multiplied by `first`, and gates of the others, whose constants are `gain`.
    """

    distance: tuple[Tensor, Tensor]
    gate: tuple[Tensor, Tensor]
    first: Tensor
    gain: Tensor


def gated(x: Sequence[Tensor], latent: Tensor, weights: GateWeights, old: Sequence[Tensor]) -> list[Tensor]:
    """New even features and gated others of bonds, added to old ones; old ones may be missing, all or all but the even ones."""
    if torch.compiler.is_compiling():
        return each_gated(x, latent, weights, old)
    return list(as_one(Gated, weights, len(x), latent, *weights.distance, *weights.gate, *x, *old))


def each_gated(x: Sequence[Tensor], latent: Tensor, weights: GateWeights, old: Sequence[Tensor]) -> list[Tensor]:
    even, *others = x
    hidden = functional.silu(even.squeeze(1) + functional.linear(latent, *weights.distance))
    both = functional.linear(hidden, *weights.gate)
    new, gates = both.split_with_sizes([both.shape[1] - len(weights.gain), len(weights.gain)], dim=1)
    return added(new, others, bounded(gates, weights.gain), weights, old)


def added(
    new: Tensor, others: Sequence[Tensor], factors: Tensor, weights: GateWeights, old: Sequence[Tensor]
) -> list[Tensor]:
    """New even features and the others times their factors, added to old ones."""
    even = new.unsqueeze(1)
    first = torch.addcmul(old[0], even, weights.first) if old else even * weights.first
    return [first, *each_scaled(others, factors, old[1:])]


class Gated(torch.autograd.Function):
    """`gated`."""

    @staticmethod
    def forward(ctx: Any, weights: GateWeights, count: int, latent: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        (even, *others), old = given[4 : 4 + count], given[4 + count :]
        before = functional.linear(latent, *weights.distance).add_(even.squeeze(1))
        hidden = functional.silu(before)
        both = functional.linear(hidden, *weights.gate)
        new, factors = both.split_with_sizes([both.shape[1] - len(weights.gain), len(weights.gain)], dim=1)
        largest = LARGEST_GATE * weights.gain
        torch.addcmul(-largest, factors.mul_(2 / LARGEST_GATE).sigmoid_(), 2 * largest, out=factors)
        ctx.save_for_backward(latent, before, hidden, both, given[0], given[2], *others)
        ctx.weights, ctx.old = weights, len(old)
        return tuple(added(new, others, factors, weights, old))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_even: Tensor, *of_others: Tensor) -> tuple[Any, ...]:
        latent, before, hidden, both, W_distance, W_gate, *others = ctx.saved_tensors
        weights: GateWeights = ctx.weights
        widths = [both.shape[1] - len(weights.gain), *(x.shape[2] for x in others)]
        of_both = torch.empty_like(both)
        new, *parts = of_both.split_with_sizes(widths, dim=1)
        torch.mul(of_even.squeeze(1), weights.first, out=new)
        for g, x, part in zip(of_others, others, parts, strict=True):
            torch.mul(g[:, 0], x[:, 0], out=part)
            for c_or_s in range(1, x.shape[1]):
                part.addcmul_(g[:, c_or_s], x[:, c_or_s])
        factors = both[:, widths[0] :]
        # The slope of a bounded gate is gain - factor^2 / (gain LARGEST_GATE^2).
        of_both[:, widths[0] :] *= torch.addcmul(weights.gain, factors, factors / (-(LARGEST_GATE**2) * weights.gain))
        of_before = torch.ops.aten.silu_backward(of_both @ W_gate, before)
        by_irrep = factors.unsqueeze(1).split_with_sizes(widths[1:], dim=2)
        return (
            None,
            None,
            of_before @ W_distance,
            of_before.mT @ latent,
            of_before.sum(0),
            of_both.mT @ hidden,
            of_both.sum(0),
            of_before.unsqueeze(1),
            *(g * factor for g, factor in zip(of_others, by_irrep, strict=True)),
            *(of_even, *of_others)[: ctx.old],
        )
