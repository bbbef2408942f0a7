"""Channels: how many features of each irrep a network carries, in e3nn's notation: "32x0e+24x1o+8x1e"."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e3nn.o3 import Irreps

# A degree with its parity, in a list of channels.
TERM = re.compile(r"(\d+)x(\d+)([eo])")


@dataclass(frozen=True)
class Channels:
    """Features by degree: `natural[l]` of parity (-1)^l, as the harmonics, and `unnatural[l]` of the other parity."""

    natural: tuple[int, ...]
    unnatural: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Channels":
        """Channels of a text as e3nn reads it; a degree without a parity letter is natural."""
        # The import of e3nn takes as long as that of torch.
        if re.fullmatch(rf"{TERM.pattern}(\+{TERM.pattern})*", text):
            return cls.of_terms(
                (int(count), int(l), 1 if parity == "e" else -1) for count, l, parity in TERM.findall(text)
            )
        from e3nn.o3 import Irreps

        try:
            # e3nn's own letter for this parity is y.
            irreps = Irreps(re.sub(r"(x\d+)\s*(?=\+|$)", r"\1y", text))
        except ValueError as error:
            expected = "something like 32x0e+24x1o+8x1e"
            raise ValueError(f'"{text}" is not a list of channels; expected {expected}') from error
        return cls.of(irreps)

    @classmethod
    def of(cls, irreps: "Irreps") -> "Channels":
        """The channels that these irreps are, in any order."""
        return cls.of_terms((count, irrep.l, irrep.p) for count, irrep in irreps)

    @classmethod
    def of_terms(cls, terms: Iterable[tuple[int, int, int]]) -> "Channels":
        """The channels of counts, degrees and parities, in any order."""
        counts: Counter[tuple[int, int]] = Counter()
        for count, l, parity in terms:
            counts[l, parity] += count
        if not counts[0, 1]:
            raise ValueError("no 0e channels are there; every network needs some")
        parities = [(-1) ** l for l in range(max(l for l, _ in counts) + 1)]
        natural = tuple(counts[l, parity] for l, parity in enumerate(parities))
        return cls(natural, tuple(counts[l, -parity] for l, parity in enumerate(parities)))

    def __str__(self) -> str:
        """The channels as e3nn writes them, sorted by degree, natural ones first; without its import, which takes two seconds."""
        counts = enumerate(zip(self.natural, self.unnatural, strict=True))
        return "+".join(
            f"{count}x{l}{parity}"
            for l, both in counts
            for count, parity in zip(both, ("eo", "oe")[l % 2], strict=True)
            if count
        )

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
