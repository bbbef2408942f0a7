"""Pairs of atoms and the blocks between them: one Hermitian half of each real-space matrix, stored flat.

A pair is (i, j, R): atom i in cell 0 and atom j in cell R. Of (i, j, R) and (j, i, -R) only one is kept: the one with
i < j, and for i = j the one whose R is not negative (first nonzero component > 0). Onsite blocks are kept whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from basis import Array
from basis.spin import TRANSPOSED, Spin


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pair list of a structure: sorted, without partners, with the places of the blocks in the flat arrays."""

    i_p: Array
    j_p: Array
    R_pc: Array
    norb_a: Array

    def __len__(self) -> int:
        return int(self.i_p.shape[0])

    def take(self, chosen_p: Array) -> "Pairs":
        """Some of the pairs, in their order."""
        return Pairs(self.i_p[chosen_p], self.j_p[chosen_p], self.R_pc[chosen_p], self.norb_a)

    @cached_property
    def reach(self) -> int:
        """Largest component of any R."""
        return int(np.abs(self.R_pc).max(initial=0))

    @cached_property
    def key_p(self) -> Array:
        return pack_pairs(self.i_p, self.j_p, self.R_pc, len(self.norb_a), self.reach)

    def find(self, i_q: Array, j_q: Array, R_qc: Array) -> Array:
        """Index of each given pair, -1 where the list does not hold it."""
        inside = np.asarray(np.abs(R_qc).max(axis=1, initial=0) <= self.reach)
        key_q = pack_pairs(i_q, j_q, np.where(inside[:, None], R_qc, 0), len(self.norb_a), self.reach)
        place_q = np.minimum(np.searchsorted(self.key_p, key_q), len(self) - 1)
        return np.where(inside & (self.key_p[place_q] == key_q), place_q, -1)

    def vectors(self, positions_av: Array, cell_cv: Array) -> Array:
        """Vector from atom i to atom j in cell R of each pair."""
        return np.asarray(positions_av[self.j_p] - positions_av[self.i_p] + self.R_pc @ cell_cv)

    @cached_property
    def size_p(self) -> Array:
        """Elements of each block."""
        return self.norb_a[self.i_p] * self.norb_a[self.j_p]

    @cached_property
    def start_p(self) -> Array:
        """Where each block starts in a flat array; one more entry for the end."""
        return np.concatenate([[0], np.cumsum(self.size_p)])

    @property
    def elements(self) -> int:
        return int(self.start_p[-1])

    @cached_property
    def onsite_p(self) -> Array:
        """True for the blocks that are their own partner."""
        return np.equal(self.i_p, self.j_p) & np.equal(self.R_pc, 0).all(axis=1)

    @cached_property
    def copies_p(self) -> Array:
        """How often a block stands in the whole matrix: 1 onsite, else 2, once for its partner (j, i, -R)."""
        return np.where(self.onsite_p, 1.0, 2.0)

    @cached_property
    def orbital_start_a(self) -> Array:
        """First orbital of each atom; one more entry for the end."""
        return np.concatenate([[0], np.cumsum(self.norb_a)])

    @cached_property
    def pair_x(self) -> Array:
        """Pair of each element."""
        return np.repeat(np.arange(len(self)), self.size_p)

    @cached_property
    def inside_x(self) -> tuple[Array, Array]:
        """Row and column of each element in its block."""
        row_x, column_x = np.divmod(
            np.arange(self.elements) - self.start_p[self.pair_x], self.norb_a[self.j_p][self.pair_x]
        )
        return row_x, column_x

    @cached_property
    def row_column_x(self) -> tuple[Array, Array]:
        """Row and column of each element in the matrix of the cell."""
        row_x, column_x = self.inside_x
        return (
            row_x + self.orbital_start_a[self.i_p][self.pair_x],
            column_x + self.orbital_start_a[self.j_p][self.pair_x],
        )

    @cached_property
    def same_atoms(self) -> list[slice]:
        """The pairs of the same two atoms, which follow one another."""
        atoms_p = self.i_p * len(self.norb_a) + self.j_p
        starts = np.flatnonzero(np.diff(atoms_p, prepend=-1)).tolist()
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(self)], strict=True)]

    def places(self, pairs: slice) -> tuple[slice, slice, slice]:
        """Where the blocks of pairs of the same two atoms are in a flat array, and their rows and columns in the matrix of the cell."""
        i, j, orbital_start_a = self.i_p[pairs.start], self.j_p[pairs.start], self.orbital_start_a
        return (
            slice(self.start_p[pairs.start], self.start_p[pairs.stop]),
            slice(orbital_start_a[i], orbital_start_a[i + 1]),
            slice(orbital_start_a[j], orbital_start_a[j + 1]),
        )

    @cached_property
    def onsite_transposed(self) -> tuple[Array, Array]:
        """Elements of the onsite blocks, and the place of the transposed element of each."""
        onsite_x = np.flatnonzero(self.onsite_p[self.pair_x])
        p_x = self.pair_x[onsite_x]
        row_x, column_x = np.divmod(onsite_x - self.start_p[p_x], self.norb_a[self.j_p][p_x])
        return onsite_x, self.start_p[p_x] + column_x * self.norb_a[self.i_p][p_x] + row_x

    def block(self, values_sx: Array, p: int) -> Array:
        """Block of pair p, shape (spin components, orbitals of i, orbitals of j)."""
        shape = (-1, self.norb_a[self.i_p[p]], self.norb_a[self.j_p[p]])
        return values_sx[:, self.start_p[p] : self.start_p[p + 1]].reshape(shape)


