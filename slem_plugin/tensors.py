"""Frames as tensors, for models of your own."""

from collections.abc import Mapping

import torch
from torch import Tensor

from converters.frames.frame import Frame


def to_torch(frame: Frame, dtype: torch.dtype = torch.float64) -> Mapping[str, Tensor]:
    """The arrays of a frame as tensors: numbers, positions, cell, i, j, R of its pairs, and the packed elements of each matrix.

    `H`, `S` and `DM` have the shape (spin component, element); the block of pair p begins at `start[p]` and has the orbitals of `i[p]` as
    rows. Real numbers get `dtype`, complex ones the complex type of the same precision.
    """
    arrays = {
        "numbers": frame.numbers_a,
        "positions": frame.positions_av,
        "cell": frame.cell_cv,
        "i": frame.pairs.i_p,
        "j": frame.pairs.j_p,
        "R": frame.pairs.R_pc,
        "start": frame.pairs.start_p,
        "orbitals": frame.pairs.norb_a,
        **{name: operator.values_sx for name, operator in frame.operators.items()},
    }
    return {name: of_precision(torch.from_numpy(array.copy()), dtype) for name, array in arrays.items()}


def of_precision(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
