"""Densities whose orbitals are full or empty: what a code left out of one, and combined ones, which have lost it."""

from dataclasses import replace

import numpy as np
from scipy import linalg

from basis import Array
from basis.spin import Spin
from converters.frames.blocks import Operator, Pairs, make_pairs
from converters.frames.folding import mesh_about_gamma
from converters.frames.frame import Frame
from converters.physics import kspace

# How far a density may be from full and empty orbitals to be taken for one of those, and how many steps may bring it there.
WHOLE, STEPS = 1e-6, 6
# Levels of more orbitals take longer than an iteration that they may save.
LARGEST = 600
# Elements of DM that differ by more from those of the lowest levels are of other occupations.
SAME = 1e-3
GAMMA = np.zeros(3)


def as_projector(rho: Array, S: Array, earlier: Array, earlier_S: Array) -> Array:
    """A combined density whose orbitals are full or empty again, by a few of McWeeny's steps, where those of an earlier one are so."""
    for most in (2.0, 1.0):
        if defect(earlier / most, earlier_S) < WHOLE:
            P = rho / most
            before = left = defect(P, S)
            for _ in range(STEPS):
                PS = P @ S
                P = (3 * np.eye(S.shape[-1]) - 2 * PS) @ PS @ P
                left = defect(P, S)
                if left < WHOLE or left > before:
                    break
            return np.asarray(P * most) if left < before else rho
    return rho


def defect(P: Array, S: Array) -> float:
    """How far P is from a projector, P S P = P."""
    return float(np.abs(np.linalg.norm(P @ S @ P - P, axis=(-2, -1))).max())


def has_one_matrix(frame: Frame) -> bool:
    """Whether one real matrix says all of each spin: that of a molecule, or of a crystal with Gamma alone that is not too large."""
    if frame.spin is Spin.SPINOR:
        return False
    mesh_c = mesh_about_gamma(frame)
    at_gamma = mesh_c is not None and bool((mesh_c == 1).all()) and frame.norb <= LARGEST
    return at_gamma or not (frame.folded or frame.pbc_c.any())


def with_whole_orbitals(frame: Frame, earlier: Frame) -> Frame:
    """A combined density whose orbitals are full or empty again: of one or two earlier ones it has up to a tenth of an electron too many."""
    S, earlier_S = kspace.dense_at(frame, "S", GAMMA)[0], kspace.dense_at(earlier, "S", GAMMA)[0]
    both = zip(kspace.dense_at(frame, "DM", GAMMA), kspace.dense_at(earlier, "DM", GAMMA), strict=True)
    rho = [as_projector(new, S, old, earlier_S) for new, old in both]
    operator = kspace.sum_over_kpoints(frame, GAMMA[None], np.ones(1), [rho])
    return replace(frame, operators={**frame.operators, "DM": operator})


def with_all_elements(frame: Frame) -> Frame:
    """A frame of Gamma alone whose DM has the elements of atoms that do not overlap too, from the levels of H where those are full or empty.

    Codes leave them out, and a sum of such densities cannot be made one of full and empty orbitals.
    """
    if not (frame.folded and has_one_matrix(frame) and "H" in frame):
        return frame
    S, most = kspace.dense_at(frame, "S", GAMMA)[0], 2.0 / frame.spin.components
    stored_s = kspace.dense_at(frame, "DM", GAMMA)
    rho_s = []
    for H, stored in zip(kspace.dense_at(frame, "H", GAMMA), stored_s, strict=True):
        filled = round(float(np.sum(stored * S)) / most)
        _, c = linalg.eigh(H, S, subset_by_index=[0, filled - 1]) if filled else (None, np.zeros((len(S), 0)))
        rho_s.append(most * c @ c.T)
    there = np.any(np.array(stored_s) != 0, axis=0)
    if np.abs((np.array(rho_s) - stored_s)[:, there]).max(initial=0) > SAME:
        return frame
    pairs = all_pairs(frame)
    row_x, column_x = pairs.row_column_x
    operators = {"S": Operator(S[None, row_x, column_x]), "DM": Operator(np.array(rho_s)[:, row_x, column_x])}
    return replace(frame, pairs=pairs, operators=operators)


def all_pairs(frame: Frame) -> Pairs:
    """Each two atoms once."""
    i_p, j_p = np.triu_indices(frame.natoms)
    return make_pairs(i_p, j_p, np.zeros((len(i_p), 3), dtype=np.int64), frame.pairs.norb_a)
