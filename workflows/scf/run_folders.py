"""Runs of many folders: a guess in a copy of each, the user's command there, and the default start beside it where it is wanted or needed."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from converters.errors import Kind, Refused
from converters.interrupts import kills_as_interrupts
from converters.starts.start import MODEL_VARIABLE, Progress, Target
from converters.starts.targets import code_of_scripts, find_target, restart_module, script_module
from workflows.export import Request, export, stop_lines
from workflows.processes.threads import threads_for
from workflows.scf.answering import Answers, predict_for
from workflows.scf.copies import DEFAULT, GUESS, Record, copy_of, earlier_record, fresh_copy, key_of
from workflows.scf.judge import compare, judge
from workflows.scf.outcome import Outcome, Start
from workflows.scf.queues import Engine, Queue
from workflows.terminal.progress import Tell, silent

if TYPE_CHECKING:
    from converters.frames.frame import Frame
    from slem_plugin.model import Model

Made = TypeVar("Made")

# Two SCFs that end once their energies change by less than some number are farther apart than that number.
NEAR_THE_END = 10.0


@dataclass(frozen=True)
class Job:
    """The engine that runs the command, the words that say what it runs, the model, and how the runs are made."""

    engine: Engine
    command: str
    model_path: Path
    compare: bool = False
    overwrite: bool = False
    at_once: int = 1
    request: Request = field(default_factory=Request)


class Board:
    """What goes on in many folders, told as one line."""

    def __init__(self, total: int, tell: Tell) -> None:
        self.total, self.tell, self.done = total, tell, 0
        self.running: dict[str, str] = {}
        self.lock = Lock()

    def say(self, folder: Path, what: str | None) -> None:
        """What a folder does now; None when it is done."""
        with self.lock:
            if what is None:
                self.done += 1
                self.running.pop(folder.name, None)
            else:
                self.running[folder.name] = what
            self.tell(self.done, self.total, "; ".join(f"{name} {what}" for name, what in self.running.items()))


def run_folders(folders: Sequence[Path], job: Job, tell: Tell = silent) -> list[Outcome]:
    """Start each run from the model's prediction, and with `compare` from its own default too.

    The folders are never changed: the runs happen in copies beside them, so that relative paths still hold. A guess that
    cannot be made, fails, is ignored or leads elsewhere is reported, and the default start is run in its place. What an
    earlier call finished is not run again.
    """
    from slem_plugin.checkpoint import load_model

    model = load_model(job.model_path)
    work = Work(model, job, Board(len(folders), tell))
    if isinstance(job.engine, Queue):  # jobs of a queue may run on machines that cannot ask this one
        return run_all(folders, work)
    with Answers(work.predicting, {str(job.model_path.resolve()): partial(predict_for, model)}) as answers:
        return run_all(folders, replace(work, environment=answers.environment))


def run_all(folders: Sequence[Path], work: "Work") -> list[Outcome]:
    """Each folder in its turn, as many at once as the job allows."""
    return each_in_turn(work.run, folders, work.job.at_once, work.job.engine)


@kills_as_interrupts()
def each_in_turn(run: Callable[[Path], Made], folders: Sequence[Path], at_once: int, engine: Engine) -> list[Made]:
    """What a function that waits for an engine makes of each folder; where it ends before its time, what it waits for ends too."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run, folder) for folder in folders]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            engine.stop.set()
            raise


@dataclass(frozen=True)
class Subject:
    """A folder whose run is to be started: what its input asks for (None: it is a script, which asks itself), and how its copies are read."""

    target: Target | None
    read_progress: Callable[[Path], Progress]
    energy_tolerance: Callable[[Path], float]

    @classmethod
    def of(cls, folder: Path, stop_at: float | None) -> "Subject":
        code = code_of_scripts(folder)
        if code is not None and stop_at is not None:
            raise Refused(Kind.NO_START, folder, "has a script, which says itself when its SCF ends", "no --stop-at")
        if code is not None:
            script = script_module(code)
            return cls(None, script.read_progress, script.energy_tolerance)
        target = find_target(folder)
        return cls(target, restart_module(target.code).read_progress, lambda _: target.energy_tolerance)


