"""Components: the matrices of a frame as a network sees them, hopping blocks in their bond's frame and onsite irreps.

`BlockForm` says how the blocks of one operator are taken apart and put together again, for one basis; both ways are
exact. Blocks of different species have different sizes and stand apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from basis import Array
from basis.shells import Shell, Species
from converters.frames.blocks import Pairs
from converters.frames.neighbours import Structure
from slem_plugin.blocks.axial import AxialBasis, axial_basis, exchange
from slem_plugin.blocks.fields import VECTOR, Field
from slem_plugin.blocks.onsite import OnsiteBasis, onsite_basis
from slem_plugin.graphs.graph import SortedPairs, pair_kinds, sort_pairs
from slem_plugin.graphs.rotations import bond_rotations

# Products smaller than this (multiplications) take less time with a dense matrix than scipy needs to begin with a sparse one.
SMALL_PRODUCT = 3_000_000
# Numbers of components that sparse products take at a time: they and the blocks, whose order in memory scipy exchanges, fit into the second cache.
AT_A_TIME = 100_000


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

    def take_apart(self, bonds: "BondFrames", rows_fx: Array) -> Components:
        """Components of the blocks of a matrix on some pairs."""
        hopping = []
        for t, axial in enumerate(self.hopping_t):
            blocks = self._turn(self.gather(bonds, t, rows_fx), bonds.there_t[t])
            hopping.append(blocks.reshape(len(blocks), axial.size) @ axial.to_components.T)
        onsite = []
        for s, form in enumerate(self.onsite_s):
            x = bonds.onsite_places(s)
            blocks = rows_fx[:, x].swapaxes(0, 1)
            onsite.append(blocks.reshape(len(x), form.to_components.shape[1]) @ form.to_components.T)
        return Components(tuple(hopping), tuple(onsite))

    def put_together(self, bonds: "BondFrames", components: Components, added_t: Sequence[Array] = ()) -> Array:
        """Rows of the fields of a matrix on some pairs, of its components and of blocks that are added to those of each kind."""
        rows_fx = np.zeros((self.width, bonds.pairs.elements))
        for t, axial in enumerate(self.hopping_t):
            shape = (len(components.hopping_t[t]), self.width, *bonds.shape(t))
            flat = flat_blocks(components.hopping_t[t], axial)
            blocks = self._turn(flat.reshape(shape), bonds.back_t[t])
            if added_t:
                blocks += added_t[t]
            self.scatter(bonds, t, blocks, rows_fx)
        for s, form in enumerate(self.onsite_s):
            x = bonds.onsite_places(s)
            flat = flat_blocks(components.onsite_s[s], form)
            rows_fx[:, x] = flat.reshape(len(x), self.width, x.shape[1]).swapaxes(0, 1)
        return rows_fx

    def known_components(self, bonds: "BondFrames", known_x: Array | None) -> Components:
        """Which components the code stored: those of a pair of shells of which it stored anything."""
        if known_x is None:
            known_x = np.ones(bonds.pairs.elements, dtype=bool)
        spatial = replace(self, fields=self.fields[:1])
        hopping = []
        for t, (A, B) in enumerate(self.kinds):
            table = spatial.gather(bonds, t, known_x[None].astype(float))[:, 0] != 0
            starts = [shell_starts(self.basis[s].shells) for s in (A, B)]
            by_shell = np.logical_or.reduceat(np.logical_or.reduceat(table, starts[0], axis=1), starts[1], axis=2)
            pairs_of_shells = len(starts[0]) * len(starts[1])
            group_n = self.hopping_t[t].shells_n % pairs_of_shells
            hopping.append(by_shell.reshape(len(table), pairs_of_shells)[:, group_n])
        onsite = [np.ones((len(bonds.onsite_places(s)), form.size), dtype=bool) for s, form in enumerate(self.onsite_s)]
        return Components(tuple(hopping), tuple(onsite))

    @cached_property
    def hermitian_f(self) -> Array:
        """The sign of each row under transposition."""
        return np.repeat([f.hermitian for f in self.fields], [f.width for f in self.fields])

    def gather(self, bonds: "BondFrames", t: int, rows_fx: Array) -> Array:
        """Blocks [pairs, fields, orbitals of A, orbitals of B]."""
        n_i, n_j = bonds.shape(t)
        swapped = bonds.by_kind.swapped_t[t]
        here, places = bonds.blocks_of(t, rows_fx)
        blocks = here[:, places].swapaxes(0, 1)
        straight = blocks.reshape(len(blocks), self.width, n_i, n_j)
        if not swapped.any():
            return straight
        crossed = blocks.reshape(len(blocks), self.width, n_j, n_i).swapaxes(2, 3) * self.hermitian_f[:, None, None]
        return np.where(swapped[:, None, None, None], crossed, straight)

    def scatter(self, bonds: "BondFrames", t: int, blocks: Array, rows_fx: Array) -> None:
        """Put blocks to their places in the rows of a matrix."""
        swapped = bonds.by_kind.swapped_t[t]
        flat = blocks.reshape(*blocks.shape[:2], blocks.shape[2] * blocks.shape[3])
        if swapped.any():
            crossed = blocks[swapped].swapaxes(2, 3) * self.hermitian_f[:, None, None]
            flat[swapped] = crossed.reshape(len(crossed), *flat.shape[1:])
        here, places = bonds.blocks_of(t, rows_fx)
        here[:, places] = flat.swapaxes(0, 1)

    def _turn(self, blocks: Array, turns: tuple[Array, Array, Array]) -> Array:
        """Blocks with orbitals of A turned by the first matrix, those of B by the second from the right, vectors by the third."""
        left, right, vectors = turns
        turned = np.asarray(left[:, None] @ blocks @ right[:, None])
        row = 0
        for field in self.fields:
            if field.width == VECTOR:
                vector = turned[:, row : row + 3]
                turned[:, row : row + 3] = (
                    vectors @ vector.reshape(len(vector), 3, vector.shape[2] * vector.shape[3])
                ).reshape(vector.shape)
            row += field.width
        return turned


@dataclass(frozen=True, eq=False)
class BondFrames:
    """Some pairs of a structure sorted by kind, and the matrices that turn their blocks into the frames of the bonds, and back."""

    pairs: Pairs
    species_a: Array
    basis: tuple[Species, ...]
    by_kind: SortedPairs
    there_t: tuple[tuple[Array, Array, Array], ...]
    back_t: tuple[tuple[Array, Array, Array], ...]

    def shape(self, t: int) -> tuple[int, int]:
        """Orbitals of both atoms of a kind."""
        A, B = pair_kinds(len(self.basis))[t]
        return self.basis[A].size, self.basis[B].size

    def blocks_of(self, t: int, rows_fx: Array) -> tuple[Array, Array]:
        """Rows of a matrix, and where in them the elements of the blocks of a kind stand; whole blocks, where all have one size."""
        n_i, n_j = self.shape(t)
        p, pairs = self.by_kind.pairs_t[t], self.pairs
        if len({species.size for species in self.basis}) == 1:
            return rows_fx.reshape(len(rows_fx), len(pairs), n_i * n_j), p
        return rows_fx, pairs.start_p[p][:, None] + np.arange(n_i * n_j)

    def onsite_places(self, s: int) -> Array:
        """Where the elements of the onsite blocks of a species stand."""
        p = np.flatnonzero(self.pairs.onsite_p)
        p = p[self.species_a[self.pairs.i_p[p]] == s]
        return self.pairs.start_p[p][:, None] + np.arange(self.basis[s].size ** 2)


def bond_frames(structure: Structure, pairs: Pairs, basis: tuple[Species, ...]) -> BondFrames:
    """The frames of the bonds of some pairs."""
    by_kind = sort_pairs(pairs, structure.species_a, len(basis))
    vectors_pv = pairs.vectors(structure.positions_av, structure.cell_cv)
    highest = max(1, max(shell.l for species in basis for shell in species.shells))
    there, back = [], []
    sorted_p, swapped_p = np.concatenate(by_kind.pairs_t), np.concatenate(by_kind.swapped_t)
    all_D = bond_rotations(torch.from_numpy(np.where(swapped_p[:, None], -1, 1) * vectors_pv[sorted_p]), highest)
    ends = np.cumsum([len(p) for p in by_kind.pairs_t])[:-1]
    by_kind_D = zip(*(np.split(D.numpy(), ends) for D in all_D), strict=True)
    for (A, B), D in zip(pair_kinds(len(basis)), by_kind_D, strict=True):
        turn_i = turn_orbitals(D, basis[A].shells)
        turn_j = turn_i if A == B else turn_orbitals(D, basis[B].shells)
        there.append((turn_i, turn_j.swapaxes(1, 2), D[1]))
        back.append((turn_i.swapaxes(1, 2), turn_j, D[1].swapaxes(1, 2)))
    return BondFrames(pairs, structure.species_a, basis, by_kind, tuple(there), tuple(back))


def flat_blocks(components_pn: Array, form: AxialBasis | OnsiteBasis) -> Array:
    """The flat blocks that have these components; those that are not given are zero."""
    count, size = components_pn.shape
    if components_pn.size * form.to_components.shape[1] < SMALL_PRODUCT:
        return np.asarray(components_pn @ form.dense[:size])
    matrix = form.to_components[:size]
    blocks = np.empty((count, matrix.shape[1]))
    step = max(AT_A_TIME // matrix.shape[1], 1)
    for start in range(0, count, step):
        blocks[start : start + step] = components_pn[start : start + step] @ matrix
    return blocks


def turn_orbitals(D: Sequence[Array], shells: tuple[Shell, ...]) -> Array:
    """The rotation matrices of all orbitals of an atom, [pairs, orbitals, orbitals]."""
    size = sum(shell.size for shell in shells)
    matrix = np.zeros((len(D[0]), size, size))
    for start, shell in zip(shell_starts(shells), shells, strict=True):
        matrix[:, start : start + shell.size, start : start + shell.size] = D[shell.l]
    return matrix


def shell_starts(shells: tuple[Shell, ...]) -> Array:
    """First orbital of each shell."""
    return np.cumsum([0, *(shell.size for shell in shells[:-1])])
