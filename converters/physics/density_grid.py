"""Density on a grid of points, from DM and radial functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from basis import Array
from basis.harmonics import solid_harmonics
from basis.radial import RadialFunction, values_of
from basis.shells import Shell
from basis.spin import Spin, to_pauli
from basis.units import BOHR
from converters.frames.blocks import canonical, distinct
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
    density = np.zeros((frame.spin.components, *grid.shape_c))
    radius_s = np.array([max((R.cutoff for R in shells), default=0.0) for shells in orbitals])
    for box in reached_boxes(frame, grid, radius_s):
        phi_gM = orbital_values(frame, orbitals, box.points_gv, box.i_n, box.centres_nv)
        for s, D_MM in enumerate(local_density(frame, box.i_n, box.R_nc)):
            inside = np.einsum("gM,gM->g", phi_gM @ D_MM, phi_gM)
            density[s][box.place] = inside.reshape(box.shape) * grid.bohr**3
    return density


def superposed(frame: Frame, functions: Sequence[Spherical], grid: Grid) -> Array:
    """Sum over all atoms of a function of the distance, one for each species, at each point."""
    total = np.zeros(grid.shape_c)
    radius_s = np.array([function.cutoff for function in functions])
    for box in reached_boxes(frame, grid, radius_s):
        r_ng = lengths(box.points_gv - box.centres_nv[:, None])
        values_g = np.zeros(len(box.points_gv))
        for s in np.unique(frame.species_a[box.i_n]).tolist():
            r_mg = r_ng[frame.species_a[box.i_n] == s]
            inside = r_mg <= functions[s].cutoff
            values_g += np.bincount(np.nonzero(inside)[1], functions[s](r_mg[inside]), len(values_g))
        total[box.place] = values_g.reshape(box.shape) * grid.bohr**3
    return total


def lengths(vectors_v: Array) -> Array:
    """Of vectors along the last axis; NumPy's norm takes three times as long."""
    return np.asarray(np.sqrt(np.einsum("...v,...v->...", vectors_v, vectors_v)))


@dataclass(frozen=True, eq=False)
class Box:
    """Points of a grid that are near each other, one after the other, and the atoms that reach them, sorted by their species."""

    place: tuple[slice, slice, slice]
    shape: tuple[int, ...]
    points_gv: Array
    i_n: Array
    R_nc: Array
    centres_nv: Array


def reached_boxes(frame: Frame, grid: Grid, radius_s: Array) -> Iterator[Box]:
    """The boxes of a grid into which spheres about atoms, of a radius for each species, reach."""
    whole = tuple(slice(0, n) for n in grid.shape_c)
    i_n, R_nc = spheres_near(frame, *middle_and_reach(whole, grid, frame.cell_cv), radius_s)
    centres_nv, radius_n = frame.positions_av[i_n] + R_nc @ frame.cell_cv, radius_s[frame.species_a[i_n]]
    for place in boxes(grid.shape_c):
        middle_v, reach = middle_and_reach(place, grid, frame.cell_cv)
        near = np.flatnonzero(np.linalg.norm(centres_nv - middle_v, axis=1) < reach + radius_n)
        if len(near):
            points_gv, shape = grid_points(place, grid, frame.cell_cv)
            yield Box(place, shape, points_gv, i_n[near], R_nc[near], centres_nv[near])


def middle_and_reach(place: tuple[slice, ...], grid: Grid, cell_cv: Array) -> tuple[Array, float]:
    """The middle of some points of a grid, and how far the farthest one is from it."""
    first_c, last_c = np.array([(one.start, one.stop - 1) for one in place]).T
    half_c = (last_c - first_c) / 2 / grid.shape_c
    corners_nv = np.array([(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)]) * half_c @ cell_cv
    return (first_c + last_c) / 2 / grid.shape_c @ cell_cv + grid.origin_v, float(
        np.linalg.norm(corners_nv, axis=1).max()
    )


def grid_points(box: tuple[slice, slice, slice], grid: Grid, cell_cv: Array) -> tuple[Array, tuple[int, ...]]:
    """Points of a box, one after the other, and its shape."""
    x_av, x_bv, x_cv = (
        (np.arange(part.start, part.stop) / n)[:, None] * vector_v
        for part, n, vector_v in zip(box, grid.shape_c, cell_cv, strict=True)
    )
    points_abcv = x_av[:, None, None] + x_bv[:, None] + (x_cv + grid.origin_v)
    return points_abcv.reshape(-1, 3), points_abcv.shape[:-1]


def boxes(shape_c: tuple[int, int, int]) -> Iterator[tuple[slice, slice, slice]]:
    starts = [range(0, n, BOX) for n in shape_c]
    for a in starts[0]:
        for b in starts[1]:
            for c in starts[2]:
                ends = [min(start + BOX, n) for start, n in zip((a, b, c), shape_c, strict=True)]
                yield slice(a, ends[0]), slice(b, ends[1]), slice(c, ends[2])


