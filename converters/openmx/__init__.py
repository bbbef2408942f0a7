"""OpenMX: .scfout files with their main output, and back to .scfout and the restart folder.

Facts that the code's manual does not tell:

- DM without spin is that of one spin; DM of a noncollinear run is the complex conjugate of the projector.
- H_ud = H[2] + i (H[3] + iH[2]); the iH count only with spin-orbit coupling or +U.
- The k-points are shifted by 1e-6, -1e-6, 2e-6; even meshes do not contain Gamma.
"""

from converters.openmx.orbitals import find_functions, read_functions
from converters.openmx.read import find_runs, read_run
from converters.openmx.write import write, write_matrices

__all__ = [
    "find_functions",
    "find_runs",
    "read_functions",
    "read_run",
    "write",
    "write_matrices",
]
