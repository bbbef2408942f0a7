"""Structures of files: datasets, structure files and inputs of the codes, folders of runs, and all that ASE reads."""

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused, reason_of, refused_by_system
from converters.starts.targets import find_target, restart_module
from converters.storage.dataset import Dataset

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
    """All structures of a file: a dataset, a file of a code, the folder of a run, or anything that ASE reads."""
    if path.is_file() and h5py.is_hdf5(path):
        with Dataset(path) as data:
            yield from (frame.atoms for frame in data)
    elif path.is_dir():
        yield find_target(path).atoms
    elif (code := code_of_structure(path)) is not None:
        yield restart_module(code).read_structure(path)
    else:
        yield from read_with_ase(path)


def code_of_structure(path: Path) -> str | None:
    """The code whose own structure files have such a name."""
    named = (name for name, about in KNOWN.items() if re.fullmatch(about.structures, path.name, re.I))
    return next(named, None)


def read_with_ase(path: Path) -> Iterator["Atoms"]:
    from ase.io import ParseError, read
    from ase.io.formats import UnknownFileTypeError
    from ase.spacegroup.spacegroup import SpacegroupError

    if path.suffix.lower() in (".xyz", ".extxyz"):
        require_whole_xyz(path)
    ours_to_explain = (UnknownFileTypeError, ParseError, SpacegroupError, *WRONG_INPUT)
    try:
        found = read(path, index=":")
    except ours_to_explain as error:
        what = reason_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise Refused(Kind.NO_STRUCTURE, path, f"is not a structure that ASE can read: {what}") from error
    yield from found if isinstance(found, list) else [found]


def require_whole_xyz(path: Path) -> None:
    """Refuse an xyz file that claims more atoms than it has lines; ASE would go on looking for them."""
    try:
        with path.open(errors="replace") as lines:
            for line in lines:
                if line.split()[:1] and line.split()[0].isdecimal():
                    count = int(line.split()[0]) + 1
                    if sum(1 for _ in islice(lines, min(count, sys.maxsize))) < count:
                        raise Refused(
                            Kind.NO_STRUCTURE, path, f"claims {count - 1} atoms and ends before the last of them"
                        )
    except OSError as error:
        raise refused_by_system(path, error) from error
