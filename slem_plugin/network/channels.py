"""Channels: how many features of each irrep a network carries, written as in e3nn: "32x0e+24x1o+8x1e"."""

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Channels:
    """Features by degree: `natural[l]` of parity (-1)^l, as the harmonics, and `unnatural[l]` of the other parity."""

    natural: tuple[int, ...]
    unnatural: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Channels":
        """Channels of a text; a degree without a parity letter is natural."""
        counts: dict[tuple[int, bool], int] = {}
        for term in text.replace(" ", "").split("+"):
            match = re.fullmatch(r"(\d+)x(\d+)([eo]?)", term)
            if not match:
                raise ValueError(f'"{text}" is not a list of channels; expected something like 32x0e+24x1o+8x1e')
            count, l, parity = int(match[1]), int(match[2]), match[3]
            natural = parity == "" or (parity == "e") == (l % 2 == 0)
            counts[l, natural] = counts.get((l, natural), 0) + count
        highest = max(l for l, _ in counts)
        natural, unnatural = (tuple(counts.get((l, kind), 0) for l in range(highest + 1)) for kind in (True, False))
        if not natural[0]:
            raise ValueError(f'"{text}" has no 0e channels; every network needs some')
        return cls(natural, unnatural)

    def __str__(self) -> str:
        terms = []
        for l, counts in enumerate(zip(self.natural, self.unnatural, strict=True)):
            letters = "eo" if l % 2 == 0 else "oe"
            terms += [f"{count}x{l}{letter}" for count, letter in zip(counts, letters, strict=True) if count]
        return "+".join(terms)

    @property
    def highest(self) -> int:
        return len(self.natural) - 1

    @cached_property
    def by_degree(self) -> tuple[int, ...]:
        """Channels of each degree."""
        return tuple(n + u for n, u in zip(self.natural, self.unnatural, strict=True))

    @cached_property
    def about_bond(self) -> tuple[int, ...]:
        """Channels of each irrep about a bond: 0 even, 0 odd, m = 1, 2, ..."""
        return (sum(self.natural), sum(self.unnatural), *(sum(self.by_degree[m:]) for m in range(1, self.highest + 1)))

    @cached_property
    def state_shapes(self) -> tuple[tuple[int, int], ...]:
        """(parts, channels) of each irrep about a bond: one part for m = 0, two for the others."""
        return tuple((1 if k < 2 else 2, count) for k, count in enumerate(self.about_bond))

    @cached_property
    def state_size(self) -> int:
        """Numbers in the state of a bond."""
        return sum(parts * count for parts, count in self.state_shapes)
