"""ABACUS's own files of a frame: H, S and DM in the grammar of 3.11 (init_chg dm or hr start from them) or of 3.8."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis.conventions import to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from converters.abacus.convention import BOHR, RYDBERG, convention, pauli_from_density
from converters.abacus.csr import write_new, write_old
from converters.abacus.text import cells_moved
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, both_halves, reorder_elements
from converters.frames.frame import Frame
from converters.starts.fit import reorder_atoms
from converters.starts.start import Options

KINDS = {
    "H": "H matrix in real space H(R)",
    "S": "S matrix in real space S(R)",
    "DM": "density matrix in real space DM(R)",
}


def write_matrices(frame: Frame, folder: Path, options: Options) -> list[Path]:
    """All matrices of a frame, for the version that is to read them."""
    return write(frame, folder, generation=generation(options.version))


def generation(version: str) -> str:
    """The grammar that a version reads: "3.8" (to 3.9.0.24, and the 3.10 LTS, which branched off before) or "3.11"."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:4])
    return "3.8" if numbers and (numbers < (3, 9, 0, 25) or numbers[:2] == (3, 10)) else "3.11"


def write(frame: Frame, folder: Path, *, generation: str = "3.11", digits: int = 12) -> list[Path]:
    """Write what the frame holds into a folder (read_file_dir of the next run); returns the files."""
    if generation not in ("3.11", "3.8"):
        raise Refused(Kind.UNSUPPORTED, folder, f"cannot be written for ABACUS {generation}", "3.11 or 3.8")
    if (np.diff(frame.species_a) < 0).any():
        raise Refused(
            Kind.UNSUPPORTED,
            folder,
            "would not fit: ABACUS groups atoms by species, and the frame does not; sort its atoms first",
        )
    frame = reorder_atoms(frame, np.arange(frame.natoms), cells_moved(frame.positions_av, frame.cell_cv))
    header = structure(frame)
    written = []
    for name in frame.operators:
        matrices = stored(frame, name)
        for s, matrix in enumerate(matrices):
            dimension = frame.norb * (2 if frame.spin is Spin.SPINOR else 1)
            if generation == "3.11":
                stem = {"H": f"hrs{s + 1}", "S": "srs1", "DM": f"dmrs{s + 1}"}[name]
                path = folder / f"{stem}_nao.csr"
                write_new(path, KINDS[name], matrix, dimension, header, len(matrices), s + 1, digits)
            else:
                path = folder / f"data-{name}R-sparse_SPIN{s}.csr"
                write_old(path, name, matrix, dimension, digits)
            written.append(path)
    return written


def stored(frame: Frame, name: str) -> list[Elements]:
    """The matrix of each file of an operator, in ABACUS's orbitals, units and spin components."""
    order, signs = to_standard(cell_shells(frame.basis, frame.species_a), convention)
    ours = both_halves(frame.pairs, frame.operators[name], frame.layout(name))
    back = reorder_elements(ours, np.argsort(order), signs[np.argsort(order)])
    values_se = back.values_se / (RYDBERG if name == "H" else 1.0)
    if frame.spin is not Spin.SPINOR:
        return [replace(back, values_se=value_e[None]) for value_e in values_se]
    if name == "S":
        zero = np.zeros_like(values_se[0])
        values_se = np.stack([values_se[0], zero, zero, values_se[0]]).astype(complex)
    elif name == "DM":
        values_se = pauli_from_density(values_se)
    return [join_spinor(replace(back, values_se=values_se))]


def join_spinor(matrix: Elements) -> Elements:
    """Four components over orbitals as one matrix whose fastest index is the spin."""
    count = len(matrix.row_e)
    up = np.repeat([0, 0, 1, 1], count)
    right = np.repeat([0, 1, 0, 1], count)
    row_e = 2 * np.tile(matrix.row_e, 4) + up
    column_e = 2 * np.tile(matrix.column_e, 4) + right
    return Elements(row_e, column_e, np.tile(matrix.t_e, 4), matrix.R_tc, matrix.values_se.reshape(1, -1))


def structure(frame: Frame) -> str:
    """The structure in the header of a matrix file: cell, species and fractional positions."""
    cell = "\n".join(" " + " ".join(f"{x:.6g}" for x in vector) for vector in frame.cell_cv / BOHR)
    present = sorted(set(frame.species_a.tolist()))
    names = " ".join(frame.basis[s].name for s in present)
    counts = " ".join(str(int((frame.species_a == s).sum())) for s in present)
    fractional_ac = np.linalg.solve(frame.cell_cv.T, frame.positions_av.T).T
    positions = "\n".join(" " + " ".join(f"{x:.15g}" for x in row) for row in fractional_ac)
    return f" user_defined_lattice\n {BOHR}\n{cell}\n {names}\n {counts}\n Direct\n{positions}"
