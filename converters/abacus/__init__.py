"""ABACUS (LCAO): matrices of all generations of its files, and back to the files from which it restarts.

Facts that the code's manual does not tell:

- `symmetry 1`, the default, writes a DM that is wrong where symmetry removed k-points, and passes every trace check. It is
  taken only if it is that of (H, S) element by element.
- The cell in matrix files has 6 digits: it comes from STRU.
- Spinors: the spin is the fastest index of a matrix; DM holds only the real Pauli components. Some versions of 3.11 write a
  spinor H that is not Hermitian, older versions use another sign of sigma_y.
"""

from converters.abacus.files import find_runs
from converters.abacus.orbitals import find_functions, read_functions
from converters.abacus.read import read_run
from converters.abacus.write import write, write_matrices

__all__ = ["find_functions", "find_runs", "read_functions", "read_run", "write", "write_matrices"]
