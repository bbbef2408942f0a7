"""OpenMX's grid in space, from the input of a run."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.openmx.convention import BOHR
from converters.physics.density_grid import Grid
from converters.starts.start import Target

DEFAULT_CUTOFF = 150.0  # scf.energycutoff (Ry)
FACTORS = (2, 3, 5, 7)  # of the numbers of points


def grid_of(target: Target) -> Grid:
    """The grid that a run will have.

    Its first point is that of scf.fixed.grid; else it is centred on the atoms, and with fractional coordinates it is the origin.
    """
    words = target.settings
    if str(words.get("esm.switch", "off")).lower() != "off":
        raise Refused(Kind.NO_START, target.path, "moves its grid (ESM.switch); the density on it is not known")
    shape_c = points_of(target)
    origin_v = fixed_origin(target.path, words)
    return Grid(shape_c, centred(target, shape_c) if origin_v is None else origin_v, BOHR)


def fixed_origin(path: Path, words: Mapping[str, str]) -> Array | None:
    """The first grid point (Angstrom) where it does not follow from the atoms."""
    if words.get("atoms.speciesandcoordinates.unit", "ang").lower() == "frac":
        return origin_of_fractions(path, words)
    given = numbers_of(path, words, "scf.fixed.grid")
    return None if given is None else np.array(given) * BOHR


def origin_of_fractions(path: Path, words: Mapping[str, str]) -> Array:
    """Where fractional coordinates count from (Angstrom)."""
    return np.array(numbers_of(path, words, "scf.fixed.grid") or np.zeros(3)) * BOHR


def points_of(target: Target) -> tuple[int, int, int]:
    """Points along each vector of the cell: scf.Ngrid, else as many as its energy cutoff asks for."""
    given = numbers_of(target.path, target.settings, "scf.ngrid")
    if given is not None and any(given):
        return int(given[0]), int(given[1]), int(given[2])
    cutoff = energy_cutoff(target.path, target.settings)
    heights_c = 1 / np.linalg.norm(np.linalg.inv(target.cell_cv / BOHR), axis=0)
    sides = [closest(height * math.sqrt(cutoff) / math.pi) for height in heights_c.tolist()]
    return sides[0], sides[1], sides[2]


def energy_cutoff(path: Path, words: Mapping[str, str]) -> float:
    cutoff = (numbers_of(path, words, "scf.energycutoff", 1) or [DEFAULT_CUTOFF])[0]
    if not 0 < cutoff < 1e6:
        raise Refused(Kind.DAMAGED, path, f"has scf.energycutoff {cutoff:g}", "a number up to 1e6 Ry")
    return cutoff


def closest(wanted: float) -> int:
    """The product of 2, 3, 5 and 7 whose logarithm is closest."""
    return min(products(2 * max(wanted, 1)), key=lambda n: abs(math.log(n) - math.log(wanted)))


def products(most: float) -> Iterator[int]:
    found = [1]
    for factor in FACTORS:
        found = [n * factor**power for n in found for power in range(int(math.log(most, factor)) + 1)]
    return (n for n in found if n <= most)


def centred(target: Target, shape_c: tuple[int, int, int]) -> Array:
    """The first point of a grid whose middle is that of the atoms."""
    sides_c = np.array(shape_c)
    steps_c = sides_c // 2 - np.where(sides_c % 2, 0.0, 0.5)
    return np.asarray(target.positions_av.mean(axis=0) - (steps_c / sides_c) @ target.cell_cv)


def numbers_of(path: Path, words: Mapping[str, str], keyword: str, count: int = 3) -> list[float] | None:
    """The numbers after a keyword (lower case)."""
    if keyword not in words:
        return None
    try:
        numbers = [float(word) for word in words[keyword].split()[:count]]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise Refused(Kind.DAMAGED, path, f"has {keyword} {words[keyword]}", f"{count} numbers")
    return numbers
