"""SIESTA's numerical orbitals: .ion.xml and .ion.nc files, and the group BASIS of .nc files."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.io import netcdf_file

from basis import Array
from basis.radial import Functions, TabulatedFunction
from basis.shells import Shell, Species
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.frame import Frame
from converters.siesta.constants import LEGACY
from converters.storage.files import HDF5_MAGIC, open_hdf5, starts_with

# SIESTA transforms its orbitals on points this far apart (Bohr), with the wave vectors that those tell apart.
SAMPLING = np.pi / 100
# What damaged files raise.
BAD_TABLES = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    ET.ParseError,
)


@dataclass(frozen=True, eq=False)
class Orbitals:
    """The radial functions of a species, R(r) / r^l at even points up to the cutoff (Bohr)."""

    label: str
    number: int
    shells: tuple[Shell, ...]
    cutoffs: tuple[float, ...]
    tables: tuple[Array, ...]

    def functions(self, path: Path, species: Species, bohr: float) -> Functions:
        """The functions of the shells of a species, in their order."""
        marked = any(shell.polarisation for shell in species.shells)  # some files do not mark these shells
        own, wanted = ([key_of(shell, marked) for shell in shells] for shells in (self.shells, species.shells))
        if sorted(own) != sorted(wanted) or len(set(own)) < len(own):
            needed = " ".join(map(str, species.shells))
            raise Refused(
                Kind.WRONG_FUNCTIONS,
                path,
                f"has the shells {' '.join(map(str, self.shells))}; {species.name} needs {needed}",
            )
        try:
            return tuple(self._function(own.index(key), bohr) for key in wanted)
        except ValueError as error:
            raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error

    def _function(self, n: int, bohr: float) -> TabulatedFunction:
        l, table_g = self.shells[n].l, self.tables[n]
        r_g = np.linspace(0, self.cutoffs[n], len(table_g))
        spline = CubicSpline(r_g, table_g, bc_type=("clamped", "natural"))
        values_g = table_g * r_g**l
        slopes_g = spline(r_g, 1) * r_g**l + (l * table_g * r_g ** (l - 1) if l else 0.0)
        return TabulatedFunction(
            r_g * bohr,
            values_g / bohr**1.5,
            slopes_g / bohr**2.5,
            self.cutoffs[n] * bohr,
            np.pi / (SAMPLING * bohr),
            SAMPLING * bohr,
        )


def key_of(shell: Shell, marked: bool) -> tuple[int, int, int, bool]:
    return shell.l, shell.n, shell.zeta, marked and shell.polarisation


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """Radial functions of the species whose .ion.xml or .ion.nc files lie in the given folders or the run's, or in its .nc."""
    bohr = frame.provenance.form.bohr or LEGACY.bohr
    whole = [path for path in run.matrices if path.suffix == ".nc"]
    own = {orbitals.label: (path, orbitals) for path in whole for orbitals in read_whole(path)}
    found, files = {}, []
    for species in frame.basis:
        if "/" in species.name:
            continue
        names = (f"{species.name}.ion.xml", f"{species.name}.ion.nc")
        paths = [place / name for place in (*folders, run.folder) for name in names if (place / name).is_file()]
        if paths:
            found[species] = read_ion(paths[0]).functions(paths[0], species, bohr)
            files.append(paths[0])
        elif species.name in own:
            path, orbitals = own[species.name]
            found[species] = orbitals.functions(path, species, bohr)
            files.append(path)
    yield FoundFunctions(found, tuple(files))


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """The species of an .ion.xml or .ion.nc file; nothing of another source."""
    path = Path(source)
    return dict([read_species(path)]) if path.name.endswith((".ion.xml", ".ion.nc")) and path.is_file() else {}


def read_species(path: Path) -> tuple[Species, Functions]:
    """The species that a file describes, and its radial functions, with the Bohr radius of SIESTA up to 4.1."""
    orbitals = read_ion(path)
    radii = " ".join(f"{radius:.3f}" for radius in orbitals.cutoffs)
    species = Species(orbitals.label, max(orbitals.number, 0), orbitals.shells, f"rc {radii}")
    return species, orbitals.functions(path, species, LEGACY.bohr)


def read_ion(path: Path) -> Orbitals:
    """The orbitals of one species."""
    try:
        if path.suffix == ".xml":
            return read_xml(path)
        if starts_with(path, HDF5_MAGIC):
            with open_hdf5(path) as file:
                return from_variables({name: item[()] for name, item in file.items()}, dict(file.attrs))
        with netcdf_file(path, "r", mmap=False) as classic:
            variables = {name: item.data for name, item in classic.variables.items()}
            return from_variables(variables, vars(classic))
    except OSError as error:
        raise refused_by_system(path, error) from error
    except BAD_TABLES as error:
        raise Refused(Kind.WRONG_FUNCTIONS, path, f"is not a complete ion file of SIESTA: {error}") from error


def read_whole(path: Path) -> list[Orbitals]:
    """The orbitals of all species of an .nc file."""
    try:
        with open_hdf5(path) as file:
            groups = [group for group in file["BASIS"].values() if isinstance(group, h5py.Group)]
            return [
                from_variables({name: item[()] for name, item in group.items()}, dict(group.attrs))
                for group in groups
                if "orb" in group
            ]
    except OSError as error:
        raise refused_by_system(path, error) from error
    except BAD_TABLES as error:
        raise Refused(Kind.WRONG_FUNCTIONS, path, f"has no readable orbitals: {error}") from error


def from_variables(variables: Mapping[str, Array], attributes: Mapping[str, Any]) -> Orbitals:
    """Orbitals of NetCDF variables."""
    columns = zip(*(np.asarray(variables[f"orbnl_{key}"]).tolist() for key in ("l", "n", "z", "ispol")), strict=True)
    shells = tuple(Shell(l, n, zeta, bool(polarisation)) for l, n, zeta, polarisation in columns)
    label = attributes["Label"]
    text = label.decode() if isinstance(label, bytes) else str(label)
    tables = np.asarray(variables["orb"], dtype=float)
    cutoffs = np.asarray(variables["cutoff"], dtype=float)
    if tables.shape[:1] != (len(shells),) or cutoffs.shape != (len(shells),):
        raise ValueError(f"{len(shells)} shells have {len(tables)} tables and {len(cutoffs)} cutoffs")
    number = int(np.ravel(attributes["Atomic_number"])[0])
    return Orbitals(text.strip(), number, shells, tuple(cutoffs.tolist()), tuple(tables))


def read_xml(path: Path) -> Orbitals:
    root = ET.parse(path).getroot()
    shells, cutoffs, tables = [], [], []
    for orbital in root.iterfind("paos/orbital"):
        l, n, zeta, polarisation = (int(orbital.attrib[key]) for key in ("l", "n", "z", "ispol"))
        shells.append(Shell(l, n, zeta, bool(polarisation)))
        cutoffs.append(float(text_of(orbital, "radfunc/cutoff")))
        numbers = np.array(text_of(orbital, "radfunc/data").split(), dtype=float)
        tables.append(numbers.reshape(-1, 2)[:, 1])
    if not shells:
        raise ValueError("it has no orbitals")
    return Orbitals(
        text_of(root, "label").strip(), int(text_of(root, "z")), tuple(shells), tuple(cutoffs), tuple(tables)
    )


def text_of(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text
