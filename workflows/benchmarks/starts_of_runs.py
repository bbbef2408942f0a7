"""Benchmark of starts in the user's own code, with the user's own runs: what is saved, by route and by the number of runs learned from.

The folders given are runs of one kind. The last of them are kept back: they are started from the code's default, from
the predictions of models that learned from the first 10, 30, ... of the others, and from their own converged matrices,
which no prediction can better. With several sets all of this is done again with the runs before them.
"""

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from converters.codes.known import KNOWN
from converters.durations import parse_time
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.runs import code_module, counted
from converters.starts.start import Target
from converters.starts.targets import code_of_scripts
from converters.storage.dataset import Dataset
from workflows.benchmarks.starts_of_cases import is_trained, say_nothing, train_quietly
from workflows.convert import InputOutcome, Options, convert, find
from workflows.export import Request
from workflows.predict import evaluate_dataset
from workflows.processes.engines import choose_engine
from workflows.scf.copies import DEFAULT, GUESS, RESULTS, copy_of
from workflows.scf.outcome import CLOSELY, ROUGHLY, Outcome
from workflows.scf.queues import Ended, Here
from workflows.scf.run_folders import Board, Job, Work, each_in_turn, run_all, run_folders
from workflows.terminal.progress import Tell, progress, silent

NOT_FINISHED = "unfinished"  # marks a run folder of ours while it runs
DATA = "data.h5"  # what a model of ours learned from, beside it
Stage = Callable[[str], contextlib.AbstractContextManager[Tell]]


@contextlib.contextmanager
def quietly(_: str) -> Iterator[Tell]:
    """A stage of the work of which nobody hears."""
    yield silent


@contextlib.contextmanager
def aloud(title: str) -> Iterator[Tell]:
    """A stage of the work: a line says what begins, also where there is no terminal, and a bar how far it is."""
    click.echo(title, err=True)
    with progress(title) as tell:
        yield tell


def say_aloud(note: str) -> None:
    click.echo(f"note: {note}", err=True)


@dataclass(frozen=True)
class Plan:
    """What is to be measured: the command of the code, how many runs to learn from, minutes of training for each number (or one for all), how many to keep back in each set, and routes."""

    command: str
    learn: tuple[int, ...] = (30,)
    keep: int = 6
    sets: int = 1
    routes: tuple[str, ...] = ("auto", "dm", "h2dm")
    minutes: tuple[float, ...] = (20.0,)
    at_once: int = 1
    timeout: float | None = None
    stage: Stage = field(default=quietly)
    say: Callable[[str], None] = say_nothing


def bench_starts(runs: Sequence[Path], work: Path, plan: Plan) -> list[dict[str, Any]]:
    """Rows of a table: each number of learned runs, each set that was kept back, and each route, over the runs of the set."""
    folders = sorted((path for path in runs if path.is_dir()), key=lambda path: counted(str(path)))
    most, back = max(plan.learn), plan.sets * plan.keep
    lengths = plan.minutes if len(plan.minutes) > 1 else plan.minutes * len(plan.learn)
    if len(folders) < most + back:
        raise Refused(
            Kind.NO_SUCH_CHOICE,
            "starts",
            f"has {len(folders)} run folders",
            f"{most} to learn from and {back} to keep back, and more",
        )
    work.mkdir(parents=True, exist_ok=True)
    finished = finish_all(folders[:most], work / "learned", plan)
    rows: list[dict[str, Any]] = []
    own: dict[tuple[int, str], float] = {}
    for count, minutes in zip(plan.learn, lengths, strict=True):
        model = learn(finished[:count], work / f"from_{count}", plan, minutes)
        for number, route in itertools.product(range(1, plan.sets + 1), plan.routes):
            last = len(folders) - (number - 1) * plan.keep
            kept, place = folders[last - plan.keep : last], work if number == 1 else work / f"set_{number}"
            with plan.stage(f"starting set {number} by {route}, learned from {count}") as tell:
                outcomes = start_all(kept, model, route, place, plan, tell)
            if (number, route) not in own:
                with plan.stage(f"starting set {number} by {route} from its own matrices") as tell:
                    ended = [run for run, outcome in zip(kept, outcomes, strict=False) if outcome.default_ended]
                    own[number, route] = iterations_from_own(ended, route, place, plan, tell)
            row = {
                "learned": runs_in(model.parent / DATA),
                "set": number,
                **errors_of(model, outcomes, place),
                "route": route,
            }
            rows.append({**row, **summary(outcomes), "own matrices": own[number, route]})
    return rows


