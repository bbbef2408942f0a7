"""The families of networks by name; another one is added by `KINDS["its name"] = ItsClass` before models of it are made or read."""

from collections.abc import Callable, Mapping

from basis import Array
from converters.errors import Kind, Refused
from slem_plugin.blocks.components import BlockForm
from slem_plugin.network.apart import Apart
from slem_plugin.network.network import Network
from slem_plugin.network.slem import Slem
from slem_plugin.network.spec import NetworkSpec

KINDS: dict[str, Callable[[NetworkSpec, Mapping[str, BlockForm], Array], Network]] = {"slem": Slem, "apart": Apart}


def make_network(spec: NetworkSpec, forms: Mapping[str, BlockForm], cutoff_ss: Array) -> Network:
    """An untrained network for the blocks of some operators, within the cutoffs of each two species."""
    if spec.kind not in KINDS:
        raise Refused(
            Kind.OTHER_MODEL, "network", f'of the kind "{spec.kind}" is unknown here', f"one of {', '.join(KINDS)}"
        )
    return KINDS[spec.kind](spec, forms, cutoff_ss)
