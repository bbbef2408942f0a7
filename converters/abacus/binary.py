"""ABACUS's binary matrices: sparse ones (out_hsr 2) and dense ones of runs at Gamma alone (out_hsk 2).

A file holds one record for each ionic step, in the integers and numbers of the machine, without a word on what it is: whether
numbers are complex, nspin says. The step is counted from 0.
"""

from pathlib import Path

import numpy as np

from basis import Array
from converters.abacus.csr import LARGEST_BASIS, Step
from converters.codes.binary import Binary
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements


def read_sparse(path: Path, *, is_complex: bool) -> list[Step]:
    """All steps of a file in order; of steps with the same number the last."""
    file, steps = Binary(path), {}
    while file.at < len(file.data):
        step = read_record(file, np.dtype(complex if is_complex else float))
        steps[step.number] = step
    if not steps:
        raise Refused(Kind.DAMAGED, path, "is empty")
    return [steps[number] for number in sorted(steps)]


def read_record(file: Binary, dtype: np.dtype) -> Step:
    number, norb, cells = file.take("<i4", 3, "step, orbitals and lattice vectors").tolist()
    if not (number >= 0 and 0 < norb <= LARGEST_BASIS and cells > 0):
        raise file.refuse(f"has step {number} with {norb} orbitals and {cells} lattice vectors", "a matrix")
    file.require(cells * (16 + 8 * (norb + 1)), f"{cells} lattice vectors")
    R_tc, rows, columns, images, values = [], [], [], [], []
    for t in range(cells):
        *R_c, count = file.take("<i4", 4, "a lattice vector").tolist()
        if not 0 <= count <= norb**2 or max(map(abs, R_c)) > 10_000:
            raise file.refuse(f"has {count} elements at R = {R_c}", f"at most {norb**2}")
        value_e = file.take(dtype, count, "values")
        column_e = file.take("<i4", count, "column indices")
        pointer_M = file.take("<i8", norb + 1, "row pointers")
        if pointer_M[0] != 0 or pointer_M[-1] != count or (np.diff(pointer_M) < 0).any():
            raise file.refuse("has row pointers that do not rise", f"from 0 to {count}")
        if count and not 0 <= column_e.min() <= column_e.max() < norb:
            raise file.refuse("has column indices outside", f"0 to {norb - 1}")
        R_tc.append(R_c)
        rows.append(np.repeat(np.arange(norb, dtype=np.int32), np.diff(pointer_M)))
        columns.append(column_e)
        images.append(np.full(count, t, dtype=np.int32))
        values.append(value_e)
    if len(np.unique(R_tc, axis=0)) != len(R_tc):
        raise file.refuse("has two blocks of the same lattice vector")
    row_e, column_e, t_e, value_e = (np.concatenate(parts) for parts in (rows, columns, images, values))
    return Step(number + 1, norb, Elements(row_e, column_e, t_e, np.array(R_tc), value_e[None]))


def read_triangles(path: Path) -> list[Array]:
    """The symmetric matrices of a file of upper triangles, one for each ionic step."""
    file, found = Binary(path), []
    while file.at < len(file.data):
        norb = int(file.take("<i4", 1, "the number of orbitals")[0])
        if not 0 < norb <= LARGEST_BASIS:
            raise file.refuse(f"has {norb} orbitals", f"1 to {LARGEST_BASIS}")
        upper = file.take("<f8", norb * (norb + 1) // 2, f"the upper triangle of {norb} orbitals")
        M_MM = np.zeros((norb, norb))
        M_MM[np.triu_indices(norb)] = upper
        found.append(M_MM + np.triu(M_MM, 1).T)
    return found
