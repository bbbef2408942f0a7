"""The structures of a DeePTB folder: text files or a trajectory of ASE, and the shells of each element."""

import ast
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from basis import Array
from basis.shells import Species, parse_shells
from converters.errors import Kind, Refused

# What ASE raises for a trajectory that is none.
BAD_TRAJECTORY = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError)

# Cubic Angstrom for an atom; versions of dftio write cells of zeros, or without the lattice constant of SIESTA's input.
LEAST_ROOM = 1.0


@dataclass(frozen=True, eq=False)
class Structures:
    """Cells, positions and elements of all frames of a folder; f counts frames."""

    cell_fcv: Array
    pbc_c: Array
    positions_fav: Array
    numbers_fa: Array


def read_structures(folder: Path, nframes: int) -> Structures:
    """The structures of a folder whose matrices are of so many frames."""
    info = read_info(folder)
    found = from_trajectory(folder) if is_trajectory(folder, info) else from_text(folder, nframes, info)
    if len(found.positions_fav) != nframes:
        wanted = f"{nframes}, as the matrices"
        raise Refused(Kind.DAMAGED, folder, f"has structures of {len(found.positions_fav)} frames", wanted)
    if not 0 < found.numbers_fa.min() <= found.numbers_fa.max() < len(chemical_symbols):
        raise Refused(Kind.DAMAGED, folder, "has atomic numbers of no element")
    room_f = np.abs(np.linalg.det(found.cell_fcv)) / found.positions_fav.shape[1]
    if found.pbc_c.all() and room_f.min() < LEAST_ROOM:
        reason = f"has a cell with {room_f.min():.2g} cubic Angstrom for each atom in frame {int(np.argmin(room_f))}"
        raise Refused(Kind.BAD_PHYSICS, folder, reason, "three vectors in Angstrom")
    return found


def read_info(folder: Path) -> Mapping[str, Any]:
    """What DeePTB was told about the folder: in its own info.json, or in that of the folder above; nothing where there is none."""
    for path in (folder / "info.json", folder.parent / "info.json"):
        try:
            info = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
        if isinstance(info, dict):
            return info
    return {}


def trajectories(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.traj"))


def is_trajectory(folder: Path, info: Mapping[str, Any]) -> bool:
    return info.get("pos_type") == "ase" or not (folder / "positions.dat").is_file()


def from_trajectory(folder: Path) -> Structures:
    from ase.io import read

    paths = trajectories(folder)
    if len(paths) != 1:
        raise Refused(Kind.MISSING_FILES, folder, f"has {len(paths)} trajectories (.traj)", "one, or positions.dat")
    try:
        frames = read(paths[0], index=":", format="traj")
        shapes = {(len(atoms), *atoms.pbc.tolist()) for atoms in frames}
    except BAD_TRAJECTORY as error:
        raise Refused(Kind.DAMAGED, paths[0], f"cannot be read: {error}") from error
    if len(shapes) != 1:
        raise Refused(Kind.DAMAGED, paths[0], "has frames of several numbers of atoms or periodicities", "one")
    return Structures(
        np.array([atoms.cell.array for atoms in frames]),
        np.array(frames[0].pbc, dtype=bool),
        np.array([atoms.positions for atoms in frames]),
        np.array([atoms.numbers for atoms in frames]),
    )


def from_text(folder: Path, nframes: int, info: Mapping[str, Any]) -> Structures:
    """Rows of all frames one after the other; a cell and a list of elements may be there once for all frames."""
    positions_xv = table(folder / "positions.dat", 3)
    numbers_x = table(folder / "atomic_numbers.dat", 1)[:, 0]
    natoms, rest = divmod(len(positions_xv), nframes)
    pbc_c = read_periodicity(folder, info)
    cell_xv = table(folder / "cell.dat", 3) if pbc_c.any() or (folder / "cell.dat").is_file() else np.zeros((3, 3))
    whole = np.equal(numbers_x, np.round(numbers_x)).all()
    if rest or not natoms or not whole or len(numbers_x) not in (natoms, natoms * nframes):
        found = f"has {len(positions_xv)} positions and {len(numbers_x)} atomic numbers"
        raise Refused(Kind.DAMAGED, folder, found, f"those of {nframes} frames")
    if len(cell_xv) not in (3, 3 * nframes):
        raise Refused(Kind.DAMAGED, folder / "cell.dat", f"has {len(cell_xv)} rows", f"3 or {3 * nframes}")
    cell_fcv = np.broadcast_to(cell_xv.reshape(-1, 3, 3), (nframes, 3, 3))
    positions_fav = positions_xv.reshape(nframes, natoms, 3)
    if info.get("pos_type", "cart") == "frac":
        positions_fav = positions_fav @ cell_fcv
    numbers_fa = np.broadcast_to(numbers_x.astype(int).reshape(-1, natoms), (nframes, natoms))
    return Structures(cell_fcv, pbc_c, positions_fav, numbers_fa)


def read_periodicity(folder: Path, info: Mapping[str, Any]) -> Array:
    """Three truth values of pbc.dat, else of info.json; periodic where neither says anything."""
    path = folder / "pbc.dat"
    given = table(path, 1)[:, 0] if path.is_file() else np.atleast_1d(info.get("pbc", True))
    if len(given) not in (1, 3) or not np.isin(given, (0, 1)).all():
        raise Refused(Kind.DAMAGED, path, "has no three truth values")
    return np.broadcast_to(given.astype(bool), 3)


def table(path: Path, columns: int) -> Array:
    """The finite numbers of a text file, in rows of some length."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file
            numbers = np.loadtxt(path, ndmin=2).reshape(-1, columns)
    except FileNotFoundError as error:
        raise Refused(Kind.MISSING_FILES, path, "is not there") from error
    except (OSError, ValueError) as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    if not len(numbers) or not np.isfinite(numbers).all():
        raise Refused(Kind.DAMAGED, path, "is empty or has numbers that are not finite")
    return numbers


def read_basis(folder: Path) -> tuple[Species, ...]:
    """The species of basis.dat, a text such as {'Si': '2s2p1d'}."""
    path = folder / "basis.dat"
    try:
        given = ast.literal_eval(path.read_text().strip())
        return tuple(Species(symbol, atomic_numbers[symbol], parse_shells(shells)) for symbol, shells in given.items())
    except FileNotFoundError as error:
        expected = "the shells of each element, such as {'Si': '2s2p1d'}"
        raise Refused(Kind.MISSING_FILES, path, "is not there", expected) from error
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        found = f"has no shells of elements: {error}"
        raise Refused(Kind.DAMAGED, path, found, "a text such as {'Si': '2s2p1d'}") from error


def species_of(folder: Path, basis: tuple[Species, ...], numbers_a: Array) -> Array:
    """The species of each atom."""
    place = {species.number: s for s, species in enumerate(basis)}
    unknown = sorted(set(numbers_a.tolist()) - set(place))
    if unknown:
        raise Refused(Kind.DAMAGED, folder / "basis.dat", f"has no shells of {chemical_symbols[unknown[0]]}")
    return np.array([place[number] for number in numbers_a.tolist()])
