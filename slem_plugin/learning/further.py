"""Learning further: a training that begins with what an earlier model knows."""

from dataclasses import replace

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from slem_plugin.baseline.baseline import learned_distances
from slem_plugin.config import Config
from slem_plugin.model import Model
from slem_plugin.unseen import CLOSER

# The highest rate of a training that begins with learned weights: more would lose them first.
GENTLE = 0.002
# What a network has from the baselines: how far atoms see.
REACH = "cutoff_ss"


def config_like(before: Model | None) -> Config:
    """The usual configuration of a training that begins with a model, if any: its network, and a gentle rate."""
    if before is None:
        return Config()
    spec = before.blueprint.network
    return Config(
        network=spec.kind,
        channels=str(spec.channels),
        layers=spec.layers,
        latent=spec.latent,
        waves=spec.waves,
        rate=GENTLE,
    )


def begin_with(model: Model, before: Model, frames: int) -> Model:
    """The model of so many frames, untrained, with the weights of an earlier one.

    Baselines are those of whoever had more frames: where the earlier model had more than these, knows their operators and reaches as far,
    it goes on as it stands. What it says nothing of is learned from nothing.
    """
    require_alike(model, before)
    data = before.history.get("data", {})
    learned = len(data.get("training", ()))
    of_baselines = before.history.get("began with", {}).get("frames of baselines", learned)
    stays = of_baselines > frames and set(model.baselines) <= set(before.baselines) and reaches(before, model)
    source = before if stays else model
    baselines = {name: source.baselines[name] for name in model.baselines}
    spec = replace(before.blueprint.network, learned=both_ranges(before, model))
    began = {
        "data": data.get("name", "unknown"),
        "frames": learned,
        "frames of baselines": of_baselines if stays else frames,
    }
    history = {**model.history, "electrons": electrons_of_both(before, model), "began with": began}
    begun = Model(replace(model.blueprint, network=spec), baselines, None, history, model.functions, source.zero)
    if model.network is not None:
        begun.network = begun.untrained_network().to(model.dtype)
        own = begun.network.state_dict()
        known = {} if before.network is None else before.network.state_dict()
        taken = {name: value for name, value in known.items() if name in own and not name.endswith(REACH)}
        begun.network.load_state_dict({**own, **taken})
    return begun


def require_alike(model: Model, before: Model) -> None:
    """Refuse to begin with a model of other symmetries or another network."""
    mine, earlier = model.blueprint, before.blueprint
    if (mine.time_reversal, mine.aligned) != (earlier.time_reversal, earlier.aligned) or mine.mesh != earlier.mesh:
        found = "is folded over another k mesh, or breaks time reversal otherwise, than what the model to begin with learned"
        raise Refused(Kind.OTHER_MODEL, "data", found)
    shapes = [replace(one.network, neighbours=1.0, messages=1.0, learned=()) for one in (mine, earlier)]
    if shapes[0] != shapes[1]:
        raise Refused(
            Kind.OTHER_MODEL,
            "config",
            "says another network than that of the model to begin with; leave layers, channels, latent, waves and network out",
        )


def reaches(before: Model, model: Model) -> bool:
    """Whether a model has blocks for all pairs of the frames of another one, and none of them much nearer than it knows."""
    near_t, far_t = learned_distances(model.baselines.values())
    nearest_t, farthest_t = learned_distances(before.baselines.values())
    known_t = (farthest_t > 0) & (near_t > nearest_t - CLOSER)
    ends_t = np.max([baseline.cutoff_t for baseline in before.baselines.values()], axis=0)
    return bool(np.all((far_t == 0) | known_t & (far_t < ends_t)))


def both_ranges(before: Model, model: Model) -> tuple[tuple[float, float], ...]:
    """The nearest and the farthest distance of each kind of pairs in the data of two models; nothing where the earlier one does not say it."""
    if not before.blueprint.network.learned:
        return ()
    near_kt, far_kt = np.array([one.blueprint.network.learned for one in (before, model)]).transpose(2, 0, 1)
    near_t: Array = np.where(far_kt > 0, near_kt, np.inf).min(axis=0)
    return tuple(zip(np.where(np.isinf(near_t), 0, near_t).tolist(), far_kt.max(axis=0).tolist(), strict=True))


def electrons_of_both(before: Model, model: Model) -> list[list[float]]:
    """Atoms of each species and electrons, each combination once, those of the new frames first."""
    mine, earlier = (one.history.get("electrons", []) for one in (model, before))
    there = {tuple(row[:-1]) for row in mine}
    return [*mine, *(row for row in earlier if tuple(row[:-1]) not in there)] if mine else []
