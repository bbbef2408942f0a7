"""What a dataset holds, read from its small arrays alone, and what a model is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basis.radial import Functions
from basis.shells import Species
from converters.frames.frame import OPERATORS
from converters.storage.dataset import Dataset
from converters.storage.layout import OUTCOME, RAGGED, SPINS


def describe(path: Path) -> dict[str, Any]:
    """Facts about a dataset, in the order in which a person asks for them."""
    with Dataset(path) as data:
        ends = data.array("frames/ends")
        outcome = dict(zip(OUTCOME, data.array("frames/outcome").T, strict=True))
        lengths = dict(
            zip(RAGGED, np.diff(ends, axis=0, prepend=np.zeros((1, len(RAGGED)), ends.dtype)).T, strict=True)
        )
        facts: dict[str, Any] = {
            "frames": len(data),
            "runs": len(data.sources()),
            "code": data.code,
            "spin layouts": counted(str(SPINS[number]) for number in data.array("frames/spin")),
            "species": [str(species) + f" ({species.radial})" * bool(species.radial) for species in data.basis],
            "radial functions": known_functions(data.basis, data.functions),
            "atoms per frame": span(lengths["atoms/species"]),
            "pairs per frame": span(lengths["pairs"]),
            "frames with": {name: int(np.count_nonzero(lengths[f"{name}/values"])) for name in OPERATORS},
            "converged": convergence(outcome["converged"]),
            "iterations": span(outcome["iterations"]),
            "energy per atom (eV)": span(outcome["energy"] / np.maximum(lengths["atoms/species"], 1)),
            "size (MB)": round(path.stat().st_size / 1e6, 3),
        }
        if len(data):
            first = data[0]
            facts["first frame"] = f"{first.formula}, {first.norb} orbitals, from {first.provenance.path or 'memory'}"
            facts["code version"] = first.provenance.version or "unknown"
    return facts


def is_model(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".safetensors"


def describe_model(path: Path) -> dict[str, Any]:
    """Facts about a model, and where it comes from."""
    from slem_plugin.checkpoint import load_model

    model = load_model(path)
    blueprint, history = model.blueprint, model.history
    data = history.get("data", {})
    weights = sum(weight.numel() for weight in model.network.parameters()) if model.network else 0
    names = [species.name for species in blueprint.basis]
    cutoffs = {
        f"{a}-{b}": round(float(model.cutoff_ss[i, j]), 3)
        for i, a in enumerate(names)
        for j, b in enumerate(names[: i + 1])
    }
    return {
        "operators": ", ".join(blueprint.operators),
        "code": blueprint.code,
        "spin layout": str(blueprint.spin),
        "species": [f"{species} {species.radial}".strip() for species in blueprint.basis],
        "radial functions": known_functions(blueprint.basis, model.functions),
        "cutoff (Angstrom)": cutoffs,
        "network": f"{blueprint.network.kind}, {blueprint.network.layers} layers of {blueprint.network.channels}, {weights} weights",
        "data": f"{data.get('name', 'unknown')}, {len(data.get('training', []))} frames, checked on {len(data.get('validation', []))}",
        **({"began with": history["began with"]} if "began with" in history else {}),
        "training": {key: value for key, value in history.get("progress", {}).items() if key in ("step", "seconds")},
        "made with": history.get("program", {}),
    }


def known_functions(basis: Sequence[Species], functions: Sequence[Functions | None]) -> str:
    """Of which species the radial functions are known."""
    known = [species.name for species, mine in zip(basis, functions, strict=False) if mine is not None]
    if len(known) == len(basis):
        return "known of all species: S can be computed"
    return f"known of {', '.join(known)} alone" if known else "unknown"


def span(values: Any) -> str:
    """Smallest and largest of some numbers that may be missing."""
    known = np.asarray(values)[np.isfinite(values)]
    if not len(known):
        return "unknown"
    low, high = known.min(), known.max()
    return f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"


def convergence(flags: Any) -> str:
    return counted({1.0: "yes", 0.0: "no"}.get(float(flag), "unknown") for flag in flags)


def counted(words: Iterable[str]) -> str:
    """How often each word occurs."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items()) or "none"


def mixture(path: Path) -> list[str]:
    """What is mixed in a dataset, which may be wanted and should be known: spin layouts, and bases of one species."""
    with Dataset(path) as data:
        spins = sorted({str(SPINS[number]) for number in data.array("frames/spin").tolist()})
        names = Counter(species.name for species in data.basis)
    mixed = [f"{len(spins)} spin layouts ({', '.join(spins)})"] if len(spins) > 1 else []
    return mixed + [f"{count} bases of {name}" for name, count in names.items() if count > 1]
