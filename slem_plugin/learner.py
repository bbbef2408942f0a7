"""Learner: a network under training, its steps, its loss, and all that must be saved to go on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from converters.errors import Refused
from slem_plugin.config import Config
from slem_plugin.graph import Graph
from slem_plugin.model import Model
from slem_plugin.network import Network, Output
from slem_plugin.samples import Lesson


@dataclass
class Progress:
    """Where a training stands; all of it is in the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    best: float = math.inf
    since_best: int = 0

    def part(self, config: Config) -> float:
        """How much of the training is done, from 0 to 1."""
        parts = [self.step / config.steps] if config.steps else []
        parts += [self.seconds / config.seconds] if config.seconds else []
        return max(parts)


@dataclass
class Learner:
    """A network under training: its weights, their running average, and the optimiser."""

    model: Model
    network: Network
    call: Callable[[Graph], dict[str, Output]]
    optimizer: torch.optim.AdamW
    average: list[Tensor]
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def start(cls, model: Model, config: Config) -> "Learner":
        """A learner at the beginning."""
        network = model.network
        if network is None:
            raise Refused("config", "operators names only S, which needs no training")
        network.requires_grad_(True).to(config.torch_device)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
        )
        call = torch.compile(network) if config.compile else network
        return cls(model, network, call, optimizer, [weight.detach().clone() for weight in network.parameters()])

    @property
    def device(self) -> torch.device:
        return self.average[0].device

    def step(self, lesson: Lesson, scales: dict[str, float], config: Config) -> float:
        """One step of learning; returns the loss, and changes nothing if that is not finite."""
        part = self.progress.part(config)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate * schedule(part, config.warmup)
        self.optimizer.zero_grad()
        loss = loss_of(self.call(lesson.graph), lesson, scales, config.onsite_weight)
        loss.backward()
        size = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if not (torch.isfinite(loss) and torch.isfinite(size)):
            return math.nan
        self.optimizer.step()
        self.progress.step += 1
        # A young average would remember the first random weights.
        memory = min(config.average, self.progress.step / (self.progress.step + 10))
        torch._foreach_lerp_(self.average, [weight.detach() for weight in self.network.parameters()], 1 - memory)
        return float(loss.detach())

    def averaged(self) -> "Averaged":
        """A context in which the network has its averaged weights."""
        return Averaged(list(self.network.parameters()), self.average)

    def state(self) -> dict[str, Tensor]:
        """All tensors that are needed to go on, besides the weights."""
        state = {f"average.{n}": weight for n, weight in enumerate(self.average)}
        for n, values in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{n}.{key}": value for key, value in values.items()}
        return state

    def restore(self, state: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for n, weight in enumerate(self.average):
            weight.copy_(state[f"average.{n}"])
        plain = self.optimizer.state_dict()
        for n in range(len(self.average)):
            keys = [key for key in state if key.startswith(f"optimizer.{n}.")]
            if keys:
                plain["state"][n] = {key.rsplit(".", 1)[1]: state[key] for key in keys}
        self.optimizer.load_state_dict(plain)
        self.progress = Progress(**progress)


class Averaged:
    """Puts averaged weights in place, and the others back at the end."""

    def __init__(self, weights: list[torch.nn.Parameter], average: list[Tensor]) -> None:
        self.weights, self.average = weights, average

    def __enter__(self) -> None:
        self.kept = [weight.detach().clone() for weight in self.weights]
        self._put(self.average)

    def __exit__(self, *_: object) -> None:
        self._put(self.kept)

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)


def schedule(part: float, warmup: float) -> float:
    """Fraction of the highest learning rate: a linear rise, then half a cosine down to zero."""
    rise = min(1.0, part / warmup) if warmup else 1.0
    return max(rise * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))), 1e-6)


def loss_of(outputs: dict[str, Output], lesson: Lesson, scales: dict[str, float], onsite_weight: float) -> Tensor:
    """Mean absolute error of all stored components, each operator in units of the rest after its baseline."""
    total: Tensor | None = None
    for name, output in outputs.items():
        target = lesson.targets[name]
        weights = [1.0] * len(output.hopping_t) + [onsite_weight] * len(output.onsite_s)
        parts = zip(weights, output.blocks, target.rest, target.size, strict=True)
        error = torch.stack([weight * (size * block - rest).abs().sum() for weight, block, rest, size in parts]).sum()
        count = sum((size > 0).sum() for size in target.size)
        mean = error / count / scales[name]
        total = mean if total is None else total + mean
    if total is None:
        raise ValueError("there is no operator to learn")
    return total


def scales_of(lessons: Sequence[Lesson]) -> dict[str, float]:
    """Mean absolute rest after the baseline of each operator."""
    scales = {}
    for name in lessons[0].targets:
        total = sum(float(rest.abs().sum()) for lesson in lessons for rest in lesson.targets[name].rest)
        count = sum(int((size > 0).sum()) for lesson in lessons for size in lesson.targets[name].size)
        scales[name] = total / max(count, 1) or 1.0
    return scales
