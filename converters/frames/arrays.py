"""Frames of dense matrices that somebody has in memory: molecules, in our own order of orbitals.

For data that comes from no file of a code. Orbitals of an atom are in the order of its shells, inside a shell m = -l..l (p is y, z, x).
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.frames.blocks import Operator, make_pairs
from converters.frames.frame import Frame, Outcome, Provenance

if TYPE_CHECKING:
    from ase import Atoms


def frame_from_matrices(
    atoms: "Atoms",
    shells: Mapping[str, str],
    matrices: Mapping[str, Array],
    *,
    code: str = "arrays",
    electrons: float | None = None,
) -> Frame:
    """The frame of a molecule without spin, of its dense H (eV), S and DM.

    `shells` names the shells of each element, such as {"O": "3s2p1d", "H": "2s1p"}; `matrices` may hold "H", "S", "DM".
    """
    symbols = atoms.get_chemical_symbols()
    missing = sorted(set(symbols) - set(shells))
    if missing:
        raise ValueError(f"shells names no {', '.join(missing)}")
    if any(atoms.pbc):
        raise ValueError("dense matrices have no lattice vectors; expected a molecule")
    numbers = dict(zip(symbols, atoms.numbers.tolist(), strict=True))
    basis = tuple(Species(name, numbers[name], parse_shells(shells[name])) for name in shells if name in numbers)
    place = {species.name: s for s, species in enumerate(basis)}
    species_a = np.array([place[symbol] for symbol in symbols])
    norb_a = np.array([basis[s].size for s in species_a])
    i_p, j_p = np.triu_indices(len(symbols))
    pairs = make_pairs(i_p, j_p, np.zeros((len(i_p), 3), dtype=int), norb_a)
    norb = int(norb_a.sum())
    operators = {}
    for name, matrix in matrices.items():
        if matrix.shape != (norb, norb):
            raise ValueError(f"{name} has shape {matrix.shape}; expected ({norb}, {norb}) for these shells")
        operators[name] = Operator(np.asarray(matrix, dtype=float)[pairs.row_column_x][None])
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in (atoms.positions, *matrices.values()))
    return Frame(
        np.zeros((3, 3)),
        np.zeros(3, dtype=bool),
        atoms.positions.copy(),
        species_a,
        basis,
        pairs,
        Spin.NONE,
        operators,
        outcome=Outcome(electrons=electrons),
        provenance=Provenance(code, source=hashlib.sha256(content).hexdigest()),
    )