@dataclass(frozen=True)
class Work:
    """Runs one folder after the other, many at once; predictions are made one by one, where there is a model."""

    model: "Model | None"
    job: Job
    board: Board
    predicting: Lock = field(default_factory=Lock)
    start: "Callable[[Target], Frame] | None" = None  # what makes a start without a model
    environment: Mapping[str, str] = field(default_factory=dict)  # where scripts may ask for their predictions

    def run(self, folder: Path) -> Outcome:
        outcome = Outcome(str(folder), "ok")
        try:
            outcome = self.run_guess(outcome, folder, Subject.of(folder, self.job.request.stop_at))
        except Refused as refusal:
            outcome = replace(outcome, verdict=f"not run: {refusal}")
        self.board.say(folder, None)
        return outcome

    def run_guess(self, outcome: Outcome, folder: Path, subject: Subject) -> Outcome:
        job = self.job
        wanted = asdict(replace(job.request, into=None))
        key = key_of(folder, job.command, fingerprint(job.model_path), json.dumps(wanted, default=str))
        record = earlier_record(folder, GUESS, key, job.overwrite)
        plain_key = key_of(folder, job.command, str(job.request.stop_at))
        earlier = earlier_record(folder, DEFAULT, plain_key, job.overwrite)
        if record is None:
            record, refusal = self.stage(folder, subject, key)
            outcome = replace(outcome, verdict=f"no guess: {refusal}" if refusal else "ok")
        said = {name: getattr(record, name) for name in ("route", "notes", "seconds_before", "cpu_before", "apart")}
        outcome = replace(outcome, **said)
        if outcome.ok:
            asks = subject.target is None
            environment = {MODEL_VARIABLE: str(job.model_path.resolve()), **self.environment} if asks else {}
            guess = self.finish(folder, GUESS, subject, record, environment)
            atoms = guess.progress.atoms if subject.target is None else len(subject.target.labels_a)
            tolerance = subject.energy_tolerance(copy_of(folder, GUESS))
            tolerance = max(tolerance, NEAR_THE_END * (job.request.stop_at or 0.0) * (atoms or 1))
            outcome = replace(outcome, guess=guess, verdict=judge(guess), use=guess.folder)
            outcome = replace(outcome, tolerance=tolerance, atoms=atoms)
        if job.compare or not outcome.ok:
            if earlier is None:
                self.stage_default(folder, subject.target, plain_key)
                earlier = Record(plain_key)
            default = self.finish(folder, DEFAULT, subject, earlier, {})
            outcome = compare(replace(outcome, default=default))
        return outcome

    def stage_default(self, folder: Path, target: Target | None, key: str) -> None:
        """A copy for the code's own start, with the same end of the SCF."""
        copy = fresh_copy(folder, DEFAULT, key)
        if target is not None and (lines := stop_lines(target, self.job.request.stop_at)):
            name, content = restart_module(target.code).patch(target, lines)
            (copy / name).write_text(content)

    def stage(self, folder: Path, subject: Subject, key: str) -> tuple[Record, str]:
        """A copy with the guess and the changed input in it, what is to be known about it, and why there is none."""
        began, cpu_began = time.perf_counter(), time.process_time()
        self.board.say(folder, "waits for its prediction")
        copy = fresh_copy(folder, GUESS, key)
        record = Record(key, route=self.job.request.route)
        refusal = ""
        if subject.target is not None:
            try:
                record = self.put_guess(copy, subject.target, record)
            except Refused as why:
                refusal = str(why)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        record = replace(record, seconds_before=seconds, cpu_before=cpu_seconds)
        record.save(copy)
        return record, refusal

    def put_guess(self, copy: Path, target: Target, record: Record) -> Record:
        staged = copy / "slem-start"
        with self.predicting, threads_for(len(target.labels_a)):
            done = export(self.matrices_for(copy, target), staged, self.job.request, target)
        if self.job.request.route == "auto" and done.agreement is not None and done.agreement.doubt:
            # Both are wrong then, and the code's own start is better than either (docs/results.md).
            shutil.rmtree(staged)
            raise Refused(Kind.NO_START, copy, f"is not started: {done.agreement.doubt}{self.wrong_density}")
        for path in sorted(staged.iterdir()):
            os.replace(path, copy / path.name)
        staged.rmdir()
        apart = done.agreement.apart if done.agreement else None
        return replace(record, route=done.route.name, notes=done.notes, apart=apart)

    @property
    def wrong_density(self) -> str:
        """What is to be known of the DM of a model that learned the images of a coarse k mesh: then H may be right, and DM alone is not."""
        if self.model is None or not self.model.history.get("DM repeated at"):
            return ""
        return (
            "; this model learned a DM to which images of a coarse k mesh add, so its DM may be what is wrong: "
            "learn from runs converted with --dm-mesh auto, or name a route from H (--route h2dm)"
        )

    def matrices_for(self, copy: Path, target: Target) -> "Frame":
        """What the run in a copy is to start from."""
        if self.start is not None:
            return self.start(target)
        if self.model is None:
            raise Refused(Kind.NO_START, copy, "has no model to start from")
        from slem_plugin.prediction import predict

        return predict(self.model, target.atoms)

    def finish(
        self, folder: Path, kind: str, subject: Subject, record: Record, environment: Mapping[str, str]
    ) -> Start:
        """Run the command in a copy, or wait for its job, unless it is done; the copy remembers how it went."""
        if record.start is not None:
            return record.start
        copy, engine = copy_of(folder, kind), self.job.engine
        self.board.say(folder, f"{kind} start begins")
        if not record.job:
            record = replace(record, job=engine.begin(copy, environment))
            record.save(copy)

        def look() -> None:
            try:
                iterations = subject.read_progress(copy).iterations
            except Refused:  # the log is being written
                return
            if iterations:
                self.board.say(folder, f"{kind} start, iteration {iterations}")

        ended = engine.wait(copy, record.job, environment, look)
        start = Start(
            str(copy), ended.seconds, ended.returned, subject.read_progress(copy), cpu_seconds=ended.cpu_seconds
        )
        replace(record, start=start).save(copy)
        return start


def fingerprint(model_path: Path) -> str:
    """A text that is another one when the model is."""
    files = [model_path] if model_path.is_file() else sorted(model_path.glob("*.safetensors"))
    return " ".join(f"{path.resolve()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
