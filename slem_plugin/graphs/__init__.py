"""The bonds of a structure as arrays, and the rotations into their frames."""

from slem_plugin.graphs.graph import Graph, make_graph

__all__ = ["Graph", "make_graph"]
