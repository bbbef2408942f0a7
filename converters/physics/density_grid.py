"""Density on a grid of points, from DM and radial functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from basis import Array
from basis.harmonics import solid_harmonics
from basis.radial import RadialFunction
from basis.spin import TRANSPOSED, Spin, to_pauli
from basis.units import BOHR
from converters.frames.blocks import canonical
from converters.frames.frame import Frame

# Points of a box along each axis: small enough that few orbitals reach it, large enough for matrix products.
BOX = 8

Orbitals = Sequence[Sequence[RadialFunction]]  # of each species, of each of its shells


class Spherical(Protocol):
    """A function of the distance that ends at a cutoff."""

    @property
    def cutoff(self) -> float: ...

    def __call__(self, r: Array) -> Array: ...


@dataclass(frozen=True, eq=False)
class Grid:
    """Points (n / shape) cell + origin (Angstrom), and the length in which the code counts density, its Bohr radius."""

    shape_c: tuple[int, int, int]
    origin_v: Array
    bohr: float = BOHR


def density_on_grid(frame: Frame, orbitals: Orbitals, grid: Grid) -> Array:
    """Density (electrons / Bohr^3) at each point: total; up and down; or total and magnetisation x, y, z for spinors."""
    cell_cv, positions_av = frame.cell_cv, frame.positions_av
    density = np.zeros((frame.spin.components, *grid.shape_c))
    radius_s = np.array([max((R.cutoff for R in shells), default=0.0) for shells in orbitals])
    atoms = SphereImages(cell_cv, positions_av, frame.species_a, radius_s, frame.pbc_c)
    for box in boxes(grid.shape_c):
        points_gv, shape = grid_points(box, grid, cell_cv)
        i_n, R_nc = atoms.reaching(points_gv)
        if not len(i_n):
            continue
        phi_gM = orbital_values(frame, orbitals, points_gv, i_n, positions_av[i_n] + R_nc @ cell_cv)
        for s, D_MM in enumerate(local_density(frame, i_n, R_nc)):
            inside = np.einsum("gM,gM->g", phi_gM @ D_MM, phi_gM)
            density[s][box] = inside.reshape(shape) * grid.bohr**3
    return density


def superposed(frame: Frame, functions: Sequence[Spherical], grid: Grid) -> Array:
    """Sum over all atoms of a function of the distance, one for each species, at each point."""
    cell_cv, positions_av = frame.cell_cv, frame.positions_av
    total = np.zeros(grid.shape_c)
    radius_s = np.array([function.cutoff for function in functions])
    atoms = SphereImages(cell_cv, positions_av, frame.species_a, radius_s, frame.pbc_c)
    for box in boxes(grid.shape_c):
        points_gv, shape = grid_points(box, grid, cell_cv)
        i_n, R_nc = atoms.reaching(points_gv)
        r_ng = np.linalg.norm(points_gv - (positions_av[i_n] + R_nc @ cell_cv)[:, None], axis=-1)
        values_g = np.zeros(len(points_gv))
        for s in np.unique(frame.species_a[i_n]).tolist():
            values_g += functions[s](r_ng[frame.species_a[i_n] == s]).sum(axis=0)
        total[box] = values_g.reshape(shape) * grid.bohr**3
    return total


def grid_points(box: tuple[slice, slice, slice], grid: Grid, cell_cv: Array) -> tuple[Array, tuple[int, ...]]:
    """Points of a box, one after the other, and its shape."""
    indices = np.stack(np.meshgrid(*(np.arange(b.start, b.stop) for b in box), indexing="ij"), axis=-1)
    return (indices.reshape(-1, 3) / grid.shape_c) @ cell_cv + grid.origin_v, indices.shape[:-1]


def boxes(shape_c: tuple[int, int, int]) -> Iterator[tuple[slice, slice, slice]]:
    starts = [range(0, n, BOX) for n in shape_c]
    for a in starts[0]:
        for b in starts[1]:
            for c in starts[2]:
                ends = [min(start + BOX, n) for start, n in zip((a, b, c), shape_c, strict=True)]
                yield slice(a, ends[0]), slice(b, ends[1]), slice(c, ends[2])


@dataclass(frozen=True, eq=False)
class SphereImages:
    """Atoms in cells around a point, with the radius of the largest orbital of each species."""

    cell_cv: Array
    positions_av: Array
    species_a: Array
    radius_s: Array
    pbc_c: Array

    @property
    def radius_a(self) -> Array:
        return np.asarray(self.radius_s[self.species_a])

    def reaching(self, points_gv: Array) -> tuple[Array, Array]:
        """Atoms and cells whose orbitals reach into the box around some points, sorted by their species."""
        middle_v = (points_gv.min(axis=0) + points_gv.max(axis=0)) / 2
        reach = np.linalg.norm(points_gv - middle_v, axis=1).max() + self.radius_a.max()
        between_ac = (middle_v - self.positions_av) @ np.linalg.inv(self.cell_cv)
        height_c = 1 / np.linalg.norm(np.linalg.inv(self.cell_cv), axis=0)
        most_c = np.where(self.pbc_c, np.ceil(reach / height_c) + 1, 0).astype(int)
        offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most_c), indexing="ij"), axis=-1).reshape(-1, 3)
        R_anc = np.where(self.pbc_c, np.round(between_ac), 0).astype(int)[:, None] + offsets
        away_an = np.linalg.norm(self.positions_av[:, None] + R_anc @ self.cell_cv - middle_v, axis=-1)
        near_an = away_an < reach - self.radius_a.max() + self.radius_a[:, None]
        i_n, n_n = np.nonzero(near_an)
        order = np.argsort(self.species_a[i_n], kind="stable")
        return i_n[order], R_anc[i_n, n_n][order]


def orbital_values(frame: Frame, orbitals: Orbitals, points_gv: Array, i_n: Array, centres_nv: Array) -> Array:
    """Values of all orbitals of some atoms, sorted by their species, at some points."""
    columns = []
    for s in np.unique(frame.species_a[i_n]).tolist():
        shells, radials = frame.basis[s].shells, orbitals[s]
        vectors_ngv = points_gv - centres_nv[frame.species_a[i_n] == s, None]
        r_ng = np.linalg.norm(vectors_ngv, axis=-1)
        r_q = r_ng.ravel()
        harmonics = solid_harmonics(
            max(shell.l for shell in shells), vectors_ngv.reshape(-1, 3) / np.maximum(r_q, 1e-12)[:, None]
        )
        for l in {shell.l for shell in shells} - {0}:
            harmonics[l][r_q < 1e-12] = 0.0  # R(r) goes like r^l
        phi_qM = np.concatenate(
            [R(r_q)[:, None] * harmonics[shell.l] for shell, R in zip(shells, radials, strict=True)], axis=1
        )
        columns.append(phi_qM.reshape(*r_ng.shape, -1).swapaxes(0, 1).reshape(len(points_gv), -1))
    return np.concatenate(columns, axis=1)


def local_density(frame: Frame, i_n: Array, R_nc: Array) -> Array:
    """DM between some atoms in some cells as real symmetric matrices, one for each component of the density."""
    pairs, layout = frame.pairs, frame.spin
    start_n = np.concatenate([[0], np.cumsum(pairs.norb_a[i_n])])
    D_sMM = np.zeros((layout.components, start_n[-1], start_n[-1]))
    first_m, second_m = np.triu_indices(len(i_n))
    i_m, j_m, R_mc, swapped_m = canonical(i_n[first_m], i_n[second_m], R_nc[second_m] - R_nc[first_m])
    p_m = pairs.find(i_m, j_m, R_mc)
    for m in np.flatnonzero(p_m >= 0).tolist():
        block = pairs.block(frame.operators["DM"].values_sx, int(p_m[m]))
        if swapped_m[m]:
            block = block[TRANSPOSED[layout]].conj().swapaxes(1, 2)
        if layout is Spin.SPINOR:
            block = 2 * to_pauli(block).real
        a, b = first_m[m], second_m[m]
        rows, columns = slice(start_n[a], start_n[a + 1]), slice(start_n[b], start_n[b + 1])
        D_sMM[:, rows, columns] = block
        D_sMM[:, columns, rows] = block.swapaxes(1, 2)
    return D_sMM
