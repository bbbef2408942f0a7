"""ABACUS's numerical orbitals (.orb files)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from scipy.integrate import simpson

from basis import Array
from basis.radial import Functions, TabulatedFunction, table_of_points
from basis.shells import Shell, Species
from converters.abacus import text
from converters.abacus.convention import BOHR
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.storage.files import file_among


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """Radial functions of the species whose .orb files are found in the given folders, the run's, or its orbital_dir.

    Versions that make their tables up to the wave vector of lcao_ecut are the second possibility.
    """
    inputs = [path for path in run.others if path.name == "INPUT"]
    given = text.read_input(inputs[0]) if inputs else {}
    places = [*folders, *text.orbital_places(run.folder, given)]
    found: dict[Species, tuple[TabulatedFunction, ...]] = {}
    files = []
    for species in frame.basis:
        path = file_among(places, species.radial)
        if path is not None:
            found[species] = read_orbitals(path, species)
            files.append(path)
    yield FoundFunctions(found, tuple(files))
    cutoff = text.number(given, "lcao_ecut", 0.0) or text.number(given, "ecutwfc", 50.0)
    if cutoff > 0:
        wave = np.sqrt(cutoff) / BOHR
        ended = {species: tuple(replace(one, largest_wave=wave) for one in mine) for species, mine in found.items()}
        yield FoundFunctions(ended, tuple(files))


def read_orbitals(path: Path, species: Species) -> tuple[TabulatedFunction, ...]:
    """Radial functions of the shells of a species, in their order."""
    found = read_tables(path)
    wanted = [(shell.l, shell.zeta) for shell in species.shells]
    if not set(wanted) <= set(found) or text.shells_in_file(path) not in ((), tuple(sorted(species.shells))):
        raise Refused(Kind.WRONG_FUNCTIONS, path, f"has {len(found)} radial functions; {species} needs others")
    # The program samples its tables at their own points, and has no larger wave vectors than those tell apart.
    return tuple(
        table_of_points(r_g * BOHR, values_g / BOHR**1.5, r_g[-1] * BOHR, np.pi / (r_g[1] * BOHR), r_g[1] * BOHR)
        for r_g, values_g in (found[key] for key in wanted)
    )


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """The species of an .orb file; nothing of another source."""
    path = Path(source)
    return dict([read_species(path)]) if path.suffix.lower() == ".orb" and path.is_file() else {}


def read_species(path: Path) -> tuple[Species, Functions]:
    """The species that a file describes, and its radial functions."""
    element = re.search(r"^Element\s+([A-Z][a-z]?)\s*$", path.read_text(errors="replace"), re.M)
    if element is None or element[1] not in atomic_numbers:
        raise Refused(Kind.MISSING_FILES, path, "does not name its element", "an orbital file of ABACUS")
    shells = text.shells_in_file(path) or tuple(Shell(l, zeta=zeta) for l, zeta in sorted(read_tables(path)))
    species = Species(element[1], atomic_numbers[element[1]], shells, path.name)
    return species, read_orbitals(path, species)


def read_tables(path: Path) -> dict[tuple[int, int], tuple[Array, Array]]:
    """r and normalised R(r) in atomic units, by l and zeta."""
    content = path.read_text(errors="replace")
    mesh, step = re.search(r"^Mesh\s+(\d+)", content, re.M), re.search(r"^dr\s+(\S+)", content, re.M)
    if mesh is None or step is None:
        raise Refused(Kind.WRONG_FUNCTIONS, path, "has no Mesh and dr", "an orbital file of ABACUS")
    found = {}
    for part in re.split(r"^\s*Type\s+L\s+N\s*$", content, flags=re.M)[1:]:
        head, *rows = part.strip().split("\n")
        try:
            _, l, n = (int(word) for word in head.split())
            values_g = np.array(" ".join(rows).split(), dtype=float)
            r_g = np.arange(len(values_g)) * float(step[1])
        except ValueError as error:
            raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
        if len(values_g) != int(mesh[1]) or len(values_g) < 5 or not 0 < r_g[1] < 1:
            raise Refused(Kind.DAMAGED, path, f"has {len(values_g)} numbers for l = {l}, dr = {step[1]}", f"{mesh[1]}")
        norm = simpson(values_g**2 * r_g**2, x=r_g)
        if not (np.isfinite(norm) and norm > 0):
            raise Refused(Kind.DAMAGED, path, f"has a radial function for l = {l} without a norm")
        found[l, n + 1] = r_g, values_g / np.sqrt(norm)
    return found