def pack_pairs(i_p: Array, j_p: Array, R_pc: Array, natoms: int, reach: int) -> Array:
    """One integer per pair, ordered as (i, j, R); `reach` bounds the components of R."""
    width = 2 * reach + 1
    if natoms**2 * width**3 >= 1 << 63:
        raise ValueError(f"pairs of {natoms} atoms over {reach} cells are too many to number")
    shifted = np.asarray(R_pc, dtype=np.int64) + reach
    R_key = (shifted[:, 0] * width + shifted[:, 1]) * width + shifted[:, 2]
    return (np.asarray(i_p, dtype=np.int64) * natoms + j_p) * width**3 + R_key


def make_pairs(i_p: Array, j_p: Array, R_pc: Array, norb_a: Array) -> Pairs:
    """Pair list of the given pairs, which may come in any order, repeated and with their partners."""
    i_p, j_p, R_pc, _ = canonical(np.asarray(i_p), np.asarray(j_p), np.asarray(R_pc).reshape(-1, 3))
    reach = int(np.abs(R_pc).max(initial=0))
    _, first = np.unique(pack_pairs(i_p, j_p, R_pc, len(norb_a), reach), return_index=True)
    i_p, j_p, R_pc = (np.ascontiguousarray(a[first], dtype=np.int64) for a in (i_p, j_p, R_pc))
    return Pairs(i_p, j_p, R_pc, np.asarray(norb_a, dtype=np.int64))


def is_canonical(i_p: Array, j_p: Array, R_pc: Array) -> Array:
    """True for pairs of the half that is kept."""
    x, y, z = R_pc.T
    positive = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z >= 0))))
    return (i_p < j_p) | ((i_p == j_p) & positive)


def canonical(i_p: Array, j_p: Array, R_pc: Array) -> tuple[Array, Array, Array, Array]:
    """The pairs with partners exchanged where needed, and where that was."""
    swapped = ~is_canonical(i_p, j_p, R_pc)
    i, j = np.where(swapped, j_p, i_p), np.where(swapped, i_p, j_p)
    return i, j, np.where(swapped[:, None], -R_pc, R_pc), swapped


@dataclass(frozen=True, eq=False)
class Elements:
    """A real-space matrix as a code stores it: single elements, both Hermitian halves, in any order.

    Element e is <row_e in cell 0 | O | column_e in cell R_tc[t_e]> of each spin component.
    """

    row_e: Array
    column_e: Array
    t_e: Array
    R_tc: Array
    values_se: Array


def reorder_elements(matrix: Elements, order: Array, signs: Array) -> Elements:
    """The same matrix in another orbital order: new orbital t is signs[t] times the old orbital order[t]."""
    place, sign = np.empty_like(order), np.empty_like(signs)
    place[order], sign[order] = np.arange(len(order)), signs
    values_se = matrix.values_se * (sign[matrix.row_e] * sign[matrix.column_e])
    return replace(matrix, row_e=place[matrix.row_e], column_e=place[matrix.column_e], values_se=values_se)


@dataclass(frozen=True, eq=False)
class Operator:
    """One matrix on a pair list: elements of each spin component, and which of them the code stored.

    `known_x` None means that every element is known. An element that is not known is held as zero.
    """

    values_sx: Array
    known_x: Array | None = None


@dataclass(frozen=True, eq=False)
class Packed:
    """What packing gives: the matrix on its own pairs, and how far its two stored halves differed."""

    pairs: Pairs
    operator: Operator
    asymmetry: float
    unpaired: int


