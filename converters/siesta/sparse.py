"""The sparse files of SIESTA: TSHS, onlyS, HSX, DM, TSDE, H_DMGEN and nc.

All hold one scheme: for each orbital of the cell a row of columns in an auxiliary supercell. The table of images in TSHS and nc
has arbitrary entries for images without elements, so the order of images is taken from the rule that SIESTA follows.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from basis import Array
from basis.shells import Shell
from basis.spin import Spin
from converters.codes.binary import FortranFile
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.blocks import Elements
from converters.siesta.convention import images_of
from converters.storage.files import open_hdf5


class Geometry(Protocol):
    """What locates columns where their own file does not."""

    @property
    def cell_cv(self) -> Array: ...

    @property
    def positions_av(self) -> Array: ...

    @property
    def norb_a(self) -> Array: ...

    @property
    def cells_c(self) -> Array | None: ...


# Spin components in a file, and the layout that they are.
LAYOUT = {1: Spin.NONE, 2: Spin.COLLINEAR, 4: Spin.SPINOR, 8: Spin.SPINOR}


@dataclass(frozen=True)
class StoredSpecies:
    """A species as a file describes it; the atomic number and the radii (Bohr) only where the file has them."""

    label: str
    shells: tuple[Shell, ...]
    number: int | None = None
    radii: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Sparse:
    """Rows of columns in the auxiliary supercell, and the matrices on them: values[name] is (component, element).

    The supercell is `cells_c`; HSX of version 0 has the vectors from orbital to orbital (Bohr) in its place.
    """

    counts_M: Array
    column_e: Array
    cells_c: Array | None
    values: dict[str, Array] = field(default_factory=dict)
    vectors_ev: Array | None = None

    @property
    def norb(self) -> int:
        return len(self.counts_M)

    def elements(self, path: Path, name: str, geometry: Geometry) -> Elements:
        """A matrix as elements with their lattice vectors."""
        row_e = np.repeat(np.arange(self.norb, dtype=np.int32), self.counts_M)
        image_e, column_e = np.divmod(self.column_e.astype(np.int32) - 1, np.int32(self.norb))
        cells_c = geometry.cells_c if self.cells_c is None else self.cells_c
        if cells_c is None and self.vectors_ev is not None:
            R_tc, t_e = different_rows(self.lattice_vectors(path, row_e, column_e, geometry))
            return Elements(row_e, column_e, t_e, R_tc, self.values[name])
        if cells_c is None:
            raise Refused(
                Kind.MISSING_FILES,
                path,
                "does not say which supercell its columns belong to",
                "a TSHS or nc file beside it",
            )
        R_tc = images_of(cells_c)
        if image_e.max(initial=0) >= len(R_tc):
            raise Refused(
                Kind.DAMAGED, path, f"has columns in image {image_e.max() + 1}", f"at most {len(R_tc)} images"
            )
        return Elements(row_e, column_e, image_e, R_tc, self.values[name])

    def lattice_vectors(self, path: Path, row_e: Array, column_e: Array, geometry: Geometry) -> Array:
        """R of each element from the vector between its orbitals and the positions of their atoms."""
        atom_M = np.repeat(np.arange(len(geometry.norb_a)), geometry.norb_a)
        between_ev = geometry.positions_av[atom_M[column_e]] - geometry.positions_av[atom_M[row_e]]
        R_ec = np.linalg.solve(geometry.cell_cv.T, (self.vectors_ev - between_ev).T).T
        if not (np.abs(R_ec - np.round(R_ec)).max(initial=0) < 1e-2 and np.abs(R_ec).max(initial=0) < 1000):
            raise Refused(
                Kind.MISSING_FILES, path, "has orbitals elsewhere than the geometry beside it", "files of one run"
            )
        return np.round(R_ec).astype(np.int64)


def different_rows(R_ec: Array) -> tuple[Array, Array]:
    """The different rows of small whole numbers in their order, and which of them each is; one number for each row is sorted in a tenth of the time."""
    low_c = R_ec.min(axis=0, initial=0)
    sizes_c = R_ec.max(axis=0, initial=0) - low_c + 1
    key_t, t_e = np.unique(np.ravel_multi_index(tuple((R_ec - low_c).T), sizes_c), return_inverse=True)
    return np.stack(np.unravel_index(key_t, sizes_c), axis=1) + low_c, t_e


def require_pattern(file: FortranFile | Path, counts_M: Array, column_e: Array, images: int) -> None:
    """Refuse rows and columns that do not lie inside the supercell."""
    if column_e.min(initial=1) < 1 or column_e.max(initial=1) > len(counts_M) * images:
        place = file.path if isinstance(file, FortranFile) else file
        low, high = column_e.min(initial=1), column_e.max(initial=1)
        raise Refused(Kind.DAMAGED, place, f"has columns {low} to {high}", f"1 to {len(counts_M) * images}")


def require_cells(file: FortranFile, cells_c: Array) -> None:
    if (cells_c < 1).any() or (cells_c % 2 == 0).any() or cells_c.prod(dtype=np.int64) > 1_000_000:
        raise file.refuse(f"has a supercell {cells_c.tolist()}", "odd numbers of cells")


def read_counts(file: FortranFile, norb: int) -> Array:
    if norb < 1:
        raise file.refuse(f"has {norb} orbitals", "at least 1")
    counts_M = file.record("<i4", norb, "numbers of elements in each row").astype(np.int64)
    if counts_M.min() < 0:
        raise file.refuse("has a row with a negative number of elements")
    return counts_M


def read_density_file(path: Path, name: str) -> Sparse:
    """Matrices of a .DM, .TSDE or H_DMGEN file: a header, the pattern, and one record for each row and spin."""
    file = FortranFile(path)
    size = file.record_size()
    if size not in (8, 20):
        raise file.refuse(f"begins with a record of {size} bytes", "8 or 20 (orbitals, spin components, cells)")
    header = file.record("<i4", size // 4, "the header")
    norb, components = int(header[0]), int(header[1])
    if components not in LAYOUT:
        raise file.refuse(f"has {components} spin components", "1, 2, 4 or 8")
    cells_c = header[2:] if size == 20 else None
    if cells_c is not None:
        require_cells(file, cells_c)
    counts_M = read_counts(file, norb)
    column_e = file.rows(counts_M, "<i4", "columns").astype(np.int64)
    require_pattern(file, counts_M, column_e, 1_000_000 if cells_c is None else int(cells_c.prod()))
    values_se = np.stack([file.rows(counts_M, "<f8", f"component {s + 1}") for s in range(components)])
    if path.suffix != ".TSDE":
        file.require_end()
    return Sparse(counts_M, column_e, cells_c, {name: values_se})


# Hamiltonian and overlap


@dataclass(frozen=True, eq=False)
class Matrices:
    """What a file of H and S holds; geometry, filling and orbitals where it has them. Units are SIESTA's: Bohr and Ry."""

    path: Path
    sparse: Sparse
    cell_cv: Array | None = None
    positions_av: Array | None = None
    electrons: float | None = None
    width: float | None = None
    fermi: float | None = None
    k_cell_cc: Array | None = None
    k_shift_c: Array | None = None
    kinds: tuple[StoredSpecies, ...] = ()
    species_a: Array | None = None
    single: bool = False
    modern: bool = False
    notes: tuple[str, ...] = ()


