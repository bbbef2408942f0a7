"""DeePTB: the folders that dftio writes of runs of several codes, and that DeePTB learns from.

A folder has a structure (positions.dat, cell.dat, atomic_numbers.dat, pbc.dat, or xdat.traj), the shells of each element (basis.dat) and
hamiltonians.h5, overlaps.h5, density_matrices.h5 (older: DM.h5). These have a group for each frame, "0" on, with a dense block
for each pair, "i_j_R1_R2_R3", atoms from 0 (older: both from 1). Orbitals are m = -l..l, all positive; energies in eV, lengths in Angstrom,
mostly in single precision.
"""

from converters.deeptb.read import find_functions, find_runs, read_functions, read_run
from converters.deeptb.write import write_matrices

__all__ = ["find_functions", "find_runs", "read_functions", "read_run", "write_matrices"]
