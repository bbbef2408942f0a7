"""Config: everything a user may choose about a model and its training, with defaults that work."""

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converters.durations import parse_time
from converters.errors import Kind, Refused
from converters.frames.frame import OPERATORS
from slem_plugin.network.channels import Channels
from slem_plugin.network.kinds import KINDS

# A choice that is made by what is learned, and for how long.
AUTO = "auto"


@dataclass(frozen=True)
class Config:
    """The keys of a configuration file.

    operators     which matrices are learned, such as "H,DM"; empty: all that the data has
    channels      features of the network by irrep, such as "32x0e+24x1o+8x1e"; empty: from the basis, and twice as many for much data where network is auto
    network       which family of networks: slem, one for all operators; apart, one for each; auto: apart where one would soon be full
    layers        rounds of bond and atom updates
    latent        features of a distance; waves: sines that they are made of
    batch         frames in a step; 0: one, and several where one alone is too small to keep a processor busy
    rate          highest learning rate; it rises over the part `warmup` of the training and falls to zero at the end
    weight_decay  part by which weights shrink in a step, times the rate
    average       the kept model is a running average of the weights, with this memory
    onsite_weight how much an onsite error counts more than a hopping error; onsite blocks are few and move every level
    clip          largest norm of a gradient
    validate      the part of the frames kept for validation, or which: "32-39,45"
    seed          of the first weights and of the order of the frames
    time          length of the training, such as "20m", "2h" or seconds; 0: no limit
    steps         length of the training in steps; 0: no limit
    patience      stop after so many evaluations without a better one; 0: never
    evaluations   how often the validation frames are looked at over the whole training
    precision     float32 or float64
    device        cpu, cuda, or auto: a GPU if there is one
    memory        of prepared frames that a process keeps, such as "2GB"
    workers       processes that prepare frames where these do not all fit into the memory; 0: the training process does
    compile       let torch compile the network (long trainings; needs a C++ compiler)
    """

    operators: str = ""
    channels: str = ""
    network: str = AUTO
    layers: int = 2
    latent: int = 64
    waves: int = 16
    batch: int = 0
    rate: float = 0.003
    warmup: float = 0.05
    weight_decay: float = 0.001
    average: float = 0.99
    onsite_weight: float = 4.0
    clip: float = 10.0
    validate: str = "0.15"
    seed: int = 0
    time: str = "30m"
    steps: int = 0
    patience: int = 0
    evaluations: int = 20
    precision: str = "float32"
    device: str = "auto"
    memory: str = "2GB"
    workers: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "latent", "waves", "evaluations"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("seed", "steps", "patience", "workers", "batch"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 < self.rate < 1, "rate", self.rate, "a number between 0 and 1")
        require(0 <= self.warmup <= 1, "warmup", self.warmup, "a number from 0 to 1")
        require(0 <= self.weight_decay < 1, "weight_decay", self.weight_decay, "a number from 0 to 1")
        require(0 <= self.average < 1, "average", self.average, "a number from 0 to below 1")
        require(self.onsite_weight > 0, "onsite_weight", self.onsite_weight, "a number above 0")
        require(self.clip > 0, "clip", self.clip, "a number above 0")
        require(self.precision in ("float32", "float64"), "precision", self.precision, "float32 or float64")
        require(self.device in ("auto", "cpu", "cuda"), "device", self.device, "auto, cpu or cuda")
        require(self.network in (AUTO, *KINDS), "network", self.network, f"one of {', '.join((AUTO, *KINDS))}")
        for name in self.operator_names:
            require(name in OPERATORS, "operators", self.operators, f"a list of {', '.join(OPERATORS)}")
        if self.channels:
            try:
                Channels.parse(self.channels)
            except ValueError as error:
                raise Refused(Kind.CONFIGURATION, "config", f"channels: {error}") from error
        parse_memory(self.memory, "config: memory")
        require(self.seconds > 0 or self.steps > 0, "time", self.time, "a time or a number of steps to stop at")

    @property
    def operator_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.operators.split(",") if name.strip())

    @property
    def torch_device(self) -> str:
        """The device of this machine that the configuration means."""
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise Refused(Kind.CONFIGURATION, "config", "device is cuda; torch finds no GPU here")
        return "cuda" if there and self.device != "cpu" else "cpu"

    @property
    def seconds(self) -> float:
        """Length of the training; 0 without a limit."""
        return parse_time(self.time)

    def with_changes(self, changes: Mapping[str, Any], place: str) -> "Config":
        """The same configuration with some keys changed; unknown keys and wrong types are refused."""
        types: dict[str, type] = {field.name: type(field.default) for field in fields(self)}
        checked: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in types:
                near = difflib.get_close_matches(name, types, 1)
                hint = f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(types)}"
                raise Refused(Kind.CONFIGURATION, place, f'has no key "{name}"{hint}')
            wanted = types[name]
            if wanted is str and isinstance(value, int | float) and not isinstance(value, bool):
                value = str(value)
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if type(value) is not wanted:
                raise Refused(Kind.CONFIGURATION, place, f"{name} is {value!r}", f"{wanted.__name__}")
            checked[name] = value
        return replace(self, **checked)


