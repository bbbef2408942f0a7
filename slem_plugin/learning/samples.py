"""What a step learns from: a frame as a lesson, and the model that a set of frames calls for; `lessons.py` says when frames are read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.folding import centred_mesh_of_frame
from converters.frames.frame import Frame, operator_on
from converters.frames.moments import CURRENT, MAGNETIC, MOST_ACROSS, moments_of
from converters.frames.neighbours import structure_of
from slem_plugin.baseline.baseline import Baseline, learned_distances
from slem_plugin.baseline.fitting import Sample, fit_hopping, fit_onsite
from slem_plugin.baseline.sharing import share_onsite
from slem_plugin.baseline.zero import Zero, fit_zero
from slem_plugin.blocks.components import BlockForm, bond_frames
from slem_plugin.blocks.fields import breaks_time_reversal, to_fields
from slem_plugin.config import AUTO, Config
from slem_plugin.graphs.graph import Graph, join_graphs, make_graph
from slem_plugin.learning.survey import Survey
from slem_plugin.model import Blueprint, Model
from slem_plugin.network.channels import Channels
from slem_plugin.network.layers import calibrate
from slem_plugin.network.spec import NetworkSpec, default_channels

# Baselines have few coefficients; more frames than these would only cost time.
MOST_FRAMES = 200
# Matrix elements of all these frames together: a fit holds several matrices of each.
MOST_ELEMENTS = 30_000_000
# So many pairs in the learned frames fill one network of several operators, and so many more one of the usual channels, in trainings of
# so many seconds (for the channels: for each operator) or steps.
SOME_PAIRS, MANY_PAIRS = 10_000, 30_000
LONG, MANY_STEPS = 300.0, 3_000


@dataclass(frozen=True, eq=False)
class Target:
    """What a network is to say of one operator: the rest after the baseline, and its size; 0 where nothing was stored.

    All kinds of pairs come first, then all species.
    """

    rest: tuple[Tensor, ...]
    size: tuple[Tensor, ...]
    count: int  # components that were stored

    @classmethod
    def of(cls, rest: tuple[Tensor, ...], size: tuple[Tensor, ...]) -> "Target":
        return cls(rest, size, sum(int((one > 0).sum()) for one in size))

    def to(self, device: torch.device | str) -> "Target":
        """The same target on another device."""
        return replace(self, rest=tuple(x.to(device) for x in self.rest), size=tuple(x.to(device) for x in self.size))


@dataclass(frozen=True, eq=False)
class Lesson:
    """A graph and the targets of its operators: one frame, or a batch of them."""

    graph: Graph
    targets: dict[str, Target]

    def to(self, device: torch.device | str) -> "Lesson":
        """The same lesson on another device."""
        return Lesson(self.graph.to(device=device), {name: target.to(device) for name, target in self.targets.items()})


def join_lessons(lessons: Sequence[Lesson]) -> Lesson:
    """Several frames as one batch."""
    if len(lessons) == 1:
        return lessons[0]
    targets = {
        name: Target(
            tuple(torch.cat(parts) for parts in zip(*(lesson.targets[name].rest for lesson in lessons), strict=True)),
            tuple(torch.cat(parts) for parts in zip(*(lesson.targets[name].size for lesson in lessons), strict=True)),
            sum(lesson.targets[name].count for lesson in lessons),
        )
        for name in lessons[0].targets
    }
    return Lesson(join_graphs([lesson.graph for lesson in lessons]), targets)


def make_model(frames: Sequence[Frame], config: Config, survey: Survey | None = None) -> Model:
    """Baselines fitted to some frames, and an untrained network, all as the frames call for.

    `survey` is that of the frames, where it is known already and not all of them shall be read for it.
    """
    survey = survey or Survey.of(frames)
    chosen = choose_for_fit(frames)
    first, there = chosen[0], survey.operators
    operators = config.operator_names or there
    if not operators or not set(operators) <= set(there):
        found = ", ".join(there) or "none in all its frames"
        raise Refused(Kind.OTHER_MODEL, "config", f'operators is "{config.operators}"; the data has {found}')
    learned = [name for name in operators if name != "S"]
    time_reversal = first.spin is not Spin.SPINOR or not any(
        breaks_time_reversal(frame.operators[name].values_sx, MAGNETIC, CURRENT if name == "H" else MAGNETIC)
        for frame in chosen
        for name in learned
    )
    pairs = len(frames) * float(np.mean([len(frame.pairs) for frame in chosen]))
    blueprint = Blueprint(
        code=first.provenance.code,
        basis=first.basis,
        spin=first.spin,
        time_reversal=time_reversal,
        operators=operators,
        network=network_spec(config, chosen, pairs, len(learned)),
        mesh=centred_mesh_of_frame(first),
        aligned=not time_reversal and have_moments_along_an_axis(chosen),
    )
    # The overlap is needed by the baseline of H, also where nobody asked for it.
    needed = [name for name in ("S", *learned) if name in operators or (name == "S" and name in there)]
    baselines: dict[str, Baseline] = {}
    for name in needed:
        baselines[name] = fit_baseline(chosen, name, blueprint, baselines.get("S"))
    model = Model(blueprint, baselines, None, survey.facts(), first.functions)
    model.zero = zero_of_cells(chosen, model)
    bonds = [model.graph(structure_of(frame))[1] for frame in chosen[:20]]
    neighbours = sum(graph.bonds for graph in bonds) / sum(graph.natoms for graph in bonds)
    learned_t = tuple(zip(*(joined.tolist() for joined in learned_distances(baselines.values())), strict=True))
    spec = replace(blueprint.network, neighbours=max(neighbours, 1.0), learned=learned_t)
    model.blueprint = replace(blueprint, network=spec)
    if blueprint.learned:
        torch.manual_seed(config.seed)
        model.network = model.untrained_network().to(getattr(torch, config.precision))
        calibrate(model.network, join_graphs(bonds[:4]).to(model.dtype))
    return model


def have_moments_along_an_axis(frames: Sequence[Frame]) -> bool:
    """Whether the moments of each spinor frame point along one axis; frames count as much as their moments are large."""
    found = [moments for moments in map(moments_of, frames) if moments is not None]
    across = sum((moments.across * moments.size) ** 2 for moments in found)
    return bool(found) and across <= MOST_ACROSS**2 * sum(moments.size**2 for moments in found)


def network_spec(config: Config, frames: Sequence[Frame], pairs: float, operators: int) -> NetworkSpec:
    """What a configuration and the frames say of a network, before the neighbours are counted.

    Where nobody chose its family, much to learn and the time for it give each operator a network, and each network twice the channels.
    """
    kind, width = config.network, 1
    if kind == AUTO:
        kind = "apart" if operators > 1 and pairs >= SOME_PAIRS and lasts(config, LONG) else "slem"
        width = 2 if pairs >= MANY_PAIRS and lasts(config, LONG * operators) else 1
    channels = default_channels(frames[0].basis, frames[0].spin is Spin.SPINOR, width)
    return NetworkSpec(
        channels=Channels.parse(config.channels) if config.channels else channels,
        layers=config.layers,
        latent=config.latent,
        waves=config.waves,
        kind=kind,
    )


def lasts(config: Config, seconds: float) -> bool:
    """Whether a training is so long, and has many steps."""
    limits = ((config.seconds, seconds), (config.steps, MANY_STEPS))
    return all(limit >= least for limit, least in limits if limit)


def choose_for_fit(frames: Sequence[Frame]) -> list[Frame]:
    """Frames spread over all of them, as many as a fit needs and memory allows."""
    count = min(MOST_FRAMES, len(frames), max(1, MOST_ELEMENTS // frames[0].pairs.elements))
    return [frames[n] for n in np.linspace(0, len(frames) - 1, count).astype(int).tolist()]


def fit_baseline(frames: Sequence[Frame], name: str, blueprint: Blueprint, overlap: Baseline | None) -> Baseline:
    """The baseline of an operator from some frames; that of H stands on the one of S, whose errors are a part of what it leaves over."""
    form = blueprint.form(name)
    samples = [baseline_sample(frame, name, form, blueprint) for frame in frames]
    bare = fit_onsite(form, samples)
    if name != "H" or overlap is None:
        return fit_hopping(bare, samples, None)
    shared, whole = [], tuple(np.ones_like(range_g) for range_g in bare.range_tg)
    for frame, sample in zip(frames, samples, strict=True):
        bonds = bond_frames(structure_of(frame), frame.pairs, form.basis)
        S_fx = blueprint.form("S").put_together(bonds, overlap.predict(sample.graph))
        rows_fx = share_onsite(form, bonds, S_fx, bare.predict(sample.graph).onsite_s, whole)
        shared.append(form.take_apart(bonds, rows_fx))
    return fit_hopping(bare, samples, shared)


def zero_of_cells(frames: Sequence[Frame], model: Model) -> Zero | None:
    """The zero of the potential of some cells, fitted to what the baselines of a model leave over; None where it foretells little."""
    if not {"H", "S"} <= set(model.baselines) or not all(frame.pbc_c.all() for frame in frames):
        return None
    shift_n = np.array([shift_left_over(frame, model) for frame in frames])
    return fit_zero([structure_of(frame) for frame in frames], len(model.blueprint.basis), shift_n)


def shift_left_over(frame: Frame, model: Model) -> float:
    """How many times S (eV) there is in what the baselines of a model leave over of H."""
    structure = structure_of(frame)
    pairs, graph = model.graph(structure)
    form, bonds = model.blueprint.form("H"), bond_frames(structure, pairs, model.blueprint.basis)
    stored, S_x = operator_on(frame, "H", pairs), operator_on(frame, "S", pairs).values_sx[0]
    rows_fx = to_fields(
        stored.values_sx, frame.layout("H"), model.blueprint.time_reversal, model.blueprint.axis(structure)
    )
    rest_x = (rows_fx - model.base(structure, bonds, graph).rows("H", form, bonds))[0]
    weight_x = np.where(pairs.onsite_p, 1.0, 2.0)[pairs.pair_x] * (True if stored.known_x is None else stored.known_x)
    return float(weight_x @ (rest_x * S_x) / (weight_x @ S_x**2))


def baseline_sample(frame: Frame, name: str, form: BlockForm, blueprint: Blueprint) -> Sample:
    """An operator on the frame's own pairs, in float64."""
    structure = structure_of(frame)
    degrees = max(len(onsite.natural) for onsite in form.onsite_s) - 1
    bonds = bond_frames(structure, frame.pairs, form.basis)
    rows_fx = to_fields(
        frame.operators[name].values_sx, frame.layout(name), blueprint.time_reversal, blueprint.axis(structure)
    )
    return Sample(
        make_graph(structure, frame.pairs, len(form.basis), degrees),
        form.take_apart(bonds, rows_fx),
        form.known_components(bonds, frame.operators[name].known_x),
    )


