"""Frames with made-up matrices: smooth local functions of the structure, so that a model has something to learn."""

import numpy as np

from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, Outcome, Provenance
from converters.frames.neighbours import find_pairs

CUTOFF = 4.0


def made_frame(structure, basis, spin, code="made", seed=0, cutoff_ss=None):
    """A frame of Hermitian matrices whose elements fall off with distance; a spinor one keeps time reversal."""
    random = np.random.default_rng(seed)
    norb_a = np.array([basis[s].size for s in structure.species_a])
    cutoff_ss = np.full((len(basis), len(basis)), CUTOFF) if cutoff_ss is None else cutoff_ss
    pairs = find_pairs(structure, cutoff_ss, norb_a)
    vectors_pv = pairs.vectors(structure.positions_av, structure.cell_cv)
    fall_x = np.exp(-np.linalg.norm(vectors_pv, axis=1))[pairs.pair_x]
    operators = {
        name: made_operator(random, pairs, spin if name != "S" else Spin.NONE, fall_x) for name in ("H", "S", "DM")
    }
    operators["S"] = like_an_overlap(pairs, operators["S"])
    return Frame(
        structure.cell_cv,
        structure.pbc_c,
        structure.positions_av,
        structure.species_a,
        basis,
        pairs,
        spin,
        operators,
        outcome=Outcome(electrons=4.0),
        provenance=Provenance(code, "1", f"made {seed}", f"{seed:064x}"),
    )


def like_an_overlap(pairs, operator):
    """The same numbers, smaller, with ones on the diagonal."""
    row_x, column_x = pairs.row_column_x
    return Operator(0.1 * operator.values_sx + (pairs.onsite_p[pairs.pair_x] & (row_x == column_x)))


def made_operator(random, pairs, layout, fall_x):
    values_sx = random.normal(size=(layout.components, pairs.elements)) * fall_x
    if layout is Spin.SPINOR:
        # Time reversal: uu = dd*, ud = -du*.
        a_x, b_x = (random.normal(size=(2, 2, pairs.elements)) * fall_x).swapaxes(0, 1)
        a_x, b_x = a_x[0] + 1j * a_x[1], b_x[0] + 1j * b_x[1]
        values_sx = np.stack([a_x, b_x, -b_x.conj(), a_x.conj()])
    values_sx = values_sx.astype(layout.dtype)
    for p in np.flatnonzero(pairs.onsite_p):
        block = pairs.block(values_sx, p)
        mirrored = block.conj().swapaxes(1, 2)
        mirrored = mirrored[[0, 2, 1, 3]] if layout is Spin.SPINOR else mirrored
        values_sx[:, pairs.start_p[p] : pairs.start_p[p + 1]] = ((block + mirrored) / 2).reshape(len(block), -1)
    return Operator(values_sx)
