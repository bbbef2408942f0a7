"""Benchmark of starts of PySCF: what PySCF's SCF gains from predictions, on structures that the model has not seen.

Everything is made here: the runs to learn from, the dataset, the model, and the runs to start. Every build of a Fock matrix
is counted, also the one that turns a density into the first of them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from workflows.benchmarks.start_cases import CASES, Case, make_scf, run_scf, structures
from workflows.processes.clock import Clock
from workflows.terminal.progress import Tell, silent
from workflows.terminal.show_training import notes_of

if TYPE_CHECKING:
    from ase import Atoms

    from slem_plugin.learning.learner import Progress
    from slem_plugin.model import Model

STARTS = ("default", "dm", "h", "pyscf_guess", "own")
DONE = "done"  # marks the folder of a finished run


@dataclass(frozen=True)
class Start:
    """One SCF: how it began and ended. Seconds are of this process's CPU, prediction included."""

    start: str
    cycles: int
    builds: int
    first_gradient: float
    seconds: float
    energy: float
    converged: bool


JOBS = 2  # processes, one thread each


def bench_restart(names: Sequence[str], folder: Path, minutes: float) -> list[dict[str, Any]]:
    """Rows of a table: the starts of each case and part, mean and worst over its structures."""
    rows = []
    if unknown := set(names) - set(CASES):
        raise Refused(Kind.NO_SUCH_CHOICE, ", ".join(sorted(unknown)), "is not a case", f"{', '.join(CASES)}")
    for name in names or [name for name, case in CASES.items() if case.unseen]:
        case = CASES[name]
        model_path = learn(name, folder, minutes)
        for part in ("unseen", "foreign"):
            work = [(name, n, part, str(model_path)) for n in range(len(structures(case, part)))]
            if not work:
                continue
            with get_context("spawn").Pool(JOBS) as pool:
                found = pool.starmap(start_all, work, chunksize=1)
            rows += summarise(case.title if part == "unseen" else case.foreign_title, found)
    return rows


def learn(name: str, folder: Path, minutes: float) -> Path:
    """The model of a case; what an earlier call made is kept."""
    from workflows.convert import Options, convert, find
    from workflows.processes.engines import choose_engine

    case, runs, data, model = CASES[name], folder / name / "learned", folder / f"{name}.h5", folder / f"{name}_model"
    missing = [n for n in range(case.learned) if not (runs / str(n) / DONE).exists()]
    if missing:
        click.echo(f"{name}: running {len(missing)} structures to learn from", err=True)
        with get_context("spawn").Pool(JOBS) as pool:
            pool.starmap(run_one, [(name, n, str(runs / str(n))) for n in missing], chunksize=1)
    if not data.exists():
        with choose_engine(JOBS, None, "fork") as engine:
            convert(find([runs], ["pyscf"]), data, Options(), engine, lambda _: None)
    if not is_trained(model):
        click.echo(f"{name}: training for {minutes:g} minutes", err=True)
        train_quietly(data, model, minutes)
    return model


def is_trained(model: Path) -> bool:
    """Whether the folder holds a training that came to its end."""
    from slem_plugin.config import Config
    from slem_plugin.learning.learner import Progress

    progress, config = where_it_stands(model)
    return Progress(**progress).part(Config(**config)) >= 1 if config else False


