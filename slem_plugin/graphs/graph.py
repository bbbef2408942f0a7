"""Graph: the bonds of a structure and their frames, made once; and several structures as one.

Bonds are directed and stand in a table of `slots` places for each atom, sorted by (j, R); places left over are empty.
So the bonds of an atom are consecutive, and turning all of them, or summing over them, is one matrix product per atom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from basis import Array
from converters.frames.blocks import Pairs
from converters.frames.neighbours import Bonds, Structure
from slem_plugin.graphs.rotations import bond_rotations

# Atoms act on each other so much farther (Angstrom) than they were apart in the data. A shorter end would lie within what molecular
# dynamics reaches, and a longer one lets the atoms of other molecules speak, whom nobody has learned to understand.
BEYOND = 0.7


def pair_kinds(count: int) -> list[tuple[int, int]]:
    """The kinds (A, B) of pairs of so many species, A <= B."""
    return [(A, B) for A in range(count) for B in range(A, count)]


def pair_numbers(count: int) -> Array:
    """Number of the kind of pair (A, B), in either order."""
    numbers = np.zeros((count, count), dtype=int)
    a, b = np.triu_indices(count)
    numbers[a, b] = numbers[b, a] = np.arange(len(a))
    return numbers


@dataclass(frozen=True, eq=False)
class SortedPairs:
    """The pairs of two different places, by kind: which they are, and whether they lead from B to A."""

    pairs_t: tuple[Array, ...]
    swapped_t: tuple[Array, ...]


def sort_pairs(pairs: Pairs, species_a: Array, count: int) -> SortedPairs:
    """The pairs between different places sorted by kind."""
    hop_q = np.flatnonzero(~pairs.onsite_p)
    A_q, B_q = species_a[pairs.i_p[hop_q]], species_a[pairs.j_p[hop_q]]
    low_q, high_q = np.minimum(A_q, B_q), np.maximum(A_q, B_q)
    chosen = [(low_q == A) & (high_q == B) for A, B in pair_kinds(count)]
    return SortedPairs(tuple(hop_q[mask] for mask in chosen), tuple((A_q > B_q)[mask] for mask in chosen))


@dataclass(frozen=True, eq=False)
class Graph:
    """Bonds of atoms of one or several structures; bond e stands in place e % slots of atom e // slots.

    `neighbour_e` is the species of the atom at the other end: no layer asks for more of it. `rotations[l]` holds, for each atom, the
    matrices of all its bonds below each other. `forward[t]` and `backward[t]` are the two bonds of each pair of atoms of kind
    t = (A, B), where both atoms are in the graph; forward leads from A to B. `atoms_s` are the atoms of each species.
    """

    species_a: Tensor
    slots: int
    present_e: Tensor
    neighbour_e: Tensor
    length_e: Tensor
    reverse_e: Tensor
    rotations: tuple[Tensor, ...]
    forward: tuple[Tensor, ...]
    backward: tuple[Tensor, ...]
    atoms_s: tuple[Tensor, ...]

    @property
    def natoms(self) -> int:
        return len(self.species_a)

    @cached_property
    def bonds(self) -> int:
        """Directed bonds that are there."""
        return int(self.present_e.sum())

    @property
    def lengths_t(self) -> tuple[Array, ...]:
        """Lengths of the pairs of each kind."""
        return tuple(self.length_e[there].numpy() for there in self.forward)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Graph":
        """The same graph with all its tensors changed."""

        def apply(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(change, value))
            return change(value) if isinstance(value, Tensor) else value

        return Graph(*(apply(getattr(self, name)) for name in self.__dataclass_fields__))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Graph":
        """The same graph in another precision, on another device."""
        return self.map(lambda x: x.to(device, dtype) if x.is_floating_point() else x.to(device))


def graph_of_bonds(structure: Structure, atoms: Array, bonds: Bonds, species: int, highest: int) -> tuple[Graph, Array]:
    """The graph of the bonds from some atoms, without pairs and in float64, and the place of each bond.

    It has rotations up to degree `highest`.
    """
    natoms = len(atoms)
    count_a = np.bincount(bonds.centre_d, minlength=natoms)
    slots = max(int(count_a.max(initial=0)), 1)
    first_a = np.cumsum(count_a) - count_a
    place_d = bonds.centre_d * slots + np.arange(len(bonds)) - first_a[bonds.centre_d]
    table = natoms * slots
    vectors_ev = np.tile([0.0, 0.0, 1.0], (table, 1))
    vectors_ev[place_d] = bonds.vectors_dv
    present_e, neighbour_e = np.zeros(table, dtype=bool), np.zeros(table, dtype=int)
    present_e[place_d], neighbour_e[place_d] = True, structure.species_a[bonds.neighbour_d]
    species_a = structure.species_a[atoms]
    nothing = (torch.zeros(0, dtype=torch.long),) * len(pair_kinds(species))
    graph = Graph(
        torch.from_numpy(species_a.astype(int)),
        slots,
        torch.from_numpy(present_e),
        torch.from_numpy(neighbour_e),
        torch.from_numpy(np.linalg.norm(vectors_ev, axis=1)),
        torch.arange(table),
        tuple(D.reshape(natoms, -1, D.shape[-1]) for D in bond_rotations(torch.from_numpy(vectors_ev), highest)),
        nothing,
        nothing,
        tuple(torch.from_numpy(np.flatnonzero(species_a == s)) for s in range(species)),
    )
    return graph, place_d


def make_graph(structure: Structure, pairs: Pairs, species: int, highest: int) -> Graph:
    """The graph of a structure with these pairs."""
    hop_q = np.flatnonzero(~pairs.onsite_p)
    i_q, j_q, R_qc = pairs.i_p[hop_q], pairs.j_p[hop_q], pairs.R_pc[hop_q]
    vectors_qv = pairs.vectors(structure.positions_av, structure.cell_cv)[hop_q]
    both = Bonds(
        np.concatenate([i_q, j_q]),
        np.concatenate([j_q, i_q]),
        np.concatenate([R_qc, -R_qc]),
        np.concatenate([vectors_qv, -vectors_qv]),
    )
    order_d = np.lexsort((*both.R_dc.T[::-1], both.neighbour_d, both.centre_d))
    atoms = np.arange(len(structure.species_a))
    graph, place_d = graph_of_bonds(structure, atoms, both.take(order_d), species, highest)
    bond_d = np.empty_like(place_d)
    bond_d[order_d] = place_d
    forward_q, backward_q = np.split(bond_d, 2)
    reverse_e = np.arange(len(graph.present_e))
    reverse_e[forward_q], reverse_e[backward_q] = backward_q, forward_q

    place_p = np.full(len(pairs), -1)
    place_p[hop_q] = np.arange(len(hop_q))
    forward, backward = [], []
    by_kind = sort_pairs(pairs, structure.species_a, species)
    for p, swapped in zip(by_kind.pairs_t, by_kind.swapped_t, strict=True):
        there, back = forward_q[place_p[p]], backward_q[place_p[p]]
        forward.append(torch.from_numpy(np.where(swapped, back, there)))
        backward.append(torch.from_numpy(np.where(swapped, there, back)))
    return replace(graph, reverse_e=torch.from_numpy(reverse_e), forward=tuple(forward), backward=tuple(backward))


def join_graphs(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one, without bonds between them."""
    if len(graphs) == 1:
        return graphs[0]
    slots = max(graph.slots for graph in graphs)
    starts = list(accumulate((graph.natoms for graph in graphs), initial=0))
    if all(graph.slots == slots for graph in graphs):
        return join_alike(graphs, starts[:-1], slots)

    def table(name: str, fill: float) -> Tensor:
        tables = [(getattr(graph, name).view(graph.natoms, graph.slots), slots - graph.slots) for graph in graphs]
        return torch.cat([pad(values, (0, missing), value=fill) for values, missing in tables]).view(-1)

    def moved(bonds: Tensor, graph: Graph, start: int) -> Tensor:
        return (bonds // graph.slots + start) * slots + bonds % graph.slots

    def joined(name: str) -> tuple[Tensor, ...]:
        kinds = zip(*(getattr(graph, name) for graph in graphs), strict=True)
        return tuple(
            torch.cat(
                [moved(bonds, *where) for bonds, where in zip(kind, zip(graphs, starts, strict=False), strict=True)]
            )
            for kind in kinds
        )

    def stacked(l: int) -> Tensor:
        size = 2 * l + 1
        return torch.cat([pad(g.rotations[l], (0, 0, 0, (slots - g.slots) * size)) for g in graphs])

    here = torch.arange(starts[-1] * slots)
    reverse_e = here.to(graphs[0].reverse_e)
    present_e = table("present_e", 0)
    reverse_e[present_e] = torch.cat(
        [moved(g.reverse_e[g.present_e], g, start) for g, start in zip(graphs, starts, strict=False)]
    )
    atoms_s = tuple(
        torch.cat([atoms + start for atoms, start in zip(kind, starts, strict=False)])
        for kind in zip(*(graph.atoms_s for graph in graphs), strict=True)
    )
    return Graph(
        torch.cat([graph.species_a for graph in graphs]),
        slots,
        present_e,
        table("neighbour_e", 0),
        table("length_e", 1.0),
        reverse_e,
        tuple(stacked(l) for l in range(len(graphs[0].rotations))),
        joined("forward"),
        joined("backward"),
        atoms_s,
    )


def join_alike(graphs: Sequence[Graph], starts: list[int], slots: int) -> Graph:
    """Graphs whose atoms have as many places as one: what they say of bonds and atoms only moves on."""

    def moved(values: Sequence[Tensor], steps: list[int]) -> Tensor:
        whole = torch.cat(list(values))
        step = torch.tensor(steps, device=whole.device)
        return whole + step.repeat_interleave(torch.tensor([len(x) for x in values], device=whole.device))

    def joined(name: str, steps: list[int] | None = None) -> tuple[Tensor, ...]:
        kinds = zip(*(getattr(graph, name) for graph in graphs), strict=True)
        return tuple(torch.cat(kind) if steps is None else moved(kind, steps) for kind in kinds)

    bonds = [start * slots for start in starts]
    return Graph(
        torch.cat([graph.species_a for graph in graphs]),
        slots,
        torch.cat([graph.present_e for graph in graphs]),
        torch.cat([graph.neighbour_e for graph in graphs]),
        torch.cat([graph.length_e for graph in graphs]),
        moved([graph.reverse_e for graph in graphs], bonds),
        joined("rotations"),
        joined("forward", bonds),
        joined("backward", bonds),
        joined("atoms_s", starts),
    )
