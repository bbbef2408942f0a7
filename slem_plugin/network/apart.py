"""Apart: a network of its own for each operator, so that none learns at the cost of another."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from basis import Array
from slem_plugin.blocks.components import BlockForm
from slem_plugin.graphs.graph import Graph
from slem_plugin.network.network import Network, Output, PairStates
from slem_plugin.network.slem import Slem
from slem_plugin.network.spec import NetworkSpec


class Apart(Network):
    """Networks of one operator each, side by side; the state of a bond is those of all of them."""

    def __init__(self, spec: NetworkSpec, forms: Mapping[str, BlockForm], cutoff_ss: Array) -> None:
        super().__init__()
        own = {name: Slem(spec, {name: form}, cutoff_ss) for name, form in forms.items()}
        self.sizes = [network.state_size for network in own.values()]
        self.state_size = sum(self.sizes)
        self.networks = nn.ModuleDict(own)

    def forward(self, graph: Graph) -> dict[str, Output]:
        return {name: network(graph)[name] for name, network in self.networks.items()}

    def states(self, graph: Graph, bonds: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, ...]]]:
        found = {name: network.states(graph, bonds) for name, network in self._by_operator()}
        states = torch.cat([states for states, _ in found.values()], dim=1)
        return states, {name: onsite[name] for name, (_, onsite) in found.items()}

    def hopping(self, pairs: PairStates) -> dict[str, tuple[Tensor, ...]]:
        own = pairs.states_hf.split(self.sizes, dim=1)
        return {
            name: network.hopping(replace(pairs, states_hf=states))[name]
            for (name, network), states in zip(self._by_operator(), own, strict=True)
        }

    def _by_operator(self) -> Iterable[tuple[str, Network]]:
        return cast("Iterable[tuple[str, Network]]", self.networks.items())
