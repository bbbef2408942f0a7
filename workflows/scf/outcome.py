"""What became of an SCF run that was started from a prediction, as a record that can be stored and read again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from converters.errors import Kind, Refused
from converters.starts.start import Progress

# Energies an atom (eV) that are asked after: enough for forces of a rough relaxation, and for nearly everything.
ROUGHLY, CLOSELY = 1e-3, 1e-5
# A moment (magnetons) below this is none.
NO_MOMENT = 1e-2


@dataclass(frozen=True)
class Start:
    """One run of the command in a copy of the folder: how it went, and the seconds that it took, of the clock and of its processors; None where only a queue knows."""

    folder: str
    seconds: float | None
    returned: int
    progress: Progress
    cpu_seconds: float | None = None

    def iterations_until(self, near: float) -> int | None:
        """Iterations after which the energy stays within so many eV of its end; None where the code prints none on the way."""
        energies, end = self.progress.energies, self.progress.energy
        if not energies or end is None:
            return None
        far = [n for n, energy in enumerate(energies, 1) if abs(energy - end) > near]
        return far[-1] + 1 if far else 1

    @property
    def first_error(self) -> float | None:
        """How far the energy (eV) was from its end after the first iteration; None where the code prints none on the way."""
        energies, end = self.progress.energies, self.progress.energy
        return abs(energies[0] - end) if energies and end is not None else None

    @property
    def drift(self) -> float:
        """How far the energy (eV) still moved in the last quarter of the iterations, and so may be from where it would end.

        Metals and magnets mixed carefully creep: their criterion is met while the energy still moves in one direction.
        """
        energies = self.progress.energies
        last = energies[-1 - len(energies) // 4 :]
        return max((abs(energy - last[-1]) for energy in last), default=0.0)


@dataclass(frozen=True)
class Outcome:
    """What became of one run folder. `verdict` is "ok", or why this is no success; `use` is the run to go on with."""

    folder: str
    verdict: str
    use: str = ""
    route: str = ""
    seconds_before: float = 0.0  # prediction and export
    guess: Start | None = None
    default: Start | None = None
    tolerance: float = 0.0
    notes: tuple[str, ...] = ()
    atoms: int | None = None
    apart: float | None = None  # electrons between predicted H and DM, see converters/starts/agreement.py
    cpu_before: float = 0.0  # seconds of the processors for prediction and export

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    @property
    def difference(self) -> float | None:
        """Energy (eV) from the guess less that of the default start."""
        found = [start.progress.energy if start is not None else None for start in (self.guess, self.default)]
        return None if found[0] is None or found[1] is None else found[0] - found[1]

    @property
    def default_ended(self) -> bool:
        """Whether the default start ended well, so that its iterations are a number to compare with."""
        if self.default is None or self.default.returned or self.default.progress.energy is None:
            return False
        return self.default.progress.converged is not False

    @property
    def ratio(self) -> float | None:
        """Iterations from the guess over those of the default start; None where that one did not end well."""
        guess, default = self.iterations
        return guess / default if guess and default and self.default_ended else None

    @property
    def iterations(self) -> tuple[int | None, int | None]:
        """Iterations from the guess, and of the default start."""
        guess, default = (
            start.progress.iterations if start is not None else None for start in (self.guess, self.default)
        )
        return guess, default

    @property
    def moments(self) -> tuple[float, float] | None:
        """Moments (magnetons) in which both ended; those that do not cancel (`Progress.absolute`) where the code prints them, since antiferromagnets have no other.

        None where the code prints none, and where neither has any.
        """
        if self.guess is None or self.default is None:
            return None
        mine, own = self.guess.progress, self.default.progress
        for guess, default in ((mine.absolute, own.absolute), (mine.moment, own.moment)):
            if guess is not None and default is not None:
                return (guess, default) if max(abs(guess), abs(default)) > NO_MOMENT else None
        return None

    @property
    def seconds(self) -> tuple[float | None, float | None]:
        """Seconds from the guess, prediction and export among them, and of the default start."""
        guess, default = (start.seconds if start is not None else None for start in (self.guess, self.default))
        return None if guess is None else guess + self.seconds_before, default

    @property
    def time_ratio(self) -> float | None:
        """Time of the start from the guess, everything counted, over that of the default start."""
        guess, default = self.seconds
        return guess / default if guess and default and self.default_ended else None

    @property
    def cpu_seconds(self) -> tuple[float | None, float | None]:
        """The same in seconds of the processors, which do not depend on what else the machine does."""
        guess, default = (start.cpu_seconds if start is not None else None for start in (self.guess, self.default))
        return None if guess is None else guess + self.cpu_before, default

    @property
    def first_errors(self) -> tuple[float | None, float | None]:
        """How far the energies (eV an atom) of both starts were from their ends after the first iteration."""
        guess, default = (
            start.first_error / self.atoms
            if start is not None and start.first_error is not None and self.atoms
            else None
            for start in (self.guess, self.default)
        )
        return guess, default

    def until(self, near: float) -> tuple[int | None, int | None]:
        """Iterations of both starts until the energy stays within so many eV an atom of its end."""
        guess, default = (
            start.iterations_until(near * self.atoms) if start is not None and self.atoms else None
            for start in (self.guess, self.default)
        )
        return guess, default

    @property
    def weakness(self) -> str:
        """Why the guess was no better a start than the code's own, as the first numbers that the code printed say; else empty."""
        if self.guess is None or self.default is None:
            return ""
        mine, own = self.guess.progress.first_residual, self.default.progress.first_residual
        if mine is not None and own is not None and mine >= own:
            return f"no better than the default start: the first residual is {mine:.2g}, that one's {own:.2g}"
        far, own_far = self.guess.first_error, self.default.first_error
        if far is not None and own_far is not None and far > own_far:
            return (
                f"no better than the default start: the first energy is {far:.2g} eV off, that one's {own_far:.2g} eV"
            )
        return ""

    def as_dict(self) -> dict[str, Any]:
        rough, close = self.until(ROUGHLY), self.until(CLOSELY)
        return {
            **asdict(self),
            "ok": self.ok,
            "difference": self.difference,
            "ratio": self.ratio,
            "time_ratio": self.time_ratio,
            "until_1meV_an_atom": rough,
            "until_0.01meV_an_atom": close,
            "weakness": self.weakness,
            "moments": self.moments,
        }


def read_outcomes(path: Path) -> list[Outcome]:
    """What `as_dict` gave for each run of a call, from its JSON file."""
    try:
        return [outcome_of(run) for run in json.loads(path.read_text())["runs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(Kind.NOT_OURS, path, "is not what slem-scf -o writes") from error


def outcome_of(run: Mapping[str, Any]) -> Outcome:
    starts = {name: None if run[name] is None else start_of(run[name]) for name in ("guess", "default")}
    plain = {field.name: run[field.name] for field in fields(Outcome) if field.name in run}
    return Outcome(**{**plain, **starts, "notes": tuple(run.get("notes", ()))})


def start_of(run: Mapping[str, Any]) -> Start:
    found = dict(run["progress"])
    known = {field.name for field in fields(Progress)}
    series = {name: tuple(map(float, found.get(name, ()))) for name in ("residuals", "energies")}
    progress = Progress(**{**{name: value for name, value in found.items() if name in known}, **series})
    seconds, cpu_seconds = (None if run.get(name) is None else float(run[name]) for name in ("seconds", "cpu_seconds"))
    return Start(str(run["folder"]), seconds, int(run["returned"]), progress, cpu_seconds)
