"""Steps of the network with gradients of their own: one node of autograd in place of the hundreds that their parts would be.

For a small molecule most of the time of a training is spent on nodes, not on numbers. Gradients are of first order only, and those of
rotations are never asked for. While torch compiles a network it sees the parts, which it joins by itself.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from slem_plugin.network.channels import Channels
from slem_plugin.network.turns import PARTS_FROM_THE_REVERSE, Turns, summed, turned


def as_one(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """What a function with a gradient of its own gives; where no gradient is wanted, without a node for it."""
    return function.apply(*arguments) if torch.is_grad_enabled() else function.forward(NoGradient(), *arguments)


class NoGradient(SimpleNamespace):
    """Takes what a function would keep for its gradient."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep nothing."""


def of_atoms_and_bonds(
    n: Sequence[Tensor], h: Sequence[Tensor], rotations: Sequence[Tensor], turns: Turns, weights: Sequence[Tensor]
) -> list[Tensor]:
    """Features of the atom of each bond in its frame times the first rows of the weights, and those of the bond times the others.

    `h` may end early: what it lacks is zero.
    """
    if torch.compiler.is_compiling():
        return each_of_atoms_and_bonds(turns.inward(turned(n, rotations)), h, weights)
    return list(as_one(OfAtomsAndBonds, rotations, turns, len(n), len(h), *n, *h, *weights))


