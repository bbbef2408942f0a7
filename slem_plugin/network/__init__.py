"""SLEM, the strictly local equivariant network that learns what the baselines leave over."""

from slem_plugin.network.channels import Channels
from slem_plugin.network.network import Network

__all__ = ["Channels", "Network"]
