"""Fitting: the baseline of an operator from some structures, in closed form, in a second or two."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from basis import Array
from slem_plugin.baseline.baseline import (
    FINE,
    NEAR,
    ROUGH,
    SAME,
    Baseline,
    Neighbours,
    columns_of,
    functions,
    splines_over,
)
from slem_plugin.baseline.splines import fit_penalised, flatness, roughness, switch_off
from slem_plugin.blocks.components import BlockForm, Components
from slem_plugin.graphs.graph import Graph

# Ranges end this factor beyond the farthest pair seen, and all functions are switched off over that margin. Where a code
# stores every pair of a molecule, its farthest pair is no range of the matrix, and the margin is wide.
MARGIN, WIDE_MARGIN = 1.02, 2.0
# The rest is taken to be nowhere smaller than this fraction of its mean size.
SMALLEST = 1e-2
# Sums over neighbours closer than this are the same.
ALIKE = 1e-5
# A shared field that is smaller than this part of what it is to describe is noise, and no factor makes it anything else.
FAINTEST = 1e-3
# What is smaller than this is zero.
NOTHING = 1e-12


@dataclass(frozen=True, eq=False)
class Sample:
    """What a baseline is fitted to: a graph in float64, the components of an operator on it, and which were stored."""

    graph: Graph
    values: Components
    known: Components

    @property
    def whole(self) -> bool:
        """Whether all atoms are pairs with each other, once."""
        natoms = self.graph.natoms
        complete = sum(len(pairs) for pairs in self.graph.forward) == natoms * (natoms - 1) // 2
        return complete and all(known.all() for known in self.known.hopping_t)


def fit_onsite(form: BlockForm, samples: Sequence[Sample]) -> Baseline:
    """Ranges and crystal fields of an operator from some structures; its hopping functions are still zero."""
    near, ranges = [], []
    margin = WIDE_MARGIN if all(sample.whole for sample in samples) else MARGIN
    for t in range(len(form.kinds)):
        r_p = lengths_of(samples, t)
        known = np.concatenate([sample.known.hopping_t[t] for sample in samples])
        near.append(NEAR * float(r_p.min()) if len(r_p) else 0.0)
        ranges.append(margin * ranges_of(form, t, r_p, known))
    zeros = [
        np.zeros((splines_over(start, float(range_g.max()), FINE), axial.counts[0]))
        for axial, start, range_g in zip(form.hopping_t, near, ranges, strict=True)
    ]
    share_tg = tuple(map(np.zeros_like, ranges))
    centre, reach = zip(*(onsite_range(form, s, samples) for s in range(len(form.basis))), strict=True)
    nothing = ((),) * len(form.basis)
    peaks = (tuple(np.ones(1) for _ in form.kinds), tuple(np.ones(1) for _ in form.basis))
    bare = Baseline(
        form, margin, tuple(near), tuple(ranges), share_tg, tuple(zeros), (), nothing, (), centre, reach, *peaks
    )
    crystal = tuple(fit_crystal_field(form, s, samples, near, bare.cutoff_t) for s in range(len(form.basis)))
    return replace(bare, field_sl=crystal)


def onsite_range(form: BlockForm, s: int, samples: Sequence[Sample]) -> tuple[Array, Array]:
    """Mean onsite components of a species, of which only scalars are not zero, and the largest distance from it."""
    values = np.concatenate([sample.values.onsite_s[s] for sample in samples])
    centre_n = np.zeros(values.shape[1])
    scalars = form.onsite_s[s].slice(0)
    if not len(values):
        return centre_n, np.zeros(1)
    centre_n[scalars] = values[:, scalars].mean(axis=0)
    return centre_n, np.linalg.norm(values - centre_n, axis=1).max(keepdims=True)


def fit_hopping(bare: Baseline, samples: Sequence[Sample], shared: Sequence[Components] | None) -> Baseline:
    """The whole baseline, from ranges and crystal fields, and from the shared fields of each structure where it has them."""
    form = bare.form
    share, two_centre = [], []
    for t in range(len(form.kinds)):
        data = KindData.of(bare, samples, t)
        share.append(
            fit_share(data, np.concatenate([one.hopping_t[t] for one in shared])) if shared else bare.share_tg[t]
        )
        if shared:
            factor_n = share[t][form.hopping_t[t].shells_n]
            data = replace(data, values=data.values - factor_n * np.concatenate([one.hopping_t[t] for one in shared]))
        two_centre.append(fit_two_centre(data))
    bare = replace(bare, share_tg=tuple(share), two_centre_t=tuple(two_centre))
    rests = [rest_of(bare, sample, shared[n] if shared else None) for n, sample in enumerate(samples)]
    sizes = tuple(fit_sizes(bare, samples, rests, t) for t in range(len(form.kinds)))
    spreads = tuple(fit_spreads(form, s, rests) for s in range(len(form.basis)))
    return replace(bare, size_tg=sizes, spread_s=spreads)


def rest_of(baseline: Baseline, sample: Sample, shared: Components | None) -> Components:
    """What a baseline leaves over of a sample."""
    fitted = baseline.predict(sample.graph)
    hopping = [values - some for values, some in zip(sample.values.hopping_t, fitted.hopping_t, strict=True)]
    if shared:
        factors = [
            share[axial.shells_n] for share, axial in zip(baseline.share_tg, baseline.form.hopping_t, strict=True)
        ]
        hopping = [rest - factor * some for rest, factor, some in zip(hopping, factors, shared.hopping_t, strict=True)]
    onsite = [values - some for values, some in zip(sample.values.onsite_s, fitted.onsite_s, strict=True)]
    return Components(tuple(hopping), tuple(onsite))


def lengths_of(samples: Sequence[Sample], t: int) -> Array:
    return np.concatenate([sample.graph.length_e[sample.graph.forward[t]].numpy() for sample in samples])


@dataclass(frozen=True, eq=False)
class KindData:
    """All pairs of one kind of some structures: distances, components, which were stored, and where functions live."""

    form: BlockForm
    t: int
    near: float
    range_g: Array
    margin: float
    r_p: Array
    values: Array
    known: Array

    @classmethod
    def of(cls, bare: Baseline, samples: Sequence[Sample], t: int) -> "KindData":
        values = np.concatenate([sample.values.hopping_t[t] for sample in samples])
        known = np.concatenate([sample.known.hopping_t[t] for sample in samples])
        near, range_g = bare.near_t[t], bare.range_tg[t]
        return cls(bare.form, t, near, range_g, bare.margin, lengths_of(samples, t), values, known)

    @property
    def same(self) -> bool:
        """Whether both atoms are of one species, so that a bond may be read either way round."""
        return self.form.kinds[self.t][0] == self.form.kinds[self.t][1]

    def even_groups(self) -> list[tuple[int, Array, Array]]:
        """Each pair of shells with its even components and the exchanged ones; of two exchanged pairs of shells only one."""
        axial = self.form.hopping_t[self.t]
        partner_n, _ = self.form.exchange_t[self.t]
        groups = [(g, columns, partner_n[columns]) for g, columns in columns_of(axial.shells_n[: axial.counts[0]])]
        return [
            (g, columns, partners)
            for g, columns, partners in groups
            if self.range_g[g] and not (self.same and axial.shells_n[partners[0]] < g)
        ]

    def fit(self, g: int, columns: Array, partners: Array, values_pn: Array) -> tuple[Array, Array]:
        """Spline coefficients of some even components, and what they leave over."""
        _, sign_n = self.form.exchange_t[self.t]
        shown = self.known[:, columns[0]]
        r, values = self.r_p[shown], values_pn[shown][:, columns]
        if self.same and not np.array_equal(partners, columns):
            back = self.known[:, partners[0]]
            r = np.concatenate([r, self.r_p[back]])
            values = np.concatenate([values, sign_n[columns] * values_pn[back][:, partners]])
        r, values = merge_equal(r, values)
        end = self.range_g[g]
        A = functions(r, self.near, end, FINE) * switch_off(r, end / self.margin, end)[:, None]
        coefficients = fit_penalised(A, values, roughness(A.shape[1]))
        return coefficients, values - A @ coefficients


def ranges_of(form: BlockForm, t: int, r_p: Array, known_pn: Array) -> Array:
    """The farthest pair of each pair of shells; pairs of shells and their exchanged ones agree."""
    groups_n = form.hopping_t[t].shells_n
    far_g = np.zeros(groups_n.max() + 1)
    np.maximum.at(far_g, groups_n, np.where(known_pn, r_p[:, None], 0).max(axis=0, initial=0))
    if form.kinds[t][0] == form.kinds[t][1]:
        partner_n, _ = form.exchange_t[t]
        np.maximum.at(far_g, groups_n, far_g[groups_n[partner_n]])
    return far_g


def fit_two_centre(data: KindData) -> Array:
    """Spline coefficients of the even components of a kind of pairs."""
    axial = data.form.hopping_t[data.t]
    _, sign_n = data.form.exchange_t[data.t]
    coefficients = np.zeros((splines_over(data.near, float(data.range_g.max()), FINE), axial.counts[0]))
    for g, columns, partners in data.even_groups():
        found, _ = data.fit(g, columns, partners, data.values)
        coefficients[: len(found), columns] = found
        if data.same:
            coefficients[:, partners] = sign_n[columns] * coefficients[:, columns]
    return coefficients


def fit_share(data: KindData, shared_pn: Array) -> Array:
    """How much of the shared field is in the block of each pair of shells.

    Only what two-centre functions cannot describe counts: what is left of even components, and all others.
    """
    axial = data.form.hopping_t[data.t]
    partner_g = partner_groups(data.form, data.t)
    product_g, square_g, whole_g = np.zeros((3, len(data.range_g)))
    for g, columns, partners in data.even_groups():
        _, rest = data.fit(g, columns, partners, data.values)
        _, field = data.fit(g, columns, partners, shared_pn)
        product_g[g], square_g[g], whole_g[g] = (rest * field).sum(), (field**2).sum(), (rest**2).sum()
    other = slice(axial.counts[0], None)
    known, values, field = data.known[:, other], data.values[:, other], shared_pn[:, other]
    np.add.at(product_g, axial.shells_n[other], np.einsum("pn,pn,pn->n", known, values, field))
    np.add.at(square_g, axial.shells_n[other], np.einsum("pn,pn,pn->n", known, field, field))
    np.add.at(whole_g, axial.shells_n[other], np.einsum("pn,pn,pn->n", known, values, values))
    alone_g = partner_g == np.arange(len(partner_g))
    product_g, square_g, whole_g = (
        total + np.where(alone_g, 0, total[partner_g]) for total in (product_g, square_g, whole_g)
    )
    return np.divide(product_g, square_g, out=np.zeros_like(product_g), where=square_g > FAINTEST**2 * whole_g)


def merge_equal(r_p: Array, values_pn: Array) -> tuple[Array, Array]:
    """Mean values at each distance.

    Lattice vectors give the same distance in every structure; counted one by one, such values would foretell each other.
    """
    _, first, place = np.unique(np.round(r_p / SAME), return_index=True, return_inverse=True)
    total_qn = np.zeros((len(first), values_pn.shape[1]))
    np.add.at(total_qn, place, values_pn)
    return r_p[first], total_qn / np.bincount(place)[:, None]


def fit_crystal_field(
    form: BlockForm, s: int, samples: Sequence[Sample], near_t: Sequence[float], cutoff_t: Array
) -> tuple[Array, ...]:
    """Coefficients of each degree of the onsite blocks of a species."""
    onsite = form.onsite_s[s]
    neighbours = [Neighbours.of(sample.graph, s, near_t, cutoff_t) for sample in samples]
    class_a = equivalent_atoms(neighbours)
    alone_a = np.bincount(class_a)[class_a] == 1
    structures = sum(len(one.atoms) > 0 for one in neighbours)
    apart = structures == 1 or alone_a.all()  # a single structure can foretell itself only
    found = []
    for l, natural in enumerate(onsite.natural):
        A = np.concatenate([one.features(l) for one in neighbours])
        A = A.reshape(len(A) * (2 * l + 1), A.shape[-1])
        values = np.concatenate([sample.values.onsite_s[s][:, onsite.slice(l)] for sample in samples])
        if natural == 0 or len(A) == 0:
            found.append(np.zeros((A.shape[-1], natural)))
            continue
        values = values.reshape(len(A), -1)[:, :natural]
        ridge = np.eye(A.shape[-1])
        if l == 0:
            ridge[0] = 0  # the constant is free
        m_am = np.where(alone_a[:, None], np.arange(2 * l + 1), 0)  # images by symmetry mix all m
        groups = None if apart else (class_a[:, None] * (2 * l + 1) + m_am).ravel()
        found.append(fit_penalised(A, values, ridge, groups))
    return tuple(found)


def equivalent_atoms(neighbours: Sequence[Neighbours]) -> Array:
    """A number for each atom, one for all atoms of a structure with the same distances to their neighbours.

    Symmetry gives them the same block but for its direction: two atoms of iron in a cell are one another's inversion.
    """
    seen = [np.column_stack([np.full(len(one.atoms), n), one.features(0)[:, 0]]) for n, one in enumerate(neighbours)]
    return np.unique(np.round(np.concatenate(seen) / ALIKE), axis=0, return_inverse=True)[1].ravel()


def fit_sizes(bare: Baseline, samples: Sequence[Sample], rests: Sequence[Components], t: int) -> Array:
    """Spline coefficients of the logarithm of the size of the rest, for each pair of shells."""
    groups_n = bare.form.hopping_t[t].shells_n
    r_p = lengths_of(samples, t)
    rest = np.concatenate([one.hopping_t[t] for one in rests])
    known = np.concatenate([sample.known.hopping_t[t] for sample in samples])
    range_g = bare.range_tg[t]
    coefficients = np.zeros((splines_over(bare.near_t[t], float(range_g.max(initial=0)), ROUGH), len(range_g)))
    typical = np.sqrt(np.mean(rest[known] ** 2)) if known.any() else 1.0
    partners = partner_groups(bare.form, t)
    for g, columns in columns_of(groups_n):
        # A bond may be read either way round, so a pair of shells and the exchanged one share their size.
        both = [columns] if partners[g] == g else [columns, np.flatnonzero(groups_n == partners[g])]
        shown = [known[:, some[0]] for some in both]
        square = np.concatenate(
            [np.mean(rest[rows][:, some] ** 2, axis=1) for rows, some in zip(shown, both, strict=True)]
        )
        if partners[g] < g or not len(square):
            continue
        square += (SMALLEST * typical) ** 2 + NOTHING**2
        A = functions(np.concatenate([r_p[rows] for rows in shown]), bare.near_t[t], range_g[g], ROUGH)
        found = fit_penalised(A, np.log(square)[:, None] / 2, flatness(A.shape[1]))[:, 0]
        # No spline leaves the range of its coefficients: beyond the data the size stays what it is.
        fitted = A @ found
        found = np.clip(found, fitted.min() - 1, fitted.max() + 1)
        # Logarithms average low; this makes the size a root mean square again.
        found += np.log(np.mean(square / np.exp(2 * A @ found))) / 2
        coefficients[: len(found), g] = coefficients[: len(found), partners[g]] = found
    return coefficients


def partner_groups(form: BlockForm, t: int) -> Array:
    """The exchanged pair of shells of each pair of shells, in a kind of pairs between equal species; else itself."""
    groups_n = form.hopping_t[t].shells_n
    partner_g = np.arange(groups_n.max() + 1)
    if form.kinds[t][0] == form.kinds[t][1]:
        partner_n, _ = form.exchange_t[t]
        partner_g[groups_n] = groups_n[partner_n]
    return partner_g


def fit_spreads(form: BlockForm, s: int, rests: Sequence[Components]) -> Array:
    """Size of the rest of the onsite components of a species, the same for all m of a pair of shells and degree."""
    onsite = form.onsite_s[s]
    rest = np.concatenate([one.onsite_s[s] for one in rests])
    square_n = np.mean(rest**2, axis=0) if len(rest) else np.ones(onsite.size)
    for l in range(len(onsite.natural)):
        here = square_n[onsite.slice(l)].reshape(2 * l + 1, -1)
        here[:] = here.mean(axis=0)
    return np.sqrt(square_n + SMALLEST**2 * np.mean(square_n) + NOTHING**2)
