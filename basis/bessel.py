"""Spherical Bessel functions of all degrees at once: they share sines and cosines, which cost most."""

from collections.abc import Iterator
from math import factorial

import numpy as np

from basis import Array


def spherical_bessels(most: int, x: Array) -> Iterator[Array]:
    """j_0(x), j_1(x) ... up to the degree `most`, for x >= 0, each to a few roundings of 1."""
    inverse = 1 / np.maximum(x, 1)
    far = np.maximum(x, 1)
    below, here = np.cos(far) * inverse, np.sin(far) * inverse  # j_-1 and j_0
    for l in range(most + 1):
        near = x < max(l, 1)  # where the recurrence loses digits
        found = here.copy() if near.any() else here
        found[near] = power_series(l, x[near])
        yield found
        below, here = here, (2 * l + 1) * inverse * here - below


def power_series(l: int, x: Array) -> Array:
    """j_l(x) where x is not larger than l, or 1."""
    square = -0.5 * x * x
    sum_x = np.ones_like(x)
    for k in range(16 + l, 0, -1):
        sum_x = 1 + square / (k * (2 * l + 2 * k + 1)) * sum_x
    return sum_x * x**l * (2.0**l * factorial(l) / factorial(2 * l + 1))
