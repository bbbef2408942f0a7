"""Sparse matrices of large structures: H(k), S(k) and Tr(DM S), from stretches of the pair list that are read one by one.

What a structure needs in memory is its sparse matrices, never its blocks: two passes over the file, one for the pattern, one for
the numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from basis import Array
from basis.spin import TRANSPOSED, Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs
from converters.frames.frame import Frame
from converters.storage.dataset import Dataset

# Matrix elements that are read at once.
STRETCH = 4_000_000

Stretches = Callable[[Sequence[str]], Iterator[tuple[Pairs, Mapping[str, Array]]]]


@dataclass(frozen=True, eq=False)
class Source:
    """A frame that need not be in memory: its outline, and its pairs with some operators in stretches."""

    outline: Frame
    stretches: Stretches

    @classmethod
    def of_dataset(cls, data: Dataset, n: int, at_once: int = STRETCH) -> "Source":
        return cls(data.outline(n), lambda names: data.stretches(n, names, at_once))

    @classmethod
    def of_frame(cls, frame: Frame) -> "Source":
        operators = frame.operators
        return cls(frame, lambda names: iter([(frame.pairs, {name: operators[name].values_sx for name in names})]))

    def require(self, *names: str) -> None:
        missing = [name for name in names if name not in self.outline.operators]
        if missing:
            raise Refused(Kind.MISSING_MATRIX, self.outline.formula, f"holds no {' and no '.join(missing)}")


def count_electrons(source: Source) -> Array:
    """Tr(DM S) of each spin channel, of a frame whose blocks are not folded."""
    source.require("DM", "S")
    if source.outline.folded:
        raise Refused(
            Kind.UNSUPPORTED, source.outline.formula, "is folded over a k mesh; slem-check counts its electrons there"
        )
    total = np.zeros(source.outline.spin.components)
    for pairs, values in source.stretches(("DM", "S")):
        weight_x = np.repeat(pairs.copies_p, pairs.size_p)
        total += (values["DM"] * values["S"][0] * weight_x).real.sum(axis=1)
    return total[[0, 3]] if source.outline.spin is Spin.SPINOR else total


def matrices_at(source: Source, names: Sequence[str], kpoint_c: Array) -> dict[str, list[sparse.csr_array]]:
    """O(k) of some operators on one pattern, two of a collinear one and else one; real where all phases and numbers are.

    Of a spinor frame all are doubled, with the up orbitals first.
    """
    source.require(*names)
    outline = source.outline
    real = outline.spin is not Spin.SPINOR and not np.any(np.mod(2 * np.asarray(kpoint_c), 1))
    if outline.folded and outline.spectrum is not None and not on_mesh(outline.spectrum.kpoints_kc, kpoint_c):
        raise Refused(
            Kind.UNSUPPORTED, outline.formula, f"is folded over a k mesh that does not hold the k-point {kpoint_c}"
        )
    norb_a, natoms = outline.pairs.norb_a, outline.natoms
    both = (
        np.concatenate([pairs.i_p * natoms + pairs.j_p, pairs.j_p * natoms + pairs.i_p])
        for pairs, _ in source.stretches(())
    )
    pattern = Pattern.of(norb_a, both)
    data = {
        name: np.zeros((outline.layout(name).components, pattern.size), dtype=float if real else complex)
        for name in names
    }
    for pairs, values in source.stretches(names):
        for group in groups_of_cells(pairs):
            phase = np.exp(2j * np.pi * float(pairs.R_pc[group[0]] @ np.asarray(kpoint_c, dtype=float)))
            add_blocks(pattern, pairs, group, values, phase, data, {name: outline.layout(name) for name in names})
    norb = outline.norb
    found = {
        name: [sparse.csr_array((one, pattern.column_e, pattern.start_M), shape=(norb, norb)) for one in parts]
        for name, parts in data.items()
    }
    return {name: doubled(parts) for name, parts in found.items()} if outline.spin is Spin.SPINOR else found


def on_mesh(kpoints_kc: Array, kpoint_c: Array) -> bool:
    apart_kc = np.mod(kpoints_kc - kpoint_c + 0.5, 1) - 0.5
    return bool((np.abs(apart_kc).max(axis=1) < 1e-6).any())


def doubled(parts: list[sparse.csr_array]) -> list[sparse.csr_array]:
    if len(parts) == 1:
        return [sparse.block_diag([parts[0], parts[0]], format="csr")]
    return [sparse.block_array([parts[:2], parts[2:]], format="csr")]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which blocks of a matrix are there, and where their elements stand in the arrays of a CSR matrix.

    Rows are the orbitals of the cell, columns those of the cell and of its images after it. Block q is number `key_q` = i * (atoms * images) + j,
    ascending, for atom j of image n the number n * atoms + j; its first column is `offset_q` elements after the beginning of its rows.
    A code that orders the orbitals of an atom in its own way has its own `place_M` for each orbital.
    """

    norb_a: Array
    images: int
    place_M: Array
    key_q: Array
    offset_q: Array
    start_M: Array
    column_e: Array

    @property
    def size(self) -> int:
        return len(self.column_e)

    @classmethod
    def of(cls, norb_a: Array, keys: Iterator[Array], images: int = 1, place_M: Array | None = None) -> "Pattern":
        natoms, norb_j = len(norb_a), np.tile(norb_a, images)
        key_q = np.zeros(0, dtype=np.int64)
        for key_p in keys:
            key_q = np.union1d(key_q, key_p)
        i_q, j_q = np.divmod(key_q, natoms * images)
        width_q = norb_j[j_q]
        before_q = np.cumsum(width_q) - width_q
        offset_q = before_q - before_q[np.searchsorted(i_q, i_q)]
        width_a = np.bincount(i_q, width_q, minlength=natoms).astype(np.int64)
        start_M = np.concatenate([[0], np.cumsum(np.repeat(width_a, norb_a))])
        first_j = np.cumsum(norb_j) - norb_j
        # The columns of one row of each atom, then as many times as it has rows.
        column_c = np.repeat(first_j[j_q] - before_q, width_q) + np.arange(int(width_q.sum()))
        ends = np.cumsum(width_a)
        kind = np.int32 if max(start_M[-1], norb_j.sum()) < 1 << 31 else np.int64
        parts = [
            np.tile(column_c[end - width : end].astype(kind), n)
            for end, width, n in zip(ends.tolist(), width_a.tolist(), norb_a.tolist(), strict=True)
        ]
        own_M = np.arange(int(norb_a.sum())) if place_M is None else place_M
        return cls(norb_a, images, own_M, key_q, offset_q, start_M.astype(kind), np.concatenate(parts))

    def places(self, i_p: Array, j_p: Array) -> tuple[Array, Array, Array]:
        """Of each element of the blocks (i, j), row by row: its place, its row and its column inside the block."""
        q_p = np.searchsorted(self.key_q, i_p * len(self.norb_a) * self.images + j_p)
        own_p = j_p % len(self.norb_a)
        width_p, size_p = self.norb_a[own_p], self.norb_a[i_p] * self.norb_a[own_p]
        inside_x = np.arange(int(size_p.sum())) - np.repeat(np.cumsum(size_p) - size_p, size_p)
        row_x, column_x = np.divmod(inside_x, np.repeat(width_p, size_p))
        first_a = np.cumsum(self.norb_a) - self.norb_a
        start_x = self.start_M[self.place_M[np.repeat(first_a[i_p], size_p) + row_x]]
        first_x = np.repeat(first_a[own_p], size_p)
        return (
            start_x + np.repeat(self.offset_q[q_p], size_p) + self.place_M[first_x + column_x] - first_x,
            row_x,
            column_x,
        )


