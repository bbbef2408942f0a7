"""What follows from the matrices of a frame: H(k), levels, densities, exact overlaps, and the checks of all of them."""

from converters.physics.checks import check_frame
from converters.physics.overlap import Overlap

__all__ = ["Overlap", "check_frame"]