def each_of_atoms_and_bonds(x: Sequence[Tensor], h: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    found = []
    for k, (a, W) in enumerate(zip(x, weights, strict=True)):
        product = a.flatten(0, 1) @ W[: a.shape[2]]
        if k < len(h):
            product = product.addmm_(h[k].flatten(0, 1), W[a.shape[2] :])
        found.append(product.view(*a.shape[:2], W.shape[1]))
    return found


class OfAtomsAndBonds(torch.autograd.Function):
    """`of_atoms_and_bonds`."""

    @staticmethod
    def forward(
        ctx: Any, rotations: Sequence[Tensor], turns: Turns, atoms: int, irreps: int, *given: Tensor
    ) -> tuple[Tensor, ...]:
        h, weights = given[atoms : atoms + irreps], given[atoms + irreps :]
        x = turns.inward(turned(given[:atoms], rotations))
        ctx.save_for_backward(*h, *weights, *x)
        ctx.rotations, ctx.turns, ctx.irreps = rotations, turns, irreps
        return tuple(each_of_atoms_and_bonds(x, h, weights))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        h, weights, x = saved[: ctx.irreps], saved[ctx.irreps : ctx.irreps + len(gradients)], saved[-len(gradients) :]
        of_x, of_h, of_weights = [], [], []
        for k, (a, W, gradient) in enumerate(zip(x, weights, gradients, strict=True)):
            g, own = gradient.flatten(0, 1), a.shape[2]
            of_x.append((g @ W[:own].mT).view(a.shape))
            of_W = torch.zeros_like(W) if k >= len(h) else torch.empty_like(W)
            torch.mm(a.flatten(0, 1).mT, g, out=of_W[:own])
            if k < len(h):
                torch.mm(h[k].flatten(0, 1).mT, g, out=of_W[own:])
                of_h.append((g @ W[own:].mT).view(h[k].shape))
            of_weights.append(of_W)
        return (None, None, None, None, *summed(ctx.turns.outward(of_x), ctx.rotations), *of_h, *of_weights)


def sent_by_even(even: Tensor, rotations: Sequence[Tensor], channels: Channels) -> list[Tensor]:
    """`sent` where only the first irrep is not zero."""
    slots = rotations[0].shape[1]
    parts = even.view(len(rotations[0]), slots, -1).split_with_sizes(list(channels.natural), dim=2)
    sums = []
    for l, (D, part) in enumerate(zip(rotations, parts, strict=False)):
        along = D.view(len(D), slots, 2 * l + 1, 2 * l + 1)[:, :, l]
        sums.append(pad(along.mT @ part, (0, channels.unnatural[l])))
    return sums


def sent(h: Sequence[Tensor], rotations: Sequence[Tensor], turns: Turns) -> list[Tensor]:
    """Sums over the bonds of each atom of features turned back to the axes of the structure."""
    if torch.compiler.is_compiling():
        return summed(turns.outward(h), rotations)
    return list(as_one(Sent, rotations, turns, *h))


class Sent(torch.autograd.Function):
    """`sent`."""

    @staticmethod
    def forward(ctx: Any, rotations: Sequence[Tensor], turns: Turns, *h: Tensor) -> tuple[Tensor, ...]:
        ctx.rotations, ctx.turns = rotations, turns
        return tuple(summed(turns.outward(h), rotations))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return (None, None, *ctx.turns.inward(turned(gradients, ctx.rotations)))


def scaled(x: Sequence[Tensor], factors: Tensor, added_to: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Features [e, part, channel] times factors [e, all channels], and added to others."""
    if torch.compiler.is_compiling():
        return each_scaled(x, factors, added_to)
    return list(as_one(Scaled, len(x), factors, *x, *(added_to or ())))


def each_scaled(x: Sequence[Tensor], factors: Tensor, added_to: Sequence[Tensor] | None) -> list[Tensor]:
    split = factors.unsqueeze(1).split_with_sizes([a.shape[2] for a in x], dim=2)
    if not added_to:
        return [a * factor for a, factor in zip(x, split, strict=True)]
    return [torch.addcmul(old, a, factor) for old, a, factor in zip(added_to, x, split, strict=True)]


class Scaled(torch.autograd.Function):
    """`scaled`."""

    @staticmethod
    def forward(ctx: Any, count: int, factors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(factors, *features[:count])
        ctx.added = len(features) > count
        return tuple(each_scaled(features[:count], factors, features[count:]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        factors, *x = ctx.saved_tensors
        split = factors.unsqueeze(1).split_with_sizes([a.shape[2] for a in x], dim=2)
        of_factors = torch.cat([(g * a).sum(1) for g, a in zip(gradients, x, strict=True)], dim=1)
        of_x = [g * factor for g, factor in zip(gradients, split, strict=True)]
        return (None, of_factors, *of_x, *(gradients if ctx.added else ()))


def mixed(message: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Features of atoms of each degree, natural ones times the one and others times the next of the weights."""
    if torch.compiler.is_compiling():
        return each_mixed(message, weights)
    return list(as_one(Mixed, len(message), *message, *weights))


def each_mixed(message: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    both = zip(by_parity(message, [len(W) for W in weights]), weights[::2], weights[1::2], strict=True)
    return [torch.cat([plain @ natural, other @ unnatural], dim=2) for (plain, other), natural, unnatural in both]


def by_parity(features: Sequence[Tensor], widths: Sequence[int]) -> list[Sequence[Tensor]]:
    """Natural and other features of each degree."""
    return [x.split_with_sizes(list(widths[2 * l : 2 * l + 2]), dim=2) for l, x in enumerate(features)]


class Mixed(torch.autograd.Function):
    """`mixed`."""

    @staticmethod
    def forward(ctx: Any, count: int, *both: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*both)
        ctx.count = count
        return tuple(each_mixed(both[:count], both[count:]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        message, weights = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        back = each_mixed(gradients, [W.mT for W in weights])
        widths = [len(W) for W in weights]
        parts = zip(by_parity(message, widths), by_parity(gradients, widths), strict=True)
        of_weights = [part.flatten(0, 1).mT @ g.flatten(0, 1) for both in parts for part, g in zip(*both, strict=True)]
        return (None, *back, *of_weights)


def of_both_directions(x: Sequence[Tensor], weights: Sequence[Tensor], reverse_e: Tensor) -> list[Tensor]:
    """Features of each bond times the first half of the weights, and of its reverse, seen from its frame, times the second."""
    if torch.compiler.is_compiling():
        return each_of_both(x, weights, reverse_e)
    return list(as_one(OfBothDirections, reverse_e, len(x), *x, *weights))


def each_of_both(x: Sequence[Tensor], weights: Sequence[Tensor], reverse_e: Tensor) -> list[Tensor]:
    both = []
    # The products with both halves come first: so nothing is copied but their results.
    for k, (feature, W) in enumerate(zip(x, weights, strict=True)):
        results = feature.flatten(0, 1) @ side_by_side(W)
        here, there = results.view(*feature.shape[:2], 2, W.shape[1]).unbind(2)
        both.append(here + seen_reversed(there, k, reverse_e))
    return both


def side_by_side(W: Tensor) -> Tensor:
    """The two halves of the rows of a matrix beside each other."""
    return torch.cat(W.chunk(2), dim=1)


def seen_reversed(feature: Tensor, k: int, reverse_e: Tensor) -> Tensor:
    """Features of irrep k of the reverse bonds, seen from the frames of these; it is its own transpose."""
    seen = feature[reverse_e]
    return seen if k == 0 else -seen if k == 1 else seen * seen.new_tensor(PARTS_FROM_THE_REVERSE)[:, None]


class OfBothDirections(torch.autograd.Function):
    """`of_both_directions`."""

    @staticmethod
    def forward(ctx: Any, reverse_e: Tensor, count: int, *both: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*both)
        ctx.reverse_e = reverse_e
        return tuple(each_of_both(both[:count], both[count:], reverse_e))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        both = ctx.saved_tensors
        x, weights = both[: len(both) // 2], both[len(both) // 2 :]
        of_x, of_weights = [], []
        for k, (feature, W, g) in enumerate(zip(x, weights, gradients, strict=True)):
            results = torch.cat([g, seen_reversed(g, k, ctx.reverse_e)], dim=2).flatten(0, 1)
            of_x.append((results @ side_by_side(W).mT).view(feature.shape))
            of_weights.append(torch.cat((feature.flatten(0, 1).mT @ results).chunk(2, dim=1)))
        return (None, None, *of_x, *of_weights)
