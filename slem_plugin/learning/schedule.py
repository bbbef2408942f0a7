"""The learning rate over a training, as a fraction of its highest value."""

import math


def schedule(part: float, warmup: float) -> float:
    """Fraction of the highest learning rate: a linear rise, then half a cosine down to zero."""
    rise = min(1.0, part / warmup) if warmup else 1.0
    return max(rise * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))), 1e-6)
