"""Prediction: the blocks of a structure, from what each atom knows of its surroundings.

The states of the bonds of an atom depend on its neighbours alone, and a block on the states of both directions of its bond. So atoms
are looked at in batches of any size, each atom once, and blocks are made in batches of pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from basis import Array
from converters.frames.blocks import Operator, Pairs, pack_pairs
from converters.frames.frame import Frame
from converters.frames.neighbours import Bonds, Structure, find_bonds, own_pairs
from slem_plugin.baseline.baseline import FARTHEST, Seen, limited
from slem_plugin.baseline.sharing import dress_onsite, places_by_species, share_dressed
from slem_plugin.blocks.components import BondFrames, Components, bond_frames, flat_blocks
from slem_plugin.blocks.fields import from_fields
from slem_plugin.graphs.graph import graph_of_bonds
from slem_plugin.kept_memory import keep_memory
from slem_plugin.model import Model
from slem_plugin.network.network import Network, PairStates
from slem_plugin.unseen import unseen

if TYPE_CHECKING:
    from ase import Atoms

# Bonds of a batch: enough for the matrix products, few enough for the caches of a processor.
BATCH_CPU, BATCH_GPU = 4_000, 200_000


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What some atoms know, of which all blocks are made.

    `states_df` are the states of their bonds, `onsite` the components of their own blocks of each operator by species, and `dressed_s`
    the matrices H_ii S_ii^-1 of the baseline by species, where H and S are there.
    """

    states_df: Tensor
    onsite: Mapping[str, tuple[Array, ...]]
    dressed_s: tuple[Array, ...]


def predict(model: Model, structure: "Atoms | Structure") -> Frame:
    """The matrices of a structure, an ase.Atoms or one whose species are numbered as in the model.

    >>> frame = predict(load_model("model/"), atoms)
    """
    keep_memory()
    structure = structure if isinstance(structure, Structure) else model.structure(structure)
    bonds = model.bonds(structure)
    facts = model.facts(structure, unseen(model, structure, bonds))
    pairs, operators = predict_operators(model, structure, bonds)
    return Frame(
        structure.cell_cv,
        structure.pbc_c,
        structure.positions_av,
        structure.species_a,
        model.blueprint.basis,
        pairs,
        model.blueprint.spin,
        operators,
        **facts,
    )


def predict_operators(model: Model, structure: Structure, bonds: Bonds) -> tuple[Pairs, dict[str, Operator]]:
    """The pairs of a structure with these bonds, and the matrices on them."""
    atoms = np.arange(len(structure.species_a))
    pairs, bond_p = pairs_of_bonds(model, structure, atoms, bonds)
    known = look_around(model, structure, atoms, bonds)
    values = room_for(model, pairs)
    place_a = places_by_species(structure.species_a, len(model.blueprint.basis))
    reverse_d = reverse_bonds(bonds, atoms, structure)
    met = pairs.onsite_p | (bond_p >= 0)
    for p in batches_of(np.flatnonzero(met), model):
        mine = pairs.take(p)
        bond_h = bond_p[p][bond_p[p] >= 0]
        onsite = onsite_of_pairs(known, mine, structure, place_a)
        ends = Ends(known.states_df, bond_h, reverse_d[bond_h], onsite, known.dressed_s, place_a)
        put(values, pairs, p, blocks_of_pairs(model, structure, mine, ends))
    for p in batches_of(np.flatnonzero(~met), model):
        put(values, pairs, p, blocks_of_far_pairs(model, structure, pairs.take(p)))
    return pairs, {name: Operator(values_sx) for name, values_sx in values.items()}


def pairs_of_bonds(model: Model, structure: Structure, atoms: Array, bonds: Bonds) -> tuple[Pairs, Array]:
    """The pairs that are stored with some atoms that have these bonds, and the bond of each pair.

    It is -1 for an atom with itself, and for two atoms that are too far apart for what was learned and yet overlap.
    """
    orbitals = model.orbitals(structure)
    if (model.reach_ss <= model.cutoff_ss).all():
        return own_pairs(bonds, atoms, orbitals)
    wide = find_bonds(structure, atoms, model.reach_ss)
    pairs, wide_p = own_pairs(wide, atoms, orbitals)
    own_d, other_d = structure.species_a[atoms[wide.centre_d]], structure.species_a[wide.neighbour_d]
    near_d = np.linalg.norm(wide.vectors_dv, axis=1) < model.cutoff_ss[own_d, other_d]
    number_d = np.append(np.where(near_d, np.cumsum(near_d) - 1, -1), -1)
    return pairs, number_d[wide_p]


def batches_of(p: Array, model: Model) -> Iterator[Array]:
    """Some pairs, a batch of them at a time."""
    return (p[part] for part in batches(len(p), batch_size(model)) if part.stop > part.start)


