"""The door of ASE's calculators that write input files and run a code in a folder: a prediction is put there before the code begins."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.starts.start import Target
from converters.starts.targets import find_target, restart_module
from workflows.campaign.earlier import EarlierRuns
from workflows.campaign.elsewhere import is_of
from workflows.convert import Options, convert, find
from workflows.export import Request, export
from workflows.processes.engines import Engine

if TYPE_CHECKING:
    from ase import Atoms

STAGED = "slem-start"


class Files:
    """A calculator with `write_input` and a `directory`, whose files slem-export knows.

    "own" is the start that the calculator makes by itself: from the last calculation where it does so, else the code's default. "last" are the
    densities of earlier calculations, combined as their overlaps make that of the new positions, or in supercells as they answer to displacements;
    it needs the radial functions.
    """

    def __init__(self, calculator: Any) -> None:
        if not (hasattr(calculator, "write_input") and hasattr(calculator, "directory")):
            found = "neither writes input files nor says where it starts"
            raise Refused(
                Kind.UNSUPPORTED,
                type(calculator).__name__,
                found,
                "a calculator of ASE that does, or one that can be told its start",
            )
        self.calculator, self.write = calculator, calculator.write_input
        calculator.write_input = self.write_input
        self.implemented_properties = list(calculator.implemented_properties)
        self.kind = self.taken = "own"
        self.ask: Callable[[Any], Frame] | None = None
        self.iterations: int | None = None
        self.earlier = EarlierRuns(fewest=2)  # one alone is what the code's own restart has
        self.together, self.stored, self.prepared = 0.0, 0, 0.0

    @property
    def folder(self) -> Path:
        return Path(self.calculator.directory)

    @property
    def results(self) -> dict[str, Any]:
        return dict(self.calculator.results)

    @results.setter
    def results(self, values: dict[str, Any]) -> None:
        self.calculator.results = values

    def kinds(self, atoms: "Atoms") -> list[str]:
        last = self.earlier.knows(atoms.numbers)
        return [*(["predicted"] if self.ask is not None else []), *(["last"] if last else []), "own"]

    def calculate(self, atoms: "Atoms | None" = None, properties: Any = ("energy",), system_changes: Any = ()) -> None:
        self.calculator.calculate(atoms, list(properties), list(system_changes))
        progress = restart_module(find_target(self.folder).code).read_progress(self.folder)
        self.iterations = progress.iterations or None
        if self.taken != "own" and progress.took_guess is False:
            self.taken = "own"

    def write_input(self, *arguments: Any, **named: Any) -> None:
        """The calculator's own input, and a start with the lines that make the code read it."""
        self.write(*arguments, **named)
        self.taken, self.prepared = "own", 0.0
        if self.kind != "own":
            began = time.process_time()
            self.put_start()
            self.prepared = time.process_time() - began

    def put_start(self) -> None:
        """Make the chosen start and put it into the folder of the calculation."""
        staged = self.folder / STAGED
        shutil.rmtree(staged, ignore_errors=True)
        try:
            target = find_target(self.folder)
            if (frame := self.start(target)) is None:
                return
            export(frame, staged, Request(), target)
        except Refused:  # the calculation starts as it would without us
            shutil.rmtree(staged, ignore_errors=True)
            return
        for path in sorted(staged.iterdir()):
            place = self.folder / path.name
            if path.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            os.replace(path, place)
        staged.rmdir()
        self.taken = self.kind

    def flush(self, data: Path) -> str:
        """Nothing waits: a calculation takes longer than keeping it."""
        return ""

    def start(self, target: Target) -> Frame | None:
        """The frame of the chosen start, where it can be made."""
        if self.kind == "predicted":
            return None if self.ask is None else self.ask(target.atoms)
        return self.earlier.start_of_target(target)

    def begin_with(self, data: Path) -> None:
        """Know the calculations of a dataset, also those that another one has left."""
        self.earlier.data = data
        self.earlier.look()

    def store(self, data: Path) -> str:
        """Put the matrices of the last calculation into a dataset; why not, where they are not those of its atoms."""
        target = find_target(self.folder)
        options = Options(belongs=partial(is_of, target=target))
        found = convert(find([self.folder], list(KNOWN)), data, options, Engine(), lambda _: None)
        self.stored = sum(one.status == "converted" for one in found)
        self.begin_with(data)
        if any(one.status in ("converted", "there already") for one in found):
            return ""
        return "; ".join(one.reason for one in found) or "the calculation left no matrices"