def where_it_stands(model: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The progress of the training in a folder, and its settings; nothing where none began."""
    from slem_plugin.checkpoint import LAST, load_checkpoint

    if not (model / LAST).exists():
        return {}, {}
    history = load_checkpoint(model / LAST)[0].history
    return history.get("progress", {}), history["config"]


def say_nothing(_: str) -> None:
    """A note that nobody hears."""


def train_quietly(
    data: Path, model: Path, minutes: float, tell: Tell = silent, say: Callable[[str], None] = say_nothing
) -> None:
    """Train for so many minutes of the processor, or go on where an earlier call was stopped; of the seconds is told, and the steps that were made.

    What `slem-train` notes before it begins is said.
    """
    from slem_plugin.config import Config
    from workflows.train import start_config, train_folder

    progress, began = where_it_stands(model)
    config = start_config(model, Config(), {"time": f"{minutes}m"}, bool(began))
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    clock = Clock(progress.get("seconds", 0.0))

    def watch(progress: "Progress", *_: object) -> None:
        clock.set(progress)
        tell(int(progress.seconds), int(60 * minutes), f"{progress.step} steps")

    def prepared(model: "Model", *_: object) -> None:
        for note in notes_of(model):
            say(note)

    train_folder(data, model, config, resume=bool(began), prepared=prepared, watch=watch, report=nothing)


def run_one(name: str, n: int, folder: str) -> None:
    from pyscf import lib

    lib.num_threads(1)
    case = CASES[name]
    run_scf(case, structures(case, "learned")[n], Path(folder))
    (Path(folder) / DONE).touch()


def start_all(name: str, n: int, part: str, model_path: str) -> list[Start]:
    """One structure from every start."""
    from pyscf import lib

    from slem_plugin.checkpoint import load_model

    lib.num_threads(1)
    case, model = CASES[name], load_model(Path(model_path))
    return start_structure(case, structures(case, part)[n], model, STARTS)


def start_structure(case: Case, atoms: "Atoms", model: "Model", starts: Sequence[str]) -> list[Start]:
    """A structure from each start; "own" is the density that the default start converged to."""
    from slem_plugin.pyscf_start import pyscf_guess

    own: Array | None = None
    found = []
    for start in starts:
        mf = make_scf(case, atoms, verbose=0)
        began = time.process_time()
        dm0 = own if start == "own" else None
        if start in ("dm", "h"):
            dm0 = pyscf_guess(mf, model, route=start, guard=False)
        elif start == "pyscf_guess":
            dm0 = pyscf_guess(mf, model)
        found.append(count(mf, dm0, start, began))
        if start == "default":
            own = np.asarray(mf.make_rdm1())
    return found


def count(mf: Any, dm0: Array | None, start: str, began: float) -> Start:
    """Run an SCF object and count what it does."""
    builds, gradients = 0, []
    build = mf.get_veff

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal builds
        builds += 1
        return build(*arguments, **options)

    mf.get_veff = counted
    mf.callback = lambda variables: gradients.append(float(np.linalg.norm(variables["norm_gorb"])))
    energy = float(mf.kernel(dm0=dm0))
    seconds = time.process_time() - began
    del mf.get_veff, mf.callback  # they refer to the object, whose temporary file would wait for the garbage collector
    return Start(start, len(gradients), builds, gradients[0], seconds, energy, bool(mf.converged))


def summarise(title: str, found: Sequence[Sequence[Start]]) -> list[dict[str, Any]]:
    """One row for each start, beside the default start of the same structures."""
    rows = []
    for k, start in enumerate(found[0]):
        mine, default = [runs[k] for runs in found], [runs[0] for runs in found]
        ratios = [a.builds / b.builds for a, b in zip(mine, default, strict=True)]
        apart = [abs(a.energy - b.energy) for a, b in zip(mine, default, strict=True) if a.converged and b.converged]
        rows.append(
            {
                "structures": f"{title} ({len(found)})",
                "start": start.start,
                "cycles": float(np.mean([run.cycles for run in mine])),
                "Fock builds": float(np.mean([run.builds for run in mine])),
                "saved": f"{1 - np.mean(ratios):.0%}",
                "saved, worst": f"{1 - max(ratios):.0%}",
                "first gradient": float(np.median([run.first_gradient for run in mine])),
                "CPU s": float(np.mean([run.seconds for run in mine])),
                "energies differ, Ha": max(apart, default=0.0),
                "not converged": sum(not run.converged for run in mine),
            }
        )
    return rows
