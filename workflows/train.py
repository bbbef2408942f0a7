"""Training from the command line: a dataset becomes a model in a folder."""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.locality import repeated_onsite
from converters.starts.magnetism import names_of_both_signs
from converters.storage.dataset import Dataset
from slem_plugin.checkpoint import BEST, LAST, load_checkpoint, load_model, save_checkpoint
from slem_plugin.config import Config, choose_frames, parse_memory
from slem_plugin.learning.further import begin_with
from slem_plugin.learning.learner import Progress
from slem_plugin.learning.lessons import Lessons
from slem_plugin.learning.loop import Report, train
from slem_plugin.learning.samples import make_model
from slem_plugin.learning.survey import Survey
from slem_plugin.model import Model
from slem_plugin.ranks import Alone
from workflows.processes.threads import threads_for

# Runs whose identities a model keeps; of more it keeps one hash of all.
MOST_SOURCES = 10_000
# Frames in which the signs of moments are looked at.
LOOKED_AT = 8


def start_config(folder: Path, config: Config, changes: dict[str, Any], resume: bool) -> Config:
    """The configuration to train with: the saved one when a training goes on, else the given one, with some changes."""
    if resume:
        if not (folder / LAST).exists():
            raise Refused(Kind.NOT_THERE, folder, f"holds no {LAST} to resume from", "the folder of a training")
        saved, _ = load_checkpoint(folder / LAST)
        config = Config(**saved.history["config"])
    elif (folder / LAST).exists():
        raise Refused(
            Kind.OUTPUT_EXISTS, folder, "holds a training already; resume it with --resume, or give another folder"
        )
    return config.with_changes(changes, "settings")


