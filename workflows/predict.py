"""Prediction and evaluation from the command line."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from converters.dataset import Dataset, DatasetWriter
from converters.errors import Refused, reason_of
from converters.frame import Frame
from slem_plugin.errors import Errors
from slem_plugin.model import Model, structure_of
from slem_plugin.samples import require_same_kind

if TYPE_CHECKING:
    from ase import Atoms


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


def predict_files(model: Model, paths: list[Path], output: Path) -> Iterator[Frame]:
    """Predict the matrices of all structures of some files into a dataset, one by one."""
    if output.exists():
        raise Refused(output, "exists; give another name")
    with DatasetWriter(output) as writer:
        for path in paths:
            for n, atoms in enumerate(read_structures(path)):
                frame = model.predict(atoms)
                named = replace(frame.provenance, path=f"{path} {n}", source=fingerprint(frame))
                frame = replace(frame, provenance=named)
                writer.append(frame)
                yield frame


def predict_one(model: Model, path: Path, number: int) -> Frame:
    """The matrices of one structure of a file."""
    for n, atoms in enumerate(read_structures(path)):
        if n == number:
            return model.predict(atoms)
    raise Refused(path, f"has no structure {number}")


def fingerprint(frame: Frame) -> str:
    """SHA-256 of a structure and its matrices."""
    parts = [frame.cell_cv, frame.positions_av, *(operator.values_sx for operator in frame.operators.values())]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


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