def read_tshs(path: Path) -> Matrices:
    """TSHS and onlyS, version 1."""
    file = FortranFile(path)
    if file.record_size() != 4 or file.record("<i4", 1, "the version")[0] != 1:
        raise Refused(
            Kind.UNSUPPORTED, path, "is not a TSHS file of version 1", "one of SIESTA 4.1 or later (older: use HSX)"
        )
    natoms, norb, columns, components, nonzeros = (int(n) for n in file.record("<i4", 5, "sizes"))
    cells_c = file.record("<i4", 3, "the supercell")
    require_cells(file, cells_c)
    if natoms < 1 or columns != norb * cells_c.prod(dtype=np.int64) or components not in LAYOUT:
        sizes = f"{natoms} atoms, {norb} orbitals, {columns} columns, {components} spin components, cells {cells_c.tolist()}"
        raise file.refuse(f"has sizes that do not fit together: {sizes}")
    cell, positions = file.fields("cell and atoms", ("<f8", 9), ("<f8", 3 * natoms))
    _, _, only_overlap = file.record("<i4", 3, "logical values")
    k_cell, k_shift = file.fields("the k mesh", ("<i4", 9), ("<f8", 3))
    fermi, electrons, width = file.record("<f8", 3, "Fermi level, charge and temperature")
    file.record("<i4", 2, "step counters")
    last_orbital = file.record("<i4", natoms + 1, "last orbital of each atom")
    if last_orbital[0] != 0 or last_orbital[-1] != norb or (np.diff(last_orbital) < 1).any():
        raise file.refuse("has atoms whose orbitals do not follow each other")
    counts_M = read_counts(file, norb)
    if counts_M.sum() != nonzeros:
        raise file.refuse(f"has {counts_M.sum()} elements in its rows", f"{nonzeros}")
    column_e = file.rows(counts_M, "<i4", "columns").astype(np.int64)
    require_pattern(file, counts_M, column_e, int(cells_c.prod()))
    values = {"S": file.rows(counts_M, "<f8", "S")[None]}
    if not only_overlap:
        values["H"] = np.stack([file.rows(counts_M, "<f8", f"component {s + 1} of H") for s in range(components)])
    if file.at < len(file.data):
        file.record("<i4", 3 * int(cells_c.prod()), "the images of the supercell")
    file.require_end()
    return Matrices(
        path,
        Sparse(counts_M, column_e, cells_c, values),
        cell_cv=cell.reshape(3, 3),
        positions_av=positions.reshape(-1, 3),
        electrons=None if only_overlap else float(electrons),
        width=None if only_overlap else float(width),
        fermi=None if only_overlap else float(fermi),
        k_cell_cc=k_cell.reshape(3, 3),
        k_shift_c=k_shift,
    )


