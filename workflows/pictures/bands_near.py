"""Bands of large frames: the levels next to an energy along a path, from matrices that are read stretch by stretch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.bands import KPath, make_path, most_of
from converters.physics.levels import Levels
from converters.physics.sparse import Source, matrices_at
from converters.storage.dataset import Dataset
from workflows.pictures.bands import COLOURS, PICTURES
from workflows.terminal.progress import Tell, silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Nearest:
    """How many levels are wanted at each k-point, next to which energy (eV; None: the Fermi level of the frame), and by which solver."""

    levels: int
    near: float | None = None
    solver: str = "auto"


@dataclass(frozen=True, eq=False)
class NearBands:
    """Levels next to an energy; `below_sk` counts those below it, where the solver counts."""

    name: str
    path: KPath
    near: float
    levels_skn: Array
    below_sk: Array | None
    solver: str
    outline: Frame

    @property
    def occupied(self) -> int | None:
        """Levels that are filled at each k-point, where there is a gap and one spin channel."""
        electrons = self.outline.outcome.electrons
        if electrons is None or self.below_sk is None or self.outline.spin is Spin.COLLINEAR:
            return None
        filled = electrons / most_of(self.outline)
        return round(filled) if abs(filled - round(filled)) < 1e-6 else None

    def edges(self) -> tuple[float, float] | None:
        """The highest filled and the lowest empty level along the path, where both were found at every k-point."""
        filled = self.occupied
        if filled is None or self.below_sk is None:
            return None
        inside_kn = (self.levels_skn[0] < self.near).sum(axis=1)
        place_k = filled - (self.below_sk[0] - inside_kn)
        if (place_k < 1).any() or (place_k >= self.levels_skn.shape[2]).any():
            return None
        rows = np.arange(len(place_k))
        return float(self.levels_skn[0][rows, place_k - 1].max()), float(self.levels_skn[0][rows, place_k].min())


def bands_near(
    path: Path, number: int, line: str | None, points: int, wanted: Nearest, tell: Tell = silent
) -> NearBands:
    """The levels of a frame of a dataset along a path, at one k-point after the other."""
    with Dataset(path) as data:
        source = Source.of_dataset(data, number)
        outline = source.outline
        near = wanted.near if wanted.near is not None else outline.outcome.fermi
        if near is None:
            raise Refused(Kind.NO_BANDS, path, "names no Fermi level", "the energy about which levels are wanted")
        along = make_path(outline, line, points)
        levels, below, name = [], [], ""
        for n, kpoint_c in enumerate(along.kpoints_kc):
            matrices = matrices_at(source, ("H", "S"), kpoint_c)
            spins = [Levels(H, matrices["S"][0], wanted.solver) for H in matrices["H"]]
            levels.append([spin.near(near, wanted.levels) for spin in spins])
            below.append([spin.below(near) if spin.counts else -1 for spin in spins])
            name = spins[0].name
            tell(n + 1, len(along.kpoints_kc))
    below_sk = np.array(below).T
    counted = below_sk if (below_sk >= 0).all() else None
    return NearBands(path.name, along, near, np.array(levels).swapaxes(0, 1), counted, name, outline)


def facts_near(bands: NearBands) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "orbitals": bands.outline.norb,
        "k-points": len(bands.path.kpoints_kc),
        "levels at each": bands.levels_skn.shape[2],
        "near (eV)": bands.near,
        "solver": bands.solver,
    }
    if (edges := bands.edges()) is not None:
        facts |= {
            "valence edge (eV)": edges[0],
            "conduction edge (eV)": edges[1],
            "gap (eV)": max(edges[1] - edges[0], 0),
        }
    return {bands.name: facts}


def save_near(bands: NearBands, output: Path, window: tuple[float, float] | None) -> None:
    """A picture, or all numbers as JSON."""
    if output.suffix == ".json":
        numbers = {
            "k": bands.path.kpoints_kc.tolist(),
            "distance": bands.path.distance_k.tolist(),
            "levels": bands.levels_skn.tolist(),
            "levels below": None if bands.below_sk is None else bands.below_sk.tolist(),
            "facts": facts_near(bands),
        }
        output.write_text(json.dumps(numbers) + "\n")
        return
    if output.suffix not in PICTURES:
        raise Refused(Kind.NO_BANDS, output, "has no ending of a picture or of JSON", ", ".join((*PICTURES, ".json")))
    draw_near(bands, window).savefig(output, dpi=160)


def draw_near(bands: NearBands, window: tuple[float, float] | None) -> "Figure":
    """A dot for each level: at the ends of what was found bands begin and end between two k-points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for levels_kn, colour in zip(bands.levels_skn, COLOURS, strict=False):
        axes.plot(bands.path.distance_k, levels_kn - bands.near, ".", color=colour, ms=3)
    if len(bands.path.distance_k) > 1:
        bands.path.mark(axes)
    if window is not None:
        axes.set_ylim(*window)
    axes.axhline(0, color="#888888", lw=0.6)
    axes.set_ylabel(f"energy above {bands.near:.3f} eV (eV)")
    return figure
