"""Blocks as e3nn has them: irreps of O(3) in its axes, its signs and its order, and back.

e3nn's harmonics have y as their polar axis, so that its l = 1 are (x, y, z). Each block of two shells, M, becomes
x_L = sqrt(2L + 1) wigner_3j(l, l', L) M for L = |l - l'| ... l + l', so that x and M have the same length. A structure turned by R has
blocks `x @ irreps.D_from_matrix(R).T`, and vectors of bonds are fed to e3nn as they are.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from basis import Array
from basis.rotations import wigner
from basis.shells import Shell, Species
from converters.frames.blocks import Operator
from converters.frames.frame import Frame
from slem_plugin.blocks.fields import VECTOR, Field, fields_of, from_fields, to_fields

if TYPE_CHECKING:
    from e3nn.o3 import Irreps

# Takes a vector to where e3nn's axes see it: our harmonics of the new vector are e3nn's of the old one.
TO_OUR_AXES = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class IrrepBlocks(NamedTuple):
    """The blocks from one species to another: their irreps, the numbers [pair, irreps.dim], and which pairs of the frame they are.

    Irreps come by field of the spin, by shell of the first atom, by shell of the second one, and by degree. The fields are O alone
    without spin; (up + down)/2 and (up - down)/2 of collinear matrices; of spinors Re O_0, Im O_v, Im O_0, Re O_v with
    O = O_0 + O_x sx + O_y sy + O_z sz, whose vectors are axial and coupled by wigner_3j(1, L, J).
    """

    irreps: "Irreps"
    values_pf: Tensor
    pairs_p: Array


def to_e3nn(frame: Frame, name: str) -> dict[tuple[int, int], IrrepBlocks]:
    """The blocks of a matrix by the species of both atoms, for e3nn, in float64."""
    rows_fx = to_fields(frame.operators[name].values_sx, frame.layout(name), False)
    fields = fields_of(frame.layout(name), False)
    found = {}
    for (A, B), pairs_p in pairs_by_species(frame):
        species = frame.basis[A], frame.basis[B]
        blocks = rows_fx[:, places(frame, pairs_p, species)].swapaxes(0, 1)
        blocks = blocks.reshape(len(pairs_p), len(rows_fx), species[0].size, species[1].size)
        parts = [
            blocks[:, where.field, where.a, where.b].reshape(len(pairs_p), -1) @ Q.T
            for where, Q in shells_of(species, fields)
        ]
        found[A, B] = IrrepBlocks(irreps_of(species, fields), torch.from_numpy(np.concatenate(parts, axis=1)), pairs_p)
    return found


def from_e3nn(frame: Frame, name: str, blocks: Mapping[tuple[int, int], IrrepBlocks]) -> Operator:
    """The matrix on the pairs of a frame whose blocks are these irreps; the inverse of `to_e3nn`."""
    layout = frame.layout(name)
    fields = fields_of(layout, False)
    rows_fx = np.zeros((sum(field.width for field in fields), frame.pairs.elements))
    for (A, B), (_, values_pf, pairs_p) in blocks.items():
        species = frame.basis[A], frame.basis[B]
        dense = np.zeros((len(pairs_p), len(rows_fx), species[0].size, species[1].size))
        values, start = values_pf.detach().cpu().double().numpy(), 0
        for where, Q in shells_of(species, fields):
            part = dense[:, where.field, where.a, where.b]
            part[...] = (values[:, start : start + len(Q)] @ Q).reshape(part.shape)
            start += len(Q)
        rows_fx[:, places(frame, pairs_p, species)] = dense.reshape(*dense.shape[:2], -1).swapaxes(0, 1)
    return Operator(from_fields(rows_fx, layout, False))


def pairs_by_species(frame: Frame) -> Iterator[tuple[tuple[int, int], Array]]:
    """The pairs from each species to each, onsite blocks among them, where there are any."""
    A_p, B_p = frame.species_a[frame.pairs.i_p], frame.species_a[frame.pairs.j_p]
    for A in range(len(frame.basis)):
        for B in range(len(frame.basis)):
            pairs_p = np.flatnonzero((A_p == A) & (B_p == B))
            if len(pairs_p):
                yield (A, B), pairs_p


def places(frame: Frame, pairs_p: Array, species: tuple[Species, Species]) -> Array:
    """Where the elements of some blocks of one shape stand."""
    return frame.pairs.start_p[pairs_p][:, None] + np.arange(species[0].size * species[1].size)


class Where(NamedTuple):
    """Where a block of two shells stands: rows of a field, orbitals of both atoms."""

    field: slice
    a: slice
    b: slice


def shells_of(species: tuple[Species, Species], fields: tuple[Field, ...]) -> Iterator[tuple[Where, Array]]:
    """Each block of a field and two shells, in the order of the irreps, and the matrix that takes it there."""
    row = 0
    for field in fields:
        for a, here in orbitals_of(species[0]):
            for b, there in orbitals_of(species[1]):
                yield Where(slice(row, row + field.width), here, there), e3nn_matrix(a.l, b.l, field.width)
        row += field.width


def orbitals_of(species: Species) -> Iterator[tuple[Shell, slice]]:
    start = 0
    for shell in species.shells:
        yield shell, slice(start, start + shell.size)
        start += shell.size


def irreps_of(species: tuple[Species, Species], fields: tuple[Field, ...]) -> "Irreps":
    """The irreps of a block between two species."""
    from e3nn.o3 import Irreps

    degrees = [
        (1, (J, (-1) ** (a.l + b.l)))
        for field in fields
        for a in species[0].shells
        for b in species[1].shells
        for _, J in degrees_of(a.l, b.l, field.width)
    ]
    return Irreps(degrees)


def degrees_of(l1: int, l2: int, width: int) -> list[tuple[int, int]]:
    """The degree of the block of two shells, and with it that of the whole: another one for the three of a spin vector."""
    orbital = range(abs(l1 - l2), l1 + l2 + 1)
    return [(L, J) for L in orbital for J in (range(abs(L - 1), L + 2) if width == VECTOR else (L,))]


@cache
def e3nn_matrix(l1: int, l2: int, width: int) -> Array:
    """Q[irreps, (spin, m, m')], orthogonal, of the block of two shells of a spin scalar or vector."""
    blocks = {
        L: np.einsum("ijk,ia,jb->kab", e3nn_coupling(l1, l2, L), axes(l1), axes(l2))
        for L in range(abs(l1 - l2), l1 + l2 + 1)
    }
    if width == VECTOR:
        parts = [
            np.einsum("vlj,vw,lab->jwab", e3nn_coupling(1, L, J), axes(1), blocks[L]).reshape(2 * J + 1, -1)
            for L, J in degrees_of(l1, l2, width)
        ]
    else:
        parts = [block.reshape(len(block), -1) for block in blocks.values()]
    return np.concatenate(parts)


def axes(l: int) -> Array:
    """The matrix from coefficients of our harmonics to those of e3nn's."""
    return wigner(l, TO_OUR_AXES)


def e3nn_coupling(l1: int, l2: int, L: int) -> Array:
    """e3nn's coupling of two degrees, with orthonormal columns."""
    from e3nn.o3 import wigner_3j

    return np.asarray(np.sqrt(2 * L + 1) * wigner_3j(l1, l2, L, dtype=torch.float64).numpy())
