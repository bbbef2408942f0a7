"""Radial functions: R(r) of a shell, lengths in Bohr."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from basis import Array


@dataclass(frozen=True, eq=False)
class RadialFunction:
    """R(r) with int R^2 r^2 dr = 1, zero from the cutoff on. The orbital is R(r) Y_lm.

    `curve` interpolates the table of the code between `start` and the cutoff, in the code's own way.
    """

    curve: Callable[[Array], Array]
    start: float
    cutoff: float

    def __call__(self, r: Array) -> Array:
        """R at any distances."""
        return np.where(r < self.cutoff, self.curve(np.clip(r, self.start, self.cutoff)), 0.0)