def spheres_near(frame: Frame, middle_v: Array, reach: float, radius_s: Array) -> tuple[Array, Array]:
    """Atoms and cells whose spheres come nearer to a point than this, sorted by their species."""
    radius_a = radius_s[frame.species_a]
    inverse = np.linalg.inv(frame.cell_cv)
    between_ac = (middle_v - frame.positions_av) @ inverse
    most_c = np.where(frame.pbc_c, np.ceil((reach + radius_a.max()) * np.linalg.norm(inverse, axis=0)) + 1, 0)
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most_c), indexing="ij"), axis=-1).reshape(-1, 3)
    R_anc = np.where(frame.pbc_c, np.round(between_ac), 0).astype(int)[:, None] + offsets.astype(int)
    away_an = np.linalg.norm(frame.positions_av[:, None] + R_anc @ frame.cell_cv - middle_v, axis=-1)
    i_n, n_n = np.nonzero(away_an < reach + radius_a[:, None])
    order = np.argsort(frame.species_a[i_n], kind="stable")
    return i_n[order], R_anc[i_n, n_n][order]


def orbital_values(frame: Frame, orbitals: Orbitals, points_gv: Array, i_n: Array, centres_nv: Array) -> Array:
    """Values of all orbitals of some atoms, sorted by their species, at some points."""
    columns = []
    for s in np.unique(frame.species_a[i_n]).tolist():
        vectors_ngv = points_gv - centres_nv[frame.species_a[i_n] == s, None]
        vectors_qv = vectors_ngv.reshape(-1, 3)
        r_q = lengths(vectors_qv)
        phi_qM = np.zeros((len(r_q), frame.basis[s].size))
        inside_q = np.flatnonzero(r_q < max((R.cutoff for R in orbitals[s]), default=0.0))
        phi_qM[inside_q] = values_of_shells(frame.basis[s].shells, orbitals[s], vectors_qv[inside_q], r_q[inside_q])
        columns.append(phi_qM.reshape(*vectors_ngv.shape[:2], -1).swapaxes(0, 1).reshape(len(points_gv), -1))
    return np.concatenate(columns, axis=1)


def values_of_shells(
    shells: Sequence[Shell], radials: Sequence[RadialFunction], vectors_qv: Array, r_q: Array
) -> Array:
    """R(r) Y_lm of all orbitals of an atom at points so far from it."""
    harmonics = solid_harmonics(max(shell.l for shell in shells), vectors_qv / np.maximum(r_q, 1e-12)[:, None])
    for l in {shell.l for shell in shells} - {0}:
        harmonics[l][r_q < 1e-12] = 0.0  # R(r) goes like r^l
    values = (R_q[:, None] * harmonics[shell.l] for shell, R_q in zip(shells, values_of(radials, r_q).T, strict=True))
    return np.concatenate(list(values), axis=1)


def local_density(frame: Frame, i_n: Array, R_nc: Array) -> Array:
    """DM between some atoms in some cells as real symmetric matrices, one for each component of the density."""
    pairs = frame.pairs
    start_n = np.concatenate([[0], np.cumsum(pairs.norb_a[i_n])])
    D_sMM = np.zeros((frame.spin.components, start_n[-1], start_n[-1]))
    first_m, second_m = np.triu_indices(len(i_n))
    i_m, j_m, R_mc, swapped_m = canonical(i_n[first_m], i_n[second_m], R_nc[second_m] - R_nc[first_m])
    p_m = pairs.find(i_m, j_m, R_mc)
    # Blocks of one shape go to their places together.
    most = int(pairs.norb_a.max()) + 1
    shape_m = np.where(p_m < 0, -1, (pairs.norb_a[i_m] * most + pairs.norb_a[j_m]) * 2 + swapped_m)
    for shape in distinct(shape_m[p_m >= 0]).tolist():
        mine = np.flatnonzero(shape_m == shape)
        (rows, columns), swapped = divmod(shape // 2, most), shape % 2
        x = pairs.start_p[p_m[mine], None] + np.arange(rows * columns)
        blocks = frame.operators["DM"].values_sx[:, x].reshape(-1, len(mine), rows, columns)
        if frame.spin is Spin.SPINOR:
            blocks = 2 * to_pauli(blocks).real
        start_i, start_j = start_n[first_m[mine], None], start_n[second_m[mine], None]
        if swapped:
            start_i, start_j = start_j, start_i
        i_M, j_M = start_i + np.arange(rows), start_j + np.arange(columns)
        D_sMM[:, i_M[:, :, None], j_M[:, None]] = blocks
        D_sMM[:, j_M[:, :, None], i_M[:, None]] = blocks.swapaxes(2, 3)
    return D_sMM