def groups_of_cells(pairs: Pairs) -> Iterator[Array]:
    """Pairs of one R after the other, so that no block stands twice in a group."""
    _, t_p = np.unique(pairs.R_pc, axis=0, return_inverse=True)
    order = np.argsort(t_p.ravel(), kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(t_p.ravel()))[:-1])


def add_blocks(
    pattern: Pattern,
    pairs: Pairs,
    group: Array,
    values: Mapping[str, Array],
    phase: complex,
    data: Mapping[str, Array],
    layouts: Mapping[str, Spin],
    images: tuple[int, int] = (0, 0),
    sign_M: Array | None = None,
) -> None:
    """Add the blocks of some pairs of one R, times their phase, and their Hermitian partners; `images` are those of R and -R.

    With `sign_M` each element is multiplied by the signs of its two orbitals.
    """
    mine, natoms = pairs.take(group), len(pairs.norb_a)
    x = np.repeat(pairs.start_p[group] - mine.start_p[:-1], mine.size_p) + np.arange(mine.elements)
    place_x, row_x, column_x = pattern.places(mine.i_p, images[0] * natoms + mine.j_p)
    partner_x = np.repeat(~mine.onsite_p, mine.size_p)
    # The partner's element (column, row) of each element.
    other_x = transposed_places(pattern, mine, images[1])[partner_x]
    weight_x: Array | complex = phase
    if sign_M is not None:
        first_a = np.cumsum(pairs.norb_a) - pairs.norb_a
        rows_x, columns_x = (np.repeat(first_a[a_p], mine.size_p) for a_p in (mine.i_p, mine.j_p))
        weight_x = phase * sign_M[rows_x + row_x] * sign_M[columns_x + column_x]
    for name, values_sx in values.items():
        target = data[name]
        real = not np.iscomplexobj(target)
        block_sx = values_sx[:, x] * (np.real(weight_x) if real else weight_x)
        for s, partner in enumerate(TRANSPOSED[layouts[name]]):
            mirrored_x = block_sx[partner, partner_x]
            target[s, place_x] += block_sx[s]
            target[s, other_x] += mirrored_x if real else mirrored_x.conj()


def transposed_places(pattern: Pattern, pairs: Pairs, image: int) -> Array:
    """The place of element (column, row) of block (j, i), i in an image, for each element (row, column) of the blocks (i, j)."""
    place_y, row_y, column_y = pattern.places(pairs.j_p, image * len(pairs.norb_a) + pairs.i_p)
    # Element (r, c) of block (i, j) is number r * n_j + c; its partner (c, r) of block (j, i) is number c * n_i + r.
    found = np.empty_like(place_y)
    first_y = np.repeat(pairs.start_p[:-1], pairs.size_p)
    found[first_y + column_y * np.repeat(pairs.norb_a[pairs.j_p], pairs.size_p) + row_y] = place_y
    return found
