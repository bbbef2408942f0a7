"""PySCF: frames from SCF objects and from checkpoint files, and back to checkpoint files and starting densities.

A converged PySCF run diagonalised one last Fock matrix; its orbitals C and energies e are what it reports. H is that
matrix, restored as F = S C e C^dagger S, so (H, S) gives PySCF's own orbital energies and DM = C f C^dagger is exactly
the density of its levels. Only a run that dropped linearly dependent orbitals has its Fock matrix built anew.

Matrices of a k mesh are folded: H(R) = 1/N sum_k exp(-2 pi i k.R) H(k) knows R only up to the supercell of the mesh.
Each block goes to the image where its two atoms are closest, in equal parts where several are equally close.
"""

from converters.pyscf.dm0 import guess_density
from converters.pyscf.molecule import read_functions
from converters.pyscf.read import find_functions, find_runs, frame_from_scf, read_run
from converters.pyscf.write import starting_density, write, write_matrices

__all__ = [
    "find_functions",
    "find_runs",
    "frame_from_scf",
    "guess_density",
    "read_functions",
    "read_run",
    "starting_density",
    "write",
    "write_matrices",
]
