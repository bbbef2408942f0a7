"""When lessons are made: as many as fit into a bounded memory are kept, others are read when a step needs them.

Where not all of them fit, other processes prepare the next ones while the network learns.
"""

import copy
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from types import TracebackType

import torch
from safetensors.torch import load, save
from torch import Tensor

from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from slem_plugin.graphs.graph import Graph
from slem_plugin.learning.samples import MOST_FRAMES, Lesson, Target, make_lesson
from slem_plugin.model import Model

# Steps for which lessons are prepared ahead, for each process that does so.
AHEAD = 3


@dataclass
class Lessons:
    """The lessons of some frames, `memory` bytes of which are kept; `waited` is the time that steps waited for theirs.

    `names` say which frame is which in messages; `workers` processes prepare what is not kept.
    """

    frames: Sequence[Frame]
    names: Sequence[str]
    model: Model
    memory: float
    workers: int
    waited: float = 0.0
    _kept: dict[int, Lesson] = field(default_factory=dict)
    _free: float = 0.0
    _pool: ProcessPoolExecutor | None = None

    def __post_init__(self) -> None:
        self._free = self.memory

    def __len__(self) -> int:
        return len(self.frames)

    def __enter__(self) -> "Lessons":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def __getitem__(self, n: int) -> Lesson:
        return self._kept[n] if n in self._kept else self._keep(n, prepare(self.frames[n], self.model, self.names[n]))

    def sample(self) -> Iterator[Lesson]:
        """Lessons spread over all of them, as many as closed forms are fitted to."""
        return (self[n] for n in range(0, len(self), max(1, -(-len(self) // MOST_FRAMES))))

    def stream(self, order: Iterator[list[int]]) -> Iterator[list[Lesson]]:
        """The lessons of one step after the other."""
        self._start_workers()
        ahead = AHEAD * self.workers if self._pool is not None else 0
        waiting: deque[list[tuple[int, Lesson | Future[bytes]]]] = deque()
        for chosen in order:
            start = time.perf_counter()
            waiting.append([(n, self._kept[n] if n in self._kept else self._submit(n)) for n in chosen])
            step = [self._finish(n, found) for n, found in waiting.popleft()] if len(waiting) > ahead else None
            self.waited += time.perf_counter() - start
            if step is not None:
                yield step

    def _start_workers(self) -> None:
        """Start processes that prepare lessons, where not all lessons will be kept."""
        if self.workers and len(self) and self._pool is None and size_of(self[0]) * len(self) > self.memory:
            context = multiprocessing.get_context("spawn")  # forked processes would inherit locked threads
            # Their model lives on the processor; a lesson asks it for no more than its precision.
            there = replace(self.model, network=copy.deepcopy(self.model.network).cpu() if self.model.network else None)
            arguments = (self.frames, self.names, there)
            self._pool = ProcessPoolExecutor(self.workers, context, begin_preparing, arguments)

    def _submit(self, n: int) -> "Lesson | Future[bytes]":
        return self[n] if self._pool is None else self._pool.submit(prepare_there, n)

    def _finish(self, n: int, found: "Lesson | Future[bytes]") -> Lesson:
        if isinstance(found, Lesson):
            return found
        try:
            return self._keep(n, unpack(found.result()))
        except BrokenProcessPool as error:
            raise Refused(
                Kind.TOO_LITTLE_MEMORY,
                self.names[n],
                "or another frame ended the process that prepared it; there may be too little memory",
            ) from error

    def _keep(self, n: int, lesson: Lesson) -> Lesson:
        size = size_of(lesson)
        if n not in self._kept and size <= self._free:
            self._kept[n] = lesson
            self._free -= size
        return lesson


def prepare(frame: Frame, model: Model, name: str) -> Lesson:
    """The lesson of a frame, all of whose numbers are finite."""
    lesson = make_lesson(frame, model)
    for operator, target in lesson.targets.items():
        if not all(bool(torch.isfinite(rest).all()) for rest in target.rest):
            raise Refused(
                Kind.TRAINING_FAILED,
                name,
                f"holds numbers in {operator} that are not finite; look at it with slem-check",
            )
    return lesson


# What a process prepares lessons of.
_mine: list[tuple[Sequence[Frame], Sequence[str], Model]] = []


def begin_preparing(frames: Sequence[Frame], names: Sequence[str], model: Model) -> None:
    torch.set_num_threads(1)
    os.nice(1)
    _mine[:] = [(frames, names, model)]


def prepare_there(n: int) -> bytes:
    """A lesson as bytes: one piece of memory crosses to the other process faster than hundreds of tensors."""
    frames, names, model = _mine[0]
    return pack(prepare(frames[n], model, names[n]))


GRAPH = tuple(Graph.__dataclass_fields__)


def pack(lesson: Lesson) -> bytes:
    tensors: dict[str, Tensor] = {}
    for name in GRAPH:
        tensors |= named_tensors(f"graph.{name}", getattr(lesson.graph, name))
    for operator, target in lesson.targets.items():
        tensors |= named_tensors(f"{operator}.rest", target.rest) | named_tensors(f"{operator}.size", target.size)
    return save({name: value.contiguous() for name, value in tensors.items()})


def named_tensors(name: str, value: Tensor | tuple[Tensor, ...] | int) -> dict[str, Tensor]:
    if isinstance(value, tuple):
        return {f"{name}/{n}": one for n, one in enumerate(value)}
    return {name: value if isinstance(value, Tensor) else torch.tensor(value)}


def unpack(data: bytes) -> Lesson:
    tensors = load(data)

    def tuple_of(name: str) -> tuple[Tensor, ...]:
        count = sum(key.startswith(f"{name}/") for key in tensors)
        return tuple(tensors[f"{name}/{n}"] for n in range(count))

    parts = (tensors.get(f"graph.{name}", tuple_of(f"graph.{name}")) for name in GRAPH)
    graph = Graph(*(int(part) if name == "slots" else part for name, part in zip(GRAPH, parts, strict=True)))  # type: ignore[arg-type]
    operators = {key.split(".")[0]: None for key in tensors if not key.startswith("graph.")}
    return Lesson(graph, {name: Target.of(tuple_of(f"{name}.rest"), tuple_of(f"{name}.size")) for name in operators})


def size_of(lesson: Lesson) -> int:
    """Bytes of a lesson."""
    graph = (getattr(lesson.graph, name) for name in GRAPH)
    parts = [*graph, *(x for target in lesson.targets.values() for x in (target.rest, target.size))]
    tensors = [x for part in parts for x in (part if isinstance(part, tuple) else (part,)) if isinstance(x, Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)
