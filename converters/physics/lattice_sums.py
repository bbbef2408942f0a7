"""Sums over lattice vectors, O(R) to O(k), and over k-points, rho(k) to DM(R).

Where two atoms have many pairs, in one cell and in others, all of these are summed at once: a product of two small matrices.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.blocks import Pairs
from converters.frames.frame import Frame

# A product of small matrices takes as long as so many elements that are summed one by one.
WORTH_A_PRODUCT = 1000
# k-points that are summed at once, and numbers of their matrices.
MOST_KPOINTS_AT_ONCE, MOST_NUMBERS_AT_ONCE = 16, 10_000_000


def sums_together(pairs: Pairs, kpoints: int) -> bool:
    """Whether products of matrices sum faster than one element after the other."""
    return kpoints > 1 and kpoints * pairs.elements > WORTH_A_PRODUCT * len(pairs.same_atoms)


def kpoints_at_once(frame: Frame, layout: Spin) -> int:
    numbers = layout.components * frame.norb**2
    return max(1, min(MOST_KPOINTS_AT_ONCE, MOST_NUMBERS_AT_ONCE // numbers))


def sum_over_cells(frame: Frame, name: str, kpoints_kc: Array) -> Array:
    """The stored half of O(k), onsite blocks times 1/2, as dense matrices (spin component, k-point, orbital, orbital): adding the adjoint makes them whole."""
    pairs, values_sx = frame.pairs, frame.operators[name].values_sx
    phase_kp = pairs.copies_p / 2 * np.exp(2j * np.pi * (kpoints_kc @ pairs.R_pc.T))
    half_skMM = np.zeros((len(values_sx), len(kpoints_kc), frame.norb, frame.norb), dtype=complex)
    for own in pairs.same_atoms:
        place, rows, columns = pairs.places(own)
        blocks_spx = values_sx[:, place].reshape(len(values_sx), own.stop - own.start, -1)
        into = half_skMM[:, :, rows, columns]
        into[:] = (phase_kp[:, own] @ blocks_spx).reshape(into.shape)
    return half_skMM


def add_blocks(frame: Frame, kpoints_kc: Array, weights_k: Array, densities: Iterable[Sequence[Array]]) -> Array:
    """Elements of DM(R) on the pair list of the frame from the spin components of rho(k), block by block."""
    pairs, waiting, at_once = frame.pairs, iter(densities), kpoints_at_once(frame, frame.spin)
    values_sx = np.zeros((frame.spin.components, pairs.elements), dtype=frame.spin.dtype)
    for start in range(0, len(kpoints_kc), at_once):
        batch = slice(start, start + at_once)
        phase_pk = weights_k[batch] * np.exp(-2j * np.pi * (pairs.R_pc @ kpoints_kc[batch].T))
        for values_x, rho_k in zip(values_sx, zip(*islice(waiting, at_once), strict=True), strict=True):
            rho_kMM = np.array(rho_k)
            for own in pairs.same_atoms:
                place, rows, columns = pairs.places(own)
                sums_px = phase_pk[own] @ rho_kMM[:, rows, columns].reshape(len(rho_kMM), -1)
                values_x[place] += (sums_px if frame.spin is Spin.SPINOR else sums_px.real).ravel()
    return values_sx


def add_elements(frame: Frame, kpoints_kc: Array, weights_k: Array, densities: Iterable[Sequence[Array]]) -> Array:
    """The same, k-point by k-point, where few elements have both atoms in common."""
    pairs = frame.pairs
    row_x, column_x = pairs.row_column_x
    values_sx = np.zeros((frame.spin.components, pairs.elements), dtype=frame.spin.dtype)
    for kpoint_c, weight, rho_sMM in zip(kpoints_kc, weights_k, densities, strict=True):
        phase_x = (weight * np.exp(-2j * np.pi * (pairs.R_pc @ kpoint_c)))[pairs.pair_x]
        for values_x, rho_MM in zip(values_sx, rho_sMM, strict=True):
            part_x = rho_MM[row_x, column_x]
            if frame.spin is Spin.SPINOR:
                values_x += phase_x * part_x
                continue
            values_x += phase_x.real * part_x.real
            if np.iscomplexobj(part_x):
                values_x -= phase_x.imag * part_x.imag
    return values_sx
