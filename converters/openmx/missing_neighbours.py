"""Neighbours that OpenMX does not find: it looks through shells of cells, and stops at the first one that adds none.

Atoms of one molecule that its input has in different cells may so be alone for it; the run goes on, and is of something else.
"""

import re
from collections.abc import Sequence

import numpy as np

from basis import Array
from basis.shells import Species
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs, pack_pairs
from converters.frames.neighbours import Structure, find_bonds
from converters.openmx.convention import BOHR
from converters.openmx.scfout import ScfOut

CUTOFF = re.compile(r"[A-Za-z_]+(\d+(?:\.\d+)?)")
# Pairs at the very cutoff may be there or not.
CLOSER = 1 - 1e-6
CURE = "the run again, with its atoms in one cell"


def require_all_neighbours(stored: ScfOut, basis: Sequence[Species], species_a: Array) -> None:
    """Refuse a run that lacks pairs within the cutoffs that the names of its .pao files say."""
    named = [CUTOFF.match(species.radial) for species in basis]
    if not all(named):
        return
    reach_s = np.array([float(match[1]) for match in named if match]) * BOHR
    structure = Structure(stored.cell_cv * BOHR, np.ones(3, dtype=bool), stored.positions_av * BOHR, species_a)
    bonds = find_bonds(structure, np.arange(len(species_a)), (reach_s[:, None] + reach_s) * CLOSER)
    reach = int(max(np.abs(bonds.R_dc).max(initial=0), np.abs(stored.R_qc).max(initial=0)))
    there_q = pack_pairs(stored.i_q, stored.j_q, stored.R_qc, len(species_a), reach)
    wanted_d = pack_pairs(bonds.centre_d, bonds.neighbour_d, bonds.R_dc, len(species_a), reach)
    if missing := int(np.count_nonzero(~np.isin(wanted_d, there_q))):
        found = f"lacks {missing} of the {len(bonds)} neighbours within its cutoffs: OpenMX stops at a shell of cells without any"
        raise Refused(Kind.FAULTY_VERSION, stored.path, found, CURE)


def require_that_all_are_found(place: object, pairs: Pairs) -> None:
    """Refuse a run that is to start and will not find all its neighbours."""
    others = ~pairs.onsite_p
    shell_p = np.abs(pairs.R_pc).max(axis=1)[others]
    n, before = 1, 0
    while (found := int(np.count_nonzero(shell_p <= n))) != before:
        n, before = n + 1, found
    if lost := int(np.count_nonzero(shell_p > n)):
        reason = f"has atoms in cells so far apart that OpenMX does not find {lost} of their {len(shell_p)} neighbours"
        raise Refused(Kind.NO_START, str(place), reason, "an input with its atoms in one cell")
