"""Bands: levels of a frame along a path through the Brillouin zone, its band edges, and how far two of them are apart."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.folding import mesh_of_frame
from converters.frames.frame import Frame
from converters.frames.neighbours import structure_of
from converters.physics import kspace
from converters.physics.locality import mesh_of_length
from converters.physics.overlap import Overlap

# Largest error of S between the k-points of a mesh with which there are bands; occupied levels are off by about ten times as many eV.
LARGEST_INTERPOLATION_ERROR = 0.01
# Orbitals up to which bands are computed; every k-point is diagonalised.
LARGEST_BANDS = 4000
# Distance of the k-points of a mesh (1/Angstrom, with 2 pi), from which the Fermi level and the density of states come.
MESH_SPACING = 0.25
# A gap smaller than this (eV) is none.
SMALLEST_GAP = 1e-3
# Levels that are equal (eV), and the smearing that makes up for the coarse mesh of a metal.
SAME_LEVEL, SMEARING = 1e-6, 0.1


@dataclass(frozen=True, eq=False)
class KPath:
    """k-points along lines, how far along each is (1/Angstrom), and the names of the corners."""

    kpoints_kc: Array
    distance_k: Array
    corners: tuple[float, ...]
    names: tuple[str, ...]

    def mark(self, axes: Any) -> None:
        """Name the corners along the axis of a matplotlib picture, with a line at each."""
        axes.set_xticks(self.corners, self.names)
        for corner in self.corners[1:-1]:
            axes.axvline(corner, color="#bbbbbb", lw=0.6)
        axes.set_xlim(self.distance_k[0], self.distance_k[-1])


@dataclass(frozen=True)
class Edges:
    """Fermi level (in the middle of a gap), highest occupied and lowest empty level (eV)."""

    fermi: float
    valence: float
    conduction: float
    metal: bool

    @property
    def gap(self) -> float:
        return 0.0 if self.metal else self.conduction - self.valence


def make_path(frame: Frame, path: str | None = None, points: int = 200) -> KPath:
    """The special points of the lattice in ASE's order, or a path of their names such as "GXL,KG"; Gamma of a molecule.

    Without a name layers, wires and molecules in a box of vacuum get the points of the directions in which they go on.
    """
    joined_c = frame.pbc_c if path else joined_directions(frame)
    if not joined_c.any():
        return KPath(np.zeros((1, 3)), np.zeros(1), (0.0,), ("Γ",))
    cell = frame.atoms.cell
    try:
        line = cell.bandpath(path, npoints=points, pbc=joined_c)
        distance_k, corners, names = line.get_linear_kpoint_axis()
    except (KeyError, ValueError, RuntimeError, TypeError, AssertionError) as error:
        known = ", ".join(cell.bandpath(npoints=0, pbc=frame.pbc_c).special_points)
        raise Refused(Kind.NO_BANDS, f"path {path}", "is not one of this lattice", f"the points {known}") from error
    at, named = join_corners(corners * 2 * np.pi, [name.replace("G", "Γ") for name in names])
    return KPath(line.kpts, distance_k * 2 * np.pi, at, named)


def joined_directions(frame: Frame) -> Array:
    """The directions in which pairs lead from an atom to its images: along the others, through vacuum, levels do not change with k."""
    pairs = frame.pairs
    if not len(pairs):  # an outline
        return frame.pbc_c
    i_q, j_q = np.concatenate([pairs.i_p, pairs.j_p]), np.concatenate([pairs.j_p, pairs.i_p])
    R_qc = np.concatenate([pairs.R_pc, -pairs.R_pc])
    # Atoms are put into the cells in which a tree of pairs finds them, so that a layer across the boundary is one layer.
    cell_ac, found_a = np.zeros((frame.natoms, 3), dtype=int), np.zeros(frame.natoms, dtype=bool)
    while not found_a.all():
        found_a[np.argmin(found_a)] = True
        while (next_q := found_a[i_q] & ~found_a[j_q]).any():
            atoms, first = np.unique(j_q[next_q], return_index=True)
            cell_ac[atoms] = (cell_ac[i_q] + R_qc)[next_q][first]
            found_a[atoms] = True
    return frame.pbc_c & (cell_ac[i_q] + R_qc != cell_ac[j_q]).any(axis=0)


def join_corners(corners: Array, names: Sequence[str]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Corners at which a path jumps stand at one place and have both names."""
    joined: list[tuple[float, str]] = []
    for corner, name in zip(corners.tolist(), names, strict=True):
        if joined and abs(corner - joined[-1][0]) < 1e-9:
            joined[-1] = (corner, f"{joined[-1][1]}|{name}")
        else:
            joined.append((corner, name))
    return tuple(corner for corner, _ in joined), tuple(name for _, name in joined)


