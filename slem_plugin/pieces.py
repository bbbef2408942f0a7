"""Pieces: a large structure cut into parts that are predicted one by one, anywhere and in any order.

A piece needs its atoms and the places of those within a cutoff around them. Blocks inside a piece are made with it. A block
between two pieces is made of the states of its bond seen from both ends, so each piece leaves the states of the bonds that lead out
of it in a file, and when all have done so, the blocks between pieces are made: nothing is computed twice, and no halo either.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs, canonical
from converters.frames.neighbours import Bonds, Structure, find_bonds
from converters.storage.files import draft_of
from slem_plugin.baseline.sharing import places_by_species
from slem_plugin.model import Model
from slem_plugin.prediction import (
    Ends,
    Knowledge,
    batch_size,
    batches,
    batches_of,
    blocks_of_far_pairs,
    blocks_of_pairs,
    look_around,
    onsite_of_pairs,
    pairs_of_bonds,
    reverse_bonds,
)

# Memory of a piece besides what its atoms need: the program, and one batch (bytes).
RESERVE = 900 << 20
# Memory per bond besides its state and its half of a block: pair lists, lengths, indices (bytes).
PER_BOND = 250
# Atoms of which the neighbours are counted for an estimate.
SAMPLE = 20


def cut_structure(structure: Structure, count: int) -> Array:
    """The number of the piece of each atom: compact pieces of nearly equal size, neighbours in number near each other in space."""
    place_av = structure.places.place_av
    piece_a = np.zeros(len(place_av), dtype=np.int64)
    waiting = [(np.arange(len(place_av)), 0, min(count, len(place_av)))]
    while waiting:
        atoms, first, parts = waiting.pop()
        piece_a[atoms] = first
        if parts > 1:
            axis = np.ptp(place_av[atoms], axis=0).argmax()
            order = atoms[np.lexsort((atoms, place_av[atoms, axis]))]
            left = parts // 2
            middle = round(len(atoms) * left / parts)
            waiting += [(np.sort(order[:middle]), first, left), (np.sort(order[middle:]), first + left, parts - left)]
    return piece_a


def atoms_within(model: Model, structure: Structure, memory: float) -> int:
    """How many atoms a piece may have, for a process to stay below so many bytes."""
    left = memory - RESERVE
    most = int(left / bytes_per_atom(model, structure))
    if most < 1:
        raise Refused(
            Kind.TOO_LITTLE_MEMORY,
            "memory",
            f"of {memory / 1e9:.3g} GB is too little; this needs {RESERVE / 1e9:.2g} GB and more",
        )
    return most


def bytes_per_atom(model: Model, structure: Structure) -> float:
    """Memory that an atom of a piece takes; its blocks are written as soon as they are made."""
    # States that lead out of the piece are copied once, when they are saved.
    return sample_bonds(model, structure) * (2 * state_bytes(model) + PER_BOND)


def whole_bytes_per_atom(model: Model, structure: Structure) -> float:
    """Memory that an atom takes where all blocks are kept."""
    bonds, orbitals = sample_bonds(model, structure), model.orbitals(structure).mean()
    pairs = sample_pairs(model, structure)
    layouts = [model.blueprint.layout(name) for name in model.operators]
    numbers = sum(spin.components * np.dtype(spin.dtype).itemsize for spin in layouts)
    return float(bonds * (state_bytes(model) + PER_BOND) + pairs * orbitals**2 * numbers)


def sample_bonds(model: Model, structure: Structure) -> float:
    """Bonds of an atom, of a sample of atoms."""
    sample = sample_atoms(structure)
    return sum(len(model.bonds(structure, np.array([a]))) for a in sample) / len(sample)


def sample_pairs(model: Model, structure: Structure) -> float:
    """Pairs that are stored with an atom: half of its neighbours, and itself."""
    sample = sample_atoms(structure)
    return 1 + sum(len(find_bonds(structure, np.array([a]), model.reach_ss)) for a in sample) / (2 * len(sample))


def sample_atoms(structure: Structure) -> Array:
    return np.unique(np.linspace(0, len(structure.species_a) - 1, SAMPLE).astype(int))


def state_bytes(model: Model) -> int:
    """Memory of the state of a bond."""
    return 0 if model.network is None else model.network.state_size * model.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Blocks:
    """Some blocks of a structure, flat, with the number of the first element of each in the list of the structure."""

    pairs: Pairs
    element_p: Array
    values: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Piece:
    """The atoms of a piece, ascending, their bonds, and the pairs that are stored with them."""

    atoms: Array
    bonds: Bonds
    pairs: Pairs
    bond_p: Array

    @classmethod
    def of(cls, model: Model, structure: Structure, atoms: Array) -> "Piece":
        bonds = model.bonds(structure, atoms)
        return cls(atoms, bonds, *pairs_of_bonds(model, structure, atoms, bonds))

    def count(self) -> Array:
        """Pairs and elements that are stored with each atom, [atoms, 2]."""
        place_p = np.searchsorted(self.atoms, self.pairs.i_p)
        counts = (np.bincount(place_p, weights, minlength=len(self.atoms)) for weights in (None, self.pairs.size_p))
        return np.column_stack([np.asarray(count, dtype=np.int64) for count in counts])

    def elements(self, first_a: Array) -> Array:
        """The number of the first element of each pair, where that of each atom of the structure is known."""
        own = np.searchsorted(self.pairs.i_p, self.atoms)
        before_a = self.pairs.start_p[own]
        place_p = np.searchsorted(self.atoms, self.pairs.i_p)
        return np.asarray(self.pairs.start_p[:-1] - before_a[place_p] + first_a[self.pairs.i_p])


def predict_inside(
    model: Model, structure: Structure, piece: Piece, piece_a: Array, first_a: Array, file: Path
) -> Iterator[Blocks]:
    """The blocks inside a piece, batch by batch; at the end `file` holds what the blocks between pieces need of it.

    `piece_a` is the number of the piece of each atom, `first_a` the number of its first element.
    """
    known = look_around(model, structure, piece.atoms, piece.bonds)
    reverse_d = reverse_bonds(piece.bonds, piece.atoms, structure)
    element_p = piece.elements(first_a)
    place_a = places_in(structure, piece.atoms, len(model.blueprint.basis))
    met = piece.pairs.onsite_p | (piece.bond_p >= 0)
    outward_p = (piece.bond_p >= 0) & (reverse_d[piece.bond_p] < 0) if len(reverse_d) else np.zeros(len(met), bool)
    for p in batches_of(np.flatnonzero(met & ~outward_p), model):
        bond_h = piece.bond_p[p][piece.bond_p[p] >= 0]
        pairs = piece.pairs.take(p)
        onsite = onsite_of_pairs(known, pairs, structure, place_a)
        ends = Ends(known.states_df, bond_h, reverse_d[bond_h], onsite, known.dressed_s, place_a)
        yield Blocks(pairs, element_p[p], blocks_of_pairs(model, structure, pairs, ends))
    for p in batches_of(np.flatnonzero(~met), model):
        pairs = piece.pairs.take(p)
        yield Blocks(pairs, element_p[p], blocks_of_far_pairs(model, structure, pairs))
    outward = np.flatnonzero(reverse_d < 0)
    element_d = np.full(len(piece.bonds), -1)
    element_d[piece.bond_p[piece.bond_p >= 0]] = element_p[piece.bond_p >= 0]
    leave_states(structure, piece, outward, element_d, known, piece_a, file)


def places_in(structure: Structure, atoms: Array, species: int) -> Array:
    """The number of each of some atoms among those of its species; -1 for all others."""
    place_a = np.full(len(structure.species_a), -1)
    place_a[atoms] = places_by_species(structure.species_a[atoms], species)
    return place_a


def leave_states(
    structure: Structure, piece: Piece, outward: Array, element_d: Array, known: Knowledge, piece_a: Array, file: Path
) -> None:
    """Save the states of the bonds that lead out of a piece, by the piece that they lead to.

    Both pieces sort their bonds alike, so that row follows row: first those whose pairs the other piece stores, then the own ones.
    A row of `groups` is (other piece, first row, first own row, end).
    """
    i_d, j_d, R_dc = (
        piece.atoms[piece.bonds.centre_d[outward]],
        piece.bonds.neighbour_d[outward],
        piece.bonds.R_dc[outward],
    )
    other_d = piece_a[j_d]
    i_q, j_q, R_qc, swapped_q = canonical(i_d, j_d, R_dc)
    order = np.lexsort((*R_qc.T[::-1], j_q, i_q, ~swapped_q, other_d))
    others, first = np.unique(other_d[order], return_index=True)
    end = np.searchsorted(other_d[order], others, side="right")
    own = first + np.bincount(np.searchsorted(others, other_d[swapped_q]), minlength=len(others))
    atoms = np.unique(i_d)
    tensors = {
        "groups": np.column_stack([others, first, own, end]).astype(np.int64),
        "pairs": np.column_stack([i_q, j_q, R_qc])[order],
        "elements": element_d[outward][order],
        "atoms": atoms,
    }
    places = places_in(structure, piece.atoms, len(known.dressed_s))
    for s, dressed in enumerate(known.dressed_s):
        mine = atoms[structure.species_a[atoms] == s]
        tensors[f"dressed.{s}"] = dressed[places[mine]]
    saved = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
    with draft_of(file) as draft:
        save_file({**saved, "states": known.states_df[outward[order]].cpu()}, draft)


def predict_between(
    model: Model, structure: Structure, number: int, file_of: Callable[[int], Path]
) -> Iterator[Blocks]:
    """The blocks that a piece stores and shares with others, batch by batch, of the files that all pieces left."""
    norb_a = model.orbitals(structure)
    with safe_open(file_of(number), framework="pt") as mine:
        own_dressed = read_dressed(mine, structure, model)
        for other, _, own, end in mine.get_tensor("groups").tolist():
            if own == end:
                continue
            with safe_open(file_of(other), framework="pt") as theirs:
                start, stop = group_of(theirs, number)
                rows = mine.get_slice("pairs")[own:end].numpy()
                if stop - start != end - own or (theirs.get_slice("pairs")[start:stop].numpy() != rows).any():
                    raise Refused(
                        Kind.PIECES_DISAGREE,
                        file_of(other),
                        f"disagrees with {file_of(number)} about the pairs between them",
                    )
                dressed_s, place_a = join_dressed(own_dressed, read_dressed(theirs, structure, model), structure)
                for part in batches(end - own, batch_size(model)):
                    here, there = (slice(first + part.start, first + part.stop) for first in (own, start))
                    pairs = Pairs(rows[part, 0], rows[part, 1], rows[part, 2:], norb_a)
                    both = [file.get_slice("states")[where] for file, where in ((mine, here), (theirs, there))]
                    there_h, back_h = np.split(np.arange(2 * len(pairs)), 2)
                    states_df = torch.cat(both).to(model.device)
                    ends = Ends(states_df, there_h, back_h, nothing_onsite(model), dressed_s, place_a)
                    element_p = mine.get_slice("elements")[here].numpy()
                    yield Blocks(pairs, element_p, blocks_of_pairs(model, structure, pairs, ends))


def group_of(file: Any, number: int) -> tuple[int, int]:
    """The rows of a file that belong to the pairs which piece `number` stores."""
    groups = file.get_tensor("groups").numpy()
    found = groups[groups[:, 0] == number]
    return (int(found[0, 1]), int(found[0, 2])) if len(found) else (0, 0)


def read_dressed(file: Any, structure: Structure, model: Model) -> tuple[Array, tuple[Array, ...]]:
    """The atoms at the border of a piece, and their H_ii S_ii^-1 by species."""
    names = [f"dressed.{s}" for s in range(len(model.blueprint.basis))]
    there = set(file.keys())
    return file.get_tensor("atoms").numpy(), tuple(file.get_tensor(name).numpy() for name in names if name in there)


def join_dressed(
    mine: tuple[Array, tuple[Array, ...]], theirs: tuple[Array, tuple[Array, ...]], structure: Structure
) -> tuple[tuple[Array, ...], Array]:
    """The matrices of both, and the number of each atom among those of its species."""
    place_a = np.full(len(structure.species_a), -1)
    dressed = []
    for s, parts in enumerate(zip(mine[1], theirs[1], strict=True)):
        atoms = np.concatenate([one[structure.species_a[one] == s] for one in (mine[0], theirs[0])])
        place_a[atoms] = np.arange(len(atoms))
        dressed.append(np.concatenate(parts))
    return tuple(dressed), place_a


def nothing_onsite(model: Model) -> dict[str, tuple[Array, ...]]:
    """Components of no onsite block."""
    return {
        name: tuple(np.zeros((0, onsite.size)) for onsite in model.blueprint.form(name).onsite_s)
        for name in model.baselines
    }
