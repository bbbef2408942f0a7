"""Surroundings: atoms and their bonds in a structure, and what they tell each other, in the way that costs least.

Both ways give the same numbers, but for rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from slem_plugin.graphs.graph import Graph
from slem_plugin.network.channels import Channels
from slem_plugin.network.gradients import of_atoms_and_bonds, sent, sent_by_even
from slem_plugin.network.tables import MANY_BONDS, Tables, met_by_tables, sent_by_tables
from slem_plugin.network.turns import Turns, weighted


@dataclass(frozen=True, eq=False)
class FewBonds:
    """Features are turned bond by bond; `out` are rotations times the weight of each bond."""

    rotations: Sequence[Tensor]
    out: Sequence[Tensor]
    turns: Turns
    channels: Channels

    def met(self, n: Sequence[Tensor], h: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        """Features of the atom of each bond in its frame times the first rows of the weights, and those of the bond times the others."""
        return of_atoms_and_bonds(n, h, self.rotations, self.turns, weights)

    def sent(self, h: Sequence[Tensor]) -> list[Tensor]:
        """Sums over the bonds of each atom of features times weights, in the axes of the structure; irreps that `h` lacks are zero."""
        return sent_by_even(h[0], self.out, self.channels) if len(h) == 1 else sent(h, self.out, self.turns)


@dataclass(frozen=True, eq=False)
class ManyBonds:
    """Features of atoms meet their weights before they are turned, all of an atom at once; methods as those of `FewBonds`."""

    T: Sequence[Tensor]
    out: Sequence[Tensor]
    tables: Tables

    def met(self, n: Sequence[Tensor], h: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        return met_by_tables(n, h, self.T, self.tables, weights)

    def sent(self, h: Sequence[Tensor]) -> list[Tensor]:
        return sent_by_tables(h, self.out, self.tables)


class Surroundings(nn.Module):
    """Makes them of graphs for some channels."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels, self.turns, self.tables = channels, Turns(channels), Tables(channels)

    def forward(self, graph: Graph, weight_e: Tensor) -> FewBonds | ManyBonds:
        rotations = graph.rotations[: self.channels.highest + 1]
        if graph.slots < MANY_BONDS:
            return FewBonds(rotations, weighted(rotations, weight_e), self.turns, self.channels)
        T = self.tables.of(rotations)
        return ManyBonds(T, weighted(T, weight_e), self.tables)
