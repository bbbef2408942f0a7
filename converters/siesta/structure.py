"""The atoms of a SIESTA run and the orbitals that they have, from whichever file has them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from basis import Array
from basis.shells import LAST_ELEMENT, Species
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.neighbours import is_place
from converters.siesta import sparse, text
from converters.siesta.fdf import Fdf, read_fdf
from converters.siesta.orbitals import Orbitals, read_ion
from converters.siesta.plain import PlainInput, by_sisl
from converters.siesta.sparse import Matrices, StoredSpecies

# Atoms nearer than this (Bohr) are in the same place, to the digits of STRUCT_OUT.
SAME_PLACE = 1e-4
# Files of the orbitals of a species.
IONS = (".ion.xml", ".ion.nc")


@dataclass(frozen=True, eq=False)
class StoredStructure:
    """Geometry (Bohr) and species of a run."""

    cell_cv: Array
    positions_av: Array
    species_a: Array
    kinds: tuple[StoredSpecies, ...]
    basis: tuple[Species, ...]
    cells_c: Array | None
    notes: tuple[str, ...] = ()

    @property
    def norb_a(self) -> Array:
        return np.array([self.basis[s].size for s in self.species_a])

    def is_at_gamma(self) -> bool:
        """True when the run had no auxiliary supercell: each block is the sum over its images."""
        return self.cells_c is not None and int(self.cells_c.prod()) == 1

    @property
    def reach_aa(self) -> Array:
        """Distance (Bohr) from which on the orbitals of two atoms do not overlap; infinite where the files do not say."""
        radius_a = np.array([max(self.kinds[s].radii, default=np.inf) for s in self.species_a])
        return np.asarray(np.add.outer(radius_a, radius_a))


def read_structure(
    run: Run, own: dict[str, Path], matrices: Matrices, bohr: float, printed_cell_cv: Array | None = None
) -> StoredStructure:
    """Geometry from the matrices where they have it, else from XV, STRUCT_OUT or the input; orbitals from ORB_INDX, nc or HSX.

    `printed_cell_cv` is the cell in the output (Angstrom), which an input may leave to SIESTA.
    """
    cell_cv, positions_av, number_a = matrices.cell_cv, matrices.positions_av, None
    if ".XV" in own:
        *geometry, number_a = text.read_xv(own[".XV"])
        if ".STRUCT_OUT" in own:
            geometry = of_the_matrices(geometry, text.read_structure(own[".STRUCT_OUT"], bohr)[:2])
    elif ".STRUCT_OUT" in own:
        *geometry, number_a = text.read_structure(own[".STRUCT_OUT"], bohr)
    elif cell_cv is None:
        geometry = [lengths / bohr for lengths in geometry_of_input(run, own, printed_cell_cv)]
    if cell_cv is None or positions_av is None:
        cell_cv, positions_av = geometry
    kinds, species_a = matrices.kinds, matrices.species_a
    if ".ORB_INDX" in own:
        kinds, species_a = text.read_orbital_index(own[".ORB_INDX"])
    elif species_a is None:
        kinds, species_a = orbitals_beside(run, own)
    if len(species_a) != len(positions_av) or species_a.min() < 0 or species_a.max() >= len(kinds):
        raise Refused(
            Kind.DAMAGED, run.main, f"has {len(positions_av)} atoms and the orbitals of {len(species_a)}", "the same"
        )
    require_places(run, cell_cv, positions_av)
    kinds = tuple(completed_by_ions(run, kind) for kind in kinds)
    given = read_fdf(own[".fdf"]) if ".fdf" in own else Fdf({}, {})
    numbers = [kind.number or given.number_of(kind.label) for kind in kinds]
    if number_a is not None and len(number_a) == len(species_a):
        numbers = [int(number_a[np.argmax(species_a == s)]) for s in range(len(kinds))]
    basis = tuple(species_of(run, kind, number) for kind, number in zip(kinds, numbers, strict=True))
    notes = notes_of(kinds, numbers)
    return StoredStructure(cell_cv, positions_av, species_a, kinds, basis, matrices.sparse.cells_c, notes)


def geometry_of_input(run: Run, own: dict[str, Path], printed_cell_cv: Array | None) -> tuple[Array, Array]:
    """Cell and positions (Angstrom) of a run that left them in its input alone and did not move its atoms."""
    path = own.get(".fdf")
    if path is None or (doubt := doubt_about(read_fdf(path), printed_cell_cv)):
        what = "has no geometry beside it" + (f" but that of its input, {doubt}" if path else "")
        raise Refused(Kind.MISSING_FILES, run.main, what, "an XV or STRUCT_OUT file of the same label")
    plain = PlainInput.of(path, printed_cell_cv)
    if plain is not None:
        return plain.cell, plain.xyz
    with by_sisl(path) as fdf:
        geometry = fdf.read_geometry(output=False)
        return np.array(geometry.cell), np.array(geometry.xyz)


def doubt_about(given: Fdf, printed_cell_cv: Array | None) -> str:
    """Why an input does not say where the atoms of the matrices are; empty where it does."""
    if not given.is_whole:
        return "which takes parts from other files"
    if given.moves_atoms():
        return "whose atoms moved"
    if printed_cell_cv is None and "latticeconstant" not in given.words:
        return "which leaves the cell to SIESTA; its output would say it"
    return ""


def of_the_matrices(following: Sequence[Array], computed: Sequence[Array]) -> list[Array]:
    """After a step of MD or of a relaxation XV has the cell and the positions that would follow, STRUCT_OUT those of the matrices.

    STRUCT_OUT has fewer digits, and is taken only where they differ.
    """
    (next_cv, next_av), (cell_cv, positions_av) = following, computed
    if next_av.shape != positions_av.shape or not np.linalg.det(cell_cv):
        return list(following)
    moved_ac = (next_av - positions_av) @ np.linalg.inv(cell_cv)
    cells_ac = np.round(moved_ac)
    apart_av = (moved_ac - cells_ac) @ cell_cv
    if max(np.abs(apart_av).max(), np.abs(next_cv - cell_cv).max()) < SAME_PLACE:
        return list(following)
    return [cell_cv, positions_av + cells_ac @ cell_cv]


def require_places(run: Run, cell_cv: Array, positions_av: Array) -> None:
    if not (is_place(cell_cv).all() and is_place(positions_av).all() and np.linalg.det(cell_cv)):
        raise Refused(Kind.DAMAGED, run.main, "has a cell or positions that are not finite numbers of three dimensions")


def notes_of(kinds: Sequence[StoredSpecies], numbers: Sequence[int | None]) -> tuple[str, ...]:
    """What a person should know of the species: what was guessed, and what no file says."""
    guessed = ", ".join(kind.label for kind, number in zip(kinds, numbers, strict=True) if number is None)
    unknown = ", ".join(kind.label for kind in kinds if not kind.radii)
    notes = [f"no file has the atomic numbers; the labels {guessed} were taken as elements"] if guessed else []
    if unknown:
        notes += [f"no file says how far the orbitals of {unknown} reach and which of them are polarisation shells"]
    return tuple(notes)


def completed_by_ions(run: Run, kind: StoredSpecies) -> StoredSpecies:
    """A species of an HSX file, which has no radii and marks no polarisation shells, with what its ion file says, if that is there."""
    path = ion_file(run, kind.label)
    if kind.radii or path is None:
        return kind
    try:
        orbitals = read_ion(path)
    except Refused:  # which is said where its radial functions are read
        return kind
    own, theirs = ([(shell.l, shell.n, shell.zeta) for shell in shells] for shells in (kind.shells, orbitals.shells))
    return replace(kind, shells=orbitals.shells, radii=printed_radii(orbitals)) if own == theirs else kind


def ion_file(run: Run, label: str) -> Path | None:
    """The ion file of a species beside the matrices."""
    paths = [run.folder / f"{label}{suffix}" for suffix in IONS if "/" not in label]
    return next((path for path in paths if path.is_file()), None)


def printed_radii(orbitals: Orbitals) -> tuple[float, ...]:
    """Radii with the digits of ORB_INDX."""
    return tuple(np.round(orbitals.cutoffs, 3).tolist())


def orbitals_beside(run: Run, own: dict[str, Path]) -> tuple[tuple[StoredSpecies, ...], Array]:
    """The species and the species of each atom from an nc or HSX file, or from the ion files of the labels in the fdf file."""
    for suffix, read in ((".nc", sparse.read_nc), (".HSX", sparse.read_hsx)):
        if suffix in own and (matrices := read(own[suffix])).species_a is not None:
            return matrices.kinds, matrices.species_a
    labels = read_fdf(own[".fdf"]).labels() if ".fdf" in own else []
    files = [ion_file(run, label) for label in labels]
    if not labels or None in files or ".XV" not in own:
        wanted = "ORB_INDX, HSX or nc of the same label, or the ion files of its species beside fdf and XV"
        raise Refused(Kind.MISSING_FILES, run.main, "does not say which orbitals its atoms have", wanted)
    orbitals = [read_ion(path) for path in files if path is not None]
    kinds = [
        StoredSpecies(label, one.shells, one.number, printed_radii(one))
        for label, one in zip(labels, orbitals, strict=True)
    ]
    return tuple(kinds), text.read_species_numbers(own[".XV"]) - 1


def species_of(run: Run, kind: StoredSpecies, number: int | None) -> Species:
    """Species of a kind of atom; its element is read from its label only where no file has the atomic number."""
    if number is None:
        symbol = re.match(r"[A-Z][a-z]?(?![a-z])", kind.label)
        if symbol is None or symbol[0] not in atomic_numbers:
            raise Refused(
                Kind.MISSING_FILES,
                run.main,
                f"does not say which element {kind.label} is",
                "an XV file of the same label",
            )
        number = atomic_numbers[symbol[0]]
    radial = " ".join(f"{radius:.3f}" for radius in kind.radii)
    return Species(kind.label, element_of(number), kind.shells, f"rc {radial}" if radial else "")


def element_of(number: int) -> int:
    """The element of an atomic number; 0 for SIESTA's own numbers of ghosts (below 0), floating orbitals and mixtures (beyond the last element)."""
    return number if 0 < number <= LAST_ELEMENT else 0
