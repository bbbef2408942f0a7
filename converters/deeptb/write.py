"""Writing a DeePTB folder of a frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from basis import Array
from basis.conventions import standard
from basis.shells import Species, format_shells
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.frames.keyed_blocks import blocks_of
from converters.starts.start import Options
from converters.storage.files import draft_hdf5

FILES = {"H": "hamiltonians.h5", "S": "overlaps.h5", "DM": "density_matrices.h5"}


def write_matrices(frame: Frame, folder: Path, options: Options) -> Sequence[Path]:
    """The folder as dftio writes that of one frame, in double precision, the shells of each atom sorted by l as DeePTB does."""
    if frame.spin is Spin.COLLINEAR:
        raise Refused(Kind.UNSUPPORTED, folder, "cannot be written: DeePTB has no collinear spin")
    sorted_shells = [sorted(species.shells, key=lambda shell: shell.l) for species in frame.basis]
    shells = {
        chemical_symbols[species.number]: format_shells(found)
        for species, found in zip(frame.basis, sorted_shells, strict=True)
    }
    if len(shells) != len(frame.basis):
        found = "cannot be written: two species are of one element, and these folders tell elements apart only"
        raise Refused(Kind.UNSUPPORTED, folder, found)
    np.savetxt(folder / "cell.dat", frame.cell_cv, fmt="%.17g")
    np.savetxt(folder / "positions.dat", frame.positions_av, fmt="%.17g")
    np.savetxt(folder / "atomic_numbers.dat", frame.numbers_a, fmt="%d")
    np.savetxt(folder / "pbc.dat", frame.pbc_c)
    (folder / "basis.dat").write_text(str(shells))
    order_s = [order_by_l(species) for species in frame.basis]
    written = []
    for name in frame.operators:
        path = folder / FILES[name]
        with draft_hdf5(path) as file:
            group = file.create_group("0")
            for (*R, i, j), block in blocks_of(frame, name, standard).items():
                rows, columns = (order_s[frame.species_a[a]] for a in (i, j))
                if block.shape[0] == 2 * len(rows):
                    rows, columns = (np.concatenate([order, len(order) + order]) for order in (rows, columns))
                group["_".join(map(str, (i, j, *R)))] = block[np.ix_(rows, columns)]
        written.append(path)
    return written


def order_by_l(species: Species) -> Array:
    """The orbitals of an atom with its shells sorted by l, those of the same l in their order."""
    l_M = np.repeat([shell.l for shell in species.shells], [shell.size for shell in species.shells])
    return np.argsort(l_M, kind="stable")