def element_pairs(matrix: Elements, norb_a: Array) -> tuple[Array, Array, Array, Array]:
    """Distinct pairs (i, j, R) of a matrix, and the pair of each of its elements."""
    atom_M = np.repeat(np.arange(len(norb_a)), norb_a)
    cells = len(matrix.R_tc)
    key_e = atom_M[matrix.row_e] * len(norb_a)
    key_e += atom_M[matrix.column_e]
    key_e *= cells
    key_e += matrix.t_e
    keys = len(norb_a) ** 2 * cells
    if keys <= 100_000 + len(key_e):  # a table of all possible keys is faster than sorting, where it fits
        seen_key = np.zeros(keys, dtype=bool)
        seen_key[key_e] = True
        key_q = np.flatnonzero(seen_key)
        q_e: Array = (np.cumsum(seen_key, dtype=np.int32) - 1)[key_e]
    else:
        key_q, q_e = np.unique(key_e, return_inverse=True)
    atoms_q, t_q = np.divmod(key_q, cells)
    return atoms_q // len(norb_a), atoms_q % len(norb_a), matrix.R_tc[t_q], q_e


def pack_elements(
    matrix: Elements, norb_a: Array, spin: Spin, *, whole_blocks: bool = True, upper_triangle: bool = False
) -> Packed:
    """The kept half of a matrix, on the list of its own pairs.

    The two halves of the input are averaged; with `upper_triangle` the elements with row <= column are taken, as a code
    does that hands one triangle to its solver. With `whole_blocks` an element that the code left out of a block is a
    known zero, otherwise it is unknown.
    """
    i_q, j_q, R_qc, q_e = element_pairs(matrix, norb_a)
    i_q, j_q, R_qc, swapped_q = canonical(i_q, j_q, R_qc)
    pairs = make_pairs(i_q, j_q, R_qc, norb_a)
    p_q = pairs.find(i_q, j_q, R_qc)
    start, width_q = pairs.orbital_start_a, pairs.norb_a[j_q]
    swapped_e = swapped_q[q_e]
    # Where each element goes: (row, column) of its block, or (column, row) of the partner that is kept.
    x_e = np.where(swapped_e, matrix.column_e, matrix.row_e)
    x_e -= start[i_q][q_e]
    x_e *= width_q[q_e]
    x_e += np.where(swapped_e, matrix.row_e, matrix.column_e)
    x_e += (pairs.start_p[p_q] - start[j_q])[q_e]

    direct_sx, partner_sx = (np.zeros((spin.components, pairs.elements), dtype=spin.dtype) for _ in range(2))
    direct_sx[:, x_e[~swapped_e]] = matrix.values_se[:, ~swapped_e]
    partner_sx[:, x_e[swapped_e]] = matrix.values_se[TRANSPOSED[spin]][:, swapped_e].conj()
    direct_x, partner_x = (np.zeros(pairs.elements, dtype=bool) for _ in range(2))
    direct_x[x_e[~swapped_e]] = partner_x[x_e[swapped_e]] = True
    onsite_x, mirrored_x = pairs.onsite_transposed
    partner_sx[:, onsite_x] = direct_sx[TRANSPOSED[spin]][:, mirrored_x].conj()
    partner_x[onsite_x] = direct_x[mirrored_x]

    asymmetry = float(np.abs(direct_sx - partner_sx).max(initial=0))
    if upper_triangle:
        row_x, column_x = pairs.row_column_x
        values_sx = np.where(row_x <= column_x, direct_sx, partner_sx)
    else:
        values_sx = (direct_sx + partner_sx) / 2
    known_x = direct_x | partner_x
    unpaired = int(np.count_nonzero(direct_x != partner_x))
    return Packed(pairs, Operator(values_sx, None if whole_blocks or known_x.all() else known_x), asymmetry, unpaired)


def join_packed(packed: Mapping[str, Packed]) -> tuple[Pairs, dict[str, Operator]]:
    """Matrices on the union of their pair lists; a pair that a matrix did not have is unknown to it."""
    lists = [item.pairs for item in packed.values()]
    i_p, j_p = (np.concatenate([getattr(pairs, key) for pairs in lists]) for key in ("i_p", "j_p"))
    union = make_pairs(i_p, j_p, np.concatenate([pairs.R_pc for pairs in lists]), lists[0].norb_a)
    return union, {name: spread_operator(item.operator, item.pairs, union) for name, item in packed.items()}


