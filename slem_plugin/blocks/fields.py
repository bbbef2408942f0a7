"""Fields: an operator of any spin layout as real matrices, each a spin scalar or a spin vector.

none       one symmetric scalar
collinear  two symmetric scalars: the mean of both spins and half their difference
spinor     O = O_0 + O_x sx + O_y sy + O_z sz: Re O_0 and Im O_v, which are all there is under time reversal,
           then Im O_0 and Re O_v where the data breaks it

Nothing in a structure says where moments point, so those of a magnet cannot be learned as a vector. Where they point along one
axis n, Re O_v is n times a scalar, which is learned in place of Im O_0 and Re O_v. H of a local functional has no more: its Im O_0
vanishes, and its Im O_v is of the atoms. Of DM, and of H with exact exchange, a part is left out that spin-orbit coupling makes of the moments.

Vectors are in the order (y, z, x) of our l = 1 harmonics; they are axial.
"""

from typing import NamedTuple

import numpy as np

from basis import Array
from basis.rotations import CYCLE
from basis.spin import Spin, from_pauli, to_pauli


class Field(NamedTuple):
    """A real matrix field: 1 (scalar) or 3 (vector) values per element, and O_ji = hermitian * O_ij^T."""

    width: int
    hermitian: int


SCALAR, VECTOR = 1, 3
UNCYCLE = np.argsort(CYCLE)


def fields_of(spin: Spin, time_reversal: bool, aligned: bool = False) -> tuple[Field, ...]:
    """Fields of an operator with this spin layout; `aligned` are moments along one axis."""
    if spin is not Spin.SPINOR:
        return (Field(SCALAR, 1),) * spin.components
    even = (Field(SCALAR, 1), Field(VECTOR, -1))
    if aligned:
        return (*even, Field(SCALAR, 1))
    return even if time_reversal else (*even, Field(SCALAR, -1), Field(VECTOR, 1))


def to_fields(values_sx: Array, spin: Spin, time_reversal: bool, axis_v: Array | None = None) -> Array:
    """Rows of all fields, shape (sum of widths, elements), of the components of an operator; those of moments along an axis where one is given."""
    if spin is Spin.NONE:
        return values_sx
    if spin is Spin.COLLINEAR:
        up_x, down_x = values_sx
        return np.stack([(up_x + down_x) / 2, (up_x - down_x) / 2])
    O_0x, O_vx = np.split(to_pauli(values_sx), [1])
    if axis_v is not None:
        return np.concatenate([O_0x.real, O_vx[CYCLE].imag, axis_v[None] @ O_vx.real])
    O_vx = O_vx[CYCLE]
    rows = [O_0x.real, O_vx.imag] if time_reversal else [O_0x.real, O_vx.imag, O_0x.imag, O_vx.real]
    return np.concatenate(rows)


def from_fields(rows_fx: Array, spin: Spin, time_reversal: bool, axis_v: Array | None = None) -> Array:
    """Components of an operator of the rows of its fields; the inverse of `to_fields`."""
    if spin is Spin.NONE:
        return rows_fx
    if spin is Spin.COLLINEAR:
        mean_x, half_x = rows_fx
        return np.stack([mean_x + half_x, mean_x - half_x])
    O_0x, O_vx = rows_fx[:1].astype(complex), 1j * rows_fx[1:4]
    if axis_v is not None:
        O_vx[UNCYCLE] += np.outer(axis_v, rows_fx[4])
    elif not time_reversal:
        O_0x, O_vx = O_0x + 1j * rows_fx[4:5], O_vx + rows_fx[5:8]
    return from_pauli(np.concatenate([O_0x, O_vx[UNCYCLE]]))


def breaks_time_reversal(values_sx: Array, tolerance: float, current: float | None = None) -> bool:
    """Whether a spinor operator has parts that time reversal forbids, above `tolerance`, those without spin above `current`."""
    O_sx = to_pauli(values_sx)
    most = tolerance if current is None else current
    return bool(np.abs(O_sx[1:].real).max(initial=0) > tolerance or np.abs(O_sx[0].imag).max(initial=0) > most)
