"""QH9: H of PySCF (B3LYP, def2-SVP) for the molecules of QM9; QH9Stable.db in Angstrom, QH9Dynamic*.db in Bohr.

The table `data` has N, Z, pos, Ham as raw buffers, and for the dynamic ones geo_id, energies in Hartree and `converged` too. Orbitals are in PySCF's order.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from basis.units import BOHR, HARTREE
from converters.codes.databases import columns_of, row_run, rows_of
from converters.codes.readonly import find_functions, read_functions, refuse_to_write
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame, Outcome
from converters.pyscf.dense import frame_of, molecule_of
from converters.pyscf.molecule import convention

__all__ = ["find_functions", "find_runs", "read_functions", "read_run", "write_matrices"]

NAME = "qh9"
NEEDED = {"N", "Z", "pos", "Ham"}
write_matrices = refuse_to_write("QH9")


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """A run for each row of a database of this kind."""
    for path in files:
        columns = columns_of(path)
        if set(columns) >= NEEDED:
            yield from rows_of(NAME, path, columns)


def read_run(run: Run) -> Iterator[Frame]:
    """The molecule of a row."""
    run = row_run(run)
    natoms = int(run.number("N") or 0)
    if not 0 < natoms < 10_000:
        raise Refused(Kind.DAMAGED, run.place, f"has {run.values['N']!r} atoms")
    moving = "geo_id" in run.values
    numbers_a = run.array("Z", ("i4", "i8", "u1"), natoms).astype(int)
    positions_av = run.array("pos", ("f8", "f4"), natoms, 3).astype(float) * (BOHR if moving else 1)
    molecule = molecule_of(run, numbers_a, positions_av)
    H_MM = run.array("Ham", ("f8",), molecule.nao_nr(), molecule.nao_nr())
    energy, converged = run.number("epot"), run.number("converged")
    outcome = Outcome(
        energy=None if energy is None else energy * HARTREE,
        electrons=float(np.sum(numbers_a)),
        converged=None if converged is None else bool(converged),
    )
    yield frame_of(run, molecule, {"H": H_MM}, convention, outcome, method="RKS", xc="b3lyp")