SIZES = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MIB": 2.0**20, "GIB": 2.0**30, "TIB": 2.0**40}


def require(fine: bool, name: str, found: object, expected: str) -> None:
    if not fine:
        raise Refused(Kind.CONFIGURATION, "config", f"{name} is {found}", f"{expected}")


def parse_memory(text: str, place: str) -> float:
    """Bytes of "4GB", "800 MB" or "1.5GiB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([MGT]i?B)\s*", text, re.IGNORECASE)
    if not match:
        raise Refused(Kind.NO_SUCH_CHOICE, place, f'is "{text}"', "something like 4GB or 800MB")
    return float(match[1]) * SIZES[match[2].upper()]


def read_config(path: Path, usual: Config) -> Config:
    """The configuration of a TOML file; what it does not say is as usual."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        changes = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(Kind.CONFIGURATION, path, f"is not a TOML file: {error}") from error
    return usual.with_changes(changes, str(path))


def parse_frames(text: str) -> list[int]:
    """Frames of a list such as "32-39,45"."""
    chosen: set[int] = set()
    for term in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+))?\s*", term)
        if not match:
            raise Refused(Kind.NO_SUCH_CHOICE, "frames", f'are "{text}"', "something like 32-39,45")
        chosen |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(chosen)


def choose_frames(text: str, species_f: Sequence[frozenset[int]], seed: int) -> tuple[list[int], list[int]]:
    """(training, validation) frames of a part such as 0.15, or of a list such as "32-39,45" for validation.

    `species_f` are the species of each frame: all of them are learned.
    """
    count, drawn = len(species_f), bool(re.fullmatch(r"\s*(0?\.\d+|0(\.0*)?)\s*", text))
    if drawn:
        wanted = min(round(float(text) * count), count - 1)
        checks = sorted(np.random.default_rng(seed).permutation(count)[:wanted].tolist())
    else:
        checks = parse_frames(text)
        if checks[-1] >= count:
            raise Refused(
                Kind.NO_SUCH_CHOICE,
                "config",
                f"validate names frame {checks[-1]}; the data has frames 0 to {count - 1}",
            )
    training = sorted(set(range(count)) - set(checks))
    if not training:
        raise Refused(Kind.CONFIGURATION, "config", f'validate is "{text}", which leaves no frame to learn from')
    learned: set[int] = set().union(*(species_f[n] for n in training))
    for n in list(checks):
        if species_f[n] <= learned:
            continue
        if not drawn:
            raise Refused(
                Kind.CONFIGURATION,
                "config",
                f'validate is "{text}", and frame {n} has an element that no learned frame has',
            )
        learned |= species_f[n]
        checks.remove(n)
        training.append(n)
    return sorted(training), checks
