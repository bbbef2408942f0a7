"""All matrices of a frame as plain arrays in one npz file, which numpy opens without pickle."""

from pathlib import Path

import numpy as np

from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, unpack_elements
from converters.frames.frame import Frame
from converters.starts.start import Options, Written


def write(frame: Frame, folder: Path, options: Options) -> Written:
    """slem.npz: elements of H, S and DM, sorted by lattice vector, row and column; both halves."""
    if not frame.operators:
        raise Refused(Kind.UNSUPPORTED, folder, "would be left empty: the frame holds no matrix")
    arrays = {
        "cell": frame.cell_cv,
        "pbc": frame.pbc_c,
        "positions": frame.positions_av,
        "numbers": frame.numbers_a,
        "orbital_atom": np.array([orbital.atom for orbital in frame.orbitals]),
        "orbital_n": np.array([orbital.shell.n for orbital in frame.orbitals]),
        "orbital_l": np.array([orbital.shell.l for orbital in frame.orbitals]),
        "orbital_m": np.array([orbital.m for orbital in frame.orbitals]),
        "orbital_name": np.array([str(orbital) for orbital in frame.orbitals]),
    }
    for name in frame.operators:
        whole = Operator(frame.operators[name].values_sx)  # an element that a code left out is a zero
        elements = unpack_elements(frame.pairs, whole, frame.layout(name))
        start_t = np.searchsorted(elements.t_e, np.arange(len(elements.R_tc) + 1))
        arrays |= {"R": elements.R_tc, "start": start_t, "row": elements.row_e, "column": elements.column_e}
        arrays[name] = elements.values_se
    path = folder / "slem.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return Written((path,), {})