class Frames(Sequence[Frame]):
    """Some frames of a dataset, each read when it is asked for, so that none is held in memory."""

    def __init__(self, dataset: Dataset, places: Sequence[int]) -> None:
        self.dataset, self.places = dataset, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, n: int) -> Frame: ...
    @overload
    def __getitem__(self, n: slice) -> "Frames": ...
    def __getitem__(self, n: int | slice) -> "Frame | Frames":
        if isinstance(n, slice):
            return self.take(self.places[n])
        return self.dataset[self.places[n]]

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens the file anew."""
        return {"path": self.dataset.path, "places": self.places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.dataset, self.places = Dataset(state["path"]), state["places"]

    def take(self, places: Sequence[int]) -> "Frames":
        return Frames(self.dataset, places)


def require_batch(config: Config, ranks: int) -> None:
    """Each rank needs a frame of each step; what was not set is enough for all."""
    if 0 < config.batch < ranks:
        raise Refused(
            Kind.CONFIGURATION,
            "config",
            f"batch is {config.batch}; {ranks} ranks need at least one frame each in a step",
        )


def train_folder(
    data: Path,
    folder: Path,
    config: Config,
    *,
    resume: bool,
    prepared: Callable[[Model, int, int], None],
    watch: Callable[[Progress, float, float], None],
    report: Callable[[Report], None],
    before: Model | None = None,
    ranks: Alone | None = None,
) -> Model:
    """Train a model on a dataset into a folder, with the weights of the model `before` to begin with; returns the best one.

    Of several ranks the leader begins, and writes.
    """
    if resume and before is not None:
        raise Refused(
            Kind.CONFIGURATION, folder, "goes on with its own model; only a new training begins with another one"
        )
    ranks = ranks or Alone()
    require_batch(config, ranks.count)
    with Dataset(data) as dataset:
        frames = Frames(dataset, range(len(dataset)))
        if not len(frames):
            raise Refused(Kind.NO_RUN, data, "holds no frames")
        names = [f"{data} frame {n}" for n in range(len(frames))]
        chosen, checks = choose_frames(config.validate, dataset.species_of_frames(), config.seed)
        if ranks.leader:
            with threads_for(frames[0].natoms):
                begin(frames, names, chosen, checks, folder, config, resume, before, prepared)
        ranks.share(None)  # nobody reads the model before it is there
        if not (folder / LAST).exists():  # an overlap is its baseline
            return load_model(folder)
        model, state = load_checkpoint(folder / LAST)
        learned = Lessons(
            frames.take(chosen),
            [names[n] for n in chosen],
            model,
            parse_memory(config.memory, "config"),
            config.workers,
        )
        with learned, TensorBoard(folder if ranks.leader else None) as board:

            def reporting(found: Report) -> None:
                board.write(found)
                report(found)

            return train(model, learned, frames.take(checks), folder, config, state or None, watch, reporting, ranks)


def begin(
    frames: Frames,
    names: Sequence[str],
    chosen: list[int],
    checks: list[int],
    folder: Path,
    config: Config,
    resume: bool,
    before: Model | None,
    prepared: Callable[[Model, int, int], None],
) -> None:
    """Put the model from which the training goes on into its folder: a new one, one with the weights of another, or the saved one of the same data."""
    data, learned = frames.dataset.path, set(chosen)
    whole, survey, origins = Survey(), Survey(), Origins()
    places: dict[bytes, list[int]] = {}
    having: Counter[str] = Counter()
    for n, outline in enumerate(frames.dataset.outlines()):
        whole.add(outline, names[n])
        origins.add(outline)
        places.setdefault(fingerprint(outline), []).append(n)
        if n in learned:
            survey.add(outline, names[n])
            having.update(list(outline.operators))
    description = {
        "name": data.name,
        "frames": len(frames),
        **origins.described(),
        "training": chosen,
        "validation": checks,
    }
    if resume:
        model, state = load_checkpoint(folder / LAST)
        require_same_data(model, frames[0], data, description)
    else:
        model, state = make_model(frames.take(chosen), config, survey), {}
        if before is not None:
            before.require_match(frames[0], str(data))
            model = begin_with(model, before, len(chosen))
    model.history |= {"data": description, "program": program(), "config": asdict(config)}
    model.history["names of both signs"] = names_of_both_signs(frames.take(chosen[:LOOKED_AT]))
    model.history["moments"] = model.blueprint.moments
    model.history["in some frames alone"] = {name: count for name, count in having.items() if count < len(chosen)}
    model.history["DM repeated at"] = list(repeated_onsite(frames[chosen[0]])) if "DM" in model.operators else []
    model.history["validated and learned"] = [
        n for same in places.values() if not learned.isdisjoint(same) for n in same if n not in learned
    ]
    folder.mkdir(parents=True, exist_ok=True)
    prepared(model, len(chosen), len(checks))
    save_checkpoint(folder / (BEST if model.network is None else LAST), model, state)


def require_same_data(model: Model, frame: Frame, data: Path, description: dict[str, Any]) -> None:
    """Refuse to go on with a training on other data."""
    model.require_match(frame, str(data))
    if model.history["data"] != description:
        raise Refused(
            Kind.OTHER_MODEL, data, "is not the data that this model was trained on; start anew in another folder"
        )


def fingerprint(frame: Frame) -> bytes:
    """Equal for structures that are stored twice."""
    parts = (frame.species_a, frame.cell_cv, frame.positions_av)
    return hashlib.sha256(b"".join(np.round(part, 6).tobytes() for part in parts)).digest()


@dataclass
class Origins:
    """Where the frames of a dataset come from."""

    codes: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)

    def add(self, frame: Frame) -> None:
        self.codes.add(f"{frame.provenance.code} {frame.provenance.version}".strip())
        self.sources.add(frame.provenance.source)

    def described(self) -> dict[str, list[str]]:
        """Codes and runs, as plain values; one hash of many runs."""
        sources = sorted(self.sources)
        if len(sources) > MOST_SOURCES:
            sources = [hashlib.sha256("".join(sources).encode()).hexdigest()]
        return {"codes": sorted(self.codes), "sources": sources}


def program() -> dict[str, str]:
    return {"slem-plugin": importlib.metadata.version("slem-plugin"), "torch": torch.__version__}


class TensorBoard:
    """Writes each evaluation to TensorBoard where that is installed, and does nothing where it is not."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.writer: Any = None

    def __enter__(self) -> "TensorBoard":
        if self.folder is None:
            return self
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return self
        self.writer = SummaryWriter(str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def write(self, found: Report) -> None:
        if self.writer is not None:
            for name, value in {"loss": found.loss, "rate": found.rate, **found.errors}.items():
                self.writer.add_scalar(name, value, found.step)
