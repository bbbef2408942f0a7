"""A frame in the words of sisl, which draws, cuts and transports what it is given."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements

if TYPE_CHECKING:
    from ase import Atoms

# Empty space (Angstrom) around a molecule, which has no cell.
EMPTY = 20.0


def sisl_hamiltonian(
    atoms: "Atoms", names_a: Sequence[Sequence[str]], kinds_a: Sequence[str], H: Elements, S: Elements
) -> Any:
    """The sisl.Hamiltonian of all elements of H (eV) and S, with names for the orbitals and the kind of each atom; spinors as sisl's spin-orbit matrices."""
    try:
        import sisl
    except ImportError as error:
        raise Refused(Kind.NOT_INSTALLED, "sisl", "is not installed") from error
    kinds = [
        sisl.Atom(int(number), [sisl.Orbital(-1.0, tag=name) for name in names], tag=kind)
        for number, names, kind in zip(atoms.numbers, names_a, kinds_a, strict=True)
    ]
    norb = sum(map(len, names_a))
    lattice = sisl.Lattice(cell_with_room(atoms), nsc=(2 * np.abs(H.R_tc).max(axis=0) + 1).tolist())
    geometry = sisl.Geometry(atoms.positions, kinds, lattice)
    parts = csr_parts(H, lattice, norb) + csr_parts(S, lattice, norb)
    if len(H.values_se) < 4:
        return sisl.Hamiltonian.fromsp(geometry, parts[:-1], parts[-1])
    uu, ud, du, dd, overlap = parts
    # Its eight real components, in its order.
    components = [uu.real, dd.real, ud.real, ud.imag, uu.imag, dd.imag, du.real, du.imag]
    return sisl.Hamiltonian.fromsp(geometry, [part.tocsr() for part in components], overlap, spin="spin-orbit")


def csr_parts(matrix: Elements, lattice: Any, norb: int) -> list[Any]:
    """Each spin component as a sparse matrix of one cell and its neighbours side by side."""
    from scipy.sparse import csr_array

    start_t = norb * np.array([lattice.sc_index(R_c) for R_c in matrix.R_tc], dtype=np.int64)
    # Older sisl knows no longer integers.
    place_e = (matrix.row_e.astype(np.int32), (start_t[matrix.t_e] + matrix.column_e).astype(np.int32))
    shape = (norb, norb * int(lattice.n_s))
    return [csr_array((values_e, place_e), shape=shape) for values_e in matrix.values_se]


def cell_with_room(atoms: "Atoms") -> Array:
    """The cell, with a vector of a box around the atoms where there is none."""
    cell_cv = atoms.cell.array.copy()
    empty_c = ~cell_cv.any(axis=1)
    cell_cv[empty_c] = (np.eye(3) * (np.ptp(atoms.positions, axis=0) + EMPTY))[empty_c]
    return np.asarray(cell_cv)
