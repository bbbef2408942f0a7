"""The run of OpenMX that a .dat file describes: its atoms where OpenMX puts them, its k-points and its filling."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.spin import Spin
from basis.units import HARTREE, KELVIN
from converters.errors import Kind, Refused
from converters.frames.moments import UP, along
from converters.openmx import text
from converters.openmx.convention import BOHR
from converters.openmx.grid import FACTORS, energy_cutoff, origin_of_fractions
from converters.openmx.orbitals import read_cutoff
from converters.physics.kspace import require_mesh, uniform_mesh
from converters.starts.start import Target, basis_file

if TYPE_CHECKING:
    from ase import Atoms

LAYOUTS = {"off": Spin.NONE, "on": Spin.COLLINEAR, "nc": Spin.SPINOR}
DATA_PATHS = ("../DFT_DATA19", "../DFT_DATA13")  # where 3.9 and 3.8 look without DATA.PATH
# The cell that a molecule gets is wider than its orbitals by this.
MARGIN = 1.1


def read_target(path: Path) -> Target:
    """The run of a .dat file, or of the folder that has only one."""
    if path.is_dir():
        found = [file for file in sorted(path.glob("*.dat")) if is_input(file)]
        if len(found) != 1:
            raise Refused(Kind.AMBIGUOUS, path, f"holds {len(found)} inputs of OpenMX; name the one that is to run")
        path = found[0]
    given = text.parse_input(path.read_text(errors="replace"))
    definitions = {row[0]: row[1:3] for row in given.blocks.get("definition.of.atomic.species", []) if len(row) > 2}
    atoms = given.blocks.get("atoms.speciesandcoordinates", [])
    if not atoms or any(len(row) < 7 or row[1] not in definitions for row in atoms):
        raise Refused(Kind.DAMAGED, path, "has no atoms with seven columns and their species", "all of them")
    labels_a, radials = tuple(row[1] for row in atoms), {label: names[0] for label, names in definitions.items()}
    try:
        places_av = np.array([row[2:5] for row in atoms], dtype=float)
        spins_as = np.array([row[5:7] for row in atoms], dtype=float)
        electrons = float(spins_as.sum())
        electrons -= float(given.words.get("scf.system.charge", "0"))
        mesh_c = [int(n) for n in given.words.get("scf.kgrid", "4 4 4").split()[:3]]
        criterion = float(given.words.get("scf.criterion", "1e-6").split()[0])
        width = float(given.words.get("scf.electronictemperature", "300").split()[0]) * KELVIN
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    require_mesh(path, mesh_c)
    cell_cv, positions_av = read_places(path, given, places_av, [radials[label] for label in labels_a])
    if given.is_cluster:
        mesh_c = [1, 1, 1]
    # The mesh of OpenMX has Gamma for odd numbers alone.
    kpoints_kc, weights_k = uniform_mesh(mesh_c, [1 / (2 * n) - 0.5 for n in mesh_c])
    spin = LAYOUTS.get(given.words.get("scf.spinpolarization", "off").lower(), Spin.NONE)
    moments_a = spins_as[:, 0] - spins_as[:, 1]
    directions_av = np.array([direction_of(row) for row in atoms])
    return Target(
        code="openmx",
        path=path,
        cell_cv=cell_cv,
        positions_av=positions_av,
        labels_a=labels_a,
        numbers_a=np.array([text.element_number(path, *reversed(definitions[label])) for label in labels_a]),
        radials=radials,
        spin=spin,
        kpoints_kc=kpoints_kc,
        weights_k=weights_k,
        smearing="fermi",
        width=width,
        electrons=electrons,
        energy_tolerance=max(1e-5 * len(atoms), 10 * criterion * HARTREE),
        moments_a=moments_a if spin is Spin.COLLINEAR and moments_a.any() else None,
        moments_av=moments_a[:, None] * directions_av if spin is Spin.SPINOR and moments_a.any() else None,
        settings=given.words,
    )


def direction_of(row: Sequence[str]) -> Array:
    """Where the spin of an atom points: along z where no two numbers follow those of its electrons."""
    try:
        theta, phi = map(float, row[7:9])
    except ValueError:
        return UP
    return along(theta, phi)


def is_input(path: Path) -> bool:
    """True for a .dat file that names a system."""
    return "system.name" in path.read_text(errors="replace").lower()


def read_structure(path: Path) -> "Atoms":
    """The structure of a .dat file."""
    return read_target(path).atoms


def read_places(path: Path, given: text.Input, places_av: Array, radials_a: list[str]) -> tuple[Array, Array]:
    """Cell and positions (Angstrom); OpenMX gives a cell to molecules that have none, and moves fractional coordinates into the cell."""
    place = given.words.get("atoms.speciesandcoordinates.unit", "ang").lower()
    positions_av = places_av * (BOHR if place == "au" else 1.0)
    vectors = given.blocks.get("atoms.unitvectors", [])
    if not vectors and place != "frac" and given.words.get("scf.eigenvaluesolver", "band").lower() != "band":
        folders = data_folders(path, given.words)
        cutoff_a = np.array([read_cutoff(basis_file(f"{name.partition('-')[0]}.pao", folders)) for name in radials_a])
        return cell_of_molecule(positions_av, cutoff_a, energy_cutoff(path, given.words)), positions_av
    try:
        cell_cv = np.array([row[:3] for row in vectors], dtype=float).reshape(3, 3)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, "has no three Atoms.UnitVectors", "three of three numbers") from error
    cell_cv = cell_cv * (BOHR if given.words.get("atoms.unitvectors.unit", "ang").lower() == "au" else 1.0)
    if place == "frac":
        positions_av = moved_inside(places_av) @ cell_cv + origin_of_fractions(path, given.words)
    return cell_cv, positions_av


def moved_inside(fractional_ac: Array) -> Array:
    """Fractional coordinates as OpenMX takes them: those above 1 and below 0 are moved into the cell, 1 stays."""
    whole = np.trunc(fractional_ac)
    return fractional_ac - np.where(fractional_ac > 1, whole, np.where(fractional_ac < 0, whole - 1, 0))


def cell_of_molecule(positions_av: Array, cutoff_a: Array, energy: float) -> Array:
    """The cell that OpenMX gives to a molecule: a box around its orbitals, wide enough for a whole number of grid points of an energy (Ry)."""
    low_v, high_v = (positions_av - cutoff_a[:, None]).min(axis=0), (positions_av + cutoff_a[:, None]).max(axis=0)
    step = math.pi / math.sqrt(energy + 0.001) * BOHR
    return np.diag([step * points_across(length, step) for length in ((high_v - low_v) * MARGIN).tolist()])


def points_across(length: float, step: float) -> int:
    """The smallest product of 2, 3, 5 and 7 that covers a length in steps."""
    count = max(int(length / step), 1)
    while count * step < length or not is_product(count):
        count += 1
    return count


def is_product(number: int) -> bool:
    for factor in FACTORS:
        while number % factor == 0:
            number //= factor
    return number == 1


def data_folders(path: Path, words: Mapping[str, str]) -> list[Path]:
    """Where the .pao files of an input may be."""
    given = words.get("data.path")
    return [path.parent / data / "PAO" for data in ([given] if given else DATA_PATHS)]
