"""Prediction of a large structure in pieces, by an engine, into room that is reserved for it in the dataset file.

The folder OUTPUT.pieces holds what the workers share: the structure and its cut, then what each piece found. A piece that has left its
file is done, so the same command after a kill does only what is missing, and writes the same bytes to the same places.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs
from converters.frames.frame import Frame
from converters.frames.neighbours import Structure
from converters.storage.extents import Extent
from converters.storage.files import draft_of, write_whole
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import load_model
from slem_plugin.model import Model
from slem_plugin.pieces import Blocks, Piece, cut_structure, predict_between, predict_inside
from slem_plugin.unseen import unseen
from workflows.processes.engines import Engine, Lost
from workflows.terminal.progress import Tell

PLAN, STRUCTURE, LAYOUT, FIRST = "plan.json", "structure.npz", "layout.json", "first.npy"
PHASES = ("count", "inside", "between")


@dataclass(frozen=True)
class Source:
    """Which model predicts which structure: a checkpoint, whether in double precision, and the identity of the whole."""

    model: str
    double: bool
    identity: str

    def load(self) -> Model:
        return load_model(self.model, torch.float64 if self.double else None)


@dataclass(frozen=True, eq=False)
class Job:
    """What every worker needs of a prediction in pieces."""

    folder: Path
    model: Model
    structure: Structure
    piece_a: Array

    @property
    def count(self) -> int:
        return int(self.piece_a.max()) + 1

    def atoms(self, number: int) -> Array:
        return np.flatnonzero(self.piece_a == number)

    def counted(self, number: int) -> Path:
        return self.folder / f"counted-{number}.npy"

    def states(self, number: int) -> Path:
        return self.folder / f"inside-{number}.safetensors"

    def done(self, phase: str, number: int) -> bool:
        """Whether a piece has left its file."""
        files = {"count": self.counted(number), "inside": self.states(number)}
        return files.get(phase, self.folder / f"{phase}-{number}").exists()


def pieces_folder(output: Path) -> Path:
    return output.with_name(output.name + ".pieces")


def predict_pieces(
    source: Source,
    structure: Structure,
    count: int,
    frame: Frame,
    writer: DatasetWriter | None,
    output: Path,
    engine: Engine,
    tell: Tell,
) -> int:
    """Predict a structure in `count` pieces (a prediction that goes on keeps its own number); returns the number of pairs.

    `frame` is the prediction without pairs and matrices, `writer` that of the leader. `tell` hears how many steps of how many are done.
    """
    folder = pieces_folder(output)
    if engine.leader:
        make_plan(folder, source, structure, count)
    engine.share(None)  # nobody looks into the folder before it is made
    job = open_job(str(folder), source.identity)
    steps, done = len(PHASES) * job.count, 0
    for phase in PHASES:
        if phase == "inside":
            if engine.leader and writer is not None:
                lay_out(job, frame, writer, output)
            engine.share(None)
        missing = engine.share([number for number in range(job.count) if not job.done(phase, number)])
        done += job.count - len(missing)
        for number, result in engine.run(partial(work, str(folder), source.identity, phase), missing):
            if isinstance(result, Lost):
                raise Refused(
                    Kind.TOO_LITTLE_MEMORY,
                    output,
                    f"piece {number} ended its process twice; it may need less --memory, or more pieces",
                )
            done += engine.together
            tell(min(done, steps), steps)
    lengths = json.loads((folder / LAYOUT).read_text())["lengths"]
    engine.share(None)  # all have read what they need
    if engine.leader and writer is not None:
        writer.finish(frame, lengths)
        shutil.rmtree(folder)
    engine.share(None)  # nobody sees a folder that is being removed
    open_job.cache_clear()
    return int(lengths["pairs"])


def make_plan(folder: Path, source: Source, structure: Structure, count: int) -> None:
    """The folder of a new prediction, or the one of the same prediction that was interrupted."""
    plan = folder / PLAN
    if plan.exists():
        if json.loads(plan.read_text())["identity"] != source.identity:
            raise Refused(
                Kind.OUTPUT_EXISTS,
                folder,
                "holds the pieces of another prediction; finish that one, or remove the folder",
            )
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    piece_a = cut_structure(structure, count)
    arrays = {name: getattr(structure, name) for name in ("cell_cv", "pbc_c", "positions_av", "species_a")}
    np.savez(folder / STRUCTURE, piece_a=piece_a, **arrays)
    write_whole(plan, json.dumps(asdict(source)).encode())


def remove_finished(output: Path, identities: list[str]) -> None:
    """Remove the folder of a prediction that is in the file already; a kill may have come before its last file was gone."""
    folder = pieces_folder(output)
    plan = folder / PLAN
    if folder.exists() and (not plan.exists() or json.loads(plan.read_text())["identity"] in identities):
        shutil.rmtree(folder)


def save_whole(path: Path, array: Array) -> None:
    with draft_of(path) as draft, draft.open("wb") as file:
        np.save(file, array)


@lru_cache(maxsize=1)
def open_job(folder: str, identity: str) -> Job:
    """The prediction in a folder; `identity` tells it from others that had the same folder."""
    plan = json.loads((Path(folder) / PLAN).read_text())
    with np.load(Path(folder) / STRUCTURE) as stored:
        arrays = [stored[name] for name in ("cell_cv", "pbc_c", "positions_av", "species_a", "piece_a")]
    model = Source(**plan).load()
    if model.network is not None and torch.cuda.is_available():
        number = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        model.network.to(torch.device("cuda", number))
    return Job(Path(folder), model, Structure(*arrays[:4]), arrays[4])


def lay_out(job: Job, frame: Frame, writer: DatasetWriter, output: Path) -> None:
    """Reserve the room of the prediction, once all pieces have counted their pairs; done only once."""
    if (job.folder / LAYOUT).exists():
        return
    counts_an = np.zeros((len(job.piece_a), 2), dtype=np.int64)
    for number in range(job.count):
        counts_an[job.atoms(number)] = np.load(job.counted(number))
    first_an = np.cumsum(counts_an, axis=0) - counts_an
    np.save(job.folder / FIRST, first_an)
    pairs, elements = (int(total) for total in counts_an.sum(axis=0))
    lengths = {"pairs": pairs}
    for name in job.model.operators:
        spin = job.model.blueprint.layout(name)
        lengths[f"{name}/values"] = elements * spin.components * (np.dtype(spin.dtype).itemsize // 8)
    extents = writer.reserve(frame, lengths)
    layout = {
        "output": str(output.resolve()),
        "elements": elements,
        "lengths": lengths,
        "extents": {name: asdict(extent) for name, extent in extents.items()},
    }
    write_whole(job.folder / LAYOUT, json.dumps(layout).encode())


def work(folder: str, identity: str, phase: str, number: int) -> None:
    """One phase of one piece; what it finds is in files when it returns."""
    job = open_job(folder, identity)
    if phase == "count":
        save_whole(job.counted(number), Piece.of(job.model, job.structure, job.atoms(number)).count())
        return
    first_an = np.load(job.folder / FIRST)
    with Places(job.folder) as places:
        if phase == "inside":
            piece = Piece.of(job.model, job.structure, job.atoms(number))
            places.write_pairs(piece, first_an[:, 0])
            args = (job.model, job.structure, piece, job.piece_a, first_an[:, 1], job.states(number))
            found: Iterator[Blocks] = predict_inside(*args)
        else:
            found = predict_between(job.model, job.structure, number, job.states)
        for blocks in found:
            places.write_blocks(blocks)
    if phase == "between":
        write_whole(job.folder / f"{phase}-{number}", b"")


class Places:
    """The output file, and where the pairs and blocks of a prediction go in it."""

    def __init__(self, folder: Path) -> None:
        layout = json.loads((folder / LAYOUT).read_text())
        self.elements = int(layout["elements"])
        self.extents = {name: Extent(**plain) for name, plain in layout["extents"].items()}
        self.descriptor = os.open(layout["output"], os.O_WRONLY)

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write_pairs(self, piece: Piece, first_a: Array) -> None:
        """The pairs that are stored with the atoms of a piece; `first_a` is the number of the first pair of each atom."""
        pairs = piece.pairs
        rows = np.column_stack([pairs.i_p, pairs.j_p, pairs.R_pc])
        place_p = first_a[pairs.i_p] + np.arange(len(pairs)) - np.searchsorted(pairs.i_p, pairs.i_p)
        for start, stop in runs(place_p, np.ones(len(pairs), dtype=int)):
            self.extents["pairs"].write(self.descriptor, int(place_p[start]), rows[start:stop])

    def write_blocks(self, blocks: Blocks) -> None:
        start_p, size_p = blocks.pairs.start_p, blocks.pairs.size_p
        for start, stop in runs(blocks.element_p, size_p):
            x = slice(start_p[start], start_p[stop])
            for name, values_sx in blocks.values.items():
                width = values_sx.dtype.itemsize // 8
                for s, values_x in enumerate(values_sx):
                    first = (s * self.elements + int(blocks.element_p[start])) * width
                    self.extents[f"{name}/values"].write(self.descriptor, first, values_x[x].view(np.float64))


def runs(first_p: Array, size_p: Array) -> Iterator[tuple[int, int]]:
    """Stretches of items that follow each other without a gap."""
    breaks = np.flatnonzero(first_p[1:] != first_p[:-1] + size_p[:-1]) + 1
    edges = [0, *breaks.tolist(), len(first_p)]
    return ((a, b) for a, b in pairwise(edges) if b > a)


def outline(model: Model, structure: Structure) -> Frame:
    """A predicted frame without pairs and matrices."""
    none = np.zeros(0, dtype=np.int64)
    pairs = Pairs(none, none, np.zeros((0, 3), dtype=np.int64), model.orbitals(structure))
    structural = (structure.cell_cv, structure.pbc_c, structure.positions_av, structure.species_a)
    return Frame(
        *structural,
        model.blueprint.basis,
        pairs,
        model.blueprint.spin,
        {},
        **model.facts(structure, unseen(model, structure)),
    )
