"""Checkpoints: a model in one safetensors file, its JSON description in the header; written whole or not at all.

A checkpoint holds numbers and text, and nothing that is executed when it is read.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from basis.radial import Functions, pack_functions, unpack_functions
from basis.shells import Shell, Species
from basis.spin import Spin
from converters.errors import Kind, Refused, refused_by_system
from converters.storage.files import draft_of
from slem_plugin.baseline.baseline import Baseline
from slem_plugin.baseline.zero import Zero
from slem_plugin.model import Blueprint, Model
from slem_plugin.network.channels import Channels
from slem_plugin.network.spec import NetworkSpec

# Models without a zero of the potential are of version 1, which older programs read as well.
FORMAT, VERSION = "slem-model", 2
BEST, LAST = "best.safetensors", "last.safetensors"
# The step from version n to n + 1 of the description and the tensors.
UPGRADES: dict[int, Callable[[dict[str, Any], dict[str, Tensor]], None]] = {1: lambda description, tensors: None}


def save_checkpoint(path: Path, model: Model, state: Mapping[str, Tensor] | None = None) -> None:
    """Write a model, and the state of its training where it is to go on."""
    tensors = {f"training.{name}": value for name, value in (state or {}).items()}
    if model.network is not None:
        tensors |= {f"network.{name}": value for name, value in model.network.state_dict().items()}
    for name, baseline in model.baselines.items():
        tensors |= {f"baseline.{name}.{key}": torch.from_numpy(value) for key, value in baseline.arrays().items()}
    if model.zero is not None:
        tensors |= {f"zero.{key}": torch.from_numpy(value) for key, value in model.zero.arrays().items()}
    by_shell = [
        function
        for species, mine in zip(model.blueprint.basis, model.functions, strict=False)
        for function in mine or (None,) * len(species.shells)
    ]
    if by_shell:
        names = ("functions.about", "functions.rows")
        tensors |= dict(zip(names, map(torch.from_numpy, pack_functions(by_shell)), strict=True))
    description = {
        "format": FORMAT,
        "version": 1 if model.zero is None else VERSION,
        "blueprint": describe(model.blueprint),
        "history": model.history,
    }
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    description["checksum"] = checksum_of(tensors)
    try:
        with draft_of(path) as draft:
            draft.touch()
            mode = draft.stat().st_mode  # safetensors would take it from all others
            save_file(tensors, draft, metadata={"slem": json.dumps(description)})
            draft.chmod(mode)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
    except SafetensorError as error:
        raise Refused(Kind.NO_ACCESS, path, f"cannot be written: {error}") from error


def load_model(path: str | Path, dtype: torch.dtype | None = None) -> Model:
    """The model of a checkpoint, or the best one of a training folder."""
    return load_checkpoint(best_in(Path(path)), dtype)[0]


def cached_model(path: str | Path, dtype: torch.dtype | None = None) -> Model:
    """The same, read once: again only when its file has changed."""
    file = best_in(Path(path))
    return load_once(file.resolve(), file.stat().st_mtime_ns, dtype)


def best_in(path: Path) -> Path:
    """The checkpoint itself, or the best one of a training folder."""
    if path.is_dir() and not (path / BEST).exists():
        raise Refused(Kind.NOT_OURS, path, f"is a folder without a model ({BEST}, which slem-train writes)")
    return path / BEST if path.is_dir() else path


@lru_cache(maxsize=4)
def load_once(path: Path, written: int, dtype: torch.dtype | None) -> Model:
    return load_model(path, dtype)


def load_checkpoint(path: Path, dtype: torch.dtype | None = None) -> tuple[Model, dict[str, Tensor]]:
    """A model and the state of its training."""
    description, tensors = read_file(path)
    try:
        model = build(description, tensors, dtype)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(Kind.DAMAGED, path, f"is a damaged {FORMAT}: {first}") from error
    return model, {
        key.removeprefix("training."): value for key, value in tensors.items() if key.startswith("training.")
    }


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a checkpoint of any version, brought to this one."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("slem")
            tensors = {name: file.get_tensor(name) for name in list(file.keys())} if text else {}
    except OSError as error:
        raise refused_by_system(path, error) from error
    except SafetensorError as error:
        raise Refused(Kind.DAMAGED, path, f"is not a complete safetensors file: {error}") from error
    if text is None:
        raise Refused(Kind.NOT_OURS, path, f"is a safetensors file, but no {FORMAT}")
    try:
        description = json.loads(text)
        version = int(description["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(Kind.DAMAGED, path, f"has a damaged header: {error}") from error
    if description.get("format") != FORMAT or not 1 <= version <= VERSION:
        found = f"{description.get('format')} version {version}"
        raise Refused(Kind.NEWER_PROGRAM, path, f"is {found}; this program reads {FORMAT} version 1 to {VERSION}")
    if description.get("checksum", checksum := checksum_of(tensors)) != checksum:
        raise Refused(Kind.DAMAGED, path, "is damaged: its numbers are not those that were written")
    for step in range(version, VERSION):
        UPGRADES[step](description, tensors)
    return description, tensors


def checksum_of(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of all numbers and of what they belong to."""
    found = 0
    for name, value in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
        found = zlib.crc32(value.numpy().tobytes(), found)
    return found


