"""A block of a matrix taken apart into what is learned, and put together again."""

from slem_plugin.blocks.components import BlockForm, Components

__all__ = ["BlockForm", "Components"]
