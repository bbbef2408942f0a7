"""The weights of a network under training as one stretch of numbers: an optimiser step of a hundred small tensors costs as much as their products."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class FlatWeights:
    """All weights of a network one after the other in `flat`, of which its parameters are views from now on."""

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.sizes = [weight.numel() for weight in self.parameters]
        self.flat = join(weight.detach() for weight in self.parameters)
        for weight, part in zip(self.parameters, self.parts(self.flat), strict=True):
            weight.data = part

    @property
    def count(self) -> int:
        return len(self.parameters)

    def parts(self, flat: Tensor) -> list[Tensor]:
        """What belongs to each parameter."""
        shapes = [weight.shape for weight in self.parameters]
        return [part.view(shape) for part, shape in zip(flat.split_with_sizes(self.sizes), shapes, strict=True)]

    def forget_gradients(self) -> None:
        for weight in self.parameters:
            weight.grad = None

    def gradient(self) -> Tensor:
        """The gradients of the parameters."""
        return join(torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self.parameters)


def join(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
