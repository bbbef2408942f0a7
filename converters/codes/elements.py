"""Elements of names that people give to files and species."""

import re

from ase.data import atomic_numbers


def element_named(name: str) -> int | None:
    """Atomic number of the element with whose symbol a name begins, such as Si_PBE19 or Fe2; None where there is none."""
    symbol = re.match(r"[A-Z][a-z]?", name)
    return atomic_numbers.get(symbol[0]) if symbol else None