def finish_all(folders: Sequence[Path], work: Path, plan: Plan) -> list[Path]:
    """The folders of runs to learn from, each with results."""
    engine = Here(plan.command, plan.timeout)
    with plan.stage("running those to learn from that have no results") as tell:
        board = Board(len(folders), tell)

        def finish_and_say(folder: Path) -> Path:
            board.say(folder, "runs")
            finished = finish(folder, work, engine)
            board.say(folder, None)
            return finished

        return each_in_turn(finish_and_say, folders, plan.at_once, engine)


def finish(folder: Path, work: Path, engine: Here) -> Path:
    """A run folder with results: the given one where it has been run, else a copy in which it is run now; kept for later calls."""
    if has_matrices(folder):
        return folder
    copy = work / folder.name
    if copy.exists() and not (copy / NOT_FINISHED).exists():
        return copy
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (copy / NOT_FINISHED).touch()
    nothing: Callable[[], None] = lambda: None  # noqa: E731
    ended: Ended = engine.wait(copy, "", {}, nothing)
    if ended.returned:
        raise Refused(Kind.NO_RUN, copy, f"was left by the command with exit code {ended.returned}")
    (copy / NOT_FINISHED).unlink()
    return copy


def has_matrices(folder: Path) -> bool:
    """Whether a run has been run; inputs alone may look like a run that can be read."""
    for run in find([folder], list(KNOWN)):
        if not isinstance(run, Refused):
            with contextlib.suppress(Refused):
                return any(True for _ in code_module(run.code).read_run(run))
    return False


def learn(folders: Sequence[Path], place: Path, plan: Plan, minutes: float) -> Path:
    """A model of some runs, without those whose SCF did not converge; one of an earlier call is kept. What spoils it is said."""
    data, model = place / DATA, place / "model"
    place.mkdir(exist_ok=True)
    if not data.exists():
        gather(folders, data, plan)
    elif other := run_beside(folders, data):
        raise Refused(
            Kind.OUTPUT_EXISTS, place, f"holds what an earlier call learned, from {other} too", "another --folder"
        )
    if not is_trained(model):
        missing = len(folders) - runs_in(data)
        without = f" without {missing} whose SCF did not converge" if missing else ""
        title = f"learning from the first {len(folders)}{without}, {minutes:g} minutes of the processor"
        with plan.stage(title) as tell:
            train_quietly(data, model, minutes, tell, plan.say)
    return model


def gather(folders: Sequence[Path], data: Path, plan: Plan) -> None:
    """A dataset of the runs that converged; what else cannot be read ends the benchmark."""
    outcomes = convert_whole(folders, data, plan.at_once)
    refusals = [outcome.refusal for outcome in outcomes if outcome.refusal is not None]
    fatal = [refusal for refusal in refusals if refusal.kind is not Kind.UNFINISHED_SCF]
    if fatal or len(refusals) == len(outcomes):
        data.unlink(missing_ok=True)
        raise (fatal or refusals)[0]


def convert_whole(folders: Sequence[Path], data: Path, at_once: int) -> list[InputOutcome]:
    """A dataset of all of the runs that can be read, or none where the program is stopped on the way."""
    with TemporaryDirectory(dir=data.parent) as place:
        draft = Path(place) / data.name
        with choose_engine(at_once, None, "fork") as engine:
            outcomes = convert(find(list(folders), list(KNOWN)), draft, Options(), engine, lambda _: None)
        if draft.exists():
            draft.replace(data)
    return outcomes


