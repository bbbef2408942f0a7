"""OpenMX's numerical orbitals (.pao files)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from scipy.interpolate import CubicHermiteSpline

from basis import Array
from basis.radial import Functions, TabulatedFunction
from basis.shells import LETTERS, Shell, Species
from converters.codes.elements import element_named
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.openmx.convention import BOHR
from converters.storage.files import file_among

# 1DFFT.EnergyCutoff where the input has none (Ry).
DEFAULT_CUTOFF = 3600.0


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """Radial functions of the species whose .pao files are found in the given folders, the run's, or its DATA.PATH.

    Those of a contracted basis (s2>1) are in no file, unless CntOrb.fileout wrote them and the run uses that file.
    """
    settings = frame.provenance.settings
    places = [*folders, run.folder, run.folder / str(settings.get("DATA.PATH") or "../DFT_DATA19") / "PAO"]
    found, files = {}, []
    for species in frame.basis:
        path = file_among(places, pao_name(species))
        if path is not None and ">" not in species.radial:
            found[species] = read_orbitals(path, species, cutoff_of_settings(run, settings.get("1DFFT.EnergyCutoff")))
            files.append(path)
    yield FoundFunctions(found, tuple(files))


def cutoff_of_settings(run: Run, given: object) -> float:
    try:
        cutoff = float(str(given or DEFAULT_CUTOFF).split()[0])
    except ValueError as error:
        raise Refused(
            Kind.WRONG_FUNCTIONS, run.main, f'has "1DFFT.EnergyCutoff {given}" in its input', "a number"
        ) from error
    if not 0 < cutoff < 1e6:
        raise Refused(Kind.WRONG_FUNCTIONS, run.main, f'has "1DFFT.EnergyCutoff {given}" in its input', "1 to 1e6 Ry")
    return cutoff


def pao_name(species: Species) -> str:
    """File of a basis such as Si7.0-s2p2d1."""
    return species.radial.partition("-")[0] + ".pao"


def read_orbitals(path: Path, species: Species, energy_cutoff: float = DEFAULT_CUTOFF) -> Functions:
    """Radial functions of the shells of a species: the first of each l, as a basis such as Si7.0-s2p2d1 selects them.

    A contracted basis (s2>1) is refused: its coefficients are in no file of the radial functions.
    """
    if ">" in species.radial:
        raise Refused(Kind.WRONG_FUNCTIONS, path, f"does not hold the contracted basis {species.radial}")
    content = path.read_text(errors="replace")
    cutoff = cutoff_of(path, content)
    functions = []
    tables = {l: read_table(path, content, f"pseudo.atomic.orbitals.L={l}") for l in {s.l for s in species.shells}}
    for shell in species.shells:
        table = tables[shell.l]
        if shell.zeta + 2 > table.shape[1]:
            raise Refused(Kind.WRONG_FUNCTIONS, path, f"has no {shell}; {species.radial} needs it")
        values_g = table[:, shell.zeta + 1] / BOHR**1.5
        functions.append(curve_of(path, table[:, 1] * BOHR, values_g, cutoff * BOHR, np.sqrt(energy_cutoff) / BOHR))
    return tuple(functions)


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """The species of a basis such as PAO/Si7.0-s2p2d1, where the file PAO/Si7.0.pao is there; nothing of another source."""
    name, _, selection = Path(source).name.rpartition("-")
    path = Path(source).parent / f"{name}.pao"
    return dict([read_species(path, selection)]) if selection and path.is_file() else {}


def read_species(path: Path, selection: str) -> tuple[Species, Functions]:
    """The species of a file and a selection such as s2p2d1, and its radial functions."""
    entries = re.findall(r"([spdfg])(\d+)", selection)
    number = element_named(path.name)
    if "".join(letter + count for letter, count in entries) != selection or not entries:
        raise Refused(Kind.WRONG_FUNCTIONS, path, f'has no functions "{selection}"', "a selection such as s2p2d1")
    if number is None:
        raise Refused(Kind.MISSING_FILES, path, "does not name its element", "a name such as Si7.0.pao")
    shells = [Shell(LETTERS.index(letter), zeta=n + 1) for letter, count in entries for n in range(int(count))]
    species = Species(chemical_symbols[number], number, tuple(shells), f"{path.stem}-{selection}")
    return species, read_orbitals(path, species)


def read_atomic_density(path: Path, electrons: float) -> "AtomicDensity":
    """Density of the valence electrons of an atom, scaled to their number."""
    content = path.read_text(errors="replace")
    table = read_table(path, content, "valence.charge.density")
    x_g, density_g = table[:, 0], table[:, 2]
    held = 4 * np.pi * (x_g[1] - x_g[0]) * float((density_g * np.exp(3 * x_g)).sum())
    scaled_g = density_g * electrons / held if held else density_g
    return AtomicDensity(x_g + np.log(BOHR), scaled_g / BOHR**3, cutoff_of(path, content) * BOHR)


@dataclass(frozen=True, eq=False)
class AtomicDensity:
    """A density (electrons / Angstrom^3, not times 4 pi) as OpenMX interpolates it: cubic pieces in x = ln r, with the slopes of their neighbours."""

    x_g: Array
    values_g: Array
    cutoff: float

    def __call__(self, r: Array) -> Array:
        x = np.log(np.maximum(r, 1e-12))
        return np.where(r <= self.cutoff, self._curve(np.clip(x, self.x_g[0], self.x_g[-1])), 0.0)

    @cached_property
    def _curve(self) -> CubicHermiteSpline:
        return CubicHermiteSpline(self.x_g, self.values_g, np.gradient(self.values_g, self.x_g))


def read_cutoff(path: Path) -> float:
    """Radius (Angstrom) at which the orbitals of a file end."""
    return cutoff_of(path, path.read_text(errors="replace")) * BOHR


def cutoff_of(path: Path, content: str) -> float:
    """The number after radial.cutoff.pao (Bohr)."""
    found = re.search(r"radial\.cutoff\.pao\s+(\d+\.?\d*)\s", content)
    if found is None:
        raise Refused(Kind.WRONG_FUNCTIONS, path, "has no radial.cutoff.pao", "a pao file of OpenMX")
    return float(found[1])


def read_table(path: Path, content: str, name: str) -> Array:
    """A block of numbers: ln r, r, then values."""
    block = re.search(rf"<{re.escape(name)}\s*\n(.*?){re.escape(name)}>", content, re.S)
    if block is None:
        raise Refused(Kind.DAMAGED, path, f"has no {name}")
    try:
        lines = block[1].strip().split("\n")
        table = np.array(block[1].split(), dtype=float).reshape(len(lines), -1)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    if table.ndim != 2 or table.shape[1] < 3:
        raise Refused(Kind.DAMAGED, path, f"has {name} in less than 3 columns")
    return table


def curve_of(path: Path, r_g: Array, values_g: Array, cutoff: float, largest_wave: float) -> TabulatedFunction:
    """The table as OpenMX interpolates it: cubic pieces whose slopes are those of parabolas through three points.

    Values behind the cutoff are zero, but the pieces that lead to them are not, and the program's integrals see these.
    """
    count = min(int(np.searchsorted(r_g, cutoff)) + 2, len(r_g))
    slopes_g = np.gradient(values_g, r_g)
    try:
        return TabulatedFunction(r_g[:count], values_g[:count], slopes_g[:count], cutoff, largest_wave)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
