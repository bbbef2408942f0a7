"""Training: the loop that turns lessons into a model, and can be stopped and taken up again at any evaluation."""

import csv
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.frames.neighbours import structure_of
from converters.storage.files import draft_of
from slem_plugin.accuracy import Errors
from slem_plugin.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.learner import Learner, Progress, loss_of, scales_of
from slem_plugin.learning.lessons import Lessons
from slem_plugin.learning.samples import Lesson, join_lessons, measure_peaks
from slem_plugin.learning.schedule import schedule
from slem_plugin.model import Model
from slem_plugin.prediction import predict
from slem_plugin.ranks import Alone

LOG = "log.csv"
# Validation frames that are looked at in each evaluation, and whose bands are.
FEWEST_CHECKS, MOST_CHECKS, BAND_FRAMES = 4, 50, 2
# The part of a training that its evaluations may take together.
CHECKING = 0.1
# Seconds of training that a kill may cost: long ones are saved between evaluations too.
KEPT_EVERY = 600.0
# A step with fewer bonds than this is mostly overhead: four molecules of ethanol (288 bonds) cost an eighth more than one, eight 1.6 times as much.
FULL, LARGEST_BATCH = 600, 16


def usual_batch(bonds: Sequence[int], count: int) -> int:
    """Frames in a step where nobody chose, of so many frames, some of which have these bonds: one, and several where together they cost hardly more than one alone."""
    return max(1, min(LARGEST_BATCH, int(FULL // max(float(np.mean(bonds)), 1)), count // 8))


def noting_bonds(lessons: Iterable[Lesson], bonds: list[int]) -> Iterator[Lesson]:
    """The lessons, whose bonds are noted as they pass: making all of them once more may take as long as reading them."""
    for lesson in lessons:
        bonds.append(lesson.graph.bonds)
        yield lesson


def batch_order(step: int, batch: int, count: int, seed: int) -> list[int]:
    """Which lessons a step takes: every epoch takes each of them once, in its own order."""
    chosen = []
    for place in range(step * batch, step * batch + min(batch, count)):
        epoch, inside = divmod(place, count)
        chosen.append(int(epoch_order(epoch, count, seed)[inside]))
    return chosen


@lru_cache(maxsize=2)
def epoch_order(epoch: int, count: int, seed: int) -> Array:
    """The order of the lessons in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(frozen=True)
class Report:
    """What one evaluation found."""

    step: int
    seconds: float
    part: float
    rate: float
    loss: float
    errors: dict[str, float]
    best: bool


def train(
    model: Model,
    lessons: Lessons,
    checks: Sequence[Frame],
    folder: Path,
    config: Config,
    state: dict[str, Tensor] | None,
    watch: Callable[[Progress, float, float], None],
    report: Callable[[Report], None],
    ranks: Alone | None = None,
) -> Model:
    """Train a model on some frames, looking at others now and then; returns the best one.

    `state` is that of a saved training that goes on. `watch` is called after each step and `report` after each evaluation. All ranks
    get the same model, each looks at its part of the frames, and the leader writes.
    """
    ranks = ranks or Alone()
    scales: dict[str, float] = {}
    batch = config.batch
    if ranks.leader:
        bonds: list[int] = []
        measure_peaks(model, noting_bonds(lessons.sample(), bonds))
        scales = scales_of(lessons.sample())
        batch = batch or max(usual_batch(bonds, len(lessons)), ranks.count)
    scales, batch = ranks.share((scales, batch))
    config = replace(config, batch=batch)
    model.baselines = ranks.share(model.baselines)
    learner = Learner.start(model, config, ranks)
    if state is not None:
        learner.restore(state, model.history["progress"])
    if ranks.leader and "checks" not in model.history:  # a training that goes on looks at the same frames
        model.history["checks"] = affordable_checks(model, checks or lessons.frames, config)
    looked_at = some_of(checks or lessons.frames, ranks.share(model.history.get("checks")))
    sizes = ranks.share({name: mean_size(looked_at, name) for name in model.blueprint.learned} if ranks.leader else {})
    for loss in learning(learner, lessons, scales, config, watch, folder):
        start = time.perf_counter()
        found = evaluate_now(learner, looked_at, sizes, config, loss)
        learner.progress.seconds += time.perf_counter() - start
        if ranks.leader:
            save_evaluation(folder, learner, found)
            report(found)
        if config.patience and learner.progress.since_best >= config.patience:
            break
    ranks.share(None)  # the best model is there before anyone reads it
    return load_checkpoint(folder / BEST)[0]


def save_evaluation(folder: Path, learner: Learner, found: Report) -> None:
    """Save where the training stands, the best model, and a line in the log."""
    learner.model.history["progress"] = asdict(learner.progress)
    write_log(folder / LOG, found)
    if found.best:
        with learner.averaged():
            save_checkpoint(folder / BEST, learner.model)
    save_last(folder, learner)  # last: what is not saved is done again


def save_last(folder: Path, learner: Learner) -> None:
    """Save where the training stands."""
    learner.model.history["progress"] = asdict(learner.progress)
    save_checkpoint(folder / LAST, learner.model, learner.state())


def learning(
    learner: Learner,
    lessons: Lessons,
    scales: dict[str, float],
    config: Config,
    watch: Callable[[Progress, float, float], None],
    folder: Path,
) -> Iterator[float]:
    """Take step after step; gives the mean loss whenever it is time to evaluate, and at the end. Where that takes long, the training is saved on the way."""
    progress, ranks = learner.progress, learner.ranks
    total, count, kept = 0.0, 0, progress.seconds
    if progress.part(config) >= 1:
        return
    # A training that goes on for longer than was planned stands earlier in its plan than it did.
    progress.evaluations = min(progress.evaluations, int(progress.part(config) * config.evaluations))
    order = (
        batch_order(step, config.batch, len(lessons), config.seed)[ranks.number :: ranks.count]
        for step in itertools.count(progress.step)
    )
    start = time.perf_counter()
    for mine in lessons.stream(order):
        loss = learner.step(join_lessons(mine).to(learner.device), scales, config)
        progress.seconds += time.perf_counter() - start
        if math.isnan(loss):
            blame(learner, mine, lessons, scales, config)
        total, count = total + loss, count + 1
        watch(progress, progress.part(config), total / count * ranks.count)
        part = progress.part(config) if ranks.count == 1 else replace(progress, seconds=learner.agreed).part(config)
        if part >= min(1.0, (progress.evaluations + 1) / config.evaluations):
            progress.evaluations = min(int(part * config.evaluations), config.evaluations)
            yield float(ranks.total(torch.tensor([total / count], dtype=torch.float64)))
            total, count, kept = 0.0, 0, progress.seconds
        elif ranks.leader and progress.seconds > kept + KEPT_EVERY:
            save_last(folder, learner)
            kept = progress.seconds
        if part >= 1:
            break
        start = time.perf_counter()
    if count:  # the last evaluation but one took what was left of the time
        yield float(ranks.total(torch.tensor([total / count], dtype=torch.float64)))


def affordable_checks(model: Model, frames: Sequence[Frame], config: Config) -> int:
    """How many frames each evaluation may look at, so that a short training does not spend its time on them."""
    if not config.seconds:
        return MOST_CHECKS
    each = []
    for _ in range(2):  # the first time makes what is kept for later
        start = time.perf_counter()
        frame = frames[0]
        Errors().add_frame(frame, predict(model, structure_of(frame)), bands=False)
        each.append(time.perf_counter() - start)
    count = int(CHECKING * config.seconds / config.evaluations / max(min(each), 1e-9))
    return max(FEWEST_CHECKS, min(count, MOST_CHECKS))


def some_of(frames: Sequence[Frame], most: int) -> Sequence[Frame]:
    """Frames spread over all of them, when there are too many to look at again and again."""
    return frames[:: max(1, -(-len(frames) // most))]


def blame(learner: Learner, mine: Sequence[Lesson], lessons: Lessons, scales: dict[str, float], config: Config) -> None:
    """Stop with the name of the frame whose loss is not a number."""
    step, ranks = learner.progress.step, learner.ranks
    chosen = batch_order(step, config.batch, len(lessons), config.seed)[ranks.number :: ranks.count]
    with torch.no_grad():
        there = [lesson.to(learner.device) for lesson in mine]
        losses = [float(loss_of(learner.network(lesson.graph), lesson, scales, 1.0)) for lesson in there]
    names = [lessons.names[n] for n in chosen]
    guilty = [name for name, loss in zip(names, losses, strict=True) if not math.isfinite(loss)]
    found = [name for one in ranks.gather(guilty) for name in one] or [
        name for one in ranks.gather(names) for name in one
    ]
    raise Refused(
        Kind.TRAINING_FAILED,
        found[0],
        f"made the training fail at step {step}: the loss or its gradient is not a number; look at this frame with "
        "slem-check, or train with a lower rate",
    )


def evaluate_now(
    learner: Learner, frames: Sequence[Frame], sizes: dict[str, float], config: Config, loss: float
) -> Report:
    """Errors of the averaged weights on some frames; keeps count of the best, by errors in units of the sizes of operators."""
    with learner.averaged():
        mine, ranks = Errors(), learner.ranks
        for n in range(ranks.number, len(frames), ranks.count):
            frame = frames[n]
            mine.add_frame(frame, predict(learner.model, structure_of(frame)), bands=n < BAND_FRAMES)
    errors = Errors()
    for one in ranks.gather(mine):
        errors.merge(one)
    flat = {name: errors.operators[name].whole.mae for name in errors.operators}
    if errors.bands.levels.weight:
        flat["bands"] = errors.bands.occupied.mae
    progress = learner.progress
    score = sum(flat[name] / size for name, size in sizes.items())
    best = score < progress.best
    progress.since_best = 0 if best else progress.since_best + 1
    progress.best = min(score, progress.best)
    part = progress.part(config)
    rate = config.rate * schedule(part, config.warmup)
    return Report(progress.step, progress.seconds, part, rate, loss, flat, best)


def mean_size(frames: Sequence[Frame], name: str) -> float:
    """Mean absolute element of an operator, which makes errors of different operators comparable."""
    return float(np.mean([np.abs(frame.operators[name].values_sx).mean() for frame in frames])) or 1.0


def write_log(path: Path, found: Report) -> None:
    """Add one line to the log; lines of evaluations that a killed training did not save are replaced."""
    row = {
        "step": str(found.step),
        "seconds": str(round(found.seconds, 3)),
        "rate": f"{found.rate:.3e}",
        "loss": f"{found.loss:.6g}",
        **{name: f"{value:.6g}" for name, value in found.errors.items()},
    }
    rows = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [old for old in csv.DictReader(file) if int(old["step"]) < found.step]
    with draft_of(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*rows, row])
