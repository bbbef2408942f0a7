"""Frames with made-up matrices, and what happens to them when the structure is turned.

The matrices are smooth local functions of the structure, so that a model has something to learn.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy import linalg

from basis import Array
from basis.rotations import spin_rotation, wigner
from basis.shells import Shell, Species, parse_shells
from basis.spin import TRANSPOSED, Spin
from converters.frames.blocks import Operator, Pairs
from converters.frames.frame import Frame, Outcome, Provenance
from converters.frames.neighbours import Structure, find_pairs

CUTOFF = 4.0
# Blocks of both halves of a matrix by (i, j, R).
Blocks: TypeAlias = dict[tuple[int, int, tuple[int, ...]], Array]


def two_species(shells: str) -> tuple[Species, ...]:
    """A basis of silicon with these shells and oxygen with a few."""
    return (Species("Si", 14, parse_shells(shells), "a"), Species("O", 8, parse_shells("2s1p"), "b"))


def random_structure(
    seed: int = 0, natoms: int = 6, size: float = 5.0, pbc: Sequence[bool] = (True, True, False)
) -> Structure:
    """Atoms at random places in a skew cell that is shorter than the cutoff."""
    random = np.random.default_rng(seed)
    cell_cv = size * (np.eye(3) + 0.1 * random.normal(size=(3, 3)))
    positions_av = random.random((natoms, 3)) @ cell_cv
    return Structure(cell_cv, np.array(pbc), positions_av, np.arange(natoms) % 2)


def made_frame(
    structure: Structure,
    basis: tuple[Species, ...],
    spin: Spin,
    code: str = "made",
    seed: int = 0,
    cutoff_ss: Array | None = None,
) -> Frame:
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


def like_an_overlap(pairs: Pairs, operator: Operator) -> Operator:
    """The same numbers, smaller, with ones on the diagonal."""
    row_x, column_x = pairs.row_column_x
    return Operator(0.1 * operator.values_sx + (pairs.onsite_p[pairs.pair_x] & (row_x == column_x)))


def made_operator(random: np.random.Generator, pairs: Pairs, layout: Spin, fall_x: Array) -> Operator:
    values_sx = random.normal(size=(layout.components, pairs.elements)) * fall_x
    if layout is Spin.SPINOR:
        # Time reversal: uu = dd*, ud = -du*.
        a_x, b_x = (random.normal(size=(2, 2, pairs.elements)) * fall_x).swapaxes(0, 1)
        a_x, b_x = a_x[0] + 1j * a_x[1], b_x[0] + 1j * b_x[1]
        values_sx = np.stack([a_x, b_x, -b_x.conj(), a_x.conj()])
    values_sx = values_sx.astype(layout.dtype)
    for p in np.flatnonzero(pairs.onsite_p).tolist():
        block = pairs.block(values_sx, p)
        mirrored = block.conj().swapaxes(1, 2)
        mirrored = mirrored[[0, 2, 1, 3]] if layout is Spin.SPINOR else mirrored
        values_sx[:, pairs.start_p[p] : pairs.start_p[p + 1]] = ((block + mirrored) / 2).reshape(len(block), -1)
    return Operator(values_sx)


def blocks_of(frame: Frame, name: str) -> Blocks:
    """Both halves: {(i, j, R): block}."""
    layout = frame.layout(name)
    blocks: Blocks = {}
    for p in range(len(frame.pairs)):
        i, j, R = int(frame.pairs.i_p[p]), int(frame.pairs.j_p[p]), tuple(frame.pairs.R_pc[p].tolist())
        block = frame.block_of_pair(name, p)
        blocks[i, j, R] = block
        blocks[j, i, tuple(-x for x in R)] = block[TRANSPOSED[layout]].conj().swapaxes(1, 2)
    return blocks


def turned_blocks(frame: Frame, name: str, Q: Array) -> Blocks:
    """Both halves of a matrix of the structure turned by Q."""
    shells_a = [frame.basis[s].shells for s in frame.species_a]
    layout = frame.layout(name)
    blocks = blocks_of(frame, name).items()
    return {key: rotate_block(block, shells_a[key[0]], shells_a[key[1]], Q, layout) for key, block in blocks}


def largest_difference(here: Mapping[tuple[int, int, tuple[int, ...]], Array], there: Blocks) -> float:
    """The largest difference of two sets of the same blocks."""
    assert here.keys() == there.keys()
    return float(max(np.abs(here[key] - there[key]).max() for key in here))


def random_rotation(seed: int, improper: bool = False) -> Array:
    """A rotation, or one with inversion."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    Q *= np.sign(np.linalg.det(Q))
    return -Q if improper else Q


def rotate_block(block_sMM: Array, shells_i: Sequence[Shell], shells_j: Sequence[Shell], Q: Array, spin: Spin) -> Array:
    """A block of a structure that was turned by Q, element for element from the definition."""
    D_i, D_j = (linalg.block_diag(*(wigner(shell.l, Q) for shell in shells)) for shells in (shells_i, shells_j))
    turned = np.einsum("ab,sbc,dc->sad", D_i, block_sMM, D_j)
    if spin is Spin.SPINOR and len(block_sMM) == 4:
        U = spin_rotation(Q)
        matrix = turned.reshape(2, 2, *turned.shape[1:])
        turned = np.einsum("st,tuac,vu->svac", U, matrix, U.conj()).reshape(turned.shape)
    return turned
