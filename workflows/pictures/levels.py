"""The levels of molecules as chemists draw them: a column of short lines for each molecule, electrons, and the gap."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from converters.physics.bands import Bands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Width of a column of levels, of a unit for each molecule; levels that are nearer (eV) stand beside each other.
WIDTH, SAME = 0.62, 0.02
# What is shown below the highest occupied level, and above the lowest empty one (eV).
BELOW, ABOVE = 20.0, 4.0


def window_of(bands: Bands) -> tuple[float, float]:
    """The energies about the gap of a molecule, from its highest occupied level."""
    return -BELOW, bands.edges.gap + ABOVE


def draw_levels(
    axes: "Axes", names: Sequence[str], molecules: Sequence[Bands], zero: float, colours: Sequence[str]
) -> None:
    """Occupied levels as full lines with their electrons, empty ones as thin lines; equal ones beside each other, spins apart."""
    for column, (bands, colour) in enumerate(zip(molecules, colours, strict=False)):
        spins = bands.energies_skn[:, 0]
        for s, levels_n in enumerate(spins):
            width = WIDTH / len(spins)
            left = column - WIDTH / 2 + s * width
            arrows = "^v" if bands.most == 2 else "^v"[s] if len(spins) == 2 else "o"
            draw_column(axes, levels_n, bands.edges.fermi, zero, (left + 0.03, left + width - 0.03), colour, arrows)
        draw_gap(axes, bands, zero, column)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)


def draw_column(
    axes: "Axes", levels_n: Array, fermi: float, zero: float, ends: tuple[float, float], colour: str, arrows: str
) -> None:
    """The levels of one molecule, or of one of its spins; `arrows` are the electrons of an occupied one, up (^), down (v) or neither (o)."""
    levels_n = np.sort(levels_n)
    for together in np.split(levels_n, np.flatnonzero(np.diff(levels_n) > SAME) + 1):
        borders = np.linspace(*ends, len(together) + 1)
        room = 0.1 * (borders[1] - borders[0])
        occupied = together.mean() <= fermi
        starts, stops = borders[:-1] + room * (len(together) > 1), borders[1:] - room * (len(together) > 1)
        axes.hlines(together - zero, starts, stops, color=colour, lw=1.8 if occupied else 0.8)
        for n, marker in enumerate(arrows if occupied else ""):
            places = (starts + stops) / 2 + (n - (len(arrows) - 1) / 2) * 0.05
            axes.plot(places, together - zero, ls="", marker=marker, ms=3.5, color=colour)


def draw_gap(axes: "Axes", bands: Bands, zero: float, column: int) -> None:
    """An arrow from the highest occupied to the lowest empty level, and how many eV it is long."""
    if not bands.edges.gap:
        return
    low, high = bands.edges.valence - zero, bands.edges.conduction - zero
    axes.annotate("", (column, high), (column, low), arrowprops={"arrowstyle": "<->", "lw": 0.7, "color": "#888888"})
    axes.annotate(f" {bands.edges.gap:.2f} eV", (column, (low + high) / 2), fontsize=8, color="#666666", va="center")
