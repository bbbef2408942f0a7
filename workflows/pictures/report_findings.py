"""A report of a model on a dataset: what is measured for it. `report_page.py` writes it down."""

import csv
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.frame import Frame, operator_on
from converters.frames.neighbours import structure_of
from converters.storage.dataset import Dataset
from converters.storage.files import digest_file
from slem_plugin.accuracy import Errors
from slem_plugin.checkpoint import BEST, load_model
from slem_plugin.learning.loop import LOG
from slem_plugin.model import Model
from slem_plugin.prediction import predict
from workflows.info import describe, describe_model
from workflows.pictures.bands import Line, Request, all_bands, with_electrons
from workflows.processes.threads import threads_for
from workflows.scf import Outcome, read_outcomes
from workflows.terminal.progress import Tell
from workflows.train import Origins

# Matrix elements of each operator in a parity plot, and blocks of each in the list of the worst.
MOST_POINTS, MOST_WORST = 20_000, 5
# Orbitals of the largest frame whose bands are drawn: each k-point of two matrices is diagonalised.
LARGEST_DRAWN = 500


@dataclass(frozen=True, order=True)
class WorstBlock:
    """A block and its largest error; the largest come first."""

    error: float
    frame: int
    operator: str
    atoms: str
    distance: float


@dataclass
class Sample:
    """Elements of one operator: what the code had, what was predicted, how far apart their atoms are."""

    expected: list[Array] = field(default_factory=list)
    found: list[Array] = field(default_factory=list)
    distance: list[Array] = field(default_factory=list)


@dataclass
class Findings:
    """All that a report says."""

    model: dict[str, Any]
    data: dict[str, Any]
    curves: list[dict[str, float]]
    frames: list[int]
    errors: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    by_frame: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[WorstBlock] = field(default_factory=list)
    bands: list[Line] | None = None
    bands_frame: int = 0
    runs: list[Outcome] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)


def examine(
    model_path: Path, data_path: Path, frames: Sequence[int] | None, runs_path: Path | None, tell: Tell
) -> Findings:
    """Measure a model on some frames of a dataset; by default on those that it was not trained on, where it names them."""
    runs = read_outcomes(runs_path) if runs_path is not None else []
    model = load_model(model_path)
    chosen = frames_of(model, data_path, frames)
    found = Findings(describe_model(model_path), describe(data_path), read_curves(model_path), chosen)
    errors, seconds, atoms = Errors(), 0.0, 0
    with Dataset(data_path) as data:
        for done, n in enumerate(chosen, 1):
            reference = data[n]
            model.require_match(reference, f"{data_path} frame {n}")
            with threads_for(reference.natoms):
                if not atoms:
                    predict(model, structure_of(reference))  # tables that are made once are not counted
                started = time.process_time()
                predicted = predict(model, structure_of(reference))
                seconds, atoms = seconds + time.process_time() - started, atoms + reference.natoms
                own = Errors()
                own.add_frame(reference, predicted)
            errors.merge(own)
            found.by_frame.append(summary_of(n, reference, own))
            look_at_blocks(found, n, reference, predicted)
            tell(done, len(chosen), errors.headline)
        found.blocks = worst_of_each(found.blocks)
        found.errors = errors.as_dict()
        draw_worst(found, model, data)
    found.runs = runs
    found.provenance = provenance_of(model, model_path, data_path)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found.cost = {"prediction, ms an atom": 1e3 * seconds / atoms, "largest memory of the report, MB": memory}
    return found


def frames_of(model: Model, data_path: Path, frames: Sequence[int] | None) -> list[int]:
    origins = Origins()
    with Dataset(data_path) as data:
        count = len(data)
        for outline in data.outlines():
            origins.add(outline)
    if frames is not None:
        if bad := [n for n in frames if n >= count]:
            raise Refused(Kind.NO_SUCH_CHOICE, data_path, f"has {count} frames; there is no frame {bad[0]}")
        return list(frames)
    if not count:
        raise Refused(Kind.NO_RUN, data_path, "holds no frames")
    learned = model.history.get("data", {})
    same = learned.get("frames") == count and learned.get("sources") == origins.described()["sources"]
    return list(learned["validation"]) if same and learned.get("validation") else list(range(count))


