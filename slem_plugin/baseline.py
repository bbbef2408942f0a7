"""Baseline: the two-centre part of an operator and the crystal field on its atoms, fitted in closed form.

In the frame of a bond a two-centre matrix has only the elements that are even about the bond, and each is a function of
distance: overlaps are exactly this. An onsite block is a constant and a sum over neighbours of such functions. The
network learns what is left over, divided by its usual size at that distance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from basis import Array
from slem_plugin.components import BlockForm, Components
from slem_plugin.graph import Graph
from slem_plugin.splines import DEGREE, fit_penalised, flatness, roughness, spline_design, switch_off

# Functions of distance are resolved to these lengths (Angstrom): two-centre, crystal field, size of the rest.
FINE, COARSE, ROUGH = 0.12, 0.5, 0.8
# Distances closer than this (Angstrom) are the same.
SAME = 1e-6
# Ranges end this factor beyond the farthest pair seen, and all functions are switched off over that margin.
MARGIN = 1.02
# The rest is taken to be nowhere smaller than this fraction of its mean size.
SMALLEST = 1e-2


@dataclass(frozen=True, eq=False)
class Sample:
    """What a baseline is fitted to: a graph in float64, the components of an operator on it, and which were stored."""

    graph: Graph
    values: Components
    known: Components


@dataclass(frozen=True, eq=False)
class Baseline:
    """The fitted functions of one operator.

    For each kind t of pairs: `near_t` and `range_tg`, where its functions begin and, for each pair of shells, end;
    `two_centre_t[b, n]` spline coefficients of the even components; `size_tg[b, g]` those of the logarithm of the size of the rest.
    For each species s: `field_sl[b, n]` crystal-field coefficients of the natural irreps of each degree, `spread_s[n]` the size of the rest.
    """

    form: BlockForm
    near_t: tuple[float, ...]
    range_tg: tuple[Array, ...]
    two_centre_t: tuple[Array, ...]
    size_tg: tuple[Array, ...]
    field_sl: tuple[tuple[Array, ...], ...]
    spread_s: tuple[Array, ...]

    @property
    def cutoff_t(self) -> Array:
        """Where the last function of each kind ends."""
        return np.array([range_g.max(initial=0) for range_g in self.range_tg])

    def arrays(self) -> dict[str, Array]:
        """All numbers under plain names."""
        named = {"near": np.array(self.near_t)}
        for name in ("range_tg", "two_centre_t", "size_tg", "spread_s"):
            named |= {f"{name}.{n}": value for n, value in enumerate(getattr(self, name))}
        for s, field_l in enumerate(self.field_sl):
            named |= {f"field_sl.{s}.{l}": value for l, value in enumerate(field_l)}
        return named

    @classmethod
    def from_arrays(cls, form: BlockForm, named: Mapping[str, Array]) -> "Baseline":
        """The baseline of what `arrays` gave."""
        kinds, species = range(len(form.kinds)), range(len(form.basis))
        lists = {
            name: tuple(named[f"{name}.{n}"] for n in numbers)
            for name, numbers in (
                ("range_tg", kinds),
                ("two_centre_t", kinds),
                ("size_tg", kinds),
                ("spread_s", species),
            )
        }
        field_sl = tuple(
            tuple(named[f"field_sl.{s}.{l}"] for l in range(len(form.onsite_s[s].natural))) for s in species
        )
        return cls(form, tuple(named["near"].tolist()), field_sl=field_sl, **lists)

    def predict(self, graph: Graph) -> Components:
        """The baseline of all blocks of a structure."""
        hopping = []
        for t, axial in enumerate(self.form.hopping_t):
            r_p = graph.length_e[graph.forward[t]].numpy()
            values_pn = np.zeros((len(r_p), axial.size))
            groups_n = axial.shells_n[: axial.counts[0]]
            for g, columns in columns_of(groups_n):
                B = self._functions(t, g, r_p, FINE)
                values_pn[:, columns] = B @ self.two_centre_t[t][: B.shape[1], columns]
            hopping.append(values_pn)
        return Components(tuple(hopping), tuple(self._onsite(graph, s) for s in range(len(self.form.basis))))

    def sizes(self, graph: Graph) -> Components:
        """The size of what is left over, component by component."""
        hopping = []
        for t, axial in enumerate(self.form.hopping_t):
            r_p = graph.length_e[graph.forward[t]].numpy()
            size_pg = np.stack([self._size(t, g, r_p) for g in range(len(self.range_tg[t]))], axis=1)
            hopping.append(size_pg[:, axial.shells_n])
        onsite = tuple(
            np.broadcast_to(self.spread_s[s], (len(atoms), len(self.spread_s[s])))
            for s, atoms in enumerate(graph.atoms_s)
        )
        return Components(tuple(hopping), onsite)

    def _size(self, t: int, g: int, r_p: Array) -> Array:
        end = self.range_tg[t][g]
        B = self._functions(t, g, r_p, ROUGH, switched=False)
        return np.exp(B @ self.size_tg[t][: B.shape[1], g]) * (switch_off(r_p, end / MARGIN, end) if end else 0.0)

    def _functions(self, t: int, g: int, r_p: Array, step: float, *, switched: bool = True) -> Array:
        """B-splines of a pair of shells at some distances."""
        return functions(r_p, self.near_t[t], self.range_tg[t][g], step, switched=switched)

    def _onsite(self, graph: Graph, s: int) -> Array:
        form = self.form.onsite_s[s]
        values_an = np.zeros((len(graph.atoms_s[s]), form.size))
        for l, coefficients_bn in enumerate(self.field_sl[s]):
            here = values_an[:, form.slice(l)].reshape(len(values_an), 2 * l + 1, -1)
            features = crystal_features(graph, s, l, self.near_t, self.cutoff_t)
            here[:, :, : form.natural[l]] = (features.reshape(-1, features.shape[-1]) @ coefficients_bn).reshape(
                *here.shape[:2], -1
            )
            values_an[:, form.slice(l)] = here.reshape(len(values_an), -1)
        return values_an


def columns_of(groups_n: Array) -> list[tuple[int, Array]]:
    """Each pair of shells and its components."""
    return [(int(g), np.flatnonzero(groups_n == g)) for g in np.unique(groups_n)]


def functions(r_p: Array, near: float, end: float, step: float, *, switched: bool) -> Array:
    """B-splines of this resolution over a range, switched off at its end or not."""
    if not end:
        return np.zeros((len(r_p), 0))
    B = spline_design(r_p, near, end, splines_over(near, end, step))
    return B * switch_off(r_p, end / MARGIN, end)[:, None] if switched else B


def splines_over(near: float, end: float, step: float) -> int:
    return max(int(np.ceil((end - near) / step)), 1) + DEGREE


def crystal_features(graph: Graph, s: int, l: int, near_t: Sequence[float], cutoff_t: Array) -> Array:
    """Sums over neighbours of B(r) Y_lm of the atoms of a species, [atoms, m, functions]; for l = 0 also a constant."""
    atoms = graph.atoms_s[s].numpy()
    slots = graph.slots
    bonds_ae = atoms[:, None] * slots + np.arange(slots)
    length, present = graph.length_e.numpy()[bonds_ae], graph.present_e.numpy()[bonds_ae]
    kinds_ae = graph.species_a.numpy()[graph.neighbour_e.numpy()[bonds_ae]]
    Y_aem = graph.rotations[l].view(graph.natoms, slots, 2 * l + 1, -1)[:, :, l].numpy()[atoms]
    parts = [np.ones((len(atoms), 1, 1))] if l == 0 else []
    kinds = pair_numbers(len(graph.atoms_s))
    for other in range(len(graph.atoms_s)):
        t = kinds[s, other]
        count = splines_over(near_t[t], cutoff_t[t], COARSE)
        B = spline_design(length.ravel(), near_t[t], max(cutoff_t[t], near_t[t] + 1e-6), count).reshape(
            *length.shape, count
        )
        smooth = switch_off(length, 0.8 * cutoff_t[t], cutoff_t[t]) if cutoff_t[t] > 0 else np.zeros_like(length)
        weight = smooth * (present & (kinds_ae == other))
        parts.append(np.einsum("aem,aeb->amb", Y_aem, B * weight[..., None], optimize=True))
    return np.concatenate(parts, axis=2)


def pair_numbers(count: int) -> Array:
    """Number of the kind of pair (A, B), in either order."""
    numbers = np.zeros((count, count), dtype=int)
    a, b = np.triu_indices(count)
    numbers[a, b] = numbers[b, a] = np.arange(len(a))
    return numbers


def fit_baseline(form: BlockForm, samples: Sequence[Sample]) -> Baseline:
    """The baseline of an operator from some structures."""
    near, ranges, two_centre = [], [], []
    for t in range(len(form.kinds)):
        r_p = np.concatenate([sample.graph.length_e[sample.graph.forward[t]].numpy() for sample in samples])
        values = np.concatenate([sample.values.hopping_t[t] for sample in samples])
        known = np.concatenate([sample.known.hopping_t[t] for sample in samples])
        near.append(0.8 * float(r_p.min(initial=1e3)) if len(r_p) else 0.0)
        ranges.append(ranges_of(form, t, r_p, known))
        two_centre.append(fit_two_centre(form, t, r_p, values, known, near[-1], ranges[-1]))
    bare = Baseline(form, tuple(near), tuple(ranges), tuple(two_centre), (), ((),) * len(form.basis), ())
    cutoff_t = bare.cutoff_t
    crystal = tuple(fit_crystal_field(form, s, samples, near, cutoff_t) for s in range(len(form.basis)))
    bare = change(bare, field_sl=crystal)
    rests = [(sample, bare.predict(sample.graph)) for sample in samples]
    sizes = tuple(fit_sizes(bare, t, rests) for t in range(len(form.kinds)))
    spreads = tuple(fit_spreads(form, s, rests) for s in range(len(form.basis)))
    return change(bare, size_tg=sizes, spread_s=spreads)


def change(baseline: Baseline, **parts: object) -> Baseline:
    return Baseline(**{**{f.name: getattr(baseline, f.name) for f in fields(baseline)}, **parts})


def ranges_of(form: BlockForm, t: int, r_p: Array, known_pn: Array) -> Array:
    """Where the functions of each pair of shells end; pairs of shells and their exchanged ones agree."""
    groups_n = form.hopping_t[t].shells_n
    far_g = np.zeros(groups_n.max() + 1)
    np.maximum.at(far_g, groups_n, np.where(known_pn, r_p[:, None], 0).max(axis=0, initial=0))
    if form.kinds[t][0] == form.kinds[t][1]:
        partner_n, _ = form.exchange_t[t]
        np.maximum.at(far_g, groups_n, far_g[groups_n[partner_n]])
    return MARGIN * far_g


def fit_two_centre(
    form: BlockForm, t: int, r_p: Array, values_pn: Array, known_pn: Array, near: float, range_g: Array
) -> Array:
    """Spline coefficients of the even components of a kind of pairs."""
    axial = form.hopping_t[t]
    even = axial.counts[0]
    partner_n, sign_n = form.exchange_t[t]
    same = form.kinds[t][0] == form.kinds[t][1]
    count = splines_over(near, float(range_g.max(initial=0)), FINE)
    coefficients = np.zeros((count, even))
    for g, columns in columns_of(axial.shells_n[:even]):
        partners = partner_n[columns]
        if not range_g[g] or (same and axial.shells_n[partners[0]] < g):
            continue
        shown = known_pn[:, columns[0]]
        r, values = r_p[shown], values_pn[shown][:, columns]
        if same and not np.array_equal(partners, columns):
            # The bond read the other way round is another sample of the same functions.
            back = known_pn[:, partners[0]]
            r = np.concatenate([r, r_p[back]])
            values = np.concatenate([values, sign_n[columns] * values_pn[back][:, partners]])
        r, values = merge_equal(r, values)
        A = functions(r, near, range_g[g], FINE, switched=True)
        coefficients[: A.shape[1], columns] = fit_penalised(A, values, roughness(A.shape[1]))
        if same:
            coefficients[:, partners] = sign_n[columns] * coefficients[:, columns]
    return coefficients


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
    found = []
    for l, natural in enumerate(onsite.natural):
        A = np.concatenate([crystal_features(sample.graph, s, l, near_t, cutoff_t) for sample in samples])
        A = A.reshape(-1, A.shape[-1])
        values = np.concatenate([sample.values.onsite_s[s][:, onsite.slice(l)] for sample in samples])
        values = values.reshape(len(A), -1)[:, :natural]
        if natural == 0 or len(A) == 0:
            found.append(np.zeros((A.shape[-1], natural)))
            continue
        ridge = np.eye(A.shape[-1])
        if l == 0:
            ridge[0] = 0  # the constant is free
        found.append(fit_penalised(A, values, ridge))
    return tuple(found)


def fit_sizes(bare: Baseline, t: int, rests: Sequence[tuple[Sample, Components]]) -> Array:
    """Spline coefficients of the logarithm of the size of the rest, for each pair of shells."""
    groups_n = bare.form.hopping_t[t].shells_n
    r_p = np.concatenate([sample.graph.length_e[sample.graph.forward[t]].numpy() for sample, _ in rests])
    rest = np.concatenate([sample.values.hopping_t[t] - fitted.hopping_t[t] for sample, fitted in rests])
    known = np.concatenate([sample.known.hopping_t[t] for sample, _ in rests])
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
        square += (SMALLEST * typical) ** 2
        A = functions(np.concatenate([r_p[rows] for rows in shown]), bare.near_t[t], range_g[g], ROUGH, switched=False)
        found = fit_penalised(A, np.log(square)[:, None] / 2, flatness(A.shape[1]))[:, 0]
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


def fit_spreads(form: BlockForm, s: int, rests: Sequence[tuple[Sample, Components]]) -> Array:
    """Size of the rest of the onsite components of a species, the same for all m of a pair of shells and degree."""
    onsite = form.onsite_s[s]
    rest = np.concatenate([sample.values.onsite_s[s] - fitted.onsite_s[s] for sample, fitted in rests])
    square_n = np.mean(rest**2, axis=0) if len(rest) else np.ones(onsite.size)
    for l in range(len(onsite.natural)):
        here = square_n[onsite.slice(l)].reshape(2 * l + 1, -1)
        here[:] = here.mean(axis=0)
    return np.sqrt(square_n + (SMALLEST**2) * np.mean(square_n) + 1e-30)
