"""Matrices of a cell made of packed blocks: O(k) as sparse matrices, O(R) as dense ones, one block in either direction."""

from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.spin import TRANSPOSED, Spin
from converters.frames.blocks import Operator, Pairs, canonical

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def matrices_at(pairs: Pairs, operator: Operator, layout: Spin, kpoint_c: Array) -> "list[csr_array]":
    """O(k) of each spin component: O(k) = sum_R exp(+2 pi i k.R) O(R), k in fractions of the reciprocal vectors."""
    from scipy.sparse import coo_array  # takes longer than all else that reads a file

    phase_p = np.exp(2j * np.pi * (pairs.R_pc @ np.asarray(kpoint_c, dtype=float)))
    phased_sx = operator.values_sx * phase_p[pairs.pair_x]
    row_x, column_x = pairs.row_column_x
    offsite_x = ~pairs.onsite_p[pairs.pair_x]
    rows = np.concatenate([row_x, column_x[offsite_x]])
    columns = np.concatenate([column_x, row_x[offsite_x]])
    mirrored_sx = phased_sx[TRANSPOSED[layout]].conj()[:, offsite_x]
    values_sx = np.concatenate([phased_sx, mirrored_sx], axis=1)
    norb = int(pairs.norb_a.sum())
    return [coo_array((values_x, (rows, columns)), shape=(norb, norb)).tocsr() for values_x in values_sx]


def matrices_by_cell(pairs: Pairs, operator: Operator, layout: Spin) -> tuple[Array, Array]:
    """The lattice vectors R of a matrix, and its dense O(R) at each: shape (R, spin component, orbital, orbital)."""
    R_tc, t_q = np.unique(np.concatenate([pairs.R_pc, -pairs.R_pc]), axis=0, return_inverse=True)
    t_p, partner_t_p = np.split(t_q.ravel(), 2)
    row_x, column_x = pairs.row_column_x
    norb = int(pairs.norb_a.sum())
    M_tsMM = np.zeros((len(R_tc), layout.components, norb, norb), dtype=operator.values_sx.dtype)
    M_tsMM[partner_t_p[pairs.pair_x], :, column_x, row_x] = operator.values_sx[TRANSPOSED[layout]].conj().T
    M_tsMM[t_p[pairs.pair_x], :, row_x, column_x] = operator.values_sx.T
    return R_tc, M_tsMM


def block_between(pairs: Pairs, operator: Operator, layout: Spin, i: int, j: int, R_c: Array) -> Array | None:
    """<phi_i in cell 0 | O | phi_j in cell R>, shape (spin components, orbitals of i, orbitals of j); None where no block is stored.

    Where only (j, i, -R) is stored, it is the adjoint of that block.
    """
    i_q, j_q, R_qc, swapped_q = canonical(np.array([i]), np.array([j]), R_c.reshape(1, 3))
    p = int(pairs.find(i_q, j_q, R_qc)[0]) if len(pairs) else -1
    if p < 0:
        return None
    block = pairs.block(operator.values_sx, p)
    return block[TRANSPOSED[layout]].conj().swapaxes(1, 2) if swapped_q[0] else block
