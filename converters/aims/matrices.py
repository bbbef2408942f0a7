"""The matrices of FHI-aims: real-space arrays with their indices, and the triangle of a molecule."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from converters.codes.many_numbers import read_numbers
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements
from converters.storage.files import HDF5_MAGIC, open_hdf5, starts_with

SECTIONS = ("cell_index", "index_hamiltonian(1", "index_hamiltonian(2", "column_index_hamiltonian")


@dataclass(frozen=True, eq=False)
class Half:
    """The stored half of a matrix: where its elements are, row >= column, and `count`, how many values its files have.

    Element e is <row_e in cell 0 | O | column_e in cell R_tc[t_e]>, with all atoms in the cell about the origin.
    """

    row_e: Array
    column_e: Array
    t_e: Array
    R_tc: Array
    count: int


def read_indices(path: Path, norb: int, periodic: bool) -> Half:
    """rs_indices.out: first and last element of each cell and row, and the column of each element."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    count, cells, rows = (int(line.split(":")[1]) for line in lines[:3])
    heads = [n for n, line in enumerate(lines) if line.startswith(SECTIONS)]
    lengths = np.diff([*heads, len(lines)]) - 1
    if rows != norb or lengths.tolist() != [cells if periodic else 0, cells, cells, count]:
        raise Refused(Kind.DAMAGED, path, "has other numbers of lines than it says", f"those of {norb} orbitals")
    # The last cell is none: its numbers are whatever was in memory.
    vectors, first, last = ([line.split() for line in lines[n + 1 : n + cells]] for n in heads[:3])
    R_tc = np.array(vectors, dtype=np.int64) if periodic else np.zeros((cells - 1, 3), dtype=np.int64)
    first_tM, last_tM = (np.array(part, dtype=np.int64).reshape(-1, norb) for part in (first, last))
    columns = np.array(lines[heads[3] + 1 :], dtype=np.int64) - 1
    t_x, row_x = np.nonzero(first_tM > 0)
    order = np.argsort(first_tM[t_x, row_x])
    t_x, row_x = t_x[order], row_x[order]
    length_x = last_tM[t_x, row_x] - first_tM[t_x, row_x] + 1
    row_e, t_e = np.repeat(row_x, length_x), np.repeat(t_x, length_x)
    column_e = columns[: len(row_e)]
    follows = (first_tM[t_x, row_x] == np.cumsum(length_x) - length_x + 1).all()
    rising_e = (np.diff(column_e) > 0) | (np.diff(row_e) != 0) | (np.diff(t_e) != 0)
    inside = len(column_e) and column_e.min() >= 0 and (column_e <= row_e).all() and rising_e.all()
    if not follows or count - len(row_e) not in (0, 1) or not inside or np.abs(R_tc).max() > 10_000:
        raise Refused(Kind.DAMAGED, path, "has places that do not follow one another", "each element once")
    return Half(row_e, column_e, t_e, -R_tc, count)


def read_values(paths: Sequence[Path], half: Half) -> Array:
    """The values of each spin."""
    values = []
    for path in paths:
        if starts_with(path, HDF5_MAGIC):
            with open_hdf5(path) as file:
                found = np.asarray(file["sparse_matrix"][()], dtype=float).ravel()
        else:
            found = read_numbers([path.read_text()])
        if len(found) != half.count:
            raise Refused(Kind.DAMAGED, path, f"has {len(found)} values", f"{half.count}")
        values.append(found[: len(half.row_e)])
    return np.array(values)


def read_triangle(path: Path, norb: int) -> tuple[Half, Array]:
    """Rows of "i j value" of the matrix of a molecule."""
    words = [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    table = np.array(words, dtype=float).reshape(len(words), -1)
    column_e, row_e = np.array([line[:2] for line in words], dtype=np.int64).T - 1
    i_e, j_e = np.triu_indices(norb)
    wanted = np.lexsort((i_e, j_e))
    if table.shape[1] != 3 or not (np.array_equal(column_e, i_e[wanted]) and np.array_equal(row_e, j_e[wanted])):
        raise Refused(Kind.DAMAGED, path, "is not the triangle of one matrix", f"that of {norb} orbitals")
    return Half(row_e, column_e, np.zeros(len(row_e), dtype=np.int64), np.zeros((1, 3), dtype=np.int64), len(row_e)), (
        table[None, :, 2]
    )


def whole(half: Half, values_se: Array) -> Elements:
    """Both Hermitian halves of a real matrix."""
    other = half.row_e != half.column_e
    return Elements(
        np.concatenate([half.row_e, half.column_e[other]]),
        np.concatenate([half.column_e, half.row_e[other]]),
        np.concatenate([half.t_e, half.t_e[other] + len(half.R_tc)]),
        np.concatenate([half.R_tc, -half.R_tc]),
        np.concatenate([values_se, values_se[:, other]], axis=1),
    )
