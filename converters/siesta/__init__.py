"""SIESTA: TSHS, HSX, DM, TSDE, onlyS, H_DMGEN and nc files, and back to the files from which SIESTA restarts.

Facts that the code's manual does not tell:

- Real harmonics carry (-1)^m, and polarisation shells come last in an atom.
- SIESTA hands the upper triangle of M(k) to its solver. The stored halves differ by 1e-9, which near-singular overlaps
  turn into 1e-5 eV, so the same triangle is taken here.
- The element of a spin-orbit H at (row i, column jR) is <j R s|H|i 0 s'>, the Hermitian conjugate of what one expects; that of
  the density matrix is rho(i 0 s, j R s') itself. Versions may differ: the sum over occupied levels decides.
"""

from converters.siesta.orbitals import find_functions, read_functions
from converters.siesta.read import find_runs, read_run
from converters.siesta.write import write, write_matrices

__all__ = [
    "find_functions",
    "find_runs",
    "read_functions",
    "read_run",
    "write",
    "write_matrices",
]