def spread_operator(operator: Operator, pairs: Pairs, other: Pairs) -> Operator:
    """The same matrix on another list of pairs of the same atoms; a pair that it did not have is unknown."""
    if pairs is other:
        return operator
    place_p = pairs.find(other.i_p, other.j_p, other.R_pc)
    pair_x = other.pair_x
    there_x = (place_p >= 0)[pair_x]
    source_x = (pairs.start_p[place_p] - other.start_p[:-1])[pair_x][there_x] + np.flatnonzero(there_x)
    values_sx = np.zeros((len(operator.values_sx), other.elements), dtype=operator.values_sx.dtype)
    values_sx[:, there_x] = operator.values_sx[:, source_x]
    if operator.known_x is not None:
        there_x[there_x] = operator.known_x[source_x]
    return Operator(values_sx, None if there_x.all() else there_x)


def distinct(keys: Array) -> Array:
    """The different numbers among many, ascending, by sorting: NumPy's own way, a table of them, is many times slower for millions."""
    ordered = np.sort(keys)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def both_halves(pairs: Pairs, operator: Operator, spin: Spin) -> Elements:
    """Both Hermitian halves of a matrix as single elements, only those that are known: those of the pairs, then those of their partners."""
    known_x = np.ones(pairs.elements, dtype=bool) if operator.known_x is None else operator.known_x
    partner_x = known_x & ~pairs.onsite_p[pairs.pair_x]
    R_tc, t_q = np.unique(np.concatenate([pairs.R_pc, -pairs.R_pc]), axis=0, return_inverse=True)
    t_p, partner_t_p = np.split(t_q.ravel(), 2)
    row_x, column_x = pairs.row_column_x

    def joined(own_x: Array, partners_x: Array) -> Array:
        return np.concatenate([own_x[known_x], partners_x[partner_x]])

    values_se = [joined(operator.values_sx[s], operator.values_sx[t].conj()) for s, t in enumerate(TRANSPOSED[spin])]
    t_e = joined(t_p[pairs.pair_x], partner_t_p[pairs.pair_x])
    return Elements(joined(row_x, column_x), joined(column_x, row_x), t_e, R_tc, np.array(values_se))


def unpack_elements(pairs: Pairs, operator: Operator, spin: Spin) -> Elements:
    """The same sorted by R, row and column, in little memory."""
    known_x = np.ones(pairs.elements, dtype=bool) if operator.known_x is None else operator.known_x
    partner_x = known_x & np.repeat(~pairs.onsite_p, pairs.size_p)
    R_tc, t_q = np.unique(np.concatenate([pairs.R_pc, -pairs.R_pc]), axis=0, return_inverse=True)
    t_p, partner_t_p = np.split(t_q.ravel(), 2)
    # One number for R, row and column of each element: large matrices have many, and three take three times the room.
    key_e = element_keys(pairs, t_p, partner_t_p, known_x, partner_x)
    order = np.argsort(key_e, kind="stable")
    t_e, place_e = np.divmod(key_e[order], int(pairs.norb_a.sum()) ** 2)
    del key_e
    row_e, column_e = np.divmod(place_e, int(pairs.norb_a.sum()))
    known = int(np.count_nonzero(known_x))
    values_se = np.empty((len(operator.values_sx), len(order)), dtype=operator.values_sx.dtype)
    place_e[order] = np.arange(len(order))
    for s, partner in enumerate(TRANSPOSED[spin]):
        values_se[s, place_e[:known]] = operator.values_sx[s, known_x]
        values_se[s, place_e[known:]] = operator.values_sx[partner, partner_x].conj()
    return Elements(row_e, column_e, t_e, R_tc, values_se)


def element_keys(pairs: Pairs, t_p: Array, partner_t_p: Array, known_x: Array, partner_x: Array) -> Array:
    """(R * orbitals + row) * orbitals + column of some elements, then of the partners of others."""
    norb = int(pairs.norb_a.sum())
    width_x = np.repeat(pairs.norb_a[pairs.j_p], pairs.size_p)
    row_x, column_x = np.divmod(np.arange(pairs.elements) - np.repeat(pairs.start_p[:-1], pairs.size_p), width_x)
    del width_x
    row_x += np.repeat(pairs.orbital_start_a[pairs.i_p], pairs.size_p)
    column_x += np.repeat(pairs.orbital_start_a[pairs.j_p], pairs.size_p)
    own_x = (np.repeat(t_p, pairs.size_p) * norb + row_x) * norb + column_x
    own_e = own_x[known_x]
    del own_x
    other_x = (np.repeat(partner_t_p, pairs.size_p) * norb + column_x) * norb + row_x
    return np.concatenate([own_e, other_x[partner_x]])
