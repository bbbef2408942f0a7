"""The input of SIESTA where it says everything plainly. Where it does not, sisl is asked, which knows all forms and takes as long to import as a short run takes."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basis import Array
from basis.units import HARTREE, KELVIN
from converters.errors import Kind, Refused
from converters.siesta.fdf import Fdf, keyword, lines_of, read_fdf

# Forms of coordinates: lengths in Angstrom, and parts of the lattice vectors.
LENGTHS, PARTS = ("ang", "notscaledcartesianang"), ("fractional", "scaledbylatticevectors")
# Other ways to say where atoms are.
OTHERWISE = ("zmatrix", "supercell", "atomiccoordinatesorigin", "latticeparameters")
ENERGIES = {"k": KELVIN, "ev": 1.0, "mev": 1e-3, "ry": HARTREE / 2, "ha": HARTREE, "hartree": HARTREE}
# What stands between a keyword and its value in some inputs, and around names.
UNUSUAL = set(":='\"")
# What sisl and the numbers of an input raise when it is not what it seems.
WRONG_INPUT = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    RuntimeError,
    NameError,
    ArithmeticError,
)
# What stands for bytes of another encoding.
NO_LETTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, eq=False)
class PlainInput:
    """What sisl says of an fdf file, for the few things that are asked."""

    fdf: Fdf
    cell: Array
    xyz: Array

    @classmethod
    def of(cls, path: Path, printed_cell_cv: Array | None = None) -> "PlainInput | None":
        """None where it takes more than this to read it; the cell that SIESTA printed (Angstrom) counts where the input says none plainly."""
        fdf = read_fdf(path)
        blocks = [keyword(line.words[1]) for line in lines_of(path) if line.key == "%block" and len(line.words) > 1]
        unusual = any(UNUSUAL & set(key + "".join(words[:1])) for key, words in fdf.words.items())
        unusual |= NO_LETTER in path.read_text(errors="replace")
        if not fdf.is_whole or unusual or len(set(blocks)) < len(blocks) or {*fdf.words, *blocks} & set(OTHERWISE):
            return None
        cell_cv, rows = fdf.lattice(), fdf.blocks.get("atomiccoordinatesandatomicspecies", [])
        cell_cv = printed_cell_cv if cell_cv is None else cell_cv
        if (
            cell_cv is None
            or first_word(fdf, "numberofatoms") != str(len(rows))
            or energy(fdf, "electronictemperature", 0.0) is None
        ):
            return None
        places_av = numbers(rows)
        form = first_word(fdf, "atomiccoordinatesformat")
        if places_av is None or form not in (*LENGTHS, *PARTS):
            return None
        return cls(fdf, cell_cv, places_av @ cell_cv if form in PARTS else places_av)

    def read_geometry(self, output: bool) -> "PlainInput":
        return self

    def get(self, name: str, default: Any = None, unit: str = "") -> Any:
        """The rows of a block, or the value of a keyword; with a unit, which is eV, its number."""
        rows, words = self.fdf.blocks.get(keyword(name)), self.fdf.words.get(keyword(name))
        if rows is not None:
            return [" ".join(row) for row in rows]
        if words is None:
            return default
        return energy(self.fdf, name, default) if unit else " ".join(words)


@contextmanager
def by_sisl(path: Path) -> Iterator[Any]:
    """An fdf file as sisl reads it; what is wrong with it is refused."""
    try:
        from sisl.io.siesta import fdfSileSiesta
    except ModuleNotFoundError as error:
        raise Refused(Kind.NOT_INSTALLED, path, "cannot be read without sisl; pip install sisl") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sisl leaves its files open
        fdf = fdfSileSiesta(path)
        try:
            yield fdf
        except WRONG_INPUT as error:
            what = f"{type(error).__name__}: {error}"
            raise Refused(Kind.DAMAGED, path, f"has no structure that sisl can read: {what}") from error
        finally:
            if hasattr(fdf, "fh"):
                fdf.fh.close()


def first_word(fdf: Fdf, name: str) -> str:
    return next(iter(fdf.words.get(name, [])), "").lower()


def energy(fdf: Fdf, name: str, default: float) -> float | None:
    """An energy or temperature in eV; None where its unit is another one."""
    words = fdf.words.get(keyword(name))
    if words is None:
        return default
    try:
        number, unit = words
        return float(number.lower().replace("d", "e")) * ENERGIES[unit.lower()]
    except (ValueError, KeyError):
        return None


def numbers(rows: Sequence[Sequence[str]]) -> Array | None:
    """The first three numbers of each row; None where there are no such."""
    try:
        places_av = np.array([[float(word) for word in row[:3]] for row in rows])
    except ValueError:
        return None
    return places_av if places_av.ndim == 2 and places_av.shape[1] == 3 and np.isfinite(places_av).all() else None
