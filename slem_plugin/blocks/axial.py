"""Axial components: a block between two atoms in the frame of their bond, sorted by its symmetry about the bond.

About a bond only rotations around it and mirror planes through it are left: the group O(2). Its irreps are 0 even, 0 odd
(changes sign in a mirror) and, for each m > 0, a pair (c, s) that turns like (cos m phi, sin m phi). Each element of a
block belongs to such parts, m <= l + l', and every map between features of the same m that treats c and s alike is exact.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import sparse

from basis import Array
from basis.rotations import CYCLE, wigner
from basis.shells import Shell
from slem_plugin.blocks.fields import VECTOR, Field

# Frames of a bond and of its reverse differ by half a turn about x.
HALF_TURN = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Part:
    """One irrep of O(2) in a space of products: its m, its mirror sign if m = 0, its vectors (one, or c and s)."""

    m: int
    mirror: int
    vectors: tuple[Array, ...]


def shell_parts(l: int, axial: bool) -> list[Part]:
    """The irreps of one shell, or of an axial vector (which changes sign in mirrors)."""
    unit = np.eye(2 * l + 1)
    parts = [Part(0, -1 if axial else 1, (unit[l],))]
    for m in range(1, l + 1):
        c, s = unit[l + m], unit[l - m]
        parts.append(Part(m, 0, (s, -c) if axial else (c, s)))
    return parts


def multiply(a: Part, b: Part) -> list[Part]:
    """The irreps of a product."""
    if a.m == 0 and b.m == 0:
        return [Part(0, a.mirror * b.mirror, (np.kron(a.vectors[0], b.vectors[0]),))]
    if a.m == 0 or b.m == 0:
        lone, m = (a, b.m) if a.m == 0 else (b, a.m)
        c, s = (
            [np.kron(a.vectors[0], v) for v in b.vectors] if a.m == 0 else [np.kron(v, b.vectors[0]) for v in a.vectors]
        )
        return [Part(m, 0, (c, s) if lone.mirror > 0 else (s, np.negative(c)))]
    cc, cs = (np.kron(a.vectors[0], v) for v in b.vectors)
    sc, ss = (np.kron(a.vectors[1], v) for v in b.vectors)
    half = np.sqrt(0.5)
    high = Part(a.m + b.m, 0, (half * (cc - ss), half * (sc + cs)))
    even, odd = half * (cc + ss), half * (sc - cs)
    if a.m == b.m:
        return [high, Part(0, 1, (even,)), Part(0, -1, (odd,))]
    return [high, Part(abs(a.m - b.m), 0, (even, odd if a.m > b.m else -odd))]


@cache
def block_parts(l1: int, l2: int, width: int) -> tuple[Part, ...]:
    """The irreps of the block of two shells, of each spin scalar or vector; a vector is its slowest index."""
    parts = [part for a in shell_parts(l1, False) for b in shell_parts(l2, False) for part in multiply(a, b)]
    if width == VECTOR:
        parts = [part for spin in shell_parts(1, True) for block in parts for part in multiply(spin, block)]
    return tuple(parts)


@dataclass(frozen=True, eq=False)
class AxialBasis:
    """The axial components of a block between two species.

    Components come by irrep: 0 even, 0 odd, then for each m all c, then all s. `counts[m]` is the number of pairs of m,
    `counts[0]` of even ones, `odd` of odd ones. `to_components` takes the flat block (field rows, orbitals of i,
    orbitals of j) there and is orthogonal. `shells_n` names the (field, shell of i, shell of j) of each component, numbered through.
    """

    counts: tuple[int, ...]
    odd: int
    to_components: sparse.csr_array
    shells_n: Array

    @property
    def size(self) -> int:
        return int(self.to_components.shape[0])

    @cached_property
    def dense(self) -> Array:
        """`to_components` with its zeros: products with few rows cost less so."""
        return self.to_components.toarray()

    @cached_property
    def slices(self) -> list[slice]:
        """Where the components of 0 even, 0 odd, m = 1, 2, ... stand."""
        sizes = [self.counts[0], self.odd, *(2 * n for n in self.counts[1:])]
        ends = np.cumsum(sizes)
        return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


@cache
def axial_basis(shells_i: tuple[Shell, ...], shells_j: tuple[Shell, ...], fields: tuple[Field, ...]) -> AxialBasis:
    """The axial components of a block between atoms with these shells."""
    n_i, n_j = (sum(shell.size for shell in shells) for shells in (shells_i, shells_j))
    highest = max(a.l for a in shells_i) + max(b.l for b in shells_j) + any(f.width == VECTOR for f in fields)
    found: list[list[tuple[int, Array, tuple[Array, ...]]]] = [[] for _ in range(highest + 2)]
    group = row = 0
    for field in fields:
        i = 0
        for a in shells_i:
            j = 0
            for b in shells_j:
                place = np.arange(field.width)[:, None, None] + row
                place = (place * n_i + i + np.arange(a.size)[:, None]) * n_j + j + np.arange(b.size)
                for part in block_parts(a.l, b.l, field.width):
                    found[part.m + 1 if part.m else (part.mirror < 0)].append((group, place.ravel(), part.vectors))
                group, j = group + 1, j + b.size
            i += a.size
        row += field.width
    entries = [
        (g, place, part[component])
        for kind in found
        for component in (0, 1)
        for g, place, part in kind
        if component < len(part)
    ]
    rows = np.repeat(np.arange(len(entries)), [len(place) for _, place, _ in entries])
    matrix = sparse.csr_array(
        (np.concatenate([v for _, _, v in entries]), (rows, np.concatenate([place for _, place, _ in entries])))
    )
    matrix.eliminate_zeros()
    counts = [len(kind) for kind in found]
    return AxialBasis((counts[0], *counts[2:]), counts[1], matrix, np.array([g for g, _, _ in entries]))


def exchange(
    shells_i: tuple[Shell, ...], shells_j: tuple[Shell, ...], fields: tuple[Field, ...]
) -> tuple[Array, Array]:
    """Where each component of a block comes from in the block of the reversed pair (in its own frame), and its sign."""
    here, there = axial_basis(shells_i, shells_j, fields), axial_basis(shells_j, shells_i, fields)
    turned_i, turned_j = (turn_orbitals(shells) for shells in (shells_i, shells_j))
    moved, row = [], 0
    for field in fields:
        spin = turn_vector(field.width)
        flat = np.arange(field.width * len(turned_i) * len(turned_j)).reshape(field.width, len(turned_j), len(turned_i))
        sign = field.hermitian * spin[:, None, None] * turned_j[:, None] * turned_i
        moved.append((flat.swapaxes(1, 2).ravel() + row, sign.swapaxes(1, 2).ravel()))
        row += flat.size
    source, sign = (np.concatenate(arrays) for arrays in zip(*moved, strict=True))
    transposed = sparse.csr_array((sign, (np.arange(row), source)), shape=(row, row))
    matrix = (here.to_components @ transposed @ there.to_components.T).toarray()
    place = np.abs(matrix).argmax(axis=1)
    return place, np.round(matrix[np.arange(len(place)), place])


def turn_orbitals(shells: tuple[Shell, ...]) -> Array:
    """Sign of each orbital under half a turn about x."""
    return np.concatenate([np.diagonal(wigner(shell.l, HALF_TURN)) for shell in shells])


def turn_vector(width: int) -> Array:
    """Sign of each component of a spin scalar or vector under half a turn about x."""
    return np.diagonal(HALF_TURN)[CYCLE] if width == VECTOR else np.ones(1)
