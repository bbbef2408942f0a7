"""FHI-aims: real-space matrices of crystals and the matrices of molecules, read and not written.

Facts that the files do not tell:

- The code moves every atom into the cell about the origin before it counts cells, and says nothing of it in geometry.in.
- An element of row i, column j and cell R is <phi_i in cell R | O | phi_j in cell 0>; of the two halves one is stored.
- All electrons have levels, and integrals are sums over grids about the atoms: S_ii differs from 1 by up to 3e-3.
- Spin-orbit coupling is added to the levels after the SCF: H is without it.
"""

from converters.aims.doors import find_functions, read_functions, write_matrices
from converters.aims.files import find_runs
from converters.aims.read import read_run

__all__ = ["find_functions", "find_runs", "read_functions", "read_run", "write_matrices"]
