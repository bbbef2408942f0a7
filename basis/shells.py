"""Shells and species: which orbitals an atom carries, in which order, for any l."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

# Spectroscopic letters: s p d f, then the alphabet without j and without the letters already used.
LETTERS = "spdfghiklmnoqrtuvwxyz"

LAST_ELEMENT = 118


@dataclass(frozen=True, order=True)
class Shell:
    """The 2l+1 orbitals that share one radial function.

    `n` is the principal quantum number where the code has one (0: it has none), `zeta` counts the radial functions
    of the same n and l, `polarisation` marks a shell that the code made by polarising another one, whose n it may carry.
    """

    l: int
    n: int = 0
    zeta: int = 1
    polarisation: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.l < len(LETTERS):
            raise ValueError(f"a shell has l = {self.l}; expected 0 to {len(LETTERS) - 1}")
        if self.n and self.n <= self.l and not self.polarisation:  # which may carry the n of what was polarised
            raise ValueError(f"a shell has n = {self.n} and l = {self.l}; expected n > l")
        if self.zeta < 1:
            raise ValueError(f"a shell has zeta = {self.zeta}; expected 1 or more")

    @property
    def size(self) -> int:
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.n or ''}{LETTERS[self.l]}{self.zeta}{'P' if self.polarisation else ''}"


def parse_shells(text: str) -> tuple[Shell, ...]:
    """Shells of a text such as "2s2p1d", in the order in which they are written.

    Shells of the same l are numbered by zeta across the whole text.
    """
    if not re.fullmatch(rf"(\d+[{LETTERS}])+", text):
        raise ValueError(f'"{text}" is no list of shells; expected something like "2s2p1d"')
    zetas: dict[int, int] = {}
    shells = []
    for count, letter in re.findall(r"(\d+)(\D)", text):
        l = LETTERS.index(letter)
        for _ in range(int(count)):
            zetas[l] = zetas.get(l, 0) + 1
            shells.append(Shell(l, zeta=zetas[l]))
    return tuple(shells)


def format_shells(shells: Iterable[Shell]) -> str:
    """Text such as "2s2p1d": how many shells of which l, in the order of the atom."""
    return "".join(f"{len(list(run))}{LETTERS[l]}" for l, run in groupby(shells, key=lambda shell: shell.l))


@dataclass(frozen=True)
class Species:
    """A kind of atom: its element and its orbitals.

    `radial` identifies the radial functions (a file name, a hash): two species that differ in it have other orbitals
    even when their shells look the same. `number` is 0 for a ghost, which has orbitals and no nucleus.
    """

    name: str
    number: int
    shells: tuple[Shell, ...]
    radial: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.number <= LAST_ELEMENT:
            raise ValueError(
                f"a species has the atomic number {self.number}; expected 1 to {LAST_ELEMENT}, or 0 for a ghost"
            )

    @cached_property
    def size(self) -> int:
        """Number of orbitals."""
        return sum(shell.size for shell in self.shells)

    def __str__(self) -> str:
        return f"{self.name} {format_shells(self.shells)}"


def cell_shells(basis: Sequence[Species], species_a: Iterable[int]) -> list[Shell]:
    """Shells of all atoms of a cell, one atom after the other."""
    return [shell for s in species_a for shell in basis[s].shells]
