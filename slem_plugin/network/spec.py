"""NetworkSpec: what a network is made by. A new choice is a line here, one in the network that obeys it, and one in the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from basis.shells import Species
from slem_plugin.network.channels import Channels


@dataclass(frozen=True)
class NetworkSpec:
    """All that is known of a network before it is made, besides the cutoffs and the blocks that it is to say.

    channels    features by irrep
    layers      rounds of bond and atom updates
    latent      features of a distance; waves: sines that they are made of
    neighbours  mean number of neighbours of an atom: what they send is divided by its root
    messages    the part of the cutoff up to which atoms hear each other, in files that do not say what was learned
    kind        which family of networks
    learned     of each kind of pairs the nearest and the farthest distance in the data
    """

    channels: Channels
    layers: int
    latent: int
    waves: int
    neighbours: float = 1.0
    messages: float = 1.0
    kind: str = "slem"
    learned: tuple[tuple[float, float], ...] = ()


def default_channels(basis: Sequence[Species], vectors: bool, width: int = 1) -> Channels:
    """Channels that reach every component of the blocks of a basis, `width` times as many as little data needs.

    They go to l = 3 at least beyond s orbitals, since for less the three neighbours in a flat honeycomb are a round ring.
    """
    l = max(shell.l for species in basis for shell in species.shells)
    highest = max(2 * l, 3 if l else 0) + vectors
    natural = [32, 24, 12, 6, 6] + [3] * max(highest - 4, 0)
    unnatural = [0, 8, 4, 2, 2] + [1] * max(highest - 4, 0)
    return Channels(*(tuple(width * count for count in counts[: highest + 1]) for counts in (natural, unnatural)))