def build(description: dict[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype | None) -> Model:
    """The model of a description and its tensors."""
    blueprint = read_blueprint(description["blueprint"])
    baselines = {
        name: Baseline.from_arrays(blueprint.form(name), with_prefix(tensors, f"baseline.{name}."))
        for name in {key.split(".")[1]: None for key in tensors if key.startswith("baseline.")}
    }
    weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    zero = Zero.from_arrays(named) if (named := with_prefix(tensors, "zero.")) else None
    model = Model(blueprint, baselines, None, description["history"], read_functions(blueprint, tensors), zero)
    if blueprint.learned:
        stored = next(value.dtype for value in weights.values() if value.is_floating_point())
        model.network = model.untrained_network().to(stored)
        model.network.load_state_dict(weights)
        model.network.to(dtype or stored).requires_grad_(False)
    return model


def describe(blueprint: Blueprint) -> dict[str, Any]:
    """A blueprint as plain values; those of its network stand among the others."""
    plain = asdict(blueprint)
    network = {**plain.pop("network"), "channels": str(blueprint.network.channels)}
    if network["kind"] == "slem":  # programs that know no other read such files as well
        del network["kind"]
    if not network["learned"]:
        del network["learned"]
    if not plain["aligned"]:
        del plain["aligned"]
    return {**plain, **network, "spin": str(blueprint.spin)}


def read_blueprint(plain: Mapping[str, Any]) -> Blueprint:
    """The blueprint of plain values."""
    names = {one.name for one in fields(NetworkSpec)}
    network = {name: value for name, value in plain.items() if name in names}
    others = {name: value for name, value in plain.items() if name not in names}
    network["learned"] = tuple((near, far) for near, far in plain.get("learned", ()))
    others["basis"] = tuple(read_species(species) for species in plain["basis"])
    others["operators"] = tuple(plain["operators"])
    others["mesh"] = tuple(plain["mesh"]) if plain.get("mesh") else None
    others["spin"] = Spin(plain["spin"])
    return Blueprint(**others, network=NetworkSpec(**{**network, "channels": Channels.parse(plain["channels"])}))


def read_functions(blueprint: Blueprint, tensors: Mapping[str, Tensor]) -> tuple[Functions | None, ...]:
    """The radial functions of the basis, where the model has any."""
    if "functions.about" not in tensors:
        return ()
    about, rows = tensors["functions.about"].numpy(), tensors["functions.rows"].numpy()
    return unpack_functions(about, rows, [species.shells for species in blueprint.basis])


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value.numpy() for name, value in tensors.items() if name.startswith(prefix)}


def read_species(plain: Mapping[str, Any]) -> Species:
    shells = tuple(Shell(**shell) for shell in plain["shells"])
    return Species(plain["name"], plain["number"], shells, plain["radial"])
