"""Spin components: from the files of each spin, or one matrix whose fastest index is the spin, to components over orbitals."""

from dataclasses import replace

import numpy as np

from basis.spin import Spin
from converters.abacus.convention import density_from_pauli
from converters.abacus.csr import Step
from converters.frames.blocks import Elements


def join_spins(name: str, steps: list[Step], spin: Spin) -> Elements:
    """One matrix with all spin components of the files of a step."""
    if spin is Spin.SPINOR:
        spinor = split_spinor(steps[0].matrix)
        if name == "S":
            return replace(spinor, values_se=spinor.values_se[:1].real)
        values_se = density_from_pauli(spinor.values_se) if name == "DM" else spinor.values_se.astype(complex)
        return replace(spinor, values_se=values_se)
    first = steps[0].matrix
    if any(np.iscomplexobj(step.matrix.values_se) for step in steps):
        raise ValueError(f"{name} has complex numbers; expected real ones unless nspin is 4")
    if len(steps) == 1 or name == "S":
        return first
    return merge(first, steps[1].matrix)


def split_spinor(matrix: Elements) -> Elements:
    """A matrix whose fastest index is the spin, as four components over orbitals."""
    norb = int(max(matrix.row_e.max(initial=0), matrix.column_e.max(initial=0))) // 2 + 1
    row_e, column_e = matrix.row_e // 2, matrix.column_e // 2
    component_e = 2 * (matrix.row_e % 2) + matrix.column_e % 2
    key_e = (matrix.t_e * norb + row_e) * norb + column_e
    key_q, q_e = np.unique(key_e, return_inverse=True)
    values_sq = np.zeros((4, len(key_q)), dtype=matrix.values_se.dtype)
    values_sq[component_e, q_e.ravel()] = matrix.values_se[0]
    rest_q, column_q = np.divmod(key_q, norb)
    t_q, row_q = np.divmod(rest_q, norb)
    return Elements(row_q, column_q, t_q, matrix.R_tc, values_sq)


def merge(up: Elements, down: Elements) -> Elements:
    """Two spins, whose files leave out other small elements, as one matrix of two components."""
    R_tc, t_t = np.unique(np.concatenate([up.R_tc, down.R_tc]), axis=0, return_inverse=True)
    t_up, t_down = np.split(t_t.ravel(), [len(up.R_tc)])
    t_e = np.concatenate([t_up[up.t_e], t_down[down.t_e]])
    row_e, column_e = np.concatenate([up.row_e, down.row_e]), np.concatenate([up.column_e, down.column_e])
    norb = int(max(row_e.max(initial=0), column_e.max(initial=0))) + 1
    key_q, q_e = np.unique((t_e * norb + row_e) * norb + column_e, return_inverse=True)
    values_sq = np.zeros((2, len(key_q)))
    values_sq[np.repeat([0, 1], [len(up.row_e), len(down.row_e)]), q_e.ravel()] = np.concatenate(
        [up.values_se[0], down.values_se[0]]
    )
    rest_q, column_q = np.divmod(key_q, norb)
    t_q, row_q = np.divmod(rest_q, norb)
    return Elements(row_q, column_q, t_q, R_tc, values_sq)
