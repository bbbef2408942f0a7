"""Network: what a model asks of the network that it holds, whichever it is.

A prediction looks at atoms in batches, each atom once, and makes blocks in batches of pairs: so a network gives the states of the bonds
of some atoms, and reads blocks from the states of both bonds of a pair, (i, j) and (j, i). Training sees whole structures at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slem_plugin.graphs.graph import Graph


@dataclass(frozen=True)
class Output:
    """What the network says of one operator: [pairs, components] of each kind and [atoms, components] of each species."""

    hopping_t: tuple[Tensor, ...]
    onsite_s: tuple[Tensor, ...]

    @property
    def blocks(self) -> tuple[Tensor, ...]:
        return self.hopping_t + self.onsite_s


@dataclass(frozen=True, eq=False)
class PairStates:
    """The states of both bonds of some pairs, and their lengths; the pairs of each kind (A, B) follow each other.

    `states_hf` are the states of the bonds from A to B and, after those, of the bonds from B to A, and `count_t` the pairs of each kind.
    """

    states_hf: Tensor
    length_h: Tensor
    count_t: tuple[int, ...]

    @property
    def there_hf(self) -> Tensor:
        return self.states_hf[: len(self.length_h)]

    @property
    def back_hf(self) -> Tensor:
        return self.states_hf[len(self.length_h) :]


class Network(nn.Module):
    """Three methods that give components of blocks, in units of the size of what the baselines leave over.

    A family of networks inherits this class, is made as `Slem` is, and stands in `slem_plugin.network.kinds.KINDS` under its name;
    `slem_plugin.testing.networks.NetworkContract` holds the tests that it must pass. `state_size` is the length of the state of a bond.
    """

    state_size: int

    def forward(self, graph: Graph) -> dict[str, Output]:
        """What is said of all pairs and atoms of whole structures, by operator."""
        raise NotImplementedError

    def states(self, graph: Graph, bonds: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, ...]]]:
        """The states [bonds, features] of some bonds, and the onsite components of all atoms by operator and species.

        They depend on the neighbours of each atom alone: the graph may hold any part of a structure.
        """
        raise NotImplementedError

    def hopping(self, pairs: PairStates) -> dict[str, tuple[Tensor, ...]]:
        """The components of the hopping blocks of some pairs, by operator and kind."""
        raise NotImplementedError


def randomise_silent(network: Network, spread: float) -> None:
    """Set the weights that begin at zero to random numbers, so that an untrained network says something."""
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(0, spread)
