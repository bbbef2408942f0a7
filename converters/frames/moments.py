"""The axis along which the moments of a spinor frame point, and what of its matrices does not point along it."""

from dataclasses import dataclass, replace

import numpy as np

from basis import Array
from basis.spin import Spin, from_pauli, to_pauli
from converters.frames.frame import Frame

# A spinor H or DM has moments where its largest such element (eV, electrons) is above this: runs that begin with moments and end without any
# leave as much as their criterion lets pass.
MAGNETIC = 2e-3
# What a field does to H without spin; no SCF leaves such a part.
CURRENT = 1e-5
# Mean moments of a species below this part of the largest say no sign: neighbours of magnets have smaller ones.
CLEAR = 0.25
# Moments point along one axis where no more than this part of what time reversal forbids is across it.
MOST_ACROSS = 0.1
# Models whose moments point along one axis predict no more than this part across it: the digits of what they computed with.
PREDICTED_ACROSS = 1e-4
# Predicted moments point along this, until they are turned.
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments along one axis, how large they are (the norm of all elements), and what time reversal forbids across the axis and without spin, as a part of that.

    Which end of the axis is up is a convention, for a magnet turned over is the same: the first species with a moment has it up.
    """

    axis_v: Array
    size: float
    across: float


def moments_of(frame: Frame) -> Moments | None:
    """The moments of a spinor frame, as its H says them, else its DM; None where it has none."""
    name = magnetic_operator(frame)
    if frame.spin is not Spin.SPINOR or not name:
        return None
    O_sx = to_pauli(frame.operators[name].values_sx)
    spin_vx, current_x = O_sx[1:].real, O_sx[0].imag
    if not MAGNETIC <= np.abs(spin_vx).max(initial=0) < np.inf:  # numbers that are none say nothing
        return None
    square_n, axes_vn = np.linalg.eigh(spin_vx @ spin_vx.T)
    axis_v = axes_vn[:, -1]
    across = max(float(square_n[:2].sum() + current_x @ current_x), 0.0)
    size = float(square_n[-1]) ** 0.5
    return Moments(axis_v * sign_of_first(frame, axis_v), size, across**0.5 / size)


def magnetic_operator(frame: Frame) -> str:
    return next((name for name in ("H", "DM") if name in frame.operators), "")


def onsite_moments(frame: Frame, axis_v: Array = UP) -> Array:
    """The moment of each atom of a spinor frame along an axis, as the diagonal of its H says it (eV), else that of its DM."""
    name = magnetic_operator(frame)
    row_x, column_x = frame.pairs.row_column_x
    x = np.flatnonzero(frame.pairs.onsite_p[frame.pairs.pair_x] & (row_x == column_x))
    along_x = axis_v @ to_pauli(frame.operators[name].values_sx[:, x])[1:].real
    sign = -1 if name == "H" else 1  # levels of spin up are lower
    return sign * np.bincount(frame.pairs.i_p[frame.pairs.pair_x[x]], along_x, frame.natoms)


def sign_of_first(frame: Frame, axis_v: Array) -> float:
    """The sign of the moments of the first species that has any on average, else of the first atom."""
    moment_a, species_s = onsite_moments(frame, axis_v), range(len(frame.basis))
    mean_s = np.bincount(frame.species_a, moment_a, len(species_s)) / np.maximum(
        np.bincount(frame.species_a, minlength=len(species_s)), 1
    )
    said = [m for m in (*mean_s, *moment_a) if abs(m) > CLEAR * np.abs(moment_a).max()]
    return -1.0 if said and said[0] < 0 else 1.0


def along(theta: float, phi: float) -> Array:
    """The direction of two angles in degrees, from z and in the plane of x and y."""
    polar, azimuth = np.radians([theta, phi])
    return np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])


def along_one_axis(moments_av: Array) -> tuple[Array, Array] | None:
    """The axis along which given moments point, with the first of them up, and how much each has along it; None where they point in several directions."""
    square_n, axes_vn = np.linalg.eigh(moments_av.T @ moments_av)
    if square_n[:2].sum() > MOST_ACROSS**2 * square_n[-1]:
        return None
    axis_v = axes_vn[:, -1]
    along_a = moments_av @ axis_v
    first = along_a[np.abs(along_a) > CLEAR * np.abs(along_a).max()][:1].sum()
    return (-axis_v, -along_a) if first < 0 else (axis_v, along_a)


def with_moments_along(frame: Frame, axis_v: Array) -> Frame:
    """A predicted frame whose moments point along one axis, with those along another: what spin-orbit coupling does is tied to the lattice and stays."""
    moments = moments_of(frame) if frame.predicted else None
    if moments is None or moments.across > PREDICTED_ACROSS or np.allclose(axis_v, moments.axis_v):
        return frame
    operators = dict(frame.operators)
    for name in ("H", "DM"):
        if name not in operators:
            continue
        O_sx = to_pauli(operators[name].values_sx)
        O_sx[1:] = 1j * O_sx[1:].imag + np.outer(axis_v, moments.axis_v @ O_sx[1:].real)
        operators[name] = replace(operators[name], values_sx=from_pauli(O_sx))
    return replace(frame, operators=operators)


def spins_along(frame: Frame, axis_v: Array) -> Frame:
    """A spinor frame whose spins up and down are those along an axis; only their populations mean anything."""
    DM = frame.operators["DM"]
    O_sx = to_pauli(DM.values_sx)
    O_sx[3] = axis_v @ O_sx[1:]
    return replace(frame, operators={**frame.operators, "DM": replace(DM, values_sx=from_pauli(O_sx))})
