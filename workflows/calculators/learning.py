"""A calculator of ASE that learns: each calculation starts from what promises most, and is learned."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, compare_atoms

from converters.frames.frame import Frame
from converters.storage.dataset import Dataset
from workflows.calculators.choosing import LAST, PREDICTED, Choice
from workflows.calculators.files import Files
from workflows.campaign.guide import Guide
from workflows.campaign.journal import Journal
from workflows.campaign.learning import DATA
from workflows.campaign.learning import Learning as Training
from workflows.campaign.worth import EARLIER, Ledger, Row
from workflows.scf.answering import predict_for

if TYPE_CHECKING:
    from collections.abc import Callable

# Where nobody says how many calculations there will be: as many as there were, and at least so many.
EXPECTED = 50
# Frames are written together where there are several in so many seconds; a kill loses no more than those. Opening and closing the
# dataset takes 0.04 CPU seconds, a fifth of a calculation of a small molecule.
TOGETHER = 5.0
# Calculations whose results are kept: a calculator is asked for them again where several structures share it.
KNOWN = 100
# Atoms that are farther than this (Angstrom) from where they were have moved, whatever the digits of their positions.
MOVED = 1e-9
UNCOUNTED = (
    "the calculator does not say how many iterations it took, so that starts cannot be compared and nothing is trained"
)


class Door(Protocol):
    """A calculator that can be told where to start."""

    kind: str
    taken: str
    ask: "Callable[[Any], Frame] | None"
    prepared: float  # seconds of the processor in which the last start was made
    results: dict[str, Any]
    implemented_properties: list[str]
    together: float
    stored: int

    def kinds(self, atoms: Atoms) -> list[str]:
        """What a calculation of some atoms can start from."""

    def calculate(self, atoms: Atoms | None = None, properties: Any = ..., system_changes: Any = ...) -> None:
        """Calculate, from a start of `kind`."""

    @property
    def iterations(self) -> int | None:
        """Iterations of the last calculation, where they are known."""

    def store(self, data: Path) -> str:
        """Put the matrices of the last calculation into a dataset; why not, where that cannot be done. `stored` says how many it has more.

        Those of calculations that take less than `together` seconds may wait for `flush`.
        """

    def begin_with(self, data: Path) -> None:
        """Know the calculations of a dataset."""

    def flush(self, data: Path) -> str:
        """Write what waits."""


class Learning(Calculator):  # type: ignore[misc]
    """Wraps a calculator whose SCF it makes shorter: `slem.PySCF`, or one of ASE's that writes files for a code which slem-export starts; whatever ASE does with it is done with fewer iterations.

    >>> with Learning(PySCF(make), folder="campaign") as atoms.calc:
    ...     BFGS(atoms).run(fmax=0.01)

    Each calculation starts from a prediction, from the last calculation or from both together, whichever the last ones say is best,
    and is put into the dataset of the folder. A model is trained beside them as long as that pays. `steps` says how many
    calculations there will be, where that is known; `model` is a model to begin with.
    """

    results: dict[str, Any]

    def __init__(
        self,
        calculator: Any,
        folder: str | Path = "campaign",
        *,
        model: str | Path | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.calculator: Door = calculator if hasattr(calculator, "kinds") else Files(calculator)
        self.inner, self.settings = calculator, settings_of(calculator)
        self.home, self.steps = Path(folder), steps
        self.implemented_properties = list(calculator.implemented_properties)
        self.journal = Journal(self.home)
        self.journal.add("call")
        self.training = Training(self.home, self.journal)
        if model is not None and self.training.newest is None:
            self.training.begin_with(Path(model))
        self.calculator.together = TOGETHER
        self.training.complete = lambda: self.calculator.flush(self.home / DATA)
        self.asked = self.reading = 0.0
        self.known: list[tuple[Atoms, dict[str, Any]]] = []
        self.there: Atoms | None = None  # of the last calculation
        self.choice, self.refused, self.uncounted = Choice.remembered(self.journal.events), "", ""
        self.frames = count_frames(self.home / DATA)
        if self.frames:
            self.calculator.begin_with(self.home / DATA)
        self.before = len(self.journal.of("step"))  # calculations of earlier calls
        self.use_newest()

    def use_newest(self) -> None:
        """Predict with the newest model from now on."""
        guide = self.training.newest
        if guide is not None:
            self.calculator.ask = lambda question: self.ask(guide, question)
            (self.home / "model").mkdir(exist_ok=True)
            shutil.copyfile(guide.path, self.home / "model" / "best.safetensors")

    def ask(self, guide: Guide, question: Any) -> Frame:
        """What a model predicts; the seconds of that are counted, those of reading the model are not."""
        start = seconds_of_all()
        model, began = guide.model, seconds_of_all()
        self.reading += began - start
        try:
            return predict_for(model, question)
        finally:
            self.asked += seconds_of_all() - began

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        door, began = self.calculator, seconds_of_all()
        self.forget_other_settings()
        for there, results in self.known:  # structures that share a calculator ask for the same again and again
            if set(properties) <= set(results) and are_same(there, self.atoms):
                self.results = dict(results)
                return
        # Not those that ASE says, which are since the last question: calculators of files go on from their last calculation.
        changes = all_changes if self.there is None else compare_atoms(self.there, self.atoms)
        if not changes:  # more of what is learned already
            door.calculate(self.atoms, properties, [])
            self.remember()
            return
        before = self.training.newest
        if self.training.poll() and self.training.newest != before:  # a training may fail
            self.choice.forget(PREDICTED)
            self.use_newest()
        self.results, door.results, self.asked, self.reading, self.there = {}, {}, 0.0, 0.0, None
        door.kind = self.choice.next(door.kinds(self.atoms))
        door.calculate(self.atoms, properties, changes)
        self.remember()
        self.learn(seconds_of_all() - began)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation, for ASE: everything where the calculator was told something else."""
        if settings_of(self.inner) != self.settings:
            return list(all_changes)
        changes: list[str] = super().check_state(atoms, tol)
        return changes

    def forget_other_settings(self) -> None:
        """What was calculated with other parameters is no result of these."""
        settings = settings_of(self.inner)
        if settings != self.settings:
            self.settings, self.known, self.there = settings, [], None

    def remember(self) -> None:
        """Keep the results of what the calculator has just done."""
        self.there, self.results = self.atoms.copy(), dict(self.calculator.results)
        self.known = [*self.known, (self.there, self.results)][-KNOWN:]

    def learn(self, seconds: float) -> None:
        """Keep the frame of the last calculation, and train on all of them where that pays."""
        taken, iterations, newest = self.calculator.taken, self.calculator.iterations, self.training.newest
        wanted = self.calculator.kind
        self.refused = self.calculator.store(self.home / DATA)
        self.frames += self.calculator.stored
        number = newest.number if newest is not None and wanted in PREDICTED else 0
        model, doubted = (number, 0) if taken in PREDICTED else (0, number)
        each = self.ledger.seconds_of_iteration()
        # Making the start costs as much as so many iterations.
        cost = (iterations or 0) + (max(0.0, self.calculator.prepared - self.reading) / each if each else 0.0)
        self.journal.add(
            "step",
            refused=self.refused,
            start=taken,
            wanted=wanted,
            iterations=iterations,
            seconds=seconds,
            asked=self.asked,
            cost=cost,
            model=model,
            doubted=doubted,
        )
        if iterations is None:  # starts cannot be compared
            if not self.uncounted:
                self.uncounted = UNCOUNTED
                self.journal.add("no training", why=UNCOUNTED, frames=self.frames)
            return
        self.choice.add_outcome(wanted, taken, cost)
        steps = len(self.journal.of("step"))
        left = max(steps, EXPECTED) if self.steps is None else self.steps - (steps - self.before)
        self.training.consider(self.ledger, self.frames, left)

    @property
    def rows(self) -> list[tuple[str, Row]]:
        """All calculations of the folder that say how many iterations they took, those of earlier calls too, whose trainings count as well."""
        return [
            (
                step["start"],
                Row(step["iterations"], step["seconds"] - asked, step["model"], asked, refused=step.get("doubted", 0)),
            )
            for step in self.journal.of("step")
            if step["iterations"]
            for asked in [step.get("asked", 0.0)]
        ]

    @property
    def ledger(self) -> Ledger:
        """Costs; calculations that start from the densities of those before are what runs that start from earlier ones are in a campaign."""
        return Ledger([replace(row, model=EARLIER) if taken == LAST else row for taken, row in self.rows])

    def summary(self) -> dict[str, Any]:
        """Calculations and mean iterations by the kind of their start, seconds saved and spent, and the models."""
        rows = self.rows
        kinds = {
            kind: {"calculations": len(found), "iterations": sum(found) / len(found)}
            for kind in dict.fromkeys(taken for taken, _ in rows)
            for found in [[row.iterations for taken, row in rows if taken == kind]]
        }
        return {
            "starts": kinds,
            "saved": self.ledger.saved,
            "training": self.training.cpu,
            "models": self.training.trained,
            "said": self.refused or self.uncounted or self.training.failed or self.training.said,
        }

    def close(self) -> None:
        """Keep what is not kept yet, end the training, and let go of the folder. Dataset and model lie there."""
        self.refused = self.calculator.flush(self.home / DATA) or self.refused
        self.training.close()
        self.journal.close()

    def __enter__(self) -> "Learning":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def are_same(one: Atoms, other: Atoms) -> bool:
    """Whether ASE finds no difference; most differ in their positions, which is seen in a hundredth of the time."""
    near = len(one) == len(other) and np.abs(one.positions - other.positions).max(initial=0) < MOVED
    return bool(near) and not compare_atoms(one, other)


def settings_of(calculator: Any) -> str:
    """All that a calculator was told of its calculations, as one text: ASE's parameters, and of PySCF the function that makes the SCF object."""
    return repr((dict(getattr(calculator, "parameters", None) or {}), getattr(calculator, "make", None)))


def count_frames(data: Path) -> int:
    """Frames of the dataset of a folder, whoever put them there."""
    if not data.exists():
        return 0
    with Dataset(data) as dataset:
        return len(dataset)


def seconds_of_all() -> float:
    """Seconds of the processor of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