def read_curves(model_path: Path) -> list[dict[str, float]]:
    """The rows of the training's log, where it lies beside the model."""
    path = (model_path if model_path.is_dir() else model_path.parent) / LOG
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(stream)]


def summary_of(n: int, frame: Frame, errors: Errors) -> dict[str, Any]:
    found = errors.as_dict()
    numbers = {name: found[name]["mae"] for name in errors.operators}
    bands = found.get("bands", {}).get("occupied")
    return {"frame": n, "formula": frame.formula, "path": frame.provenance.path, **numbers, "occupied levels": bands}


def look_at_blocks(found: Findings, n: int, reference: Frame, predicted: Frame) -> None:
    """Take a sample of the elements of a frame, and its worst blocks."""
    pairs, random = reference.pairs, np.random.default_rng(n)
    distance_p = np.linalg.norm(reference.vectors_pv, axis=1)
    for name in (name for name in predicted.operators if name in reference.operators):
        operator = reference.operators[name]
        mine_sx = operator_on(predicted, name, pairs).values_sx
        known_x = np.ones(pairs.elements, bool) if operator.known_x is None else operator.known_x
        error_x = np.where(known_x, np.abs(mine_sx - operator.values_sx).max(axis=0), 0)
        error_p = np.maximum.reduceat(error_x, pairs.start_p[:-1])
        for p in np.argsort(error_p)[::-1][:MOST_WORST].tolist():
            atoms = (
                f"{atom_name(reference, pairs.i_p[p])} - {atom_name(reference, pairs.j_p[p])} {pairs.R_pc[p].tolist()}"
            )
            found.blocks.append(WorstBlock(float(error_p[p]), n, name, atoms, float(distance_p[p])))
        at_most = max(1, MOST_POINTS // len(found.frames))
        places = np.flatnonzero(known_x)
        x = random.choice(places, min(at_most, len(places)), replace=False)
        sample = found.samples.setdefault(name, Sample())
        sample.expected.append(operator.values_sx[0, x].real)
        sample.found.append(mine_sx[0, x].real)
        sample.distance.append(distance_p[pairs.pair_x[x]])


def worst_of_each(blocks: Sequence[WorstBlock]) -> list[WorstBlock]:
    """The worst blocks of each operator, the operators in the order in which they came."""
    names = dict.fromkeys(block.operator for block in blocks)
    return [b for name in names for b in sorted((b for b in blocks if b.operator == name), reverse=True)[:MOST_WORST]]


def atom_name(frame: Frame, a: int) -> str:
    return f"{frame.basis[frame.species_a[a]].name} {a}"


def draw_worst(found: Findings, model: Model, data: Dataset) -> None:
    """Bands of the frame whose occupied levels are worst, of the code and of the prediction."""
    measured = [row for row in found.by_frame if row["occupied levels"] is not None]
    if not measured:
        return
    worst = max(measured, key=lambda row: row["occupied levels"])["frame"]
    reference = data[worst]
    if reference.norb > LARGEST_DRAWN or reference.outcome.electrons is None:
        return
    predicted = with_electrons(predict(model, structure_of(reference)), reference.outcome.electrons)
    if not {"H", "S"} <= set(predicted.operators):
        return
    try:
        both = all_bands([reference, predicted], Request(points=120))
    except Refused:  # a k mesh between whose points nothing is known
        return
    found.bands = [Line(name, bands) for name, bands in zip((data.code, "prediction"), both, strict=True)]
    found.bands_frame = worst


def provenance_of(model: Model, model_path: Path, data_path: Path) -> dict[str, Any]:
    """Where everything comes from."""
    best = model_path / BEST if model_path.is_dir() else model_path
    return {
        "model": f"{model_path}, SHA-256 {digest_file(best)[:16]}",
        "dataset": str(data_path),
        "trained on": ", ".join(model.history.get("data", {}).get("codes", [])) or "unknown",
        "program": ", ".join(f"{name} {version}" for name, version in model.history.get("program", {}).items()),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }
