"""What a run says of one structure, in memory: frames, their pairs of atoms and packed blocks, and the search for neighbours."""

from converters.frames.blocks import Operator, Pairs
from converters.frames.frame import Frame

__all__ = ["Frame", "Operator", "Pairs"]
