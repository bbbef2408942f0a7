"""geometry.in and control.in of FHI-aims."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.neighbours import is_place

# What the radial functions of a species are made of; the words of its grids and of its mass are not.
OF_FUNCTIONS = re.compile(
    "nucleus|cut_pot|cutoff_type|basis_dep_cutoff|basis_acc|include_min_basis|pure_gauss|"
    "valence|ion_occ|excited|atomic|ionic|hydro|confined|gaussian|sto"
)
# What they are made with.
OF_ATOMS = ("xc", "relativistic")
# A run with one of these has several structures, and matrices of the last.
MOVES = ("relax_geometry", "md_run", "md_segment")


@dataclass(frozen=True, eq=False)
class Geometry:
    """The structure in the order of the file; no cell for a molecule."""

    cell_cv: Array
    positions_av: Array
    names_a: tuple[str, ...]

    @property
    def periodic(self) -> bool:
        return bool(self.cell_cv.any())


@dataclass(frozen=True)
class Control:
    """The keywords of control.in, and for each species the nucleus and the words of its functions."""

    words: Mapping[str, tuple[str, ...]]
    species: Mapping[str, tuple[tuple[str, ...], ...]]

    def number_of(self, name: str) -> int:
        """The nucleus of a species, whatever its name."""
        nuclei = [float(words[1]) for words in self.species[name] if words[0] == "nucleus"]
        if len(nuclei) != 1 or nuclei[0] not in range(1, len(chemical_symbols)):
            raise ValueError(f"the species {name} has nuclei {nuclei}")
        return int(nuclei[0])

    def radial_of(self, name: str) -> str:
        """A name for its radial functions: equal words make equal functions."""
        made = [(word, *self.words.get(word, ())) for word in OF_ATOMS] + list(self.species[name])
        digest = hashlib.sha256("\n".join(" ".join(line) for line in made).encode())
        return f"{name}-{digest.hexdigest()[:12]}"


def lines_of(path: Path) -> Iterator[tuple[str, ...]]:
    """The words of each line that says something, without comments."""
    for line in path.read_text(errors="replace").splitlines():
        words = line.split("#")[0].split()
        if words:
            yield tuple(words)


def read_geometry(path: Path) -> Geometry:
    cell, atoms, names = [], [], []
    for first, *rest in lines_of(path):
        if first == "lattice_vector":
            cell.append([float(word) for word in rest[:3]])
        elif first in ("atom", "atom_frac"):
            atoms.append((first == "atom_frac", [float(word) for word in rest[:3]]))
            names.append(rest[3])
        elif first in ("empty", "pseudocore"):
            raise Refused(Kind.UNSUPPORTED, path, f"has {first} sites, which are not read", "atoms")
    if len(cell) not in (0, 3):
        raise Refused(Kind.DAMAGED, path, f"has {len(cell)} lattice vectors", "three or none")
    cell_cv = np.array(cell) if cell else np.zeros((3, 3))
    places = [np.array(place) @ cell_cv if fractional else np.array(place) for fractional, place in atoms]
    positions_av = np.array(places).reshape(-1, 3)
    if not is_place(cell_cv).all() or not is_place(positions_av).all() or not names:
        raise Refused(Kind.DAMAGED, path, "has no places of atoms", "coordinates in Angstrom")
    return Geometry(cell_cv, positions_av, tuple(names))


def read_control(path: Path) -> Control:
    words: dict[str, tuple[str, ...]] = {}
    species: dict[str, list[tuple[str, ...]]] = {}
    current: list[tuple[str, ...]] = []
    for first, *rest in lines_of(path):
        if first == "species":
            current = species.setdefault(rest[0], [])
        elif OF_FUNCTIONS.fullmatch(first) or not first[0].isalpha():  # numbers continue the line of a Gaussian
            current.append((first, *(word.lower() for word in rest)))
        else:
            words[first.lower()] = tuple(word.lower() for word in rest)
    for keyword in MOVES:
        if keyword in words and words[keyword][:1] != ("none",):
            found = f"has {keyword}: the matrices are of another structure than geometry.in"
            raise Refused(Kind.UNSUPPORTED, path, found, "a run of one structure")
    return Control(words, {name: tuple(lines) for name, lines in species.items()})
