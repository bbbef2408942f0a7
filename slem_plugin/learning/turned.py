"""Adam in the eigenbases of the gradients (SOAP, arXiv 2409.11321), for one stretch of weights.

Of every matrix of weights the covariances of its gradients are followed, over its rows and over its columns. In their eigenbases the elements
of a gradient are nearly independent, as Adam takes them to be. Weights that are no matrices have plain AdamW.
"""

from collections.abc import Iterator
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
    """Matrices of one shape: which parameters they are, where the first one begins, and of each side covariances and bases."""

    parameters: list[int]
    start: int
    shape: tuple[int, int]
    covariance: dict[str, Tensor]
    basis: dict[str, Tensor]

    @classmethod
    def of(cls, parameters: list[int], start: int, shape: tuple[int, int], like: Tensor) -> "Alike":
        units = {
            side: torch.eye(rank, device=like.device, dtype=like.dtype) for side, rank in zip(SIDES, shape, strict=True)
        }
        basis = {side: unit.repeat(len(parameters), 1, 1) for side, unit in units.items()}
        covariance = {side: torch.zeros_like(one) for side, one in basis.items()}
        return cls(parameters, start, shape, covariance, basis)

    @property
    def end(self) -> int:
        return self.start + len(self.parameters) * self.shape[0] * self.shape[1]

    def within(self, sorted_w: Tensor) -> Tensor:
        """These matrices in numbers of all weights, as a view."""
        return sorted_w[self.start : self.end].view(-1, *self.shape)

    def into(self, matrices_nab: Tensor, result_nab: Tensor) -> None:
        """Put matrices in the bases into a place."""
        torch.bmm(self.basis["left"].mT @ matrices_nab, self.basis["right"], out=result_nab)

    def back(self, matrices_nab: Tensor, result_nab: Tensor) -> None:
        """The same from the bases."""
        torch.bmm(self.basis["left"] @ matrices_nab, self.basis["right"].mT, out=result_nab)

    def observe(self, gradient_nab: Tensor) -> None:
        """Take a gradient into the covariances."""
        self.covariance["left"].lerp_(gradient_nab @ gradient_nab.mT, 1 - MEMORY)
        self.covariance["right"].lerp_(gradient_nab.mT @ gradient_nab, 1 - MEMORY)

    def follow(self, here_nab: Tensor) -> None:
        """Turn the bases to the covariances by one step of orthogonal iteration; the mean squares here keep to their vectors."""
        square_nab = here_nab
        for side, axis in zip(SIDES, (1, 2), strict=True):
            basis = self.basis[side]
            image = self.covariance[side] @ basis
            order_nk = (basis * image).sum(1).argsort(dim=-1, descending=True, stable=True)
            square_nab = torch.take_along_dim(square_nab, order_nk.unsqueeze(3 - axis), axis)
            size = torch.linalg.matrix_norm(image, keepdim=True)
            image = torch.take_along_dim(image, order_nk.unsqueeze(1), 2) / size.clamp(min=torch.finfo(size.dtype).tiny)
            basis.copy_(torch.where(size > 0, torch.linalg.qr(image)[0], basis))
        here_nab.copy_(square_nab)


@dataclass
class TurnedAdam:
    """Running means of the gradient and, in the bases, of its square, and how many steps they saw.

    Its numbers are sorted: matrices of one shape follow each other, and what is no matrix comes last. Number n of them is that of weight
    `order_w[n]`, and that of weight w is number `place_w[w]`.
    """

    mean: Tensor
    square: Tensor
    alike: list[Alike]
    order_w: Tensor
    place_w: Tensor
    steps: int = 0

    @classmethod
    def of(cls, weights: FlatWeights) -> "TurnedAdam":
        """An optimiser of all weights; matrices of one shape are turned together."""
        shapes: dict[tuple[int, int], list[int]] = {}
        for n, weight in enumerate(weights.parameters):
            if weight.dim() == 2 and min(weight.shape) > 1 and max(weight.shape) <= LONGEST:
                shapes.setdefault((weight.shape[0], weight.shape[1]), []).append(n)
        flat = weights.flat
        alike: list[Alike] = []
        places = torch.arange(len(flat), device=flat.device).split(weights.sizes)
        for shape, parameters in shapes.items():
            alike.append(Alike.of(parameters, alike[-1].end if alike else 0, shape, flat))
        matrices = [n for found in alike for n in found.parameters]
        others = sorted(set(range(weights.count)) - set(matrices))
        order_w = torch.cat([places[n] for n in [*matrices, *others]])
        return cls(torch.zeros_like(flat), torch.zeros_like(flat), alike, order_w, order_w.argsort())

    def step(self, weights: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        """Change the weights by one step."""
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in BETAS)
        gradient = gradient[self.order_w]
        self.mean.lerp_(gradient, 1 - BETAS[0])
        seen, change = gradient.clone(), self.mean.clone()
        for matrices in self.alike:
            gradient_nab = matrices.within(gradient)
            matrices.observe(gradient_nab)
            if self.steps % EVERY == 0:
                matrices.follow(matrices.within(self.square))
            matrices.into(gradient_nab, matrices.within(seen))
            matrices.into(matrices.within(self.mean), matrices.within(change))
        self.square.mul_(BETAS[1]).addcmul_(seen, seen, value=1 - BETAS[1])
        change.div_(self.square.sqrt().div_(second**0.5).add_(SMALL))
        turned = change.clone()
        for matrices in self.alike:
            matrices.back(matrices.within(turned), matrices.within(change))
        weights.mul_(1 - rate * decay).add_(change[self.place_w], alpha=-rate / first)

    def of_matrices(self) -> Iterator[tuple[str, Tensor]]:
        """Covariances and bases of each parameter that is a matrix, as views."""
        for matrices in self.alike:
            for k, n in enumerate(matrices.parameters):
                for side in SIDES:
                    yield f"{n}.{side}_covariance", matrices.covariance[side][k]
                    yield f"{n}.{side}_basis", matrices.basis[side][k]
