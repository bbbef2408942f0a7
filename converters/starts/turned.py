"""Molecules that have turned and moved between two calculations: the matrices of one as they would be had it turned with the other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from basis import Array
from basis.rotations import wigner
from basis.shells import Species, cell_shells
from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.frame import Frame
from converters.physics import kspace

TURNED = ("S", "DM")
# By degree: where the orbitals of its shells are, [shell, m], and how a rotation mixes them.
Places = Mapping[int, Array]
Turn = Mapping[int, Array]


def turn_between(positions_av: Array, onto_av: Array) -> Array:
    """The rotation that brings the atoms of a molecule nearest to other places of the same atoms, both about their middles."""
    from_av, onto_av = (places_av - places_av.mean(axis=0) for places_av in (positions_av, onto_av))
    left, _, right = np.linalg.svd(onto_av.T @ from_av)
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ right)


def places_of(basis: Sequence[Species], species_a: Array) -> Places:
    """Where the orbitals of each degree are in the matrices of a structure; those of s need no turn."""
    found: dict[int, list[Array]] = {}
    start = 0
    for shell in cell_shells(basis, species_a):
        orbitals = np.arange(start, start + 2 * shell.l + 1)
        start += len(orbitals)
        found.setdefault(shell.l, []).append(orbitals)
    return {l: np.array(many) for l, many in found.items() if l}


def turns_of(places: Places, rotations_nvv: Array) -> list[Turn]:
    """How each of some rotations mixes the orbitals."""
    by_degree = {l: wigner(l, rotations_nvv) for l in places}
    return [{l: D[n] for l, D in by_degree.items()} for n in range(len(rotations_nvv))]


def turned_matrix(matrix: Array, places: Places, turn: Turn) -> Array:
    """D M D^T of a dense matrix."""
    for _ in range(2):
        matrix = matrix.copy()
        for l, orbitals_sm in places.items():
            matrix[orbitals_sm] = turn[l] @ matrix[orbitals_sm]
        matrix = matrix.T
    return matrix


def turned_onto(frame: Frame, positions_av: Array) -> Frame:
    """S and DM of a molecule turned to where other places of its atoms are nearest; crystals and spinors as they are."""
    if frame.pbc_c.any() or frame.spin is Spin.SPINOR:
        return frame
    rotation = turn_between(frame.positions_av, positions_av)
    places = places_of(frame.basis, frame.species_a)
    (turn,) = turns_of(places, rotation[None])
    rows_x, columns_x = frame.pairs.row_column_x
    operators = {}
    for name in (name for name in TURNED if name in frame):
        parts = [turned_matrix(part.real, places, turn) for part in kspace.dense_at(frame, name, np.zeros(3))]
        operators[name] = Operator(np.array([part[rows_x, columns_x] for part in parts]))
    middle_v = frame.positions_av.mean(axis=0)
    places_av = (frame.positions_av - middle_v) @ rotation.T + positions_av.mean(axis=0)
    return replace(frame, positions_av=places_av, operators=operators)
