"""Components: the matrices of a frame as a network sees them, hopping blocks in their bond's frame and onsite irreps.

`BlockForm` says how the blocks of one operator are taken apart and put together again, for one basis; both ways are
exact. Blocks of different species have different sizes and stand apart.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from basis import Array
from basis.shells import Shell, Species
from converters.blocks import Pairs
from slem_plugin.axial import AxialBasis, axial_basis, exchange
from slem_plugin.fields import VECTOR, Field
from slem_plugin.graph import Structure, pair_kinds, pair_vectors, sort_pairs
from slem_plugin.onsite import OnsiteBasis, onsite_basis
from slem_plugin.rotations import bond_rotations


@dataclass(frozen=True, eq=False)
class Components:
    """Numbers of one operator: [pairs, components] of each kind of pair and [atoms, components] of each species."""

    hopping_t: tuple[Array, ...]
    onsite_s: tuple[Array, ...]


@dataclass(frozen=True)
class BlockForm:
    """How the blocks of one operator are taken apart: a basis and the fields of the operator."""

    basis: tuple[Species, ...]
    fields: tuple[Field, ...]

    @cached_property
    def width(self) -> int:
        """Real numbers per matrix element."""
        return sum(field.width for field in self.fields)

    @cached_property
    def kinds(self) -> list[tuple[int, int]]:
        return pair_kinds(len(self.basis))

    @cached_property
    def hopping_t(self) -> list[AxialBasis]:
        return [axial_basis(self.basis[A].shells, self.basis[B].shells, self.fields) for A, B in self.kinds]

    @cached_property
    def onsite_s(self) -> list[OnsiteBasis]:
        return [onsite_basis(species.shells, self.fields) for species in self.basis]

    @cached_property
    def exchange_t(self) -> list[tuple[Array, Array]]:
        return [exchange(self.basis[A].shells, self.basis[B].shells, self.fields) for A, B in self.kinds]

    @cached_property
    def highest(self) -> int:
        """Highest l of the orbitals, at least 1."""
        return max(1, max(shell.l for species in self.basis for shell in species.shells))

    def take_apart(self, structure: Structure, pairs: Pairs, rows_fx: Array) -> Components:
        """Components of the blocks of a matrix on these pairs."""
        by_kind = sort_pairs(pairs, structure.species_a, len(self.basis))
        vectors_pv = pair_vectors(structure, pairs)
        hopping = []
        for t, (p, swapped) in enumerate(zip(by_kind.pairs_t, by_kind.swapped_t, strict=True)):
            blocks = self._gather(t, pairs, p, swapped, rows_fx)
            turned = self._turn(t, blocks, np.where(swapped[:, None], -1, 1) * vectors_pv[p])
            hopping.append(turned.reshape(len(p), self.hopping_t[t].size) @ self.hopping_t[t].to_components.T)
        onsite = []
        for s, form in enumerate(self.onsite_s):
            x = self._onsite_places(s, structure, pairs)
            onsite.append(rows_fx[:, x].swapaxes(0, 1).reshape(len(x), self.width * self.basis[s].size ** 2) @ form.to_components.T)
        return Components(tuple(hopping), tuple(onsite))

    def put_together(self, structure: Structure, pairs: Pairs, components: Components) -> Array:
        """Rows of the fields of a matrix on these pairs, of its components."""
        by_kind = sort_pairs(pairs, structure.species_a, len(self.basis))
        vectors_pv = pair_vectors(structure, pairs)
        rows_fx = np.zeros((self.width, pairs.elements))
        for t, (p, swapped) in enumerate(zip(by_kind.pairs_t, by_kind.swapped_t, strict=True)):
            flat = components.hopping_t[t] @ self.hopping_t[t].to_components
            n_i, n_j = (self.basis[s].size for s in self.kinds[t])
            blocks = flat.reshape(len(p), self.width, n_i, n_j)
            blocks = self._turn(t, blocks, np.where(swapped[:, None], -1, 1) * vectors_pv[p], back=True)
            straight = blocks[~swapped].swapaxes(0, 1)
            rows_fx[:, self._places(t, pairs, p[~swapped], False)] = straight.reshape(self.width, straight.shape[1], n_i * n_j)
            sign = self._hermitian[:, None, None, None]
            crossed = (sign * blocks[swapped].swapaxes(0, 1)).swapaxes(2, 3)
            rows_fx[:, self._places(t, pairs, p[swapped], True)] = crossed.reshape(self.width, crossed.shape[1], n_i * n_j)
        for s, form in enumerate(self.onsite_s):
            x = self._onsite_places(s, structure, pairs)
            flat = components.onsite_s[s] @ form.to_components
            rows_fx[:, x] = flat.reshape(len(x), self.width, self.basis[s].size ** 2).swapaxes(0, 1)
        return rows_fx

    def known_components(self, structure: Structure, pairs: Pairs, known_x: Array | None) -> Components:
        """Which components the code stored: those of a pair of shells of which it stored anything."""
        known = np.ones(pairs.elements, dtype=bool) if known_x is None else known_x
        by_kind = sort_pairs(pairs, structure.species_a, len(self.basis))
        hopping = []
        for t, (p, swapped) in enumerate(zip(by_kind.pairs_t, by_kind.swapped_t, strict=True)):
            n_i, n_j = (self.basis[s].size for s in self.kinds[t])
            table = np.zeros((len(p), n_i, n_j), dtype=bool)
            table[~swapped] = known[self._places(t, pairs, p[~swapped], False)].reshape(-1, n_i, n_j)
            table[swapped] = known[self._places(t, pairs, p[swapped], True)].reshape(-1, n_j, n_i).swapaxes(1, 2)
            starts = [shell_starts(self.basis[s].shells) for s in self.kinds[t]]
            by_shell = np.logical_or.reduceat(np.logical_or.reduceat(table, starts[0], axis=1), starts[1], axis=2)
            group = self.hopping_t[t].shells_n % (len(starts[0]) * len(starts[1]))
            hopping.append(by_shell.reshape(len(p), len(starts[0]) * len(starts[1]))[:, group])
        onsite = tuple(
            np.ones((int((structure.species_a == s).sum()), form.size), dtype=bool)
            for s, form in enumerate(self.onsite_s)
        )
        return Components(tuple(hopping), onsite)

    @cached_property
    def _hermitian(self) -> Array:
        return np.repeat([f.hermitian for f in self.fields], [f.width for f in self.fields])

    def _places(self, t: int, pairs: Pairs, p: Array, swapped: bool) -> Array:
        size = int(np.prod([self.basis[s].size for s in self.kinds[t]]))
        return pairs.start_p[p][:, None] + np.arange(size)

    def _onsite_places(self, s: int, structure: Structure, pairs: Pairs) -> Array:
        p = np.flatnonzero(pairs.onsite_p)
        p = p[structure.species_a[pairs.i_p[p]] == s]
        return pairs.start_p[p][:, None] + np.arange(self.basis[s].size ** 2)

    def _gather(self, t: int, pairs: Pairs, p: Array, swapped: Array, rows_fx: Array) -> Array:
        """Blocks [pairs, fields, orbitals of A, orbitals of B]."""
        n_i, n_j = (self.basis[s].size for s in self.kinds[t])
        blocks = rows_fx[:, self._places(t, pairs, p, False)].swapaxes(0, 1)
        straight = blocks.reshape(len(p), self.width, n_i, n_j)
        crossed = blocks.reshape(len(p), self.width, n_j, n_i).swapaxes(2, 3) * self._hermitian[:, None, None]
        return np.where(swapped[:, None, None, None], crossed, straight)

    def _turn(self, t: int, blocks: Array, vectors_pv: Array, back: bool = False) -> Array:
        """Blocks turned into the frames of their bonds, or back."""
        A, B = self.kinds[t]
        D = bond_rotations(torch.from_numpy(np.ascontiguousarray(vectors_pv)), self.highest)
        if back:
            D = [matrix.mT for matrix in D]
        turned = torch.from_numpy(np.ascontiguousarray(blocks))
        turned = turn_orbitals(D, self.basis[A].shells)[:, None] @ turned
        turned = turned @ turn_orbitals(D, self.basis[B].shells)[:, None].mT
        row = 0
        for field in self.fields:
            if field.width == VECTOR:
                vector = turned[:, row : row + 3]
                turned[:, row : row + 3] = (D[1] @ vector.flatten(2)).view_as(vector)
            row += field.width
        return turned.numpy()


def turn_orbitals(D: list[Tensor], shells: tuple[Shell, ...]) -> Tensor:
    """The rotation matrices of all orbitals of an atom, [pairs, orbitals, orbitals]."""
    size = sum(shell.size for shell in shells)
    matrix = torch.zeros(len(D[0]), size, size, dtype=D[0].dtype)
    for start, shell in zip(shell_starts(shells), shells, strict=True):
        matrix[:, start : start + shell.size, start : start + shell.size] = D[shell.l]
    return matrix


def shell_starts(shells: tuple[Shell, ...]) -> Array:
    """First orbital of each shell."""
    return np.cumsum([0, *(shell.size for shell in shells[:-1])])
