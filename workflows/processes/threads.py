"""How many threads a piece of work gets."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# Structures of fewer atoms are worked on by one thread: with more, threads wait for each other longer than they work. A start of
# eight atoms took 0.5 s with one thread and 1.8 s with two, and the first one 10 s, on two cores one of which was busy.
FEW_ATOMS = 40


@contextmanager
def threads_for(natoms: int) -> Iterator[None]:
    """Inside, small structures have one thread; large ones all that there are."""
    with libraries("torch" in sys.modules).limit(limits=1 if natoms < FEW_ATOMS else None):
        yield


@cache
def libraries(with_torch: bool) -> ThreadpoolController:
    """The libraries with threads that are loaded, which are more once torch is; looking for them takes half as long as a small prediction."""
    return ThreadpoolController()
