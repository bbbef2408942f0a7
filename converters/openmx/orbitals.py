"""OpenMX's numerical orbitals (.pao files)."""

import re
from pathlib import Path

import numpy as np
from scipy.integrate import trapezoid
from scipy.interpolate import CubicHermiteSpline

from basis import Array
from basis.radial import RadialFunction
from basis.shells import Species
from converters.errors import Refused


def read_orbitals(path: Path, species: Species) -> list[RadialFunction]:
    """Radial functions of the shells of a species: the first of each l, as a basis such as Si7.0-s2p2d1 selects them.

    A contracted basis (s2>1) is refused: its coefficients are in no file of the radial functions.
    """
    if ">" in species.radial:
        raise Refused(path, f"does not hold the contracted basis {species.radial}")
    text = path.read_text(errors="replace")
    cutoff = cutoff_of(path, text)
    functions = []
    for shell in species.shells:
        table = read_table(path, text, f"pseudo.atomic.orbitals.L={shell.l}")
        if shell.zeta + 2 > table.shape[1]:
            raise Refused(path, f"has no {shell}; {species.radial} needs it")
        functions.append(curve_of(table[:, 1], table[:, shell.zeta + 1], cutoff))
    return functions


def read_atomic_density(path: Path, electrons: float) -> RadialFunction:
    """Density of the valence electrons of an atom (not times 4 pi), scaled to their number."""
    text = path.read_text(errors="replace")
    table = read_table(path, text, "valence.charge.density")
    r_g, density_g = table[:, 1], table[:, 2]
    held = 4 * np.pi * trapezoid(density_g * r_g**3, np.log(r_g))
    return curve_of(r_g, density_g * electrons / held, cutoff_of(path, text))


def cutoff_of(path: Path, text: str) -> float:
    found = re.search(r"radial\.cutoff\.pao\s+(\S+)", text)
    if found is None:
        raise Refused(path, "has no radial.cutoff.pao; expected a pao file of OpenMX")
    return float(found[1])


def read_table(path: Path, text: str, name: str) -> Array:
    """A block of numbers: ln r, r, then values."""
    block = re.search(rf"<{re.escape(name)}\s*\n(.*?){re.escape(name)}>", text, re.S)
    if block is None:
        raise Refused(path, f"has no {name}")
    try:
        return np.array([line.split() for line in block[1].strip().split("\n")], dtype=float)
    except ValueError as error:
        raise Refused(path, f"cannot be read: {error}") from error


def curve_of(r_g: Array, values_g: Array, cutoff: float) -> RadialFunction:
    """The table as OpenMX interpolates it: cubic pieces whose slopes are those of parabolas through three points."""
    return RadialFunction(CubicHermiteSpline(r_g, values_g, np.gradient(values_g, r_g)), float(r_g[0]), cutoff)