def read_hsx(path: Path) -> Matrices:
    """HSX of version 0 (one record of four integers), 1 or 2 (one integer)."""
    file = FortranFile(path)
    if file.record_size() == 4:
        version = int(file.record("<i4", 1, "the version")[0])
        if version not in (1, 2):
            raise file.refuse(f"has version {version} of HSX", "0, 1 or 2")
        return read_hsx_modern(file, version)
    return read_hsx_single(file)


def read_hsx_single(file: FortranFile) -> Matrices:
    """Version 0: single precision, with the vector between the two orbitals of each element in place of a geometry."""
    norb, columns, components, nonzeros = (int(n) for n in file.record("<i4", 4, "sizes"))
    if components not in LAYOUT or norb < 1 or columns < norb or columns % norb:
        raise file.refuse(
            f"has {norb} orbitals, {columns} columns and {components} spin components; they do not fit together"
        )
    at_gamma = bool(file.record("<i4", 1, "a logical value")[0])
    if not at_gamma:
        file.record("<i4", columns, "the orbital of each column")
    counts_M = read_counts(file, norb)
    if counts_M.sum() != nonzeros:
        raise file.refuse(f"has {counts_M.sum()} elements in its rows", f"{nonzeros}")
    column_e = file.rows(counts_M, "<i4", "columns").astype(np.int64)
    require_pattern(file, counts_M, column_e, columns // norb)
    H_se = np.stack([file.rows(counts_M, "<f4", f"component {s + 1} of H") for s in range(components)]).astype(float)
    S_e = file.rows(counts_M, "<f4", "S").astype(float)
    electrons, width = file.record("<f8", 2, "charge and temperature")
    vectors_ev = file.rows(3 * counts_M, "<f4", "vectors between orbitals").reshape(-1, 3).astype(float)
    kinds = read_hsx_species(file)
    natoms = int(file.record("<i4", 1, "the number of atoms")[0])
    species_a = file.record("<i4", natoms, "the species of each atom").astype(np.int64) - 1
    # A run at Gamma whose images overlap says that it is not at Gamma; its elements are sums over images, the vectors those of one of them.
    cells_c = np.ones(3, dtype=np.int64) if columns == norb else None
    sparse = Sparse(counts_M, column_e, cells_c, {"H": H_se, "S": S_e[None]}, vectors_ev)
    return Matrices(
        file.path, sparse, electrons=float(electrons), width=float(width), kinds=kinds, species_a=species_a, single=True
    )


def read_hsx_species(file: FortranFile) -> tuple[StoredSpecies, ...]:
    """Labels and shells of version 0: for each orbital a record (n, l, zeta), where m runs from -l to l."""
    count = int(file.record("<i4", 1, "the number of species")[0])
    file.require(32 * max(count, 0), "species")
    entry = np.dtype([("label", "S20"), ("charge", "<f8"), ("norb", "<i4")])
    heads = file.record(entry, count, "the species")
    return tuple(
        StoredSpecies(
            label_of(head["label"]),
            shells_of(file.path, np.array([file.record("<i4", 3, "n, l, zeta") for _ in range(head["norb"])])),
        )
        for head in heads
    )


def read_hsx_modern(file: FortranFile, version: int) -> Matrices:
    """Versions 1 and 2 (SIESTA 5): with geometry, in single or double precision."""
    is_double = bool(file.record("<i4", 1, "a logical value")[0])
    natoms, norb, components, species_count, *cells = (int(n) for n in file.record("<i4", 7, "sizes"))
    cells_c = np.array(cells)
    require_cells(file, cells_c)
    if components not in LAYOUT or min(natoms, norb, species_count) < 1:
        raise file.refuse(
            f"has {natoms} atoms, {norb} orbitals, {components} spin components; they do not fit together"
        )
    cell, (fermi, electrons, width) = file.fields("cell and filling", ("<f8", 9), ("<f8", 3))
    images = int(cells_c.prod())
    file.require(12 * images + 32 * natoms, "the geometry")
    _, positions, species_a, _ = file.fields(
        "the geometry", ("<i4", 3 * images), ("<f8", 3 * natoms), ("<i4", natoms), ("<i4", natoms)
    )
    entry = np.dtype([("label", "S20"), ("charge", "<f8"), ("norb", "<i4")])
    heads = file.record(entry, species_count, "the species")
    kinds = tuple(
        StoredSpecies(
            label_of(head["label"]),
            shells_of(file.path, file.record("<i4", 3 * head["norb"], "n, l, zeta").reshape(-1, 3)),
        )
        for head in heads
    )
    k_cell = k_shift = None
    if version == 2:
        k_cell, k_shift = file.fields("the k mesh", ("<i4", 9), ("<f8", 3))
        k_cell = k_cell.reshape(3, 3)
    counts_M = read_counts(file, norb)
    column_e = file.rows(counts_M, "<i4", "columns").astype(np.int64)
    require_pattern(file, counts_M, column_e, images)
    real = "<f8" if is_double else "<f4"
    H_se = np.stack([file.rows(counts_M, real, f"component {s + 1} of H") for s in range(components)]).astype(float)
    S_e = file.rows(counts_M, real, "S").astype(float)
    file.require_end()
    known = electrons > 0
    return Matrices(
        file.path,
        Sparse(counts_M, column_e, cells_c, {"H": H_se, "S": S_e[None]}),
        cell_cv=cell.reshape(3, 3),
        positions_av=positions.reshape(-1, 3),
        electrons=float(electrons) if known else None,
        width=float(width) if known else None,
        fermi=float(fermi) if known else None,
        k_cell_cc=k_cell,
        k_shift_c=k_shift,
        kinds=kinds,
        species_a=species_a.astype(np.int64) - 1,
        single=not is_double,
        modern=True,
    )


def label_of(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip()


def stored_shell(path: Path, l: int, n: int, zeta: int, polarisation: bool) -> Shell:
    try:
        return Shell(l, n, zeta, polarisation)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"has a shell that none has: {error}") from error


def shells_of(path: Path, orbitals: Array) -> tuple[Shell, ...]:
    """Shells of a list of orbitals (n, l, zeta), each shell repeated for its m; a repeated (n, l, zeta) is a new shell."""
    shells, at = [], 0
    while at < len(orbitals):
        n, l, zeta = (int(value) for value in orbitals[at])
        shell = stored_shell(path, l, n, zeta, 0 < n <= l)  # the only sign of it in these files
        if (orbitals[at : at + shell.size] != orbitals[at]).any() or at + shell.size > len(orbitals):
            raise Refused(
                Kind.DAMAGED,
                path,
                f"begins the shell {shell} with orbital {at + 1} of a species and does not complete it",
            )
        shells.append(shell)
        at += shell.size
    return tuple(shells)


def read_nc(path: Path) -> Matrices:
    """NetCDF-4 files (HDF5 inside): everything of a run in one place."""
    try:
        with open_hdf5(path) as file:
            return read_nc_groups(path, file)
    except OSError as error:
        raise refused_by_system(path, error) from error
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        reason = re.sub(r".*object '([^']+)' doesn't exist.*", r"it has no \1", str(error))
        raise Refused(Kind.DAMAGED, path, f"is not a complete SIESTA nc file: {reason}") from error


# NetCDF fills what nobody wrote with 9.97e36.
NEVER_WRITTEN = 1e36


def read_nc_groups(path: Path, file: h5py.File) -> Matrices:
    sparse, settings = file["SPARSE"], file["SETTINGS"]
    counts_M, column_e = sparse["n_col"][()].astype(np.int64), sparse["list_col"][()].astype(np.int64)
    cells_c = file["nsc"][()]
    if (cells_c < 1).any() or counts_M.min() < 0 or counts_M.sum() != len(column_e):
        raise ValueError(
            f"{len(column_e)} columns, {counts_M.sum()} elements in rows, cells {cells_c.tolist()} do not fit together"
        )
    require_pattern(path, counts_M, column_e, int(cells_c.prod()))
    values = {name: np.atleast_2d(sparse[name][()]) for name in ("S", "H", "DM") if name in sparse}
    unwritten = [name for name, values_se in values.items() if not np.abs(values_se).max(initial=0) < NEVER_WRITTEN]
    values = {name: values_se for name, values_se in values.items() if name not in unwritten}
    groups = sorted(
        (group for group in file["BASIS"].values() if isinstance(group, h5py.Group)),
        key=lambda g: int(g.attrs["ID"][0]),
    )
    return Matrices(
        path,
        Sparse(counts_M, column_e, cells_c, values),
        cell_cv=file["cell"][()],
        positions_av=file["xa"][()],
        electrons=float(file["Qtot"][0]),
        width=float(settings["ElectronicTemperature"][0]),
        fermi=float(file["Ef"][0]),
        k_cell_cc=settings["BZ"][()],
        k_shift_c=settings["BZ_displ"][()],
        kinds=tuple(kind_of_group(path, group) for group in groups),
        species_a=file["BASIS/basis"][()].astype(np.int64) - 1,
        notes=tuple(f"{name} of {path.name} was never written and is left out" for name in unwritten),
    )


def kind_of_group(path: Path, group: h5py.Group) -> StoredSpecies:
    table = zip(*(group[f"orbnl_{key}"][()].tolist() for key in ("l", "n", "z", "ispol")), strict=True)
    shells = tuple(stored_shell(path, l, n, zeta, bool(polarisation)) for l, n, zeta, polarisation in table)
    radii = tuple(np.round(group["cutoff"][()], 3).tolist())
    return StoredSpecies(label_of(group.attrs["Label"]), shells, int(group.attrs["Atomic_number"][0]), radii)
