"""Prediction and evaluation from the command line."""

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.frames.neighbours import Structure, structure_of
from converters.physics.kspace import uniform_mesh
from converters.physics.overlap import require_positive
from converters.starts.agreement import measure_agreement
from converters.starts.fit import sampling_of
from converters.storage.dataset import Dataset
from converters.storage.files import digest_file
from converters.storage.writer import DatasetWriter
from slem_plugin.accuracy import Errors
from slem_plugin.checkpoint import BEST, cached_model, load_model
from slem_plugin.learning.survey import require_same_kind
from slem_plugin.model import Model
from slem_plugin.pieces import atoms_within, whole_bytes_per_atom
from slem_plugin.prediction import predict
from workflows.processes.engines import Engine, Lost
from workflows.processes.pieces import Source, outline, pieces_folder, predict_pieces, remove_finished
from workflows.processes.threads import threads_for
from workflows.structures import read_structures
from workflows.terminal.progress import Tell, silent

# Atoms of a piece: not more than keep all workers busy and leave little to do again after a kill, nor so few that most of its
# bonds lead out of it, where there is a choice.
LARGEST_PIECE, SMALLEST_PIECE = 2000, 100
# Larger structures are not looked at for how far H and DM are apart: it would take longer than the prediction.
MOST_ORBITALS = 500
# Structures that need less memory (bytes) are predicted at once.
AT_ONCE = 200e6


