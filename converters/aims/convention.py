"""Orders, signs and units of FHI-aims."""

from basis.conventions import label_of

# What it multiplies by where it prints eV.
HARTREE = 27.2113845


def convention(l: int) -> tuple[str, ...]:
    """m = -l..l; the functions of odd positive m are the negative ones."""
    return tuple("-" * (m > 0 and m % 2 == 1) + label_of(m) for m in range(-l, l + 1))
