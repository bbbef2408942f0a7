"""Where levels live: the share that each atom has in them, as a picture seen from above, or as numbers."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.factors import Matrix
from converters.storage.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf", ".npz")
# Width of the picture (inches), area of the dots of all atoms together and of one at most (points squared), room about them (Angstrom).
WIDTH, AREA, LARGEST, ROOM = 6.4, 90_000, 400, 4.0


def require_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise Refused(Kind.NO_BANDS, path, "has no ending of a picture or of numbers", ", ".join(ENDINGS))


def shares_of_atoms(S: Matrix, states_Mn: Array, sizes_a: Array, natoms: int) -> Array:
    """Mulliken's share of each atom in each state, (n, a); the sum over atoms is 1. `sizes_a` names all atoms twice in a spinor matrix."""
    weights_Mn = (states_Mn.conj() * (S @ states_Mn)).real
    atom_M = np.repeat(np.arange(len(sizes_a)) % natoms, sizes_a)
    return np.array([np.bincount(atom_M, weights_M, natoms) for weights_M in weights_Mn.T])


def save_shares(path: Path, outline: Frame, levels_n: Sequence[float], shares_na: Array) -> None:
    """A picture of all states together, or levels (eV), shares and structure as npz."""
    file = BytesIO()
    if path.suffix == ".npz":
        structure = {"positions": outline.positions_av, "numbers": outline.numbers_a, "cell": outline.cell_cv}
        np.savez(file, allow_pickle=False, levels=np.array(levels_n), shares=shares_na, **structure)
    else:
        draw(outline, levels_n, shares_na.mean(axis=0)).savefig(file, format=path.suffix[1:], dpi=150)
    write_whole(path, file.getvalue())


def draw(outline: Frame, levels_n: Sequence[float], share_a: Array) -> "Figure":
    """All atoms from above, those with the largest share last."""
    from matplotlib.figure import Figure

    corners_cv = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) @ outline.cell_cv[:2]
    places_xv = corners_cv if outline.pbc_c.any() else outline.positions_av
    width, height = np.ptp(places_xv, axis=0)[:2] + ROOM
    figure = Figure(figsize=(WIDTH, 0.8 + (WIDTH - 1.2) * height / width), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(share_a)
    x_a, y_a, _ = outline.positions_av[order].T
    size = min(LARGEST, AREA / outline.natoms * min(1.0, height / width))
    dots = axes.scatter(x_a, y_a, s=size, c=share_a[order] * outline.natoms, cmap="inferno", vmin=0, linewidths=0)
    if outline.pbc_c.any():
        axes.plot(corners_cv[:, 0], corners_cv[:, 1], color="#888888", lw=0.6)
    figure.colorbar(dots, label="share of an atom over its mean", shrink=0.8)
    axes.set_aspect("equal")
    axes.set_xlabel("x (Angstrom)")
    axes.set_ylabel("y (Angstrom)")
    axes.set_title(f"{len(levels_n)} levels from {min(levels_n):.3f} to {max(levels_n):.3f} eV", fontsize=10)
    return figure