def require_bands(frame: Frame) -> None:
    """Refuse a frame that has no bands."""
    place = frame.provenance.path or frame.formula
    missing = [name for name in ("H", "S") if name not in frame.operators]
    if missing:
        raise Refused(Kind.MISSING_MATRIX, place, f"holds no {' and no '.join(missing)}; bands need both")
    if frame.norb > LARGEST_BANDS:
        raise Refused(
            Kind.NO_BANDS,
            place,
            f"has {frame.norb} orbitals, too many for all bands; those next to an energy can be had, and its density of states",
        )


def interpolation_error(frame: Frame) -> float:
    """Largest error of S half-way between the k-points of a run whose code gives matrices only at them, from the exact S there.

    H is interpolated just as S is.
    """
    place, overlap = frame.provenance.path or frame.formula, Overlap.of_frame(frame)
    mesh = mesh_of_frame(frame, place)
    if overlap is None or mesh is None or frame.spectrum is None:
        raise Refused(
            Kind.COARSE_MESH,
            place,
            "is folded over a k mesh and has no radial functions that say how right it is between the k-points",
        )
    exact = overlap.frame(structure_of(frame), frame.provenance.code)
    halves = itertools.product(*([0, 0.5] if periodic else [0] for periodic in frame.pbc_c))
    halfway_kc = frame.spectrum.kpoints_kc[0] + np.reshape(list(halves), (-1, 3)) / mesh.number_c
    found, wanted = ([kspace.spatial_overlap(each, k_c) for k_c in halfway_kc] for each in (frame, exact))
    return float(np.abs(np.array(found) - np.array(wanted)).max())


def require_dense_mesh(frame: Frame, error: float) -> None:
    """Refuse a frame that is too wrong between the k-points of its mesh."""
    if error > LARGEST_INTERPOLATION_ERROR:
        raise Refused(
            Kind.COARSE_MESH,
            frame.provenance.path or frame.formula,
            f"has a k mesh that is too coarse for bands: between its k-points S is off by {error:.2g}",
            f"at most {LARGEST_INTERPOLATION_ERROR}",
        )


def mesh_for(frame: Frame) -> tuple[int, int, int]:
    """A mesh about as dense in all directions in which the structure goes on."""
    a, b, c = mesh_of_length(frame.cell_cv, joined_directions(frame), 2 * np.pi / MESH_SPACING)
    return a, b, c


def find_edges(frame: Frame, mesh_skn: Array, weights_k: Array, along_skn: Array) -> Edges:
    """Fermi level of a frame from its levels on a mesh, and the edges about it on the mesh and along the path."""
    electrons = frame.outcome.electrons
    if electrons is None:
        raise Refused(
            Kind.ELECTRONS,
            frame.provenance.path or frame.formula,
            "does not say how many electrons it has",
        )
    _, (fermi, *_) = kspace.occupations(mesh_skn, weights_k, kspace.Filling(electrons), frame.spin)
    levels = np.concatenate([mesh_skn, along_skn], axis=1)
    full_skn = mesh_skn < fermi + SAME_LEVEL
    # A band that is below the Fermi level at some points of the mesh and above at others makes a metal.
    if (full_skn.any(axis=1) != full_skn.all(axis=1)).any():
        smeared = kspace.Filling(electrons, "gauss", SMEARING)
        _, (fermi, *_) = kspace.occupations(mesh_skn, weights_k, smeared, frame.spin)
        return Edges(fermi, float(levels[levels <= fermi].max()), float(levels[levels > fermi].min()), True)
    full_sn = full_skn.all(axis=1)
    valence = levels.max(axis=1)[full_sn].max(initial=-np.inf)
    conduction = levels.min(axis=1)[~full_sn].min(initial=np.inf)
    return Edges(
        float((valence + conduction) / 2), float(valence), float(conduction), bool(conduction - valence < SMALLEST_GAP)
    )


def most_of(frame: Frame) -> float:
    """Electrons that one level takes."""
    return 2.0 if frame.spin is Spin.NONE else 1.0


