"""The order of runs: what is learned from the first should tell most about the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from basis import Array
from converters.errors import Refused
from converters.frames.neighbours import Structure, find_bonds
from workflows.structures import read_structures

if TYPE_CHECKING:
    from ase import Atoms

# Surroundings are seen up to this distance (Angstrom), by waves of so many lengths.
FARTHEST, WAVES = 6.0, 8
# What varies less than this part of the largest number is rounding.
NOISE = 1e-9


def choose_order(folders: Sequence[Path]) -> list[int]:
    """An order in which each next run is the one that is least like those before it; spread evenly where structures are not known."""
    known = [structure_of(folder) for folder in folders]
    structures = [atoms for atoms in known if atoms is not None]
    if len(structures) < len(known):
        return halving(len(folders))
    try:
        return farthest_first(fingerprints(structures))
    except Refused:  # atoms in one place: the run that has them says so
        return halving(len(folders))


def structure_of(folder: Path) -> "Atoms | None":
    """The structure that an input says, or that lies beside a script."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.iterdir() if path.is_file())
    for path in (folder, *(file for file in files if file.suffix in (".xyz", ".extxyz", ".cif", ".vasp", ".traj"))):
        try:
            return next(iter(read_structures(path)))
        except (Refused, StopIteration):
            continue
    return None


def fingerprints(structures: Sequence["Atoms"]) -> Array:
    """A row for each structure: means and spreads, over the atoms of each element, of how far which neighbours are and at which angles."""
    elements = sorted({int(number) for atoms in structures for number in atoms.numbers})
    return np.array([fingerprint(atoms, elements) for atoms in structures])


def fingerprint(atoms: "Atoms", elements: Sequence[int]) -> Array:
    numbers_a = atoms.numbers
    structure = Structure(atoms.cell.array, atoms.pbc, atoms.positions, np.zeros(len(atoms), dtype=int))
    bonds = find_bonds(structure, np.arange(len(atoms)), np.full((1, 1), FARTHEST))
    length_d = np.linalg.norm(bonds.vectors_dv, axis=1)
    fade_d = 0.5 + 0.5 * np.cos(np.pi * length_d / FARTHEST)
    waves_dn = np.sin(np.pi * np.arange(1, WAVES + 1) * length_d[:, None] / FARTHEST) * (fade_d / length_d)[:, None]
    unit_dv = bonds.vectors_dv / length_d[:, None]
    scalars_du = np.ones((len(bonds), 1))
    directions_du = np.hstack([scalars_du, unit_dv, (unit_dv[:, :, None] * unit_dv[:, None, :]).reshape(-1, 9)])
    seen_dx = (waves_dn[:, :, None] * directions_du[:, None]).reshape(-1, 13 * WAVES)
    parts = []
    for other in elements:
        mine_d = np.flatnonzero(numbers_a[bonds.neighbour_d] == other)
        sums = csr_array(
            (np.ones(len(mine_d)), (bonds.centre_d[mine_d], np.arange(len(mine_d)))), shape=(len(atoms), len(mine_d))
        )
        seen_anu = (sums @ seen_dx[mine_d]).reshape(-1, WAVES, 13)
        lengths = [np.linalg.norm(seen_anu[..., columns], axis=-1) for columns in (slice(1, 4), slice(4, 13))]
        parts += [seen_anu[..., 0], *lengths]
    seen_af = np.hstack(parts)
    rows = []
    for element in elements:
        mine = seen_af[numbers_a == element]
        rows += [mine.mean(axis=0), mine.std(axis=0)] if len(mine) else [np.zeros((2, seen_af.shape[1])).ravel()]
    return np.concatenate([*rows, np.bincount(np.searchsorted(elements, numbers_a), minlength=len(elements))])


def farthest_first(rows_nf: Array) -> list[int]:
    """All rows, from the one nearest the middle, each next the farthest from all before it."""
    spread_f = rows_nf.std(axis=0)
    differing_f = spread_f > NOISE * np.abs(rows_nf).max()
    scaled = rows_nf[:, differing_f] / spread_f[differing_f]
    order = [int(np.linalg.norm(scaled - scaled.mean(axis=0), axis=1).argmin())]
    nearest_n = np.full(len(scaled), np.inf)
    while len(order) < len(scaled):
        nearest_n = np.minimum(nearest_n, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        nearest_n[order] = -1
        order.append(int(nearest_n.argmax()))
    return order


def halving(count: int) -> list[int]:
    """Places spread evenly over a line, however many of them are taken: the first, the middle, the middles of the halves and so on."""
    bits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda n: int(f"{n:0{bits}b}"[::-1], 2))
