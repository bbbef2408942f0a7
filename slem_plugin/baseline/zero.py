"""The zero of a cell's potential: one number for each structure, which moves H by so many times S.

A periodic code gives its electrostatic potential the mean zero. In a description by atoms whose potentials end that mean is what the atoms add to
it, divided by the volume of the cell: the same atoms in a larger cell have all their levels moved. No block of H can know this, but a sum over all atoms and
pairs divided by the volume can.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from basis import Array
from converters.frames.neighbours import Structure, find_bonds
from slem_plugin.baseline.baseline import COARSE, FARTHEST, NEAR, functions, limited, splines_over
from slem_plugin.baseline.splines import fit_penalised, switch_off
from slem_plugin.graphs.graph import pair_kinds, pair_numbers

# Pairs farther apart (Angstrom) say nothing of the zero.
REACH = 9.0
# Atoms whose pairs are looked at together.
TOGETHER = 1000
# A zero is taken where the shifts of structures that were left out are off by at most this part of what they are.
WORTH_IT = 0.5
# With fewer structures nothing can be left out; of more, so many parts are left out one after the other.
FEWEST, PARTS = 4, 20
# What varies less than this part of its size is the same in all structures.
SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Zero:
    """The shift (eV) of a structure: `weights_n` times the difference of its sums over the volume to `centre_n`, and not much more than `most` of the data.

    The sums are the atoms of each species, then functions of distance over the pairs of each kind, which begin at `near_ss`.
    """

    near_ss: Array
    weights_n: Array
    centre_n: Array
    most: Array

    def arrays(self) -> dict[str, Array]:
        """All numbers under plain names."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_arrays(cls, named: Mapping[str, Array]) -> "Zero":
        """The zero of what `arrays` gave."""
        return cls(**{one.name: named[one.name] for one in fields(cls)})

    def of(self, structure: Structure) -> float:
        """The shift (eV) of a structure; none where it has no cell."""
        return shift_of(self, structure) if structure.pbc_c.all() else 0.0


@lru_cache(maxsize=4)
def shift_of(zero: Zero, structure: Structure) -> float:
    """The same, kept: the pieces of a structure ask again and again."""
    sums_n = sums_over_volume(structure, zero.near_ss)
    return float(limited((zero.weights_n @ (sums_n - zero.centre_n))[None, None], zero.most)[0, 0])


def fit_zero(structures: Sequence[Structure], species: int, shift_n: Array) -> Zero | None:
    """The zero of some structures of so many species with these shifts (eV); None where it does not foretell them, or there are no cells."""
    if len(structures) < FEWEST or not all(one.pbc_c.all() for one in structures):
        return None
    near_ss = nearest_pairs(structures, species)
    sums_n = np.array([sums_over_volume(one, near_ss) for one in structures])
    foretold = np.empty_like(shift_n)
    for part in np.array_split(np.random.default_rng(0).permutation(len(shift_n)), min(len(shift_n), PARTS)):
        others = np.setdiff1d(np.arange(len(shift_n)), part)
        foretold[part] = (sums_n[part] - sums_n[others].mean(axis=0)) @ fit_weights(sums_n[others], shift_n[others])
        foretold[part] += shift_n[others].mean()
    if np.mean((foretold - shift_n) ** 2) >= WORTH_IT**2 * shift_n.var():
        return None
    centre_n, weights_n = sums_n.mean(axis=0), fit_weights(sums_n, shift_n)
    most = FARTHEST * np.abs((sums_n - centre_n) @ weights_n).max(keepdims=True)
    return Zero(near_ss, weights_n, centre_n, most)


def fit_weights(sums_n: Array, shift_n: Array) -> Array:
    """The weights of the sums over the volume."""
    A = sums_n - sums_n.mean(axis=0)
    spread = np.linalg.norm(A) / np.sqrt(len(A))
    if spread < SAME * np.linalg.norm(sums_n.mean(axis=0)):
        return np.zeros(A.shape[1])
    values = (shift_n - shift_n.mean())[:, None]
    # Of few structures the error is uneven in the weight of the penalty: all weights are tried.
    return fit_penalised(A / spread, values, np.eye(A.shape[1]), np.arange(len(A)))[:, 0] / spread


def sums_over_volume(structure: Structure, near_ss: Array) -> Array:
    """Atoms of each species, and functions of distance over the pairs of each kind, for each cubic Angstrom."""
    kinds = pair_kinds(len(near_ss))
    counts = np.bincount(structure.species_a, minlength=len(near_ss))
    sums = [np.zeros(splines_over(near_ss[kind], REACH, COARSE)) for kind in kinds]
    for kind_d, length_d in pairs_of(structure, len(near_ss)):
        for t, kind in enumerate(kinds):
            r = length_d[kind_d == t]
            sums[t] += switch_off(r, REACH / 2, REACH) @ functions(r, near_ss[kind], REACH, COARSE)
    return np.concatenate([counts, *sums]) / abs(float(np.linalg.det(structure.cell_cv)))


def pairs_of(structure: Structure, species: int) -> Iterator[tuple[Array, Array]]:
    """Kinds and lengths of all directed pairs, some atoms at a time."""
    number_ss, cutoff_ss = pair_numbers(species), np.full((species, species), REACH)
    for first in range(0, len(structure.species_a), TOGETHER):
        atoms = np.arange(first, min(first + TOGETHER, len(structure.species_a)))
        bonds = find_bonds(structure, atoms, cutoff_ss)
        own_d, other_d = structure.species_a[atoms[bonds.centre_d]], structure.species_a[bonds.neighbour_d]
        yield number_ss[own_d, other_d], np.linalg.norm(bonds.vectors_dv, axis=1)


def nearest_pairs(structures: Sequence[Structure], species: int) -> Array:
    """Where the functions of the pairs of each two species begin."""
    number_ss = pair_numbers(species)
    near_t = np.full(number_ss.max() + 1, REACH)
    for structure in structures:
        for kind_d, length_d in pairs_of(structure, species):
            np.minimum.at(near_t, kind_d, length_d)
    return np.where(near_t < REACH, NEAR * near_t, 0.0)[number_ss]
