"""Structures of files: datasets, STRU files of ABACUS, inputs of runs, and all that ASE reads."""

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from converters.errors import Kind, Refused, reason_of, refused_by_system
from converters.starts.restart import find_target
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

# What ABACUS and its users call their structure files: STRU, STRU_ION3_D, STRU-relaxed, si.stru; not structure.cif or STRU_NOW.cif.
STRU_NAME = re.compile(r"STRU([-_\d][^.]*)?|.*\.stru", re.I)
# Inputs of SIESTA and OpenMX.
INPUTS = (".fdf", ".dat")


def read_structures(path: Path) -> Iterator["Atoms"]:
    """All structures of a file: a dataset, an ABACUS STRU, the input or the folder of a run, or anything that ASE reads."""
    if path.is_file() and h5py.is_hdf5(path):
        with Dataset(path) as data:
            yield from (frame.atoms for frame in data)
    elif STRU_NAME.fullmatch(path.name):
        yield read_stru_file(path)
    elif path.is_dir() or path.suffix in INPUTS:
        yield find_target(path).atoms
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