def make_lesson(frame: Frame, model: Model) -> Lesson:
    """A frame as the network of a model sees it: what the code did not store is unknown, not zero."""
    structure = structure_of(frame)
    pairs, graph = model.graph(structure)
    bonds = bond_frames(structure, pairs, model.blueprint.basis)
    base = model.base(structure, bonds, graph)
    targets = {}
    for name in model.blueprint.learned:
        form = model.blueprint.form(name)
        stored = operator_on(frame, name, pairs)
        rows_fx = to_fields(
            stored.values_sx, frame.layout(name), model.blueprint.time_reversal, model.blueprint.axis(structure)
        )
        rest = form.take_apart(bonds, rows_fx - base.rows(name, form, bonds))
        known = form.known_components(bonds, stored.known_x)
        sizes = model.baselines[name].sizes(graph)
        blocks = list(zip(*(x.hopping_t + x.onsite_s for x in (rest, sizes, known)), strict=True))
        targets[name] = Target.of(
            tuple(torch.from_numpy(np.where(k, r, 0)).to(model.dtype) for r, _, k in blocks),
            tuple(torch.from_numpy(np.where(k, s, 0)).to(model.dtype) for _, s, k in blocks),
        )
    return Lesson(graph.to(model.dtype), targets)


def measure_peaks(model: Model, lessons: Iterable[Lesson]) -> None:
    """Tell the baselines of a model the largest corrections that the data asks of its network, or asked of it before."""
    largest: dict[str, list[float]] = {name: [] for name in model.blueprint.learned}
    for lesson in lessons:
        for name, target in lesson.targets.items():
            found = [largest_rest(*block) for block in zip(target.rest, target.size, strict=True)]
            largest[name] = list(map(max, found, largest[name] or found))
    for name, found in largest.items():
        baseline = model.baselines[name]
        peaks = [np.maximum(peak, known) for peak, known in zip(found, baseline.peak_t + baseline.peak_s, strict=True)]
        kinds = len(model.blueprint.form(name).kinds)
        changed = replace(baseline, peak_t=tuple(peaks[:kinds]), peak_s=tuple(peaks[kinds:]))
        model.baselines = {**model.baselines, name: changed}


def largest_rest(rest: Tensor, size: Tensor) -> float:
    """The largest rest of a block in units of its size; at least 1."""
    lengths = torch.linalg.vector_norm(rest, dim=1) / torch.linalg.vector_norm(size, dim=1).clamp(min=1e-30)
    return max(1.0, float(lengths.max())) if len(lengths) else 1.0
