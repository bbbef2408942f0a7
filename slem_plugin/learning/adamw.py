"""AdamW (Loshchilov and Hutter 2019) for one stretch of weights; torch's own imports a compiler first: a second, and 100 MiB."""

from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.99)
SMALL = 1e-8


@dataclass
class AdamW:
    """Running means of the gradient and of its square, and how many steps they saw."""

    mean: Tensor
    square: Tensor
    steps: int = 0

    @classmethod
    def of(cls, weights: Tensor) -> "AdamW":
        return cls(torch.zeros_like(weights), torch.zeros_like(weights))

    def step(self, weights: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        """Change the weights by one step."""
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in BETAS)
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        spread = self.square.sqrt().div_(second**0.5).add_(SMALL)
        weights.mul_(1 - rate * decay).addcdiv_(self.mean, spread, value=-rate / first)
