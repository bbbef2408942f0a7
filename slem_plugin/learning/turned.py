"""Adam in the eigenbases of the gradients (SOAP, arXiv 2409.11321), for one stretch of weights.

Of every matrix of weights the covariances of its gradients are followed, over its rows and over its columns. In their eigenbases the elements
of a gradient are nearly independent, as Adam takes them to be. Weights that are no matrices have plain AdamW.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slem_plugin.learning.weights import FlatWeights

BETAS = (0.9, 0.99)
SMALL = 1e-8
# Memory of the covariances, and after how many steps the bases follow them.
MEMORY, EVERY = 0.95, 10
SIDES = ("left", "right")
# Longer sides are not worth their eigenvectors.
LONGEST = 1024


@dataclass
class Alike:
    """Matrices of one shape: which parameters they are, where their elements are, and of each side covariances and bases."""

    parameters: list[int]
    place_nab: Tensor
    covariance: dict[str, Tensor]
    basis: dict[str, Tensor]

    @classmethod
    def of(cls, parameters: list[int], starts: Sequence[int], shape: tuple[int, int], like: Tensor) -> "Alike":
        size = shape[0] * shape[1]
        place_nab = torch.stack([torch.arange(at, at + size) for at in starts]).view(-1, *shape)
        units = {
            side: torch.eye(rank, device=like.device, dtype=like.dtype) for side, rank in zip(SIDES, shape, strict=True)
        }
        basis = {side: unit.repeat(len(starts), 1, 1) for side, unit in units.items()}
        covariance = {side: torch.zeros_like(one) for side, one in basis.items()}
        return cls(parameters, place_nab.to(like.device), covariance, basis)

    def into(self, matrices_nab: Tensor) -> Tensor:
        """Matrices in the bases."""
        return self.basis["left"].mT @ matrices_nab @ self.basis["right"]

    def back(self, matrices_nab: Tensor) -> Tensor:
        """The same from the bases."""
        return self.basis["left"] @ matrices_nab @ self.basis["right"].mT

    def observe(self, gradient_nab: Tensor) -> None:
        """Take a gradient into the covariances."""
        self.covariance["left"].lerp_(gradient_nab @ gradient_nab.mT, 1 - MEMORY)
        self.covariance["right"].lerp_(gradient_nab.mT @ gradient_nab, 1 - MEMORY)

    def follow(self, square: Tensor) -> None:
        """Turn the bases to the covariances by one step of orthogonal iteration; the mean squares keep to their vectors."""
        square_nab = square[self.place_nab]
        for side, axis in zip(SIDES, (1, 2), strict=True):
            basis = self.basis[side]
            image = self.covariance[side] @ basis
            order_nk = (basis * image).sum(1).argsort(dim=-1, descending=True, stable=True)
            square_nab = torch.take_along_dim(square_nab, order_nk.unsqueeze(3 - axis), axis)
            size = torch.linalg.matrix_norm(image, keepdim=True)
            image = torch.take_along_dim(image, order_nk.unsqueeze(1), 2) / size.clamp(min=torch.finfo(size.dtype).tiny)
            basis.copy_(torch.where(size > 0, torch.linalg.qr(image)[0], basis))
        square[self.place_nab] = square_nab


@dataclass
class TurnedAdam:
    """Running means of the gradient and, in the bases, of its square, and how many steps they saw."""

    mean: Tensor
    square: Tensor
    alike: list[Alike]
    steps: int = 0

    @classmethod
    def of(cls, weights: FlatWeights) -> "TurnedAdam":
        """An optimiser of all weights; matrices of one shape are turned together."""
        shapes: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
        at = 0
        for n, weight in enumerate(weights.parameters):
            if weight.dim() == 2 and min(weight.shape) > 1 and max(weight.shape) <= LONGEST:
                numbers, starts = shapes.setdefault((weight.shape[0], weight.shape[1]), ([], []))
                numbers.append(n)
                starts.append(at)
            at += weight.numel()
        flat = weights.flat
        alike = [Alike.of(*found, shape, flat) for shape, found in shapes.items()]
        return cls(torch.zeros_like(flat), torch.zeros_like(flat), alike)

    def step(self, weights: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        """Change the weights by one step."""
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in BETAS)
        self.mean.lerp_(gradient, 1 - BETAS[0])
        seen, change = gradient.clone(), self.mean.clone()
        for matrices in self.alike:
            gradient_nab = gradient[matrices.place_nab]
            matrices.observe(gradient_nab)
            if self.steps % EVERY == 0:
                matrices.follow(self.square)
            seen[matrices.place_nab] = matrices.into(gradient_nab)
            change[matrices.place_nab] = matrices.into(change[matrices.place_nab])
        self.square.mul_(BETAS[1]).addcmul_(seen, seen, value=1 - BETAS[1])
        change.div_(self.square.sqrt().div_(second**0.5).add_(SMALL))
        for matrices in self.alike:
            change[matrices.place_nab] = matrices.back(change[matrices.place_nab])
        weights.mul_(1 - rate * decay).add_(change, alpha=-rate / first)

    def of_matrices(self) -> Iterator[tuple[str, Tensor]]:
        """Covariances and bases of each parameter that is a matrix, as views."""
        for matrices in self.alike:
            for k, n in enumerate(matrices.parameters):
                for side in SIDES:
                    yield f"{n}.{side}_covariance", matrices.covariance[side][k]
                    yield f"{n}.{side}_basis", matrices.basis[side][k]
