"""nablaDFT: H and S of Psi4 (wB97X-D, def2-SVP) for drug-like molecules; its HamiltonianDatabase, in single precision.

The table `data` has Z, R (Bohr), E (Hartree), F, H (Hartree), S and the core Hamiltonian C as raw buffers. Orbitals are in Psi4's order.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from basis.units import BOHR, HARTREE
from converters.codes.databases import columns_of, row_run, rows_of
from converters.codes.readonly import find_functions, read_functions, refuse_to_write
from converters.codes.run import Run
from converters.frames.frame import Frame, Outcome
from converters.pyscf.dense import frame_of, molecule_of
from converters.pyscf.orders import psi4

__all__ = ["find_functions", "find_runs", "read_functions", "read_run", "write_matrices"]

NAME = "nabladft"
READ = ("Z", "R", "E", "H", "S")
write_matrices = refuse_to_write("nablaDFT")


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """A run for each row of a database of this kind."""
    for path in files:
        if {*READ, "C"} <= set(columns_of(path)):
            yield from rows_of(NAME, path, READ)


def read_run(run: Run) -> Iterator[Frame]:
    """The molecule of a row."""
    run = row_run(run)
    numbers_a = run.array("Z", ("i4",), -1).astype(int)
    positions_av = run.array("R", ("f4",), len(numbers_a), 3).astype(float) * BOHR
    molecule = molecule_of(run, numbers_a, positions_av)
    matrices = {name: run.array(name, ("f4",), molecule.nao_nr(), molecule.nao_nr()) for name in ("H", "S")}
    energy = run.number("E")
    outcome = Outcome(energy=None if energy is None else energy * HARTREE, electrons=float(np.sum(numbers_a)))
    yield frame_of(run, molecule, matrices, psi4, outcome, method="RKS", xc="wb97x-d")
