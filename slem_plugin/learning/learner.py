"""Learner: a network under training, its steps, its loss, and all that must be saved to go on."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from converters.errors import Kind, Refused
from slem_plugin.config import Config
from slem_plugin.graphs.graph import Graph
from slem_plugin.kept_memory import keep_memory
from slem_plugin.learning.samples import Lesson
from slem_plugin.learning.schedule import schedule
from slem_plugin.learning.turned import TurnedAdam
from slem_plugin.learning.weights import FlatWeights, join
from slem_plugin.model import Model
from slem_plugin.network.gradients import as_one
from slem_plugin.network.network import Network, Output
from slem_plugin.ranks import Alone


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
    weights: FlatWeights
    network: Network
    call: Callable[[Graph], dict[str, Output]]
    optimizer: TurnedAdam
    average: Tensor
    ranks: Alone
    progress: Progress = field(default_factory=Progress)
    agreed: float = 0.0  # seconds on the leader's clock when the last step began

    @classmethod
    def start(cls, model: Model, config: Config, ranks: Alone | None = None) -> "Learner":
        """A learner at the beginning; all ranks begin with the same weights."""
        keep_memory()
        ranks = ranks or Alone()
        network = model.network
        if network is None:
            raise Refused(Kind.OTHER_MODEL, "config", "operators names only S, which needs no training")
        network.requires_grad_(True).to(config.torch_device)
        weights = FlatWeights(network)
        call = ranks.wrap(network)
        if config.compile:
            call = torch.compile(call)  # type: ignore[assignment]
        return cls(model, weights, network, call, TurnedAdam.of(weights), weights.flat.clone(), ranks)

    @property
    def device(self) -> torch.device:
        return self.average.device

    def step(self, lesson: Lesson, scales: dict[str, float], config: Config) -> float:
        """One step of learning; returns the loss, and changes nothing if its gradient is not finite.

        With several ranks each has a part of the batch: the step is that of the whole, and the loss this rank's share of it.
        """
        names = list(lesson.targets)
        # The clocks of the ranks differ; all go by the leader's.
        seconds = self.progress.seconds if self.ranks.leader else 0.0
        counted = torch.tensor([*(lesson.targets[name].count for name in names), seconds], dtype=torch.float64)
        *counts, self.agreed = self.ranks.total(counted).tolist()
        self.progress.seconds = self.agreed
        self.weights.forget_gradients()
        units = {name: max(count, 1.0) * scales[name] for name, count in zip(names, counts, strict=True)}
        loss = error_of(self.call(lesson.graph), lesson, units, config.onsite_weight)
        (loss * self.ranks.count).backward()  # gradients are means over the ranks
        gradient = self.weights.gradient()
        size = torch.linalg.vector_norm(gradient)
        if not torch.isfinite(size):  # as it is on all ranks when the loss of one is not
            return math.nan
        gradient *= torch.clamp(config.clip / (size + 1e-6), max=1.0)
        rate = config.rate * schedule(self.progress.part(config), config.warmup)
        self.optimizer.step(self.weights.flat, gradient, rate, config.weight_decay)
        self.progress.step += 1
        # A young average would remember the first random weights.
        memory = min(config.average, self.progress.step / (self.progress.step + 10))
        self.average.lerp_(self.weights.flat, 1 - memory)
        return float(loss.detach())

    def averaged(self) -> "Averaged":
        """A context in which the network has its averaged weights."""
        return Averaged(self.weights.flat, self.average)

    def state(self) -> dict[str, Tensor]:
        """All tensors that are needed to go on, besides the weights, of each parameter."""
        means = {"exp_avg": self.optimizer.mean, "exp_avg_sq": self.optimizer.square}
        flat = {"average": self.average, **{key: values[self.optimizer.place_w] for key, values in means.items()}}
        state = {f"optimizer.{n}.step": torch.tensor(float(self.optimizer.steps)) for n in range(self.weights.count)}
        for key, values in flat.items():
            start, end = ("average.", "") if key == "average" else ("optimizer.", f".{key}")
            state |= {f"{start}{n}{end}": part.clone() for n, part in enumerate(self.weights.parts(values))}
        return state | {f"optimizer.{name}": found.clone() for name, found in self.optimizer.of_matrices()}

    def restore(self, state: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Go on from a saved state."""
        every = range(self.weights.count)
        self.average.copy_(join(state[f"average.{n}"] for n in every))
        # Older files have nothing of weights that no gradient ever reached.
        nothing = self.weights.parts(torch.zeros_like(self.average))
        for key, values in (("exp_avg", self.optimizer.mean), ("exp_avg_sq", self.optimizer.square)):
            parts = [state.get(f"optimizer.{n}.{key}", nothing[n]) for n in every]
            values.copy_(join(part.to(values.device) for part in parts)[self.optimizer.order_w])
        for name, found in self.optimizer.of_matrices():  # older files have no bases: there they are the weights' own
            found.copy_(state.get(f"optimizer.{name}", found))
        self.optimizer.steps = max((int(state.get(f"optimizer.{n}.step", 0)) for n in every), default=0)
        self.progress = Progress(**progress)


