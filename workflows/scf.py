"""SCF runs from predicted starts: the user's own command in a copy of the run folder, beside the default start."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused
from converters.starts.start import MODEL_VARIABLE, Progress, Target
from converters.starts.targets import code_of_scripts, find_target, restart_module, script_module
from slem_plugin.checkpoint import load_model
from slem_plugin.model import Model
from slem_plugin.prediction import predict
from workflows.export import Request, export
from workflows.terminal.progress import Tell, silent

LOG = "slem-scf.log"  # what the command printed, in each copy
# Results of earlier runs, which a copy must not start from or be mistaken for.
LOGS = ("*.out", "*.log", "*.std")
RESULTS = (*LOGS, *dict.fromkeys(pattern for about in KNOWN.values() for pattern in about.results))


@dataclass(frozen=True)
class Start:
    """One run of the command in a copy of the folder: how it went, and the seconds that it took."""

    folder: str
    seconds: float
    returned: int
    progress: Progress


@dataclass(frozen=True)
class Outcome:
    """What became of one run folder. `verdict` is "ok", or why this is no success; `use` is the run to go on with."""

    folder: str
    verdict: str
    use: str = ""
    route: str = ""
    seconds_before: float = 0.0
    guess: Start | None = None
    default: Start | None = None
    tolerance: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    @property
    def difference(self) -> float | None:
        """Energy (eV) from the guess less that of the default start."""
        found = [start.progress.energy if start is not None else None for start in (self.guess, self.default)]
        return None if found[0] is None or found[1] is None else found[0] - found[1]

    @property
    def ratio(self) -> float | None:
        """Iterations from the guess over those of the default start."""
        found = [start.progress.iterations if start is not None else None for start in (self.guess, self.default)]
        return found[0] / found[1] if found[0] and found[1] else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok, "difference": self.difference, "ratio": self.ratio}


def read_outcomes(path: Path) -> list[Outcome]:
    """What `as_dict` gave for each run of a call, from its JSON file."""
    try:
        return [outcome_of(run) for run in json.loads(path.read_text())["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(Kind.NOT_OURS, path, "is not what slem-scf -o writes") from error


def outcome_of(run: Mapping[str, Any]) -> Outcome:
    guess, default = (None if run[name] is None else start_of(run[name]) for name in ("guess", "default"))
    folder, verdict, use, route = (str(run[name]) for name in ("folder", "verdict", "use", "route"))
    return Outcome(folder, verdict, use, route, float(run["seconds_before"]), guess, default)


def start_of(run: Mapping[str, Any]) -> Start:
    found = run["progress"]
    residuals = tuple(float(residual) for residual in found["residuals"])
    iterations, energy = found["iterations"], found["energy"]
    progress = Progress(
        None if iterations is None else int(iterations), None if energy is None else float(energy), residuals=residuals
    )
    return Start(str(run["folder"]), float(run["seconds"]), int(run["returned"]), progress)


@dataclass(frozen=True)
class Job:
    """The command, the model, and how the runs are made."""

    command: str
    model_path: Path
    compare: bool = False
    overwrite: bool = False
    timeout: float | None = None
    request: Request = field(default_factory=Request)


def run_folders(folders: Sequence[Path], job: Job, tell: Tell = silent) -> list[Outcome]:
    """Start each run from the model's prediction, and with `compare` from its own default too.

    The folders are never changed: the runs happen in copies beside them, so that relative paths still hold. A guess that
    cannot be made, fails, is ignored or leads elsewhere is reported, and the default start is run in its place.
    """
    model = load_model(job.model_path)
    outcomes = []
    for done, folder in enumerate(folders):
        tell(done, len(folders), str(folder))
        outcomes.append(run_folder(folder, model, job))
    return outcomes


def run_folder(folder: Path, model: Model, job: Job) -> Outcome:
    began = time.perf_counter()
    outcome = Outcome(str(folder), "ok")
    try:
        subject = find_subject(folder)
        require_free(folder, job.overwrite)
        copy = fresh_copy(folder, "guess")
    except Refused as refusal:
        return replace(outcome, verdict=f"not run: {refusal}")
    environment = {}
    try:
        if subject.target is None:
            environment = {MODEL_VARIABLE: str(job.model_path.resolve())}
            outcome = replace(outcome, route=job.request.route)
        else:
            outcome = stage_guess(outcome, subject.target, copy, model, job)
    except Refused as refusal:
        outcome = replace(outcome, verdict=f"no guess: {refusal}")
    outcome = replace(outcome, seconds_before=time.perf_counter() - began)
    if outcome.ok:
        guess = run_command(copy, subject, job, environment)
        tolerance = subject.energy_tolerance(copy)
        outcome = replace(outcome, guess=guess, verdict=judge(guess), use=guess.folder, tolerance=tolerance)
    if job.compare or not outcome.ok:
        default = run_command(fresh_copy(folder, "default"), subject, job, {})
        outcome = compare(replace(outcome, default=default))
    return outcome


@dataclass(frozen=True)
class Subject:
    """A folder whose run is to be started: what its input asks for (None: it is a script, which asks itself), and how its copies are read."""

    target: Target | None
    read_progress: Callable[[Path], Progress]
    energy_tolerance: Callable[[Path], float]


def find_subject(folder: Path) -> Subject:
    code = code_of_scripts(folder)
    if code is not None:
        script = script_module(code)
        return Subject(None, script.read_progress, script.energy_tolerance)
    target = find_target(folder)
    return Subject(target, restart_module(target.code).read_progress, lambda _: target.energy_tolerance)


def copy_of(folder: Path, kind: str) -> Path:
    """Where the copy of a run folder goes: beside it."""
    folder = (folder if folder.is_dir() else folder.parent).resolve()
    return folder.parent / f"{folder.name}-slem-{kind}"


def require_free(folder: Path, overwrite: bool) -> None:
    """Remove the copies of an earlier call where that is wanted; refuse to go on where it is not."""
    for copy in (copy_of(folder, "guess"), copy_of(folder, "default")):
        if copy.exists() and not overwrite:
            raise Refused(Kind.OUTPUT_EXISTS, copy, "exists; remove it, or replace it with --overwrite")
        shutil.rmtree(copy, ignore_errors=True)


def fresh_copy(folder: Path, kind: str) -> Path:
    """A copy of the run folder without the results of earlier runs."""
    source = folder if folder.is_dir() else folder.parent
    return Path(shutil.copytree(source, copy_of(folder, kind), ignore=shutil.ignore_patterns(*RESULTS)))


def stage_guess(outcome: Outcome, target: Target, copy: Path, model: Model, job: Job) -> Outcome:
    """Predict, export, and put the files and the changed input into the copy."""
    staged = copy / "slem-start"
    done = export(predict(model, target.atoms), staged, job.request, target)
    for path in sorted(staged.iterdir()):
        os.replace(path, copy / path.name)
    staged.rmdir()
    return replace(outcome, route=done.route.name, notes=done.notes)


def run_command(copy: Path, subject: Subject, job: Job, environment: Mapping[str, str]) -> Start:
    """Run the user's command in a folder; what it prints goes to a file there."""
    variables = {key: value for key, value in os.environ.items() if key != MODEL_VARIABLE} | dict(environment)
    began = time.perf_counter()
    with (copy / LOG).open("wb") as log:
        process = subprocess.Popen(
            job.command,
            shell=True,  # the command is the user's own line, with its pipes and redirections
            cwd=copy,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all that it started can be ended with it
        )
        try:
            returned = process.wait(job.timeout)
        except subprocess.TimeoutExpired:
            returned = 124
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Start(str(copy), time.perf_counter() - began, returned, subject.read_progress(copy))


