"""How far levels and electrons are off when matrices are: what the few digits of H and S in a file do to the levels of (H, S) and to Tr(DM S)."""

from dataclasses import replace

import numpy as np
from scipy import linalg

from basis import Array
from converters.frames.frame import Frame
from converters.physics import kspace


def level_roundings(frame: Frame, kpoints_kc: Array, relative: float) -> Array:
    """The most (eV) by which each level is off when each stored element of H and S is by no more than this part of itself.

    To first order e_n moves by c_n^dagger (dH - e_n dS) c_n. Where S is nearly singular the coefficients of some orbitals are large: one
    level far above all others then moves a hundred thousand times as much as the elements. Shape (spin channel, k, band).
    """
    sizes = {
        name: replace(operator, values_sx=relative * np.abs(operator.values_sx).astype(operator.values_sx.dtype))
        for name, operator in frame.operators.items()
        if name in ("H", "S")
    }
    # Sums of sizes at Gamma bound those with any phases.
    (errors,) = kspace.hamiltonian_and_overlap(replace(frame, operators=sizes), np.zeros((1, 3)))
    off_ksn = []
    for channels in kspace.hamiltonian_and_overlap(frame, kpoints_kc):
        off_sn = []
        for (H_MM, S_MM), (dH_MM, dS_MM) in zip(channels, errors, strict=True):
            e_n, c_Mn = linalg.eigh(H_MM, S_MM, check_finite=False)
            size_Mn = np.abs(c_Mn)
            off_sn.append(
                sum(
                    weight_n * np.einsum("Mn,MN,Nn->n", size_Mn, np.abs(d_MM), size_Mn, optimize=True)
                    for weight_n, d_MM in ((1.0, dH_MM), (np.abs(e_n), dS_MM))
                )
            )
        off_ksn.append(off_sn)
    return np.array(off_ksn).swapaxes(0, 1)


def electron_rounding(frame: Frame) -> float:
    """The most by which Tr(DM S) is off by the few digits of S."""
    if frame.spectrum is None or not frame.spectrum.matrix_rounding:
        return 0.0
    sizes = {
        name: replace(operator, values_sx=np.abs(operator.values_sx).astype(operator.values_sx.dtype))
        for name, operator in frame.operators.items()
        if name in ("S", "DM")
    }
    return frame.spectrum.matrix_rounding * float(kspace.count_electrons(replace(frame, operators=sizes)).sum())