class Averaged:
    """Puts averaged weights in place, and the others back at the end."""

    def __init__(self, weights: Tensor, average: Tensor) -> None:
        self.weights, self.average = weights, average

    def __enter__(self) -> None:
        self.kept = self.weights.clone()
        self._put(self.average)

    def __exit__(self, *_: object) -> None:
        self._put(self.kept)

    def _put(self, values: Tensor) -> None:
        self.weights.copy_(values)


def loss_of(outputs: dict[str, Output], lesson: Lesson, scales: dict[str, float], onsite_weight: float) -> Tensor:
    """Mean absolute error of all stored components, each operator in units of the rest after its baseline."""
    units = {name: max(target.count, 1) * scales[name] for name, target in lesson.targets.items()}
    return error_of(outputs, lesson, units, onsite_weight)


def error_of(outputs: dict[str, Output], lesson: Lesson, units: dict[str, float], onsite_weight: float) -> Tensor:
    """Sum of the absolute errors of all stored components, each operator in its own units."""
    blocks: list[Tensor] = []
    rests: list[Tensor] = []
    sizes: list[Tensor] = []
    weights: list[float] = []
    for name, output in outputs.items():
        target = lesson.targets[name]
        blocks += output.blocks
        rests += target.rest
        sizes += target.size
        weights += [1 / units[name]] * len(output.hopping_t) + [onsite_weight / units[name]] * len(output.onsite_s)
    total: Tensor = as_one(AbsoluteErrors, rests, sizes, weights, *blocks)
    return total


class AbsoluteErrors(torch.autograd.Function):
    """The weighted sum of |size * block - rest| of all blocks; as one node, for a step has many small blocks."""

    @staticmethod
    def forward(ctx: Any, rests: list[Tensor], sizes: list[Tensor], weights: list[float], *blocks: Tensor) -> Tensor:
        errors = torch._foreach_mul(blocks, sizes)
        torch._foreach_sub_(errors, rests)
        ctx.signs = torch._foreach_sign(errors)
        torch._foreach_mul_(ctx.signs, sizes)
        torch._foreach_mul_(ctx.signs, weights)
        torch._foreach_abs_(errors)
        sums = torch.stack([error.sum() for error in errors])
        return sums @ sums.new_tensor(weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return (None, None, None, *torch._foreach_mul(ctx.signs, gradient))


def scales_of(lessons: Iterable[Lesson]) -> dict[str, float]:
    """Mean absolute rest after the baseline of each operator."""
    totals: dict[str, tuple[float, int]] = {}
    for lesson in lessons:
        for name, target in lesson.targets.items():
            total, count = totals.get(name, (0.0, 0))
            totals[name] = total + sum(float(rest.abs().sum()) for rest in target.rest), count + target.count
    return {name: total / max(count, 1) or 1.0 for name, (total, count) in totals.items()}
