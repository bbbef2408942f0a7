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
# By degree: where the orbitals of its shells are, [shell, m], and how rotations mix them, [n, m, m'].
Places = Mapping[int, Array]
Turns = Mapping[int, Array]


def turns_between(positions_nav: Array, onto_av: Array) -> Array:
    """The rotation that brings the atoms of each of some molecules nearest to other places of the same atoms, all about their middles."""
    from_nav, onto_av = (places - places.mean(axis=-2, keepdims=True) for places in (positions_nav, onto_av))
    left, _, right = np.linalg.svd(onto_av.T @ from_nav)
    left[..., -1] *= np.sign(np.linalg.det(left @ right))[:, None]
    return np.asarray(left @ right)


def turned_places(positions_nav: Array, onto_av: Array) -> Array:
    """The atoms of each of some molecules where they are once it has turned and moved to other places of the same atoms."""
    middle_nav, turns_nvv = positions_nav.mean(axis=1, keepdims=True), turns_between(positions_nav, onto_av)
    return np.asarray((positions_nav - middle_nav) @ turns_nvv.swapaxes(1, 2) + onto_av.mean(axis=0))


def places_of(basis: Sequence[Species], species_a: Array) -> Places:
    """Where the orbitals of each degree are in the matrices of a structure; those of s need no turn."""
    found: dict[int, list[Array]] = {}
    start = 0
    for shell in cell_shells(basis, species_a):
        orbitals = np.arange(start, start + 2 * shell.l + 1)
        start += len(orbitals)
        found.setdefault(shell.l, []).append(orbitals)
    return {l: np.array(many) for l, many in found.items() if l}


def turns_of(places: Places, rotations_nvv: Array) -> Turns:
    """How each of some rotations mixes the orbitals."""
    return {l: wigner(l, rotations_nvv) for l in places}


def turned_matrices(matrices: Array, places: Places, turns: Turns) -> Array:
    """D M D^T of dense matrices, [n, M, M'] or [n, s, M, M']."""
    for _ in range(2):
        matrices = matrices.copy()
        for l, orbitals_sm in places.items():
            D = turns[l].reshape(-1, *[1] * (matrices.ndim - 2), *turns[l].shape[1:])
            matrices[..., orbitals_sm, :] = D @ matrices[..., orbitals_sm, :]
        matrices = matrices.swapaxes(-1, -2)
    return matrices


def turned_onto(frame: Frame, positions_av: Array) -> Frame:
    """S and DM of a molecule turned to where other places of its atoms are nearest; crystals and spinors as they are."""
    if frame.pbc_c.any() or frame.spin is Spin.SPINOR:
        return frame
    (rotation,) = rotations_nvv = turns_between(frame.positions_av[None], positions_av)
    places = places_of(frame.basis, frame.species_a)
    turns = turns_of(places, rotations_nvv)
    rows_x, columns_x = frame.pairs.row_column_x
    operators = {}
    for name in (name for name in TURNED if name in frame):
        parts = np.array([part.real for part in kspace.dense_at(frame, name, np.zeros(3))])
        (turned,) = turned_matrices(parts[None], places, turns)
        operators[name] = Operator(turned[:, rows_x, columns_x])
    middle_v = frame.positions_av.mean(axis=0)
    places_av = (frame.positions_av - middle_v) @ rotation.T + positions_av.mean(axis=0)
    return replace(frame, positions_av=places_av, operators=operators)