@dataclass(frozen=True, eq=False)
class Bands:
    """Levels of a frame along a path and on a mesh, and how many electrons a level takes.

    `interpolation_error` is that of S between the k-points of a frame that is right only at them.
    """

    path: KPath
    energies_skn: Array
    mesh_skn: Array
    weights_k: Array
    most: float
    edges: Edges
    interpolation_error: float = 0.0

    def __repr__(self) -> str:
        spins, points, levels = self.energies_skn.shape
        spin = ", 2 spins" if spins == 2 else ""
        edges = f"valence {self.edges.valence:.3f}, conduction {self.edges.conduction:.3f}, gap {self.edges.gap:.3f} eV"
        return f"<bands: {levels} levels at {points} k-point{'s' * (points > 1)}{spin}, {edges}>"

    @classmethod
    def of(cls, frame: Frame, path: KPath, tell: Callable[[int, int], None] = lambda done, total: None) -> "Bands":
        """Solved at one k-point after the other; `tell` hears how many of them are done."""
        require_bands(frame)
        error = interpolation_error(frame) if frame.folded else 0.0
        require_dense_mesh(frame, error)
        mesh_kc, weights_k = kspace.mesh_points(mesh_for(frame), frame.spin)
        total, done = len(path.kpoints_kc) + len(mesh_kc), itertools.count(1)
        along_skn, mesh_skn = (
            kspace.eigenvalues(frame, kpoints_kc, lambda: tell(next(done), total))
            for kpoints_kc in (path.kpoints_kc, mesh_kc)
        )
        edges = find_edges(frame, mesh_skn, weights_k, along_skn)
        return cls(path, along_skn, mesh_skn, weights_k, most_of(frame), edges, error)

    @property
    def zero(self) -> float:
        """The energy (eV) from which pictures count: the valence edge, or the Fermi level of a metal."""
        return self.edges.valence if self.edges.gap else self.edges.fermi

    def plot(self, axes: Any, label: str = "", *, zero: float | None = None, **style: Any) -> Any:
        """The matplotlib axes, with the bands and the special points of their path drawn on them; the levels of a molecule as short lines.

        Energies count from `zero` (eV), the valence edge if none is given; `style` goes to matplotlib.
        """
        zero = self.zero if zero is None else zero
        style = {"color": "#1a1a1a", "linewidth": 1.1, **style}
        distance_k = self.path.distance_k
        breaks = np.flatnonzero(np.diff(distance_k) <= 0) + 1
        for s, levels_kn in enumerate(self.energies_skn):
            if len(distance_k) == 1:
                axes.hlines(levels_kn[0] - zero, s - 0.4, s + 0.4, label=label if s == 0 else None, **style)
                continue
            for n, part in enumerate(np.split(np.arange(len(distance_k)), breaks)):
                width = style["linewidth"] * (1 if s == 0 else 0.64)
                drawn = axes.plot(distance_k[part], levels_kn[part] - zero, **(style | {"linewidth": width}))
                if n == 0 and label:
                    drawn[0].set_label(label if len(self.energies_skn) == 1 else f"{label}, spin {('up', 'down')[s]}")
        axes.set_ylabel("energy (eV)")
        if len(distance_k) > 1:
            self.path.mark(axes)
        return axes

    def density_of_states(self, energies_e: Array, width: float) -> Array:
        """States per eV and cell, of all spins, broadened by Gaussians."""
        weight_skn = np.broadcast_to(self.weights_k[:, None] * self.most, self.mesh_skn.shape)
        # Levels farther than this from all energies add less than the smallest number that is not zero.
        near_skn = (self.mesh_skn > energies_e.min() - 40 * width) & (self.mesh_skn < energies_e.max() + 40 * width)
        x_en = (energies_e[:, None] - self.mesh_skn[near_skn]) / width
        return np.asarray(np.exp(-(x_en**2) / 2) @ weight_skn[near_skn] / (width * np.sqrt(2 * np.pi)))

    def compare(self, reference: "Bands") -> dict[str, float]:
        """Errors of the levels that are occupied in the reference, in meV."""
        occupied = reference.energies_skn <= reference.edges.fermi
        error = (self.energies_skn - reference.energies_skn)[occupied] * 1e3
        if not len(error):
            raise Refused(Kind.NO_BANDS, "bands", "have no occupied level along this path")
        return {
            "rms": float(np.sqrt(np.mean(error**2))),
            "shift": float(error.mean()),
            "rms without shift": float(error.std()),
            "largest": float(np.abs(error).max()),
            "error of the gap": (self.edges.gap - reference.edges.gap) * 1e3,
        }
