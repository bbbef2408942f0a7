"""Onsite components: the Hermitian block of an atom with itself as a sum of irreps of O(3), each number once."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import sparse

from basis import Array
from basis.couplings import coupling
from basis.shells import Shell
from slem_plugin.blocks.fields import VECTOR, Field


@dataclass(frozen=True, eq=False)
class OnsiteBasis:
    """The irreps of the onsite block of a species.

    Components come by degree l; inside, m is slow and the `natural[l]` irreps of parity (-1)^l come before the
    `unnatural[l]` others. `to_components` takes the flat block (field rows, orbitals, orbitals) there: its rows are
    orthonormal, and its transpose gives back every block with the symmetry of its fields.
    `shells_n` names the (field, shell, shell) of each component, numbered through.
    """

    natural: tuple[int, ...]
    unnatural: tuple[int, ...]
    to_components: sparse.csr_array
    shells_n: Array

    @property
    def size(self) -> int:
        return int(self.to_components.shape[0])

    @cached_property
    def dense(self) -> Array:
        """`to_components` with its zeros: products with few rows cost less so."""
        return self.to_components.toarray()

    def slice(self, l: int) -> slice:
        """Where the components of degree l stand."""
        sizes = [(2 * k + 1) * (n + u) for k, (n, u) in enumerate(zip(self.natural, self.unnatural, strict=True))]
        return slice(sum(sizes[:l]), sum(sizes[: l + 1]))


@cache
def onsite_basis(shells: tuple[Shell, ...], fields: tuple[Field, ...]) -> OnsiteBasis:
    """The irreps of the onsite block of an atom with these shells."""
    n = sum(shell.size for shell in shells)
    starts = np.cumsum([0, *(shell.size for shell in shells)])
    highest = 2 * max(shell.l for shell in shells) + any(field.width == VECTOR for field in fields)
    found: list[tuple[list[tuple[int, Array, Array]], ...]] = [([], []) for _ in range(highest + 1)]
    group = row = 0
    for field in fields:
        for x, a in enumerate(shells):
            for y, b in enumerate(shells[x:], x):
                spin = np.arange(field.width)[:, None, None] + row
                i, j = starts[x] + np.arange(a.size)[:, None], starts[y] + np.arange(b.size)
                place = np.stack([(spin * n + i) * n + j, (spin * n + j) * n + i]).reshape(2, -1)
                for l, parity, vectors_mx in irreps_of_block(a.l, b.l, field.width):
                    if x == y:
                        both = np.zeros((2 * l + 1, 2, place.shape[1]))
                        flip = np.argsort(place[1])[np.argsort(np.argsort(place[0]))]
                        both[:, 0] = vectors_mx
                        if np.abs(vectors_mx[:, flip] - field.hermitian * vectors_mx).max() > 1e-9:
                            continue
                    else:
                        both = np.sqrt(0.5) * np.stack([vectors_mx, field.hermitian * vectors_mx], axis=1)
                    found[l][parity != (-1) ** l].append((group, place.ravel(), both.reshape(2 * l + 1, -1)))
                group += 1
        row += field.width
    entries = [
        (g, place, v[m])
        for l, kinds in enumerate(found)
        for m in range(2 * l + 1)
        for kind in kinds
        for g, place, v in kind
    ]
    rows = np.repeat(np.arange(len(entries)), [len(place) for _, place, _ in entries])
    columns, values = (np.concatenate([entry[k] for entry in entries]) for k in (1, 2))
    matrix = sparse.csr_array((values, (rows, columns)), shape=(len(entries), row * n * n))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    natural, unnatural = (tuple(len(kinds[k]) for kinds in found) for k in (0, 1))
    return OnsiteBasis(natural, unnatural, matrix, np.array([g for g, _, _ in entries]))


def irreps_of_block(l1: int, l2: int, width: int) -> list[tuple[int, int, Array]]:
    """(degree, parity, vectors[m, x]) of the irreps of the block of two shells, of each spin scalar or axial vector."""
    parity = (-1) ** (l1 + l2)
    scalar = [(L, coupling(l1, l2, L).reshape(-1, 2 * L + 1).T) for L in range(abs(l1 - l2), l1 + l2 + 1)]
    if width != VECTOR:
        return [(L, parity, vectors) for L, vectors in scalar]
    return [
        (J, parity, np.einsum("vLJ,Lx->Jvx", coupling(1, L, J), vectors).reshape(2 * J + 1, -1))
        for L, vectors in scalar
        for J in range(abs(L - 1), L + 2)
    ]
