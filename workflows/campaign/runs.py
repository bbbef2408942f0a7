"""One run of a campaign: from a prediction where there is one that can be trusted, else from the code's default, with its verdict."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from converters.errors import Kind, Refused
from converters.starts.start import MODEL_VARIABLE
from workflows.campaign.elsewhere import finished_elsewhere
from workflows.campaign.guide import Guide, name_for_scripts
from workflows.campaign.kept import was_cut_off
from workflows.campaign.worth import EARLIER
from workflows.export import Request
from workflows.scf.copies import DEFAULT, GUESS, RECORD, Record, copy_of, key_of, read_record, remove_copy
from workflows.scf.judge import LOG, compare, judge
from workflows.scf.outcome import Outcome, Start, outcome_of
from workflows.scf.queues import Engine, job_named_in
from workflows.scf.run_folders import Board, Job, Subject, Work

# A command that takes less than this part of its time of the processor lets others work.
WAITS = 0.1


@dataclass(frozen=True)
class Ran:
    """What became of a folder, the number of the model that started it (0: the code's default, EARLIER: the runs before it), and what failed starts have cost, in seconds.

    A control began from the default for comparison, though there was a model; `refused` is the model whose prediction was not trusted.
    """

    outcome: Outcome
    model: int = 0
    lost: float = 0.0
    control: bool = False
    refused: int = 0

    @property
    def start(self) -> Start | None:
        """The run that is gone on with."""
        both = (self.outcome.guess, self.outcome.default)
        return next((start for start in both if start is not None and start.folder == self.outcome.use), None)

    def as_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("model", "lost", "control", "refused")}
        return {"outcome": self.outcome.as_dict(), **plain}


def ran_of(plain: Mapping[str, Any]) -> Ran:
    control, refused = bool(plain.get("control")), int(plain.get("refused", 0))  # earlier versions had none
    return Ran(outcome_of(plain["outcome"]), int(plain["model"]), float(plain["lost"]), control, refused)


@dataclass(frozen=True)
class Runner:
    """Runs folders of a campaign, whose folder `home` is in the key of each copy: no other campaign takes them for its own.

    `environment` is for scripts that start from a prediction.
    """

    engine: Engine
    command: str
    home: Path
    request: Request
    board: Board
    environment: Mapping[str, str] = field(default_factory=dict)
    predicting: Lock = field(default_factory=Lock)

    def run(self, folder: Path, guide: Guide | None, control: bool = False) -> Ran:
        """Run a folder, or go on with its run; a finished run that lies in the folder itself is taken as it is."""
        try:
            subject = Subject.of(folder, self.request.stop_at)
            if (there := finished_elsewhere(folder, subject)) is not None:
                return Ran(there)
            ran = self.run_here(folder, subject, None if control else guide)
            return replace(ran, control=control and ran.outcome.guess is None)
        except (Refused, OSError) as error:
            return Ran(Outcome(str(folder), f"not run: {error}"))
        finally:
            self.board.say(folder, None)

    def run_here(self, folder: Path, subject: Subject, guide: Guide | None) -> Ran:
        key, outcome = self.key(folder), Outcome(str(folder), "ok")
        guess, default, refused = self.earlier(folder, GUESS, key), self.earlier(folder, DEFAULT, key), 0
        if guide is not None and guide.number == EARLIER and subject.target is None and not self.environment:
            guide, refused = None, EARLIER  # jobs of a queue cannot ask
        if guess is None and default is None and guide is not None:
            guess, refusal = self.stage(folder, subject, key, guide)
            if refusal:
                what = "start of earlier runs" if guide.number == EARLIER else "prediction"
                outcome, refused = replace(outcome, notes=(f"no {what} was used: {refusal}",)), guide.number
        if guess is None:
            return Ran(self.from_default(outcome, folder, subject, key, default), refused=refused)
        return self.from_guess(outcome, folder, subject, key, guess, default)

    def key(self, folder: Path) -> str:
        wanted = json.dumps(asdict(replace(self.request, into=None)), default=str)
        return key_of(folder, "campaign", str(self.home.resolve()), self.command, wanted)

    def earlier(self, folder: Path, kind: str, key: str) -> Record | None:
        """What the copy of an earlier call remembers of its run, which is ended or goes on; one that can do neither is removed."""
        copy = copy_of(folder, kind)
        if not copy.exists():
            return None
        record = read_record(copy)
        if record is None or record.key != key:
            raise Refused(Kind.OUTPUT_EXISTS, copy, "exists, and is not of this campaign with these inputs; remove it")
        if record.start is None and not record.job and (copy / LOG).exists():  # killed while a queue took the job
            record = replace(record, job=job_named_in((copy / LOG).read_text()))
        if record.start is None and (not record.job or was_cut_off(copy)):
            remove_copy(copy)
            return None
        return record

    def stage(self, folder: Path, subject: Subject, key: str, guide: Guide) -> tuple[Record | None, str]:
        """A copy with a prediction in it, or why there is none."""
        work = self.work(guide)
        record, refusal = work.stage(folder, subject, key)
        record = replace(record, model=guide.number)
        record.save(copy_of(folder, GUESS))
        if refusal:
            remove_copy(copy_of(folder, GUESS))
            return None, refusal
        return record, ""

    def work(self, guide: Guide | None) -> Work:
        """What slem-scf does with a folder, for this campaign."""
        job = Job(self.engine, self.command, self.home, request=self.request)
        if guide is None or guide.start is not None:
            return Work(None, job, self.board, self.predicting, None if guide is None else guide.start)
        return Work(guide.model, job, self.board, self.predicting)

    def from_default(
        self, outcome: Outcome, folder: Path, subject: Subject, key: str, record: Record | None
    ) -> Outcome:
        """The run from the code's own start."""
        work = self.work(None)
        if record is None:
            record = Record(key)
            work.stage_default(folder, subject.target, record.key)
        start = timed(work.finish(folder, DEFAULT, subject, record, {}))
        return replace(
            outcome, default=start, verdict=judge_default(start), use=start.folder, atoms=atoms_of(subject, start)
        )

    def from_guess(
        self, outcome: Outcome, folder: Path, subject: Subject, key: str, record: Record, default: Record | None
    ) -> Ran:
        """The run from a prediction; where it is no success and did not start by itself from the code's default, that is run too."""
        environment = {}
        if subject.target is None:
            environment = {MODEL_VARIABLE: name_for_scripts(self.home, record.model), **self.environment}
        start = timed(self.work(None).finish(folder, GUESS, subject, record, environment))
        said = {name: getattr(record, name) for name in ("route", "notes", "seconds_before", "cpu_before", "apart")}
        outcome = replace(outcome, **said, atoms=atoms_of(subject, start))
        verdict, taken = judge_default(start), start.progress.took_guess
        if taken is not True and (verdict == "ok" or (taken is False and not start.returned)):
            note = start.progress.note or "the run did not read the prediction"
            notes = (*outcome.notes, f"started by default: {note}")
            outcome = replace(outcome, default=start, verdict=verdict, use=start.folder, notes=notes)
            return Ran(outcome, refused=record.model)
        outcome = replace(outcome, guess=start, verdict=judge(start), use=start.folder)
        if outcome.ok:
            return Ran(outcome, record.model)
        own = self.from_default(outcome, folder, subject, key, default)
        outcome = compare(replace(outcome, default=own.default))
        return Ran(outcome, record.model, lost=start.cpu_seconds or start.seconds or 0.0)


def timed(start: Start) -> Start:
    """A run with its seconds. Queues do not say them: between the first and the last file that their job has left lie fewer, never more.

    A command that only waits (srun) says nothing of the processors.
    """
    copy = Path(start.folder)
    if start.cpu_seconds is not None and start.cpu_seconds < WAITS * (start.seconds or 0.0):
        return replace(start, cpu_seconds=None)
    if start.seconds is not None or not (copy / LOG).exists():
        return start
    handed_over = (copy / LOG).stat().st_mtime
    times = [path.stat().st_mtime for path in copy.rglob("*") if path.is_file() and path.name != RECORD]
    times = [time for time in times if time > handed_over]
    return replace(start, seconds=max(times) - min(times)) if len(times) > 1 else start


def judge_default(start: Start) -> str:
    """Why a run from the code's own start is no success, or "ok"."""
    return judge(replace(start, progress=replace(start.progress, took_guess=True, note="")))


def atoms_of(subject: Subject, start: Start) -> int | None:
    return start.progress.atoms if subject.target is None else len(subject.target.labels_a)
