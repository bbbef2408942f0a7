"""ABACUS's numerical orbitals (.orb files)."""

import re
from pathlib import Path

import numpy as np
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline

from basis.radial import RadialFunction
from basis.shells import Species
from converters.errors import Refused


def read_orbitals(path: Path, species: Species) -> list[RadialFunction]:
    """Radial functions of the shells of a species, in their order."""
    text = path.read_text(errors="replace")
    mesh, step = re.search(r"^Mesh\s+(\d+)", text, re.M), re.search(r"^dr\s+(\S+)", text, re.M)
    if mesh is None or step is None:
        raise Refused(path, "has no Mesh and dr; expected an orbital file of ABACUS")
    parts = re.split(r"^\s*Type\s+L\s+N\s*$", text, flags=re.M)[1:]
    found = {}
    for part in parts:
        head, *rows = part.strip().split("\n")
        try:
            _, l, n = (int(word) for word in head.split())
            values = np.array(" ".join(rows).split(), dtype=float)
        except ValueError as error:
            raise Refused(path, f"cannot be read: {error}") from error
        if len(values) != int(mesh[1]):
            raise Refused(path, f"has {len(values)} numbers for l = {l}; expected {mesh[1]}")
        r_g = np.arange(len(values)) * float(step[1])
        curve = CubicSpline(r_g, values / np.sqrt(simpson(values**2 * r_g**2, x=r_g)))
        found[l, n + 1] = RadialFunction(curve, 0.0, float(r_g[-1]))
    wanted = [(shell.l, shell.zeta) for shell in species.shells]
    if sorted(found) != sorted(wanted):
        raise Refused(path, f"has {len(found)} radial functions; {species} needs others")
    return [found[key] for key in wanted]
