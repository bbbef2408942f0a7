"""ABACUS's dense matrices of runs at Gamma alone: text of all generations, and binary files."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from converters.abacus.binary import read_triangles
from converters.abacus.csr import (
    DIRECT,
    LARGEST_BASIS,
    NEW_STEP,
    Step,
    first_number,
    lines_like,
    numbers_of,
    read_structure,
)
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements

STEP = re.compile(r"^\s*#\s*ionic step\s+(\d+)\s*$", re.M)
ROW = re.compile(r"^\s*Row\s+\d+\s*$", re.M)
OLD_SIZE = re.compile(r"\s*\d+\s+\S+\s+\(fermi energy[^)]*\)\s+(\d+)\s+\1\s")
RULER = re.compile(r"^#-+$", re.M)


@dataclass(frozen=True, eq=False)
class Dense:
    """A symmetric matrix in a file: its ionic step from 1, and the geometry where the file carries it."""

    number: int
    M_MM: Array
    cell_cv: Array | None = None
    fractional_ac: Array | None = None

    def as_step(self) -> Step:
        """All its elements, at no lattice vector."""
        norb = len(self.M_MM)
        row_e, column_e = np.indices((norb, norb)).reshape(2, -1)
        home_tc = np.zeros((1, 3), dtype=np.int64)
        elements = Elements(row_e, column_e, np.zeros_like(row_e), home_tc, self.M_MM.reshape(1, -1))
        return Step(self.number, norb, elements, self.cell_cv, self.fractional_ac)


def read_dense(path: Path) -> list[Dense]:
    """All steps of a file in order; of steps with the same number the last."""
    if path.suffix == ".dat":
        found = [Dense(number, M_MM) for number, M_MM in enumerate(read_triangles(path), 1)]
    else:
        text = path.read_text(errors="replace")
        if ROW.search(text):
            found = read_rows(path, text)
        elif re.match(r"\s*\d+\s", text) and "#" not in text:
            found = [Dense(1, read_old_triangle(path, text))]
        else:
            found = [read_square(path, text)]
    if not found:
        raise Refused(Kind.DAMAGED, path, "holds no matrix")
    steps = {one.number: one for one in found}
    return [steps[number] for number in sorted(steps)]


def read_rows(path: Path, text: str) -> list[Dense]:
    """Upper triangles under "Row i", one for each ionic step."""
    heads = list(STEP.finditer(text))
    starts = [(int(head[1]), head.end()) for head in heads] or [(1, 0)]
    stops = [head.start() for head in heads[1:]] + [len(text)]
    found = []
    for (number, start), stop in zip(starts, stops, strict=True):
        head, *rows = ROW.split(RULER.sub("", text[start:stop]))
        norb = first_number(path, r"^\s*#\s*rows\s+(\d+)", head)
        parts = [numbers_of(path, [row], f"row {n + 1}") for n, row in enumerate(rows)]
        if [len(part) for part in parts] != list(range(norb, 0, -1)):
            raise Refused(Kind.DAMAGED, path, f"has {len(parts)} rows", f"the upper triangle of {norb} rows")
        found.append(Dense(number, whole_of_triangle(norb, np.concatenate(parts))))
    return found


def read_old_triangle(path: Path, text: str) -> Array:
    """The last upper triangle of a file of versions before 3.9, which stand after the number of orbitals; some write one after each iteration."""
    numbers = numbers_of(path, [text], "the matrix")
    norb = int(numbers[0])
    size = 1 + norb * (norb + 1) // 2
    if not 0 < norb <= LARGEST_BASIS or len(numbers) % size or (numbers[::size] != norb).any():
        raise Refused(Kind.DAMAGED, path, f"has {len(numbers)} numbers", f"upper triangles of {norb} rows")
    return whole_of_triangle(norb, numbers[-size + 1 :])


def read_square(path: Path, text: str) -> Dense:
    """All elements after the structure; before 3.11 spin, Fermi energy and size stand between them."""
    coordinates = DIRECT.search(text)
    if coordinates is None:
        raise Refused(Kind.DAMAGED, path, 'has no line "Direct" in its header')
    step = next(lines_like(NEW_STEP, "Ionic Step", text), None)
    cell_cv, fractional_ac, body = read_structure(
        path, text, coordinates, text[step.end() if step else 0 : coordinates.start()], len(text)
    )
    if old := OLD_SIZE.match(text, body):
        norb, body = int(old[1]), old.end()
    else:
        norb = first_number(path, r"^\s*(\d+)\s+# number of localized basis", text)
    numbers = numbers_of(path, [text[body:]], "the matrix")
    if norb > LARGEST_BASIS or len(numbers) != norb**2:
        raise Refused(Kind.DAMAGED, path, f"has {len(numbers)} numbers after its header", f"{norb} x {norb} elements")
    return Dense(int(step[1]) if step else 1, numbers.reshape(norb, norb), cell_cv, fractional_ac)


def whole_of_triangle(norb: int, numbers: Array) -> Array:
    """The symmetric matrix of an upper triangle."""
    upper = np.zeros((norb, norb))
    upper[np.triu_indices(norb)] = numbers
    return upper + np.triu(upper, 1).T
