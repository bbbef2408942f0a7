"""How far levels move when k-points do: what the few digits of printed k-points do to the levels at them."""

import numpy as np
from scipy import linalg, sparse

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.physics import kspace

# The derivatives of the expansion to second order, and how often each is counted.
AXES = (
    *(((c,), 1.0) for c in range(3)),
    *(((c, c), 0.5) for c in range(3)),
    *(((c, d), 1.0) for c, d in ((0, 1), (0, 2), (1, 2))),
)
TINY = 1e-300


def level_moves(frame: Frame, kpoints_kc: Array, error: float) -> Array:
    """The most (eV) by which each level can move when every fraction of its k-point moves by no more than `error`.

    The move couples the levels n and m by v_nm = |c_n^dagger (dH - e_n dS) c_m|, where dO is the sum over the axes of the first and second
    derivatives of O(k). The diagonal is the slope of a level (Hellmann and Feynman) and its curvature; another level at a distance g
    shifts it by at most v, and by v^2 / g where that is less. Shape (spin channel, k, band).
    """
    moves_ksn = []
    for k_c, channels in zip(kpoints_kc, kspace.hamiltonian_and_overlap(frame, kpoints_kc), strict=True):
        levels = [linalg.eigh(H_MM, S_MM, check_finite=False) for H_MM, S_MM in channels]
        v_snm = [np.zeros((len(e_n), len(e_n))) for e_n, _ in levels]
        for axes, times in AXES:
            dH_sMM, dS_sMM = (derivative_at(frame, name, k_c, axes) for name in ("H", "S"))
            for (e_n, c_Mn), v_nm, dH_MM in zip(levels, v_snm, dH_sMM, strict=True):
                dH_nm, dS_nm = (c_Mn.conj().T @ d_MM @ c_Mn for d_MM in (dH_MM, dS_sMM[0]))
                v_nm += times * error ** len(axes) * np.abs(dH_nm - e_n[:, None] * dS_nm)
        gaps = [np.abs(np.subtract.outer(e_n, e_n)) for e_n, _ in levels]
        moves_ksn.append(
            [
                (v_nm * np.minimum(1, v_nm / np.maximum(gap_nm, TINY))).sum(axis=1)
                for v_nm, gap_nm in zip(v_snm, gaps, strict=True)
            ]
        )
    return np.array(moves_ksn).swapaxes(0, 1)


def derivative_at(frame: Frame, name: str, kpoint_c: Array, axes: tuple[int, ...]) -> list[Array]:
    """A derivative of O(k) along some axes as `kspace.dense_at` gives O(k): sum_R (2 pi i R_c) .. exp(2 pi i k.R) O(R)."""
    pairs, layout, shape = frame.pairs, frame.layout(name), (frame.norb, frame.norb)
    factor_p = kspace.phases(frame, kpoint_c) * (2j * np.pi * pairs.R_pc[:, axes]).prod(axis=1)
    values_sx = frame.operators[name].values_sx * factor_p[pairs.pair_x]
    parts = [sparse.coo_array((values_x, pairs.row_column_x), shape=shape).toarray() for values_x in values_sx]
    halves = [np.block([parts[:2], parts[2:]])] if layout is Spin.SPINOR else parts
    whole = [
        half_MM + half_MM.conj().T for half_MM in halves
    ]  # blocks that have no partner, those of R = 0, have no slope
    return [np.kron(np.eye(2), whole[0])] if name == "S" and frame.spin is Spin.SPINOR else whole