def run_beside(folders: Sequence[Path], data: Path) -> str:
    """A run of a dataset that is none of these folders; empty where there is none."""
    names = {folder.name for folder in folders}
    with Dataset(data) as stored:
        paths = [outline.provenance.path for outline in stored.outlines()]
    return next((path for path in paths if names.isdisjoint(Path(path).parts)), "")


def runs_in(data: Path) -> int:
    with Dataset(data) as stored:
        return len(stored.sources())


def start_all(kept: Sequence[Path], model: Path, route: str, work: Path, plan: Plan, tell: Tell) -> list[Outcome]:
    """The kept-back runs from the predictions of a model by a route, and from the code's default."""
    folders = bare_copies(kept, work / model.parent.name / route)
    for folder in folders:
        # The default start is the same for each model and route: it is run once.
        own = work / "default" / copy_of(folder, DEFAULT).name
        if own.exists() and not copy_of(folder, DEFAULT).exists():
            shutil.copytree(own, copy_of(folder, DEFAULT))
    outcomes = run_folders(folders, job_of(plan, model, route), tell)
    for copy in (copy_of(folder, DEFAULT) for folder in folders):
        if copy.exists():
            shutil.copytree(copy, work / "default" / copy.name, dirs_exist_ok=True)
    return outcomes


def iterations_from_own(kept: Sequence[Path], route: str, work: Path, plan: Plan, tell: Tell) -> float:
    """Mean of the iterations of the kept-back runs from the matrices in which their default starts converged; nan where they do not succeed."""
    if not kept or code_of_scripts(kept[0]):  # a script asks a model for its start
        return np.nan
    folders = bare_copies(kept, work / "own" / route)
    job = replace(job_of(plan, work / "default", route), compare=False)
    outcomes = run_all(folders, FromOwnMatrices(None, job, Board(len(folders), tell)))
    found = [float(outcome.iterations[0]) for outcome in outcomes if outcome.ok and outcome.iterations[0]]
    return float(np.mean(found or [np.nan]))


@dataclass(frozen=True)
class FromOwnMatrices(Work):
    """Starts from what the code itself ended in, read from its default starts in the folder of the job's "model"."""

    def matrices_for(self, copy: Path, target: Target) -> Frame:
        name = copy_of(copy.with_name(copy.name.removesuffix(f"-slem-{GUESS}")), DEFAULT).name
        (run,) = find([self.job.model_path / name], [target.code])
        if isinstance(run, Refused):
            raise run
        return next(iter(code_module(target.code).read_run(run)))


def bare_copies(kept: Sequence[Path], place: Path) -> list[Path]:
    """The runs without their results, in a folder of ours; refused where one of an earlier call had another input."""
    for folder in kept:
        copy = place / folder.name
        if not copy.exists():
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*RESULTS))
        elif changed := changed_file(folder, copy):
            raise Refused(
                Kind.OUTPUT_EXISTS, copy, f"was made when {folder / changed} was another file", "another --folder"
            )
    return [place / folder.name for folder in kept]


def changed_file(folder: Path, copy: Path) -> str:
    """A file of a copy that is another one in the folder now; what only one of them has is of runs."""
    names = sorted(file.name for file in copy.iterdir() if file.is_file() and (folder / file.name).is_file())
    return next((name for name in names if (folder / name).read_bytes() != (copy / name).read_bytes()), "")


def job_of(plan: Plan, model: Path, route: str) -> Job:
    engine = Here(plan.command, plan.timeout)
    return Job(engine, plan.command, model, compare=True, at_once=plan.at_once, request=Request(route=route))


