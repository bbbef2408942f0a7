"""A frame in the words of sisl, which draws, cuts and transports what it is given."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.orbitals import Orbital

if TYPE_CHECKING:
    from ase import Atoms

# Empty space (Angstrom) around a molecule, which has no cell.
EMPTY = 20.0


def sisl_hamiltonian(atoms: "Atoms", orbitals: Sequence[Orbital], R_tc: Array, H_tsMM: Array, S_tMM: Array) -> Any:
    """The sisl.Hamiltonian of dense H(R) (eV) and S(R)."""
    try:
        import sisl
    except ImportError as error:
        raise Refused(Kind.NOT_INSTALLED, "sisl", "is not installed") from error
    cell_cv = atoms.cell.array.copy()
    empty_c = ~cell_cv.any(axis=1)
    cell_cv[empty_c] = (np.eye(3) * (np.ptp(atoms.positions, axis=0) + EMPTY))[empty_c]
    names: list[list[str]] = [[] for _ in atoms]
    for orbital in orbitals:
        names[orbital.atom].append(str(orbital))
    kinds = [
        sisl.Atom(int(number), [sisl.Orbital(-1.0, tag=name) for name in mine])
        for number, mine in zip(atoms.numbers, names, strict=True)
    ]
    lattice = sisl.Lattice(cell_cv, nsc=(2 * np.abs(R_tc).max(axis=0) + 1).tolist())
    geometry = sisl.Geometry(atoms.positions, kinds, lattice)
    M, spins = len(orbitals), H_tsMM.shape[1]
    H_sMN = np.zeros((spins + 1, M, M * lattice.n_s))
    for R_c, H_sMM, S_MM in zip(R_tc, H_tsMM, S_tMM, strict=True):
        start = M * lattice.sc_index(R_c)
        H_sMN[:spins, :, start : start + M], H_sMN[spins, :, start : start + M] = H_sMM, S_MM
    from scipy.sparse import csr_array

    sparse = [csr_array(H_MN) for H_MN in H_sMN]
    return sisl.Hamiltonian.fromsp(geometry, sparse[:-1], sparse[-1])
