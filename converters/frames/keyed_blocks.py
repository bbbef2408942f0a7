"""Matrices as files of models keep them: a dense block for each (R1, R2, R3, i, j), spinor blocks with all up orbitals first."""

from pathlib import Path
from typing import TypeAlias

import numpy as np

from basis import Array
from basis.conventions import Convention, to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Pairs
from converters.frames.frame import Frame

# Blocks <phi_i in cell 0 | O | phi_j in cell R> by (R1, R2, R3, i, j), atoms from 0.
Blocks: TypeAlias = dict[tuple[int, ...], Array]


def elements_of(place: Path, name: str, blocks: Blocks, norb_a: Array, layout: Spin) -> Elements:
    """All elements of some blocks; a block whose partner is missing gets it."""
    keys = np.array(list(blocks))
    if not len(keys) or keys[:, 3:].min() < 0 or keys[:, 3:].max() >= len(norb_a) or np.abs(keys[:, :3]).max() > 10_000:
        raise Refused(
            Kind.DAMAGED, place, f"has blocks of {name} between atoms that do not exist", f"1 to {len(norb_a)}"
        )
    width = 2 if layout is Spin.SPINOR else 1
    whole: Blocks = {}
    for (*R, i, j), block in blocks.items():
        if name == "S" and block.shape == (2 * norb_a[i], 2 * norb_a[j]):
            block = block[: norb_a[i], : norb_a[j]].real  # written once for each spin
        if block.shape != (width * norb_a[i], width * norb_a[j]):
            wanted = (width * int(norb_a[i]), width * int(norb_a[j]))
            raise Refused(
                Kind.DAMAGED,
                place,
                f"has a block of {name} of shape {block.shape} for atoms {i + 1}, {j + 1}",
                f"{wanted}",
            )
        whole[(*R, i, j)] = block
        whole.setdefault((*(-r for r in R), j, i), block.conj().T)
    keys = np.array(list(whole))
    full = Pairs(keys[:, 3], keys[:, 4], keys[:, :3], norb_a)
    values_sx = np.concatenate(
        [spin_components(block, width).reshape(width**2, -1) for block in whole.values()], axis=1
    )
    row_x, column_x = full.row_column_x
    R_tc, t_p = np.unique(full.R_pc, axis=0, return_inverse=True)
    return Elements(row_x, column_x, t_p.ravel()[full.pair_x], R_tc, values_sx.astype(layout.dtype))


def spin_components(block: Array, width: int) -> Array:
    """The spin blocks (uu, ud, du, dd) of a block with all up orbitals first."""
    rows, columns = block.shape[0] // width, block.shape[1] // width
    return block.reshape(width, rows, width, columns).transpose(0, 2, 1, 3).reshape(width**2, rows, columns)


def blocks_of(frame: Frame, name: str, order: Convention) -> Blocks:
    """All blocks of an operator, both halves, in another orbital order."""
    layout = frame.layout(name)
    start = frame.pairs.orbital_start_a
    moves = np.argsort(to_standard(cell_shells(frame.basis, frame.species_a), order)[0])
    width = 2 if layout is Spin.SPINOR else 1
    blocks = {}
    for p in range(len(frame.pairs)):
        i, j, R = int(frame.pairs.i_p[p]), int(frame.pairs.j_p[p]), frame.pairs.R_pc[p].tolist()
        known_x = frame.operators[name].known_x
        if known_x is not None and not known_x[frame.pairs.start_p[p] : frame.pairs.start_p[p + 1]].any():
            continue
        rows, columns = (moves[start[a] : start[a + 1]] - start[a] for a in (i, j))
        block = frame.block_of_pair(name, p)[:, rows[:, None], columns]
        joined = block.reshape(width, width, *block.shape[1:]).transpose(0, 2, 1, 3).reshape(width * len(rows), -1)
        blocks[(*R, i, j)] = joined
        blocks[(*(-r for r in R), j, i)] = joined.conj().T
    return blocks