def judge(start: Start) -> str:
    """Why a run from a guess is no success, or "ok"."""
    progress, log = start.progress, f"see {start.folder}/{LOG}"
    if start.returned == 127:
        return f"the command was not found; {log}"
    if start.returned == 124:
        return f"the command took too long; {log}"
    if progress.took_guess is False:
        return f"the code ignored the guess; {log}"
    if start.returned:
        return f"the command failed with exit code {start.returned}; {log}"
    if progress.energy is None or progress.iterations is None:
        return f"the run left no energy; {log}"
    if progress.converged is False:
        return f"not converged after {progress.iterations} iterations"
    if progress.note:
        return f"the default start was taken: {progress.note}"
    if progress.took_guess is None:
        return f"nothing says that the code read the guess; {log}"
    return "ok"


def compare(outcome: Outcome) -> Outcome:
    """The verdict beside the default start, which is what to go on with unless the guess led to the same state."""
    default, apart = outcome.default, outcome.difference
    if default is None or default.returned or default.progress.energy is None or default.progress.converged is False:
        if outcome.ok:
            return replace(outcome, notes=(*outcome.notes, "the default start did not converge"))
        return replace(outcome, verdict=f"{outcome.verdict}; the default start failed too", use="")
    if not outcome.ok or apart is None:
        return replace(outcome, use=default.folder)
    if abs(apart) <= outcome.tolerance:
        return outcome
    verdict = f"another state: {apart:+.2e} eV from the default start, allowed are {outcome.tolerance:.0e}"
    return replace(outcome, verdict=verdict, use=default.folder)
