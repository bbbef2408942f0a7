"""ABACUS's sparse matrices in text, of all generations.

A file holds one or more ionic steps; a step holds blocks, one for each lattice vector R: values, column indices and row
pointers. New files (3.11) begin a step with "--- Ionic Step n ---" and carry the structure, old ones with "STEP: n" or
nothing. Numbers may be wrapped in any way.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from basis import Array
from converters.abacus.numerals import format_values, lines_of, numbers_below, words_of
from converters.codes.digits import rounding_of
from converters.codes.many_numbers import read_numbers
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements
from converters.storage.files import write_whole

NEW_STEP = re.compile(r"[ \t]*--- Ionic Step (\d+) ---[ \t]*")
OLD_STEP = re.compile(r"[ \t]*(IONIC_)?STEP:[ \t]*(\d+)[ \t]*")
OLD_HEAD = re.compile(r"\s*Matrix Dimension of \w+\(R\):\s*(\d+)\s*Matrix number of \w+\(R\):\s*(\d+)")
DIRECT = re.compile(r"^[ \t]*Direct[ \t]*$", re.M)
MANTISSA = re.compile(r"(\d\.\d+)[eE]")
LARGEST_BASIS = 1_000_000


@dataclass(frozen=True, eq=False)
class Step:
    """One ionic step of a file: the matrix, and the geometry where the file carries it (cell in Angstrom, mostly with 6 digits)."""

    number: int  # from 1
    norb: int
    matrix: Elements
    cell_cv: Array | None = None
    fractional_ac: Array | None = None
    cell_is_exact: bool = False
    rounding: float = 0.0  # of the elements, as a part of themselves


def read_steps(path: Path) -> list[Step]:
    """All steps of a file in order; of steps with the same number the last, as a repeated run appends to old files."""
    text = path.read_text(errors="replace")
    found = list(lines_like(NEW_STEP, "Ionic Step", text))
    is_new = bool(found)
    found = found or list(lines_like(OLD_STEP, "STEP:", text))
    starts = [(number_of_step(match), match.end()) for match in found] or [(1, 0)]
    stops = [match.start() for match in found[1:]] + [len(text)]
    steps: dict[int, Step] = {}
    for (number, start), stop in zip(starts, stops, strict=True):
        steps[number] = (read_new if is_new else read_old)(path, number, text, start, stop)
    return [steps[number] for number in sorted(steps)]


def lines_like(pattern: re.Pattern[str], word: str, text: str) -> Iterator[re.Match[str]]:
    """The lines that are like a pattern, looked for by a word of theirs: patterns alone take as long as all numbers of a long text."""
    at = text.find(word)
    while at >= 0:
        start, stop = line_about(text, at, len(text))
        if match := pattern.fullmatch(text, start, stop):
            yield match
        at = text.find(word, stop)


def line_about(text: str, at: int, end: int) -> tuple[int, int]:
    """Where the line of a character begins and ends."""
    stop = text.find("\n", at, end)
    return text.rfind("\n", 0, at) + 1, end if stop < 0 else stop


def number_of_step(head: re.Match[str]) -> int:
    """The ionic step, from 1; a line STEP counts from 0."""
    number = int(head[head.lastindex or 1])
    return number if head.re is NEW_STEP or head[1] else number + 1


def numbers_of(path: Path, parts: Iterable[str], what: str) -> Array:
    """All numbers of some texts; complex ones written (re,im) as two."""
    plain = (part.translate(str.maketrans("(),", "   ")) if "(" in part else part for part in parts)
    try:
        return read_numbers(plain)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"expected only numbers in {what}; found something else") from error


def first_number(path: Path, pattern: str, text: str) -> int:
    match = re.search(pattern, text, re.M)
    if match is None:
        raise Refused(Kind.DAMAGED, path, f'has no line "{pattern.split("#")[-1].strip()}" in its header')
    return int(match[1])


def read_new(path: Path, number: int, text: str, start: int, stop: int) -> Step:
    """A step with the structure in its header."""
    coordinates = DIRECT.search(text, start, stop)
    if coordinates is None:
        raise Refused(Kind.DAMAGED, path, 'has no line "Direct" in its header')
    head = text[start : coordinates.start()]
    norb = first_number(path, r"^\s*(\d+)\s+# number of localized basis", head)
    blocks = first_number(path, r"^\s*(\d+)\s+# number of Bravais lattice vector R", head)
    lattice_cv, fractional_ac, body = read_structure(path, text, coordinates, head, stop)
    matrix = read_blocks(path, parts_between_comments(text, body, stop), norb, blocks, empty_has_pointers=True)
    return Step(number, norb, matrix, lattice_cv, fractional_ac, rounding=rounding_after(text, body, stop))


def rounding_after(text: str, start: int, stop: int) -> float:
    """Half a unit of the last digit of the first element, whose mantissa has one digit before the point."""
    element = MANTISSA.search(text, start, stop)
    return rounding_of(element[1]) if element else 0.0


def read_structure(path: Path, text: str, coordinates: re.Match[str], head: str, stop: int) -> tuple[Array, Array, int]:
    """The cell (Angstrom) and the fractional coordinates in a header, and where it ends; `head` is its part before the coordinates."""
    lines = [line.split() for line in head.splitlines() if line.strip() and "#" not in line]
    try:
        lattice_cv = float(lines[1][0]) * np.array(lines[2:5], dtype=float).reshape(3, 3)
        natoms = sum(int(count) for count in lines[6])
        positions, body = take_lines(text, coordinates.end(), stop, natoms)
        fractional_ac = np.array([line.split()[:3] for line in positions], dtype=float).reshape(natoms, 3)
    except (ValueError, IndexError) as error:
        raise Refused(Kind.DAMAGED, path, f"has a header that cannot be read: {error}") from error
    return lattice_cv, fractional_ac, body


def take_lines(text: str, start: int, stop: int, count: int) -> tuple[list[str], int]:
    """The lines after the one that `start` lies in, and where the next one begins."""
    lines: list[str] = []
    at = text.find("\n", start, stop) + 1
    while len(lines) < count:
        end = text.find("\n", at, stop)
        if at == 0 or end < 0:
            raise ValueError(f"expected {count} lines, found {len(lines)}")
        lines.append(text[at:end])
        at = end + 1
    return lines, at


def parts_between_comments(text: str, start: int, stop: int) -> Iterator[str]:
    """The text between comment lines, part by part: parts need little memory beside the whole."""
    at = text.find("#", start, stop)
    while at >= 0:
        first, last = line_about(text, at, stop)
        if not text[max(first, start) : at].strip():
            yield text[start:first]
            start = last
        at = text.find("#", last, stop)
    yield text[start:stop]


def read_old(path: Path, number: int, text: str, start: int, stop: int) -> Step:
    """A step with two header lines."""
    head = OLD_HEAD.match(text, start, stop)
    if head is None:
        raise Refused(Kind.DAMAGED, path, 'does not begin a step with "Matrix Dimension of" and "Matrix number of"')
    norb, blocks = int(head[1]), int(head[2])
    parts = parts_between_comments(text, head.end(), stop)
    matrix = read_blocks(path, parts, norb, blocks, empty_has_pointers=False)
    return Step(number, norb, matrix, rounding=rounding_after(text, head.end(), stop))


def read_blocks(path: Path, parts: Iterator[str], norb: int, blocks: int, *, empty_has_pointers: bool) -> Elements:
    """The matrix of a step, from the text of its blocks."""
    if not 0 < norb <= LARGEST_BASIS:
        raise Refused(Kind.DAMAGED, path, f"has {norb} orbitals", f"1 to {LARGEST_BASIS}")
    brackets: list[bool] = []
    stream = Numbers(path, numbers_of(path, noting_brackets(parts, brackets), "the blocks"))
    width = 2 if any(brackets) else 1
    R_tc, rows, columns, images, values = [], [], [], [], []
    for t, block in enumerate(split_blocks(stream, norb, blocks, width, empty_has_pointers)):
        R_c, value_e, column_e, pointer_M = block
        R_tc.append(R_c)
        rows.append(np.repeat(np.arange(norb, dtype=np.int32), np.diff(pointer_M)))
        columns.append(column_e.astype(np.int32))
        images.append(np.full(len(column_e), t, dtype=np.int32))
        values.append(value_e)
    if not R_tc:
        raise Refused(Kind.DAMAGED, path, "holds no block")
    if len(np.unique(R_tc, axis=0)) != len(R_tc):
        raise Refused(Kind.DAMAGED, path, "holds two blocks of the same lattice vector")
    value_e = np.concatenate(values)
    value_e = value_e.view(complex) if width == 2 else value_e
    row_e, column_e, t_e = (np.concatenate(parts) for parts in (rows, columns, images))
    return Elements(row_e, column_e, t_e, np.array(R_tc), value_e[None])


def noting_brackets(parts: Iterable[str], found: list[bool]) -> Iterator[str]:
    """The same texts, and whether each has complex numbers (re,im)."""
    for part in parts:
        found.append("(" in part)
        yield part


class Numbers:
    """The numbers of a step and a place in them; every count is compared with what is left."""

    def __init__(self, path: Path, numbers: Array) -> None:
        self.path, self.numbers, self.at, self.block = path, numbers, 0, 0
        with np.errstate(invalid="ignore"):
            self.whole = numbers.astype(np.int64)
        self.is_whole = self.whole == numbers

    def take(self, count: int, what: str) -> Array:
        left = len(self.numbers) - self.at
        if count > left:
            raise Refused(
                Kind.DAMAGED,
                self.path,
                f"ends in block {self.block + 1}: expected {count} {what}, {left} numbers are left",
            )
        self.at += count
        return self.numbers[self.at - count : self.at]

    def integers(self, count: int, what: str) -> Array:
        self.take(count, what)
        own = slice(self.at - count, self.at)
        if not self.is_whole[own].all():
            raise Refused(Kind.DAMAGED, self.path, f"has {what} in block {self.block + 1} that are no whole numbers")
        return self.whole[own]


def split_blocks(
    stream: Numbers, norb: int, blocks: int, width: int, empty_has_pointers: bool
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """(R, values, columns, row pointers) of each block."""
    path = stream.path
    while stream.block < blocks:
        *R_c, count = stream.integers(4, "numbers of a block's first line").tolist()
        if not 0 <= count <= norb**2 or max(map(abs, R_c)) > 10_000:
            raise Refused(
                Kind.DAMAGED,
                path,
                f"has {count} elements in block {stream.block + 1} at R = {R_c}",
                f"at most {norb**2}",
            )
        value_e = stream.take(width * count, "values")
        column_e = stream.integers(count, "column indices")
        pointer_M = np.zeros(norb + 1, dtype=np.int64)
        if count or empty_has_pointers:
            pointer_M = stream.integers(norb + 1, "row pointers")
        if pointer_M[0] != 0 or pointer_M[-1] != count or (np.diff(pointer_M) < 0).any():
            raise Refused(
                Kind.DAMAGED, path, f"has row pointers in block {stream.block + 1} that do not rise from 0 to {count}"
            )
        if count and (column_e.min() < 0 or column_e.max() >= norb):
            raise Refused(Kind.DAMAGED, path, f"has column indices in block {stream.block + 1} outside 0 to {norb - 1}")
        yield np.array(R_c), value_e, column_e, pointer_M
        stream.block += 1
    if stream.at != len(stream.numbers):
        raise Refused(
            Kind.DAMAGED, path, f"goes on after its {blocks} blocks with {len(stream.numbers) - stream.at} numbers"
        )


def write_new(
    path: Path, kind: str, matrix: Elements, norb: int, header: str, spins: int, spin: int, digits: int
) -> None:
    """A matrix in the grammar of 3.11; `header` is the structure as it stands in the file."""
    cells = len(matrix.R_tc)
    lines = [
        " --- Ionic Step 1 ---",
        f" # print {kind}",
        f" {spins} # number of spin directions",
        f" {spin} # spin index",
        f" {norb} # number of localized basis",
        f" {cells} # number of Bravais lattice vector R",
        "",
        header,
        "",
        " # CSR blocks: the lattice vector and the number of elements, then values, column indices and row pointers.",
        "",
    ]
    words_c = numbers_below(norb)
    rows = rows_of_cells(matrix, norb)
    words_e = words_of(rows.data, digits)  # of all at once, for most blocks are small
    for R_c, here, pointers in blocks_of(rows, matrix.R_tc):
        lines.append(" " + " ".join(map(str, [*R_c, here.stop - here.start])))
        lines += [" # CSR values", *lines_of(words_e[here], 6)]
        lines += [" # CSR column indices", *lines_of(words_c[rows.indices[here]], 16)]
        lines += [" # CSR row pointers", *lines_of(list(map(str, pointers)), 16), ""]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def write_old(path: Path, letter: str, matrix: Elements, norb: int, digits: int) -> None:
    """A matrix in the grammar of 3.8 and 3.10; `letter` is H, S or DM."""
    lines = ["STEP: 0", f"Matrix Dimension of {letter}(R): {norb}", f"Matrix number of {letter}(R): {len(matrix.R_tc)}"]
    rows = rows_of_cells(matrix, norb)
    for R_c, here, pointers in blocks_of(rows, matrix.R_tc):
        lines.append(" ".join(map(str, [*R_c, here.stop - here.start])))
        if here.stop > here.start:
            lines += [
                " " + " ".join(part)
                for part in (
                    format_values(rows.data[here], digits),
                    map(str, rows.indices[here].tolist()),
                    map(str, pointers),
                )
            ]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def rows_of_cells(matrix: Elements, norb: int) -> sparse.csr_array:
    """The rows of all lattice vectors one below the other; exact zeros are left out as ABACUS leaves them out."""
    row_e = matrix.t_e * norb + matrix.row_e
    shape = (len(matrix.R_tc) * norb, norb)
    rows = sparse.csr_array((matrix.values_se[0], (row_e, matrix.column_e)), shape=shape)
    rows.eliminate_zeros()
    return rows


def blocks_of(rows: sparse.csr_array, R_tc: Array) -> Iterator[tuple[list[int], slice, list[int]]]:
    """Each lattice vector in its order in a file, where its elements are, and its row pointers."""
    norb = rows.shape[1]
    for t in np.lexsort(R_tc.T[::-1]).tolist():
        pointer_M = rows.indptr[t * norb : (t + 1) * norb + 1]
        yield R_tc[t].tolist(), slice(pointer_M[0], pointer_M[-1]), (pointer_M - pointer_M[0]).tolist()