def parse_pieces(text: str) -> int | None:
    """A number of pieces, or None for "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Refused(Kind.NO_SUCH_CHOICE, "--pieces", f'is "{text}"', "a number from 1 on, or auto")
    return int(text)


@dataclass(frozen=True)
class Cutting:
    """How large structures are cut: into so many pieces, or (None) into as few as the memory of a process (bytes) allows."""

    pieces: int | None = None
    memory: float = 4e9

    def count(self, model: Model, structure: Structure, workers: int) -> int:
        """The number of pieces of a structure; 0 where it is predicted at once and all its blocks are kept until it is written."""
        natoms = len(structure.species_a)
        if self.pieces is not None:
            return min(self.pieces, natoms) if self.pieces > 1 else 0
        if len(structure.species_a) * whole_bytes_per_atom(model, structure) < min(AT_ONCE, self.memory):
            return 0
        most = atoms_within(model, structure, self.memory)
        wanted = -(-natoms // min(most, LARGEST_PIECE))
        # A few pieces for each worker, so that all end at nearly the same time.
        return max(wanted, min(4 * workers, natoms // SMALLEST_PIECE), 1) if workers > 1 else wanted


@dataclass(frozen=True)
class Prediction:
    """What became of one structure, "predicted" or "there already".

    `overlap` says where its S is from, `apart` how far H and DM are apart (electrons), `notes` what the data of the model had not.
    """

    structure: str
    formula: str
    operators: str
    overlap: str
    pairs: int
    status: str = "predicted"
    apart: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Task:
    """One structure that is to be predicted; `kind` is "there already", "at once" or "in pieces"."""

    kind: str
    name: str
    formula: str
    structure: Structure
    identity: str
    count: int


def predict_files(
    model_path: Path,
    paths: list[Path],
    output: Path,
    *,
    double: bool = False,
    cutting: Cutting | None = None,
    engine: Engine | None = None,
    tell: Tell = silent,
    mesh: tuple[int, int, int] | None = None,
) -> Iterator[Prediction]:
    """Predict the matrices of all structures of some files into a dataset, in their order.

    What an earlier call has put there is kept, if it is the beginning of the same predictions. Large structures are cut into pieces
    that the engine predicts, small ones are given to it whole.
    """
    engine, cutting = engine or Engine(), cutting or Cutting()
    best = model_path / BEST if model_path.is_dir() else model_path
    model = load_model(best, torch.float64 if double else None)
    said = ", ".join(model.operators), origin_of_overlap(model)
    there = sources_in(output) if engine.leader else []
    if engine.leader:
        remove_finished(output, there)
    there = engine.share(there)
    with DatasetWriter(output, plain=True) if engine.leader else nullcontext() as writer:
        tasks = tasks_of(model, f"{digest_file(best)} {model.dtype}", paths, output, cutting, engine.workers, there)
        for kind, group in groupby(tasks, key=lambda task: task.kind):
            if kind == "there already":
                yield from (Prediction(task.name, task.formula, *said, 0, kind) for task in group)
            elif kind == "in pieces":
                for task in group:
                    source = Source(str(best.resolve()), double, task.identity)
                    frame = named(outline(model, task.structure), task)
                    pairs = predict_pieces(
                        source, task.structure, max(task.count, 1), frame, writer, output, engine, tell
                    )
                    yield Prediction(task.name, task.formula, *said, pairs, notes=frame.provenance.notes)
            elif writer is not None:
                # Of several ranks only the leader hears what it gets back.
                work = partial(predict_whole, str(best), double, mesh)
                found = engine.run(work, group) if engine.together == 1 else ((task, work(task)) for task in group)
                for task, result in found:
                    if isinstance(result, Lost):
                        raise Refused(
                            Kind.TOO_LITTLE_MEMORY,
                            task.name,
                            "ended the process that predicted it; it may need more memory",
                        )
                    frame, apart = result
                    writer.append(named(frame, task))
                    notes = frame.provenance.notes
                    yield Prediction(task.name, task.formula, *said, len(frame.pairs), apart=apart, notes=notes)


def origin_of_overlap(model: Model) -> str:
    if "S" not in model.operators:
        return ""
    return "as it was learned" if model.overlap is None else "computed from the radial functions"


def tasks_of(
    model: Model, with_what: str, paths: list[Path], output: Path, cutting: Cutting, workers: int, there: list[str]
) -> Iterator[Task]:
    """What is to be done with each structure of some files; `there` are the identities of the predictions that are done."""
    structures = ((f"{path} {n}", atoms) for path in paths for n, atoms in enumerate(read_structures(path)))
    number = -1
    for number, (name, atoms) in enumerate(structures):
        structure = model.structure(atoms)
        identity = fingerprint(with_what, structure)
        if number < len(there) and there[number] != identity:
            raise Refused(Kind.OUTPUT_EXISTS, output, f"holds other predictions than that of {name}; give another name")
        kind, count = "there already", 0
        if number >= len(there):
            count = cutting.count(model, structure, workers)
            kind = "in pieces" if count or pieces_folder(output).exists() else "at once"
        yield Task(kind, name, str(atoms.get_chemical_formula()), structure, identity, count)
    if number + 1 < len(there):
        raise Refused(
            Kind.OUTPUT_EXISTS,
            output,
            f"holds {len(there)} predictions, more than these {number + 1}; give another name",
        )


def predict_whole(
    model_path: str, double: bool, mesh: tuple[int, int, int] | None, task: Task
) -> tuple[Frame, float | None]:
    """The prediction of one structure, by any process, and how far its H and DM are apart; an S that was computed is looked at."""
    model = cached_model(model_path, torch.float64 if double else None)
    with threads_for(len(task.structure.positions_av)):
        frame = predict(model, task.structure)
        if model.overlap is not None:
            require_positive(named(frame, task))
        return frame, distance_of(frame, mesh)


def distance_of(frame: Frame, mesh: tuple[int, int, int] | None) -> float | None:
    """How far H and DM are apart, where the k-points are known and the structure is not too large."""
    if frame.outcome.electrons is None or frame.norb > MOST_ORBITALS:
        return None
    sampling = sampling_of(frame, None, None)
    if mesh is not None and frame.pbc_c.any() and not frame.folded:
        kpoints_kc, weights_k = uniform_mesh(mesh)
        sampling = replace(sampling, kpoints_kc=kpoints_kc, weights_k=weights_k)
    found = measure_agreement(frame, sampling)
    return None if found is None else found.apart


def sources_in(output: Path) -> list[str]:
    """The identities of the predictions in a file, in order."""
    if not output.exists():
        return []
    with Dataset(output) as data:
        return [row.tobytes().hex() for row in data.array("frames/source")]


def named(frame: Frame, task: Task) -> Frame:
    return replace(frame, provenance=replace(frame.provenance, path=task.name, source=task.identity))


def predict_one(model: Model, path: Path, number: int) -> Frame:
    """The matrices of one structure of a file."""
    for n, atoms in enumerate(read_structures(path)):
        if n == number:
            with threads_for(len(atoms)):
                return predict(model, atoms)
    raise Refused(Kind.NO_SUCH_CHOICE, path, f"has no structure {number}")


def fingerprint(model: str, structure: Structure) -> str:
    """SHA-256 of a structure and of what predicts it."""
    digest = hashlib.sha256(model.encode())
    for part in (structure.cell_cv, structure.pbc_c, structure.positions_av, structure.species_a):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def evaluate_dataset(model: Model, path: Path, frames: list[int] | None, bands: bool, tell: Tell) -> dict[str, Any]:
    """Errors of a model on the frames of a dataset, by operator."""
    errors = Errors()
    with Dataset(path) as data:
        chosen = range(len(data)) if frames is None else frames
        for done, n in enumerate(chosen, 1):
            if n >= len(data):
                raise Refused(Kind.NO_SUCH_CHOICE, path, f"has {len(data)} frames; there is no frame {n}")
            reference = data[n]
            model.require_match(reference, f"{path} frame {n}")
            require_same_kind([reference], [f"{path} frame {n}"])
            with threads_for(reference.natoms):
                errors.add_frame(reference, predict(model, structure_of(reference)), bands=bands, agreement=bands)
            tell(done, len(chosen), errors.headline)
    if not errors.operators:
        raise Refused(Kind.OTHER_MODEL, path, "holds no matrices that this model predicts")
    return errors.as_dict()
