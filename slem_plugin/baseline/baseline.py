"""Baseline: the two-centre part of an operator and the crystal field on its atoms, fitted in closed form.

In the frame of a bond a two-centre matrix has only the elements that are even about the bond, and each is a function of
distance: overlaps are exactly this. An onsite block is a constant and a sum over neighbours of such functions. The
network learns what is left over, divided by its usual size at that distance.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from basis import Array
from slem_plugin.baseline.splines import DEGREE, spline_design, spline_values, switch_off
from slem_plugin.blocks.components import BlockForm, Components
from slem_plugin.graphs.graph import Graph, pair_numbers

# Functions of distance are resolved to these lengths (Angstrom): two-centre, crystal field, size of the rest.
FINE, COARSE, ROUGH = 0.12, 0.5, 0.8
# Functions begin at this part of the shortest distance.
NEAR = 0.8
# Distances closer than this (Angstrom) are the same.
SAME = 1e-6


# Arrays of each kind of pairs or of each species.
LISTS = ("range_tg", "share_tg", "two_centre_t", "size_tg", "spread_s", "centre_s", "reach_s", "peak_t", "peak_s")
# A block does not leave the mean, and a rest does not leave zero, by more than this times what they did in the data.
FARTHEST = 4.0


@dataclass(frozen=True, eq=False)
class Baseline:
    """The fitted functions of one operator.

    For each kind t of pairs: `near_t` and `range_tg`, where its functions begin and, for each pair of shells, end (`margin`: the
    factor by which that is beyond the farthest pair seen); `share_tg`, how much of the shared fields is in the block;
    `two_centre_t[b, n]` spline coefficients of the even components; `size_tg[b, g]` those of the logarithm of the size of the rest.
    For each species s: `field_sl[b, n]` crystal-field coefficients of the natural irreps of each degree, `spread_s[n]` the size of the rest,
    `centre_s[n]` the mean onsite components and `reach_s[0]` how far from it the data went. `peak_t[0]` and `peak_s[0]` are the largest
    rests of a block in the data, in units of their size.
    """

    form: BlockForm
    margin: float
    near_t: tuple[float, ...]
    range_tg: tuple[Array, ...]
    share_tg: tuple[Array, ...]
    two_centre_t: tuple[Array, ...]
    size_tg: tuple[Array, ...]
    field_sl: tuple[tuple[Array, ...], ...]
    spread_s: tuple[Array, ...]
    centre_s: tuple[Array, ...]
    reach_s: tuple[Array, ...]
    peak_t: tuple[Array, ...]
    peak_s: tuple[Array, ...]

    def __post_init__(self) -> None:
        # The same numbers in another order in memory may give another last digit.
        for name in LISTS:
            object.__setattr__(self, name, tuple(map(np.ascontiguousarray, getattr(self, name))))
        object.__setattr__(self, "field_sl", tuple(tuple(map(np.ascontiguousarray, one)) for one in self.field_sl))

    @cached_property
    def _groups_by_range(self) -> list[list[tuple[float, Array]]]:
        """The pairs of shells of each kind whose functions end at the same distance."""
        return [columns_of(range_g) for range_g in self.range_tg]

    @cached_property
    def _components_by_range(self) -> list[list[tuple[float, Array]]]:
        """The same of the even components."""
        shells = (axial.shells_n[: axial.counts[0]] for axial in self.form.hopping_t)
        return [columns_of(range_g[shells_n]) for range_g, shells_n in zip(self.range_tg, shells, strict=True)]

    @property
    def cutoff_t(self) -> Array:
        """Where the last function of each kind ends."""
        return np.array([range_g.max(initial=0) for range_g in self.range_tg])

    @property
    def nearest_t(self) -> Array:
        """The nearest pair of each kind in the data."""
        return np.array(self.near_t) / NEAR

    @property
    def farthest_t(self) -> Array:
        """The farthest pair of each kind in the data."""
        return self.cutoff_t / self.margin

    def arrays(self) -> dict[str, Array]:
        """All numbers under plain names."""
        named = {"near": np.array(self.near_t), "margin": np.array(self.margin)}
        for name in LISTS:
            named |= {f"{name}.{n}": value for n, value in enumerate(getattr(self, name))}
        for s, field_l in enumerate(self.field_sl):
            named |= {f"field_sl.{s}.{l}": value for l, value in enumerate(field_l)}
        return named

    @classmethod
    def from_arrays(cls, form: BlockForm, named: Mapping[str, Array]) -> "Baseline":
        """The baseline of what `arrays` gave."""
        kinds, species = range(len(form.kinds)), range(len(form.basis))
        lists = {
            name: tuple(named[f"{name}.{n}"] for n in (species if name.endswith("_s") else kinds)) for name in LISTS
        }
        field_sl = tuple(
            tuple(named[f"field_sl.{s}.{l}"] for l in range(len(form.onsite_s[s].natural))) for s in species
        )
        return cls(form, float(named["margin"]), tuple(named["near"].tolist()), field_sl=field_sl, **lists)

    def predict(self, graph: Graph, seen: "Seen | None" = None) -> Components:
        """The baseline of all blocks of a structure; what operators see alike is kept in `seen`."""
        hopping = (self.hopping(t, lengths_p) for t, lengths_p in enumerate(graph.lengths_t))
        return Components(tuple(hopping), self.onsite(graph, seen))

    def sizes(self, graph: Graph) -> Components:
        """The size of what is left over, component by component."""
        hopping = (self.hopping_sizes(t, lengths_p) for t, lengths_p in enumerate(graph.lengths_t))
        return Components(tuple(hopping), self.onsite_sizes(graph))

    def hopping(self, t: int, r_p: Array) -> Array:
        """The components of pairs of one kind at these distances."""
        even_pn = self.even_hopping(t, r_p)
        return np.pad(even_pn, ((0, 0), (0, self.form.hopping_t[t].size - even_pn.shape[1])))

    def even_hopping(self, t: int, r_p: Array) -> Array:
        """The first of them, which are even about their bond: two centres alone have no others."""
        values_pn = np.zeros((len(r_p), self.form.hopping_t[t].counts[0]))
        for end, columns in self._components_by_range[t]:
            values_pn[:, columns] = self._evaluate(t, end, r_p, self.two_centre_t[t][:, columns], FINE)
        return values_pn

    def hopping_sizes(self, t: int, r_p: Array) -> Array:
        size_pg = np.zeros((len(r_p), len(self.range_tg[t])))
        for end, groups in self._groups_by_range[t]:
            size_pg[:, groups] = self._evaluate(t, end, r_p, self.size_tg[t][:, groups], ROUGH, np.exp)
        return size_pg[:, self.form.hopping_t[t].shells_n]

    def onsite(self, graph: Graph, seen: "Seen | None" = None) -> tuple[Array, ...]:
        """The components of the onsite blocks of all atoms, by species."""
        return tuple(self._onsite(graph, s, {} if seen is None else seen) for s in range(len(self.form.basis)))

    def onsite_sizes(self, graph: Graph) -> tuple[Array, ...]:
        return tuple(
            np.broadcast_to(spread_n, (len(atoms), len(spread_n)))
            for spread_n, atoms in zip(self.spread_s, graph.atoms_s, strict=True)
        )

    def _evaluate(
        self,
        t: int,
        end: float,
        r_p: Array,
        coefficients_bn: Array,
        step: float,
        change: Callable[[Array], Array] = np.asarray,
    ) -> Array:
        """Functions with one range, changed and switched off at its end."""
        if not end:
            return np.zeros((len(r_p), coefficients_bn.shape[1]))
        count = splines_over(self.near_t[t], end, step)
        values_pn = change(spline_values(r_p, self.near_t[t], end, coefficients_bn[:count]))
        return values_pn * switch_off(r_p, end / self.margin, end)[:, None]

    def _onsite(self, graph: Graph, s: int, seen: "Seen") -> Array:
        form = self.form.onsite_s[s]
        values_an = np.zeros((len(graph.atoms_s[s]), form.size))
        ends = (s, self.near_t, tuple(self.cutoff_t.tolist()))
        if ends not in seen:
            seen[ends] = Neighbours.of(graph, s, self.near_t, self.cutoff_t)
        for l, coefficients_bn in enumerate(self.field_sl[s]):
            natural_amn = seen[ends].features(l) @ coefficients_bn
            rest_amn = np.zeros((*natural_amn.shape[:2], form.unnatural[l]))
            here = values_an[:, form.slice(l)]
            here[:] = np.concatenate([natural_amn, rest_amn], axis=2).reshape(here.shape)
        return self.centre_s[s] + limited(values_an - self.centre_s[s], FARTHEST * self.reach_s[s])


def limited(rows: Array, most: Array) -> Array:
    """Rows that are nearly as they are where they are shorter than `most`, and never get longer.

    Sums over neighbours fitted where all structures have the same number of them cancel, and do not cancel elsewhere. One
    factor for each block keeps it equivariant.
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True) / np.maximum(most, 1e-300)
    return np.asarray(rows / (1 + np.minimum(length, 1e30) ** 8) ** 0.125)