def errors_of(model_path: Path, outcomes: Sequence[Outcome], work: Path) -> dict[str, Any]:
    """How long a model was trained (that of an earlier call too), and its errors on the kept-back runs that converged, from the default start or from the prediction."""
    from slem_plugin.checkpoint import LAST, load_checkpoint, load_model

    data = work / "kept.h5"
    folders = [folder for outcome in outcomes if (folder := converged_run(outcome)) is not None]
    if data.exists() and (runs_in(data) < len(folders) or run_beside(folders, data)):
        data.unlink()  # an earlier call kept others back
    if not data.exists():
        convert_whole(folders, data, 1)
    ended, _ = load_checkpoint(model_path / LAST)
    errors = evaluate_dataset(load_model(model_path), data, None, False, silent) if data.exists() else {}
    found: dict[str, Any] = {
        "minutes": parse_time(ended.history["config"]["time"]) / 60,
        "steps": ended.history["progress"]["step"],
    }
    if "H" in errors:
        found["H, meV"] = errors["H"]["mae"] * 1e3
    if "DM" in errors:
        found["DM"] = errors["DM"]["mae"]
    return found


def converged_run(outcome: Outcome) -> Path | None:
    """Where the converged matrices of a kept-back run are."""
    if outcome.default is not None and outcome.default_ended:
        return Path(outcome.default.folder)
    return Path(outcome.guess.folder) if outcome.ok and outcome.guess is not None else None


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Iterations of the starts and of the default, what is saved on average and in the worst run, times with everything, and what went wrong."""
    good = [outcome for outcome in outcomes if outcome.ok and outcome.ratio is not None]
    ratios = [outcome.ratio for outcome in good if outcome.ratio is not None]
    moments = [outcome.moments for outcome in good if outcome.moments is not None]
    mine, default = mean_pair([outcome.iterations for outcome in good]) or (mean_alone(outcomes), np.nan)
    return {
        "taken": ", ".join(sorted({outcome.route for outcome in good})),
        "iterations": mine,
        "default": default,
        "saved": f"{1 - np.mean(ratios):.0%}" if ratios else "",
        "worst": f"{1 - max(ratios):.0%}" if ratios else "",
        "to 1 meV an atom": mean_until(good, ROUGHLY),
        "to 0.01 meV an atom": mean_until(good, CLOSELY),
        "first energy off, meV an atom": as_pair(mean_pair([in_meV(outcome.first_errors) for outcome in good]), ".2g"),
        "CPU s": as_pair(mean_pair([outcome.cpu_seconds for outcome in good]), ".1f"),
        "moments": as_pair(mean_pair(moments), ".3f"),
        "moments apart, most": max((abs(abs(a) - abs(b)) for a, b in moments), default=0.0),  # all may be turned over
        "H - DM": float(np.mean([o.apart for o in good if o.apart is not None] or [np.nan])),
        "runs": len(outcomes),
        "wrong": sum(not outcome.ok for outcome in outcomes),
        "default not converged": sum(o.default is not None and not o.default_ended for o in outcomes),
        "why wrong": "; ".join(sorted({outcome.verdict for outcome in outcomes if not outcome.ok})),
    }


def mean_alone(outcomes: Sequence[Outcome]) -> float:
    """Mean of the iterations of the starts that ended well, where no default start did."""
    found = [float(o.iterations[0]) for o in outcomes if o.ok and o.iterations[0]]
    return float(np.mean(found or [np.nan]))


def mean_until(outcomes: Sequence[Outcome], near: float) -> str:
    """Iterations until the energy is near, of the start and of the default, as "1.2 / 4.5"."""
    return as_pair(mean_pair([outcome.until(near) for outcome in outcomes]), ".1f")


def as_pair(means: tuple[float, float] | None, form: str) -> str:
    return " / ".join(f"{mean:{form}}" for mean in means) if means else ""


def in_meV(pair: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    guess, default = (None if energy is None else energy * 1e3 for energy in pair)
    return guess, default


def mean_pair(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[float, float] | None:
    """The means of pairs in which both are known."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return (float(np.mean([a for a, _ in known])), float(np.mean([b for _, b in known]))) if known else None
