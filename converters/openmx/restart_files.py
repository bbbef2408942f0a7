"""The restart folder NAME_rst of OpenMX: H of each atom (.rst), the density on the grid (.crst), and the line that both are checked by.

3.8 reads the same files: it leaves off before DM at the end of .rst, and reads four of the five numbers of the line.
"""

from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.openmx.neighbour_order import Layout
from converters.openmx.orbitals import read_atomic_density, read_orbitals
from converters.openmx.scfout import SETS
from converters.openmx.write import stored_values
from converters.physics.density_grid import Grid, density_on_grid, superposed
from converters.storage.files import write_whole


def write_hamiltonian(
    frame: Frame, layout: Layout, shape_c: tuple[int, int, int], place: Path, name: str
) -> list[Path]:
    """One .rst file for each atom, and the line; a matrix that the frame lacks is zero."""
    values = stored_values(frame, layout.pairs, imaginary=layout.imaginary)
    files = {f"{name}.rst{a + 1}": atom_file(layout, values, a) for a in range(frame.natoms)}
    files[f"{name}.crst_check"] = " ".join(map(str, [1, *shape_c, layout.spin_switch])).encode()
    place.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_whole(place / file, content)
    return [place / file for file in files]


def atom_file(layout: Layout, values: dict[str, Array], a: int) -> bytes:
    """The bytes of the .rst file of atom a."""
    pairs, switch, species_a = layout.pairs, layout.spin_switch, layout.species_a
    norb_a, sets = pairs.norb_a, SETS[switch]
    first, last = np.searchsorted(pairs.i_p, [a, a + 1]).tolist()
    j_p, mine = pairs.j_p[first:last], slice(pairs.start_p[first], pairs.start_p[last])
    header = [switch, sets, len(norb_a) + 1, int(layout.neighbours_a.max()) + 7, layout.largest, len(norb_a)]
    header += [int(species_a[a]), int(norb_a[a]), last - first - 1, int(layout.spin_orbit)]
    rows = [j_p + 1, *pairs.R_pc[first:last].T, species_a[j_p], norb_a[j_p]]
    wanted = {"H": sets, "iH": 3 if switch == 3 else 0, "DM": sets}
    blocks = [
        values[name][:, mine] if name in values else np.zeros((n, mine.stop - mine.start)) for name, n in wanted.items()
    ]
    band_energy = [0.0]  # OpenMX reads it and does not use it
    integers = np.concatenate([header, *rows]).astype("<i4")
    reals = np.concatenate([band_energy, *(block.ravel() for block in blocks)]).astype("<f8")
    return integers.tobytes() + reals.tobytes()


def write_density(
    frame: Frame, grid: Grid, files: list[Path], charges: list[float], place: Path, name: str
) -> list[Path]:
    """The .crst files: the density of each spin less half of that of the atoms; for spinors also the two flip densities.

    `files` are the .pao files of the species, `charges` the electrons of their atoms.
    """
    orbitals = [read_orbitals(path, species) for path, species in zip(files, frame.basis, strict=True)]
    density = density_on_grid(frame, orbitals, grid)
    atomic = superposed(frame, [read_atomic_density(*of) for of in zip(files, charges, strict=True)], grid) / 2
    if frame.spin is Spin.NONE:
        parts = [density[0] / 2 - atomic]
    elif frame.spin is Spin.COLLINEAR:
        parts = [density[0] - atomic, density[1] - atomic]
    else:
        total, x, y, z = density
        parts = [(total + z) / 2 - atomic, (total - z) / 2 - atomic, x / 2, -y / 2]
    paths = [place / f"{name}.crst{s}_0_0" for s in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write_whole(path, part.astype("<f8").tobytes())
    return paths
