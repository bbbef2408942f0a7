"""What FHI-aims prints: its log, and the bands beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from basis import Array
from converters.aims.convention import HARTREE
from converters.aims.files import INVOKED
from converters.frames.frame import Outcome

LEVEL = re.compile(r"^ +\d+ +[\d.]+ +[-\d.]+ +([-\d.]+) *$", re.M)
KPOINT = re.compile(r"K-point: +\d+ at +([-\d.]+) +([-\d.]+) +([-\d.]+)")


@dataclass(frozen=True, eq=False)
class Log:
    """Outcome and version, and the levels (eV) at some k-points."""

    outcome: Outcome = field(default_factory=Outcome)
    version: str = ""
    levels: tuple[tuple[Array, Array], ...] = ()


def read_log(path: Path) -> Log:
    """The last run in a log."""
    text = path.read_text(errors="replace").rsplit(INVOKED.decode(), 1)[-1]
    outcome = Outcome(
        energy=last(r"\| Total energy +: +([-\d.]+) Ha", text, HARTREE),
        fermi=last(r"\| Chemical Potential +: +([-\d.]+) eV", text),
        converged="Self-consistency cycle converged." in text,
        iterations=None if (n := last(r"\| Number of self-consistency cycles +: +(\d+)", text)) is None else int(n),
    )
    version = re.search(r"FHI-aims version +: +(\S+)", text)
    return Log(outcome, version[1] if version else "", tuple(levels_of(text)))


def last(pattern: str, text: str, unit: float = 1.0) -> float | None:
    found = re.findall(pattern, text)
    return float(found[-1]) * unit if found else None


def levels_of(text: str) -> list[tuple[Array, Array]]:
    """k-points (fractions) and levels (eV) of the last table."""
    if "Writing Kohn-Sham eigenvalues." not in text:
        return []
    table = text.rsplit("Writing Kohn-Sham eigenvalues.", 1)[1].split("What follows", 1)[0]
    parts = KPOINT.split(table)
    if len(parts) == 1:
        parts = [*parts, *"000", table]
    found = []
    for n in range(1, len(parts), 4):
        levels = LEVEL.findall(parts[n + 3])
        if levels:
            found.append((np.array(parts[n : n + 3], dtype=float), np.array(levels, dtype=float)))
    return found


def read_bands(paths: Sequence[Path], fermi: float) -> list[tuple[Array, Array]]:
    """k-points (fractions) and levels (eV) of band files: number, k and pairs of occupation and level above the Fermi level."""
    found = []
    for path in paths:
        for line in path.read_text().splitlines():
            numbers = np.array(line.split(), dtype=float)
            if len(numbers) < 6 or len(numbers) % 2:
                raise ValueError(f"{path.name} has a line of {len(numbers)} numbers")
            found.append((numbers[1:4], numbers[5::2] + fermi))
    return found
