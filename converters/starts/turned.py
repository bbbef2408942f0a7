"""Molecules that have turned and moved between two calculations: the matrices of one as they would be had it turned with the other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.linalg import block_diag
from scipy.sparse import block_diag as sparse_block_diag
from scipy.sparse import csr_array

from basis import Array
from basis.rotations import wigner
from basis.shells import Species
from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.frame import Frame
from converters.physics import kspace

TURNED = ("S", "DM")


def turn_between(positions_av: Array, onto_av: Array) -> Array:
    """The rotation that brings the atoms of a molecule nearest to other places of the same atoms, both about their middles."""
    from_av, onto_av = (places_av - places_av.mean(axis=0) for places_av in (positions_av, onto_av))
    left, _, right = np.linalg.svd(onto_av.T @ from_av)
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ right)


def orbitals_turned(basis: Sequence[Species], species_a: Array, rotation: Array) -> csr_array:
    """How a rotation mixes the orbitals of a structure."""
    degree = cache(lambda l: wigner(l, rotation))
    blocks = [block_diag(*(degree(shell.l) for shell in species.shells)) for species in basis]
    return csr_array(sparse_block_diag([blocks[s] for s in species_a]))


def turned_matrix(D: csr_array, matrix: Array) -> Array:
    """D M D^T of a dense matrix."""
    return np.asarray((D @ (D @ matrix).T).T)


def turned_onto(frame: Frame, positions_av: Array) -> Frame:
    """S and DM of a molecule turned to where other places of its atoms are nearest; crystals and spinors as they are."""
    if frame.pbc_c.any() or frame.spin is Spin.SPINOR:
        return frame
    rotation = turn_between(frame.positions_av, positions_av)
    D = orbitals_turned(frame.basis, frame.species_a, rotation)
    rows_x, columns_x = frame.pairs.row_column_x
    operators = {}
    for name in (name for name in TURNED if name in frame):
        parts = [turned_matrix(D, part.real) for part in kspace.dense_at(frame, name, np.zeros(3))]
        operators[name] = Operator(np.array([part[rows_x, columns_x] for part in parts]))
    middle_v = frame.positions_av.mean(axis=0)
    places_av = (frame.positions_av - middle_v) @ rotation.T + positions_av.mean(axis=0)
    return replace(frame, positions_av=places_av, operators=operators)
