"""Neighbours: the bonds that lead from some atoms of a structure, however large it is.

The atoms of a structure are sorted once; a search then costs what it finds. All pair lists come from this one search, so a
piece of a structure has the bonds that the whole has.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product

import numpy as np
from scipy.spatial import KDTree

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs, is_canonical
from converters.frames.frame import Frame
from converters.frames.moments import moments_of

# Atoms closer than this (Angstrom) are a mistake.
NEAREST = 1e-3
# Distances are compared with the cutoff as they are computed everywhere; the search itself looks this factor farther.
WIDER = 1 + 1e-9
# No coordinate of an atom comes near to this (Angstrom).
FARTHEST = 1e9


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in a cell; species are numbered as in some basis. `axis_v` is where moments of spinors are to point, up where nothing says it."""

    cell_cv: Array
    pbc_c: Array
    positions_av: Array
    species_a: Array
    axis_v: Array | None = None

    @cached_property
    def places(self) -> "Places":
        """The same atoms, sorted for searches."""
        return sort_places(self)


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds from some atoms: `centre_d` counts those atoms, `neighbour_d` all atoms; sorted by centre, neighbour and R."""

    centre_d: Array
    neighbour_d: Array
    R_dc: Array
    vectors_dv: Array

    def __len__(self) -> int:
        return len(self.centre_d)

    def take(self, chosen_d: Array) -> "Bonds":
        return Bonds(
            self.centre_d[chosen_d], self.neighbour_d[chosen_d], self.R_dc[chosen_d], self.vectors_dv[chosen_d]
        )


@dataclass(frozen=True, eq=False)
class Places:
    """The atoms of a structure moved into the cell (position = place + shift @ cell), in a tree."""

    cell_cv: Array
    pbc_c: Array
    place_av: Array
    shift_ac: Array
    tree: KDTree

    def near(self, low_v: Array, high_v: Array) -> tuple[Array, Array, Array]:
        """Atoms, cells and places of all images of atoms in a box."""
        cell_nc = self._cells(low_v, high_v)
        offset_nv = cell_nc @ self.cell_cv
        middle_v, radius = (low_v + high_v) / 2, float(np.linalg.norm(high_v - low_v)) / 2
        found_n = self.tree.query_ball_point(middle_v - offset_nv, radius)
        n_i = np.repeat(np.arange(len(cell_nc)), [len(found) for found in found_n])
        a_i = np.fromiter(chain.from_iterable(found_n), dtype=np.int64, count=len(n_i))
        place_iv = self.place_av[a_i] + offset_nv[n_i]
        inside_i = ((place_iv >= low_v) & (place_iv <= high_v)).all(axis=1)
        return a_i[inside_i], cell_nc[n_i[inside_i]], place_iv[inside_i]

    def _cells(self, low_v: Array, high_v: Array) -> Array:
        """The cells that a box touches."""
        corners_nc = np.array(list(product(*zip(low_v, high_v, strict=True)))) @ np.linalg.inv(self.cell_cv)
        first, last = np.floor(corners_nc.min(axis=0)).astype(int), np.floor(corners_nc.max(axis=0)).astype(int)
        along = [range(a, b + 1) if p else range(1) for a, b, p in zip(first, last, self.pbc_c, strict=True)]
        return np.array(list(product(*along)))


def sort_places(structure: Structure) -> Places:
    from ase.geometry import complete_cell

    require_sane(structure)
    cell_cv = np.asarray(complete_cell(structure.cell_cv))
    fractional_ac = structure.positions_av @ np.linalg.inv(cell_cv)
    shift_ac = np.where(structure.pbc_c, np.floor(fractional_ac), 0).astype(np.int64)
    place_av = structure.positions_av - shift_ac @ cell_cv
    return Places(cell_cv, structure.pbc_c.astype(bool), place_av, shift_ac, KDTree(place_av))


def find_bonds(structure: Structure, atoms: Array, cutoff_ss: Array) -> Bonds:
    """All bonds from some atoms to atoms closer than the cutoff of their species."""
    places, cutoff = structure.places, float(cutoff_ss.max())
    own_av = places.place_av[atoms]
    neighbour_n, cell_nc, place_nv = places.near(own_av.min(axis=0) - cutoff, own_av.max(axis=0) + cutoff)
    found = KDTree(own_av).sparse_distance_matrix(KDTree(place_nv), cutoff * WIDER, output_type="ndarray")
    centre_d, n_d = found["i"].astype(np.int64), found["j"]
    i_d, j_d = atoms[centre_d], neighbour_n[n_d]
    R_dc = cell_nc[n_d] - places.shift_ac[j_d] + places.shift_ac[i_d]
    other_d = (i_d != j_d) | R_dc.any(axis=1)
    vectors_dv = structure.positions_av[j_d] - structure.positions_av[i_d] + R_dc @ structure.cell_cv
    length_d = np.linalg.norm(vectors_dv, axis=1)
    if other_d.any() and length_d[other_d].min() < NEAREST:
        d = np.flatnonzero(other_d)[length_d[other_d].argmin()]
        raise Refused(
            Kind.SINGULAR_OVERLAP,
            "structure",
            f"has atoms {i_d[d]} and {j_d[d]} (counted from 0) {length_d[d]:.3g} Angstrom apart",
        )
    near_d = other_d & (length_d < cutoff_ss[structure.species_a[i_d], structure.species_a[j_d]])
    order = np.flatnonzero(near_d)
    order = order[np.lexsort((*R_dc[order].T[::-1], j_d[order], centre_d[order]))]
    return Bonds(centre_d[order], j_d[order], R_dc[order], vectors_dv[order])


def own_pairs(bonds: Bonds, atoms: Array, norb_a: Array) -> tuple[Pairs, Array]:
    """The pairs (i, j, R) that are stored with some atoms i, each atom with itself among them, and the bond of each pair (-1: none).

    `atoms` ascend, so that the pairs of all atoms one after the other are the pair list of the structure.
    """
    i_d = atoms[bonds.centre_d]
    kept_d = np.flatnonzero(is_canonical(i_d, bonds.neighbour_d, bonds.R_dc))
    i_q = np.concatenate([atoms, i_d[kept_d]])
    j_q = np.concatenate([atoms, bonds.neighbour_d[kept_d]])
    R_qc = np.concatenate([np.zeros((len(atoms), 3), dtype=np.int64), bonds.R_dc[kept_d]])
    bond_q = np.concatenate([np.full(len(atoms), -1), kept_d])
    order = np.lexsort((*R_qc.T[::-1], j_q, i_q))
    return Pairs(i_q[order], j_q[order], R_qc[order], norb_a), bond_q[order]


def find_pairs(structure: Structure, cutoff_ss: Array, norb_a: Array) -> Pairs:
    """All pairs of atoms closer than the cutoff of their species, and each atom with itself."""
    atoms = np.arange(len(norb_a))
    return own_pairs(find_bonds(structure, atoms, cutoff_ss), atoms, norb_a)[0]


def is_place(coordinates_v: Array) -> Array:
    """Which coordinates may be those of atoms: a damaged number may be finite and its square may not."""
    return np.less(np.abs(coordinates_v), FARTHEST)


def require_sane(structure: Structure) -> None:
    """Refuse structures that have no neighbours in any sense."""
    if not len(structure.species_a):
        raise Refused(Kind.NO_STRUCTURE, "structure", "has no atoms")
    if not (is_place(structure.positions_av).all() and is_place(structure.cell_cv).all()):
        raise Refused(Kind.NO_STRUCTURE, "structure", "has positions or a cell that are not finite")
    lengths_c = np.linalg.norm(structure.cell_cv, axis=1)
    if (lengths_c[structure.pbc_c] == 0).any() or (
        structure.pbc_c.all() and abs(np.linalg.det(structure.cell_cv)) < 1e-6
    ):
        raise Refused(Kind.NO_STRUCTURE, "structure", "is periodic along a direction that has no cell vector")


def structure_of(frame: Frame) -> Structure:
    moments = moments_of(frame)
    axis_v = moments.axis_v if moments else None
    return Structure(frame.cell_cv, frame.pbc_c, frame.positions_av, frame.species_a, axis_v)