def learned_distances(baselines: Iterable[Baseline]) -> tuple[Array, Array]:
    """The nearest and the farthest distance of each kind of pairs in what some baselines were fitted to."""
    ranges = [(baseline.nearest_t, baseline.farthest_t) for baseline in baselines]
    return np.min([near_t for near_t, _ in ranges], axis=0), np.max([far_t for _, far_t in ranges], axis=0)


def columns_of(groups_n: Array) -> list[tuple[Any, Array]]:
    """Each different value and where it stands."""
    return [(g, np.flatnonzero(groups_n == g)) for g in np.unique(groups_n).tolist()]


def functions(r_p: Array, near: float, end: float, step: float) -> Array:
    """B-splines of this resolution over a range."""
    return spline_design(r_p, near, end, splines_over(near, end, step))


def splines_over(near: float, end: float, step: float) -> int:
    return max(int(np.ceil((end - near) / step)), 1) + DEGREE


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbours of the atoms of one species, as sums of functions of their distance see them."""

    rotations: tuple[Tensor, ...]
    atoms: Array
    slots: int
    weight_aeb: Array
    known_l: dict[int, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, s: int, near_t: Sequence[float], cutoff_t: Array) -> "Neighbours":
        """Functions B(r), switched off at the cutoff, of each bond; those of each species in columns of their own."""
        atoms, slots = graph.atoms_s[s].numpy(), graph.slots
        bonds_ae = atoms[:, None] * slots + np.arange(slots)
        length_e, present_e = graph.length_e.numpy()[bonds_ae].ravel(), graph.present_e.numpy()[bonds_ae].ravel()
        species_e = graph.neighbour_e.numpy()[bonds_ae].ravel()
        parts = []
        for other, t in enumerate(pair_numbers(len(graph.atoms_s))[s]):
            near, cutoff = near_t[t], cutoff_t[t]
            B = np.zeros((len(length_e), splines_over(near, cutoff, COARSE)))
            here = present_e & (species_e == other) & (length_e < cutoff)
            smooth = switch_off(length_e[here], 0.8 * cutoff, cutoff)
            B[here] = smooth[:, None] * functions(length_e[here], near, max(cutoff, near + SAME), COARSE)
            parts.append(B)
        weights = np.concatenate(parts, axis=1)
        weight_aeb = weights.reshape(len(atoms), slots, weights.shape[1])
        return cls(graph.rotations, atoms, slots, weight_aeb)

    def features(self, l: int) -> Array:
        """Sums over neighbours of B(r) Y_lm, [atoms, m, functions]; for l = 0 also a constant, which comes first."""
        if l not in self.known_l:
            self.known_l[l] = self._features(l)
        return self.known_l[l]

    def _features(self, l: int) -> Array:
        if not len(self.atoms):
            return np.zeros((0, 2 * l + 1, self.weight_aeb.shape[2] + (l == 0)))
        turns = self.rotations[l].numpy().reshape(-1, self.slots, 2 * l + 1, 2 * l + 1)
        Y_aem = turns[self.atoms, :, l]
        sums_amb = Y_aem.swapaxes(1, 2) @ self.weight_aeb
        return np.concatenate([np.ones((len(self.atoms), 1, 1)), sums_amb], axis=2) if l == 0 else sums_amb


# What the atoms of a species see of their neighbours, by species and by the functions of distance.
Seen = dict[tuple[int, tuple[float, ...], tuple[float, ...]], Neighbours]