def put(values: Mapping[str, Array], pairs: Pairs, p: Array, blocks: Mapping[str, Array]) -> None:
    """Put the blocks of some pairs into the matrices."""
    x = slice(pairs.start_p[p[0]], pairs.start_p[p[-1] + 1])
    if p[-1] - p[0] + 1 == len(p):
        for name, values_sx in blocks.items():
            values[name][:, x] = values_sx
        return
    mine = pairs.take(p)
    places = np.repeat(pairs.start_p[p] - mine.start_p[:-1], mine.size_p) + np.arange(mine.elements)
    for name, values_sx in blocks.items():
        values[name][:, places] = values_sx


def blocks_of_far_pairs(model: Model, structure: Structure, pairs: Pairs) -> dict[str, Array]:
    """The blocks of pairs that only overlap."""
    values = room_for(model, pairs)
    exact = model.exact_overlap(structure, pairs)
    return values if exact is None else {**values, "S": exact[None]}


def room_for(model: Model, pairs: Pairs) -> dict[str, Array]:
    """Empty matrices on some pairs."""
    layouts = {name: model.blueprint.layout(name) for name in model.operators}
    return {name: np.zeros((spin.components, pairs.elements), dtype=spin.dtype) for name, spin in layouts.items()}


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of nearly equal length, none longer than `size`."""
    number = max(1, -(-count // size))
    edges = np.linspace(0, count, number + 1).astype(int).tolist()
    return (slice(a, b) for a, b in pairwise(edges))


def batch_size(model: Model) -> int:
    return BATCH_CPU if model.device.type == "cpu" else BATCH_GPU


def reverse_bonds(bonds: Bonds, atoms: Array, structure: Structure) -> Array:
    """The bond back from the neighbour of each bond, -1 where that is none of the atoms."""
    reach = int(np.abs(bonds.R_dc).max(initial=0))
    i_d, j_d, natoms = atoms[bonds.centre_d], bonds.neighbour_d, len(structure.species_a)
    key_d = pack_pairs(i_d, j_d, bonds.R_dc, natoms, reach)
    back_d = pack_pairs(j_d, i_d, -bonds.R_dc, natoms, reach)
    place_d = np.minimum(np.searchsorted(key_d, back_d), len(key_d) - 1)
    return np.where(key_d[place_d] == back_d, place_d, -1) if len(key_d) else place_d


def look_around(model: Model, structure: Structure, atoms: Array, bonds: Bonds) -> Knowledge:
    """What some atoms know, a batch of them at a time."""
    end_a = np.searchsorted(bonds.centre_d, np.arange(len(atoms)), side="right")
    per_atom = max(1.0, len(bonds) / len(atoms))
    width = 0 if model.network is None else model.network.state_size
    states_df = torch.empty(len(bonds), width, dtype=model.dtype, device=model.device)
    onsite, dressed = [], []
    for part in batches(len(atoms), max(1, round(batch_size(model) / per_atom))):
        start = end_a[part.start - 1] if part.start else 0
        stop = end_a[part.stop - 1]
        mine = bonds.take(np.arange(start, stop))
        mine.centre_d[:] -= part.start
        known = look_once(model, structure, atoms[part], mine)
        states_df[start:stop] = known.states_df
        onsite.append(known.onsite)
        dressed.append(known.dressed_s)
    joined = {name: tuple(map(np.concatenate, zip(*(one[name] for one in onsite), strict=True))) for name in onsite[0]}
    return Knowledge(states_df, joined, tuple(map(np.concatenate, zip(*dressed, strict=True))))


def look_once(model: Model, structure: Structure, atoms: Array, bonds: Bonds) -> Knowledge:
    """What the atoms of one batch know."""
    graph, place_d = graph_of_bonds(structure, atoms, bonds, len(model.blueprint.basis), model.blueprint.degrees)
    seen: Seen = {}
    onsite = {name: baseline.onsite(graph, seen) for name, baseline in model.baselines.items()}
    dressed: tuple[Array, ...] = ()
    if {"H", "S"} <= set(onsite):
        overlap = model.blueprint.form("S")
        S_s = tuple(flat_blocks(rows, form) for rows, form in zip(onsite["S"], overlap.onsite_s, strict=True))
        dressed = dress_onsite(model.blueprint.form("H"), onsite["H"], S_s)
    if model.network is None:
        return Knowledge(torch.zeros(len(bonds), 0), onsite, dressed)
    with torch.no_grad():
        there = torch.from_numpy(place_d).to(model.device)
        states_df, said = model.network.states(graph.to(model.dtype, model.device), there)
    for name, output in said.items():
        baseline = model.baselines[name]
        by_species = zip(onsite[name], baseline.onsite_sizes(graph), output, baseline.peak_s, strict=True)
        onsite[name] = tuple(corrected(*one) for one in by_species)
    return Knowledge(states_df, onsite, dressed)


def onsite_of_pairs(
    known: Knowledge, pairs: Pairs, structure: Structure, place_a: Array
) -> dict[str, tuple[Array, ...]]:
    """Components of the onsite blocks among some pairs, by operator and species."""
    atoms = pairs.i_p[pairs.onsite_p]
    chosen_s = [
        place_a[atoms[structure.species_a[atoms] == s]] for s in range(len(known.onsite[next(iter(known.onsite))]))
    ]
    return {
        name: tuple(rows[chosen] for rows, chosen in zip(by_species, chosen_s, strict=True))
        for name, by_species in known.onsite.items()
    }


@dataclass(frozen=True, eq=False)
class Ends:
    """What is known at both ends of some pairs: which states their bonds from i to j have, and those back, and components of the onsite ones.

    The matrix H_ii S_ii^-1 of atom a is number `place_a[a]` of its species in `dressed_s`.
    """

    states_df: Tensor
    there_h: Array
    back_h: Array
    onsite: Mapping[str, tuple[Array, ...]]
    dressed_s: tuple[Array, ...]
    place_a: Array


def blocks_of_pairs(model: Model, structure: Structure, pairs: Pairs, ends: Ends) -> dict[str, Array]:
    """The blocks of some pairs, flat, of each operator."""
    blueprint = model.blueprint
    bonds = bond_frames(structure, pairs, blueprint.basis)
    length_p = np.linalg.norm(pairs.vectors(structure.positions_av, structure.cell_cv), axis=1)
    lengths_t = [length_p[p] for p in bonds.by_kind.pairs_t]
    outputs = {} if model.network is None else read_states(model.network, model.device, bonds, lengths_t, ends)
    rows: dict[str, Array] = {}
    for name in ("S", *(name for name in model.baselines if name != "S")):
        if name not in model.baselines:
            continue
        baseline, form = model.baselines[name], blueprint.form(name)
        hopping = []
        for t, r_p in enumerate(lengths_t):
            base = baseline.even_hopping(t, r_p)
            if name in outputs:
                base = corrected(base, baseline.hopping_sizes(t, r_p), outputs[name][t], baseline.peak_t[t])
            hopping.append(base)
        shared_t: Sequence[Array] = ()
        if name == "H" and "S" in rows:
            shared_t = share_dressed(form, bonds, rows["S"], ends.dressed_s, ends.place_a, baseline.share_tg)
        rows[name] = form.put_together(bonds, Components(tuple(hopping), ends.onsite[name]), shared_t)
        if name == "H" and "S" in rows:
            rows[name][0] += model.shift(structure) * rows["S"][0]
    layouts = {name: blueprint.layout(name) for name in blueprint.operators}
    axis_v = blueprint.axis(structure)
    found = {name: from_fields(rows[name], spin, blueprint.time_reversal, axis_v) for name, spin in layouts.items()}
    exact = model.exact_overlap(structure, pairs)
    return found if exact is None else {**found, "S": exact[None]}


def read_states(
    network: Network, device: torch.device, bonds: BondFrames, lengths_t: Sequence[Array], ends: Ends
) -> dict[str, tuple[Tensor, ...]]:
    """What the network says of the components of pairs, by operator and kind."""
    hop_p = np.cumsum(~bonds.pairs.onsite_p) - 1
    kinds = list(zip(bonds.by_kind.pairs_t, bonds.by_kind.swapped_t, strict=True))
    order = np.concatenate([hop_p[p] for p, _ in kinds])
    swapped = np.concatenate([swapped for _, swapped in kinds])
    there, back = ends.there_h[order], ends.back_h[order]
    forward, backward = np.where(swapped, back, there), np.where(swapped, there, back)
    pairs = PairStates(
        ends.states_df[torch.from_numpy(np.concatenate([forward, backward])).to(device)],
        torch.from_numpy(np.concatenate(lengths_t)).to(device, ends.states_df.dtype),
        tuple(len(p) for p, _ in kinds),
    )
    with torch.no_grad():
        return network.hopping(pairs)


def corrected(base: Array, size: Array, output: Tensor, peak: Array) -> Array:
    """A baseline with what the network says, in units of its size, in float64; components that the baseline ends before are zero in it.

    Atoms unlike those that were learned get their baseline and some noise instead of matrices of any size.
    """
    most = FARTHEST * float(peak[0]) * np.linalg.norm(size, axis=1, keepdims=True)
    rows = limited(size * output.cpu().numpy(), most)
    rows[:, : base.shape[1]] += base
    return rows
