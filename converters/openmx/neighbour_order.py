"""How a run of OpenMX stores its matrices: which neighbours each atom has, in which order, and how its species are numbered.

Neighbours are all images within the sum of the cutoffs of two .pao files: the atom itself first, then atom after atom, of each the one in
the home cell before all others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from basis import Array
from basis.shells import LETTERS
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs
from converters.frames.frame import Frame
from converters.frames.neighbours import Structure, find_bonds
from converters.openmx.convention import LAYOUT
from converters.starts.start import Target

# Pairs at the very cutoff are kept: OpenMX passes over blocks that it does not look for, and has no values for those that a file lacks.
WIDER = 1 + 1e-9


@dataclass(frozen=True, eq=False)
class Layout:
    """What all restart files of a run share; `largest` is the number of orbitals of the largest species that its input defines.

    `imaginary` says whether the run has the imaginary matrices that spin-orbit coupling and +U bring.
    """

    spin_switch: int
    spin_orbit: bool
    imaginary: bool
    largest: int
    species_a: Array
    pairs: Pairs

    @cached_property
    def neighbours_a(self) -> Array:
        """Neighbours of each atom, itself not counted."""
        return np.bincount(self.pairs.i_p) - 1


def layout_of(target: Target, cutoffs: Mapping[str, float]) -> Layout:
    """The layout of a run, from the cutoff (Angstrom) of each species that it has atoms of."""
    labels, spin_orbit = list(target.radials), is_on(target, "scf.SpinOrbit.Coupling")
    orbitals_s = np.array([orbitals_of(name) for name in target.radials.values()])
    species_a = np.array([labels.index(label) for label in target.labels_a])
    reach_s = np.array([cutoffs.get(label, 0.0) for label in labels])
    structure = Structure(target.cell_cv, np.ones(3, dtype=bool), target.positions_av, species_a)
    atoms = np.arange(len(species_a))
    bonds = find_bonds(structure, atoms, (reach_s[:, None] + reach_s) * WIDER)
    i_q, j_q = np.concatenate([atoms, bonds.centre_d]), np.concatenate([atoms, bonds.neighbour_d])
    R_qc = np.concatenate([np.zeros((len(atoms), 3), dtype=np.int64), bonds.R_dc])
    other_q, away_q = np.arange(len(i_q)) >= len(atoms), R_qc.any(axis=1)
    order = np.lexsort((*R_qc.T[::-1], away_q, j_q, other_q, i_q))
    return Layout(
        spin_switch=next(switch for switch, spin in LAYOUT.items() if spin is target.spin),
        spin_orbit=spin_orbit,
        imaginary=spin_orbit or is_on(target, "scf.Hubbard.U"),
        largest=int(orbitals_s.max()),
        species_a=species_a,
        pairs=Pairs(i_q[order], j_q[order], R_qc[order], orbitals_s[species_a]),
    )


def is_on(target: Target, keyword: str) -> bool:
    return str(target.settings.get(keyword.lower(), "off")).lower() == "on"


def orbitals_of(name: str) -> int:
    """Orbitals of a name such as Si7.0-s2p2d1."""
    entries = re.findall(r"([spdfg])(\d+)", name.partition("-")[2])
    return sum(int(count) * (2 * LETTERS.index(letter) + 1) for letter, count in entries)


def require_same_orbitals(frame: Frame, layout: Layout, target: Target) -> None:
    if layout.pairs.norb_a.tolist() != frame.pairs.norb_a.tolist():
        names = ", ".join(f"{label} {name}" for label, name in target.radials.items())
        raise Refused(
            Kind.OTHER_STRUCTURE,
            target.path,
            f"has other orbitals than the matrices: {names}",
            "the same; none contracted",
        )
