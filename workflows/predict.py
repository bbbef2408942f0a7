"""Prediction and evaluation from the command line."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from converters.dataset import Dataset, DatasetWriter
from converters.errors import Refused, reason_of
from converters.frame import Frame
from converters.runs import digest_file
from slem_plugin.checkpoint import BEST, load_model
from slem_plugin.errors import Errors
from slem_plugin.model import Model, structure_of
from slem_plugin.neighbours import Structure
from slem_plugin.pieces import RESERVE, atoms_within, whole_bytes_per_atom
from slem_plugin.samples import require_same_kind
from workflows.engines import Engine
from workflows.pieces import Source, outline, pieces_folder, predict_pieces

if TYPE_CHECKING:
    from ase import Atoms


# Atoms of a piece: not more than keep all workers busy and leave little to do again after a kill, nor so few that most of its
# bonds lead out of it, where there is a choice.
LARGEST_PIECE, SMALLEST_PIECE = 2000, 100
# What ASE's readers raise when a file is not what it seems; they have no error in common.
WRONG_INPUT = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    StopIteration,
    AssertionError,
    RuntimeError,
    ImportError,
)


def parse_pieces(text: str) -> int | None:
    """A number of pieces, or None for "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Refused("--pieces", f'is "{text}"; expected a number from 1 on, or auto')
    return int(text)


def read_structures(path: Path) -> Iterator["Atoms"]:
    """All structures of a file: a dataset, an ABACUS STRU, or anything that ASE reads."""
    if path.is_file() and h5py.is_hdf5(path):
        with Dataset(path) as data:
            yield from (frame.atoms for frame in data)
    elif path.name.upper().startswith("STRU"):
        yield read_stru_file(path)
    else:
        yield from read_with_ase(path)


def read_stru_file(path: Path) -> "Atoms":
    """The structure of an ABACUS STRU file."""
    from ase import Atoms

    from converters.abacus.text import element_number, read_stru

    stru = read_stru(path)
    numbers_s = [element_number(path, *names) for names in zip(stru.labels, stru.pseudopotentials, strict=True)]
    return Atoms([numbers_s[s] for s in stru.species_a], stru.positions_av, cell=stru.cell_cv, pbc=True)


def read_with_ase(path: Path) -> Iterator["Atoms"]:
    from ase.io import ParseError, read
    from ase.io.formats import UnknownFileTypeError

    ours_to_explain = (UnknownFileTypeError, ParseError, *WRONG_INPUT)
    try:
        found = read(path, index=":")
    except ours_to_explain as error:
        what = reason_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise Refused(path, f"is no structure that ASE can read: {what}") from error
    yield from found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class Cutting:
    """How large structures are cut: into so many pieces, or (None) into as few as the memory of a process (bytes) allows."""

    pieces: int | None = None
    memory: float = 4e9

    def count(self, model: Model, structure: Structure, workers: int) -> int:
        """The number of pieces of a structure; 1 where it is predicted at once by this process."""
        natoms = len(structure.species_a)
        if self.pieces is not None:
            return min(self.pieces, natoms)
        if workers == 1 and fits(model, structure, self.memory):
            return 1
        most = atoms_within(model, structure, self.memory)
        wanted = -(-natoms // min(most, LARGEST_PIECE))
        # A few pieces for each worker, so that all end at nearly the same time.
        return max(wanted, min(4 * workers, natoms // SMALLEST_PIECE), 1) if workers > 1 else wanted


@dataclass(frozen=True)
class Prediction:
    """What became of one structure: "predicted" or "there already"."""

    structure: str
    formula: str
    operators: str
    pairs: int
    status: str = "predicted"


def predict_files(
    model_path: Path,
    paths: list[Path],
    output: Path,
    *,
    double: bool = False,
    cutting: Cutting | None = None,
    engine: Engine | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Prediction]:
    """Predict the matrices of all structures of some files into a dataset, one by one.

    What an earlier call has put there is kept, if it is the beginning of the same predictions.
    """
    engine, cutting = engine or Engine(), cutting or Cutting()
    best = model_path / BEST if model_path.is_dir() else model_path
    model = load_model(best, torch.float64 if double else None)
    model_identity = f"{digest_file(best)} {model.dtype}"
    there = engine.share(sources_in(output))
    structures = ((f"{path} {n}", atoms) for path in paths for n, atoms in enumerate(read_structures(path)))
    with DatasetWriter(output, plain=True) if engine.leader else nullcontext() as writer:
        for number, (name, atoms) in enumerate(structures):
            structure = model.structure(atoms)
            identity = fingerprint(model_identity, structure)
            what = name, str(atoms.get_chemical_formula()), ", ".join(model.blueprint.operators)
            if number < len(there):
                if there[number] != identity:
                    raise Refused(output, f"holds other predictions than that of {name}; give another name")
                yield Prediction(*what, 0, "there already")
                continue
            count = cutting.count(model, structure, engine.workers)
            if count == 1 and not pieces_folder(output).exists():
                if writer is not None:
                    frame = model.predict_structure(structure)
                    writer.append(named(frame, name, identity))
                    yield Prediction(*what, len(frame.pairs))
                continue
            source = Source(str(best.resolve()), double, identity)
            frame = named(outline(model, structure), name, identity)
            pairs = predict_pieces(source, structure, count, frame, writer, output, engine, tell)
            yield Prediction(*what, pairs)
        if number + 1 < len(there):
            raise Refused(output, f"holds {len(there)} predictions, more than these {number + 1}; give another name")


def fits(model: Model, structure: Structure, memory: float) -> bool:
    """Whether a structure with all its blocks stays below so many bytes."""
    return len(structure.species_a) * whole_bytes_per_atom(model, structure) + RESERVE < memory


def sources_in(output: Path) -> list[str]:
    """The identities of the predictions in a file, in order."""
    if not output.exists():
        return []
    with Dataset(output) as data:
        return [row.tobytes().hex() for row in data.array("frames/source")]


def named(frame: Frame, name: str, identity: str) -> Frame:
    return replace(frame, provenance=replace(frame.provenance, path=name, source=identity))


def predict_one(model: Model, path: Path, number: int) -> Frame:
    """The matrices of one structure of a file."""
    for n, atoms in enumerate(read_structures(path)):
        if n == number:
            return model.predict(atoms)
    raise Refused(path, f"has no structure {number}")


def fingerprint(model: str, structure: Structure) -> str:
    """SHA-256 of a structure and of what predicts it."""
    digest = hashlib.sha256(model.encode())
    for part in (structure.cell_cv, structure.pbc_c, structure.positions_av, structure.species_a):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def evaluate_dataset(model: Model, path: Path, frames: list[int] | None, bands: bool, step: Any) -> dict[str, Any]:
    """Errors of a model on the frames of a dataset, by operator."""
    errors = Errors()
    with Dataset(path) as data:
        chosen = range(len(data)) if frames is None else frames
        for n in chosen:
            if n >= len(data):
                raise Refused(path, f"has {len(data)} frames; there is no frame {n}")
            reference = data[n]
            model.require_match(reference, f"{path} frame {n}")
            require_same_kind([reference], [f"{path} frame {n}"])
            errors.add_frame(reference, model.predict_structure(structure_of(reference)), bands=bands)
            step()
    if not errors.operators:
        raise Refused(path, "holds no matrices that this model predicts")
    return errors.as_dict()
