"""The orbitals of FHI-aims: basis-indices.out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from basis.shells import Shell, Species
from converters.aims.inputs import Control
from converters.errors import Kind, Refused


@dataclass(frozen=True, eq=False)
class Orbitals:
    """Species of the atoms, each with the shells that its orbitals make."""

    basis: tuple[Species, ...]
    species_a: Array

    @property
    def norb_a(self) -> Array:
        return np.array([self.basis[s].size for s in self.species_a])


def read_orbitals(path: Path, names_a: Sequence[str], control: Control) -> Orbitals:
    shells = shells_of(path, len(names_a))
    names = tuple(dict.fromkeys(names_a))
    basis = []
    for name in names:
        kinds = {shells[a] for a, other in enumerate(names_a) if other == name}
        if len(kinds) != 1:
            raise Refused(Kind.DAMAGED, path, f"gives atoms of {name} different orbitals", "the same for all")
        basis.append(Species(name, control.number_of(name), kinds.pop(), control.radial_of(name)))
    return Orbitals(tuple(basis), np.array([names.index(name) for name in names_a]))


def shells_of(path: Path, natoms: int) -> list[tuple[Shell, ...]]:
    """The shells of each atom; the file has a line for each orbital: number, kind of function, atom, n, l, m."""
    rows = [line.split() for line in path.read_text(errors="replace").splitlines() if line.split()][1:]
    found: list[list[Shell]] = [[] for _ in range(natoms)]
    at, atom = 0, 1
    while at < len(rows):
        a, n, l = (int(word) for word in rows[at][2:5])
        size = 2 * l + 1 if 0 <= l <= len(rows) else 0
        wanted = [[str(at + k + 1), rows[at][1], str(a), str(n), str(l), str(k - l)] for k in range(size)]
        if not size or a not in (atom, atom + 1) or a > natoms or rows[at : at + size] != wanted:
            raise Refused(Kind.DAMAGED, path, f"has no whole shell from orbital {at + 1} on", "m = -l..l of each atom")
        n = n if n > l else 0  # that of a Gaussian counts nothing
        zeta = 1 + sum((shell.l, shell.n) == (l, n) for shell in found[a - 1])
        found[a - 1].append(Shell(l, n, zeta))
        at, atom = at + size, a
    if not all(found):
        raise Refused(Kind.DAMAGED, path, "has no orbitals for some atoms", f"those of {natoms} atoms")
    return [tuple(shells) for shells in found]
