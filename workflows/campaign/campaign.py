"""A campaign: runs go on, their frames are learned, and what is learned starts the runs that are left; the same command goes on after any end."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused
from converters.runs import counted
from converters.starts.start import EARLIER_RUNS
from workflows.campaign.earlier import EarlierRuns
from workflows.campaign.guide import Guide, path_of_model
from workflows.campaign.journal import Journal
from workflows.campaign.learning import DATA, Learning
from workflows.campaign.order import choose_order
from workflows.campaign.postponed import Postponed
from workflows.campaign.runs import Ran, Runner, ran_of
from workflows.campaign.worth import EARLIER, Ledger, Row, is_control
from workflows.convert import InputOutcome, Options, convert, find
from workflows.export import Request
from workflows.processes.engines import Engine as OneProcess
from workflows.scf.answering import Answers
from workflows.scf.copies import DEFAULT, GUESS, RECORD, copy_of, remove_copy
from workflows.scf.outcome import Start
from workflows.scf.queues import Engine, Queue
from workflows.scf.run_folders import Board
from workflows.terminal.progress import silent

# So many runs are learned before the next one begins, as each makes its start better; later ones while it goes.
FIRST_LEARNED = 8
# While all runs start from the default nobody waits for their frames: so many go into the dataset together, which opens it once.
PORTION, POSTPONED = 16, "is to go into the dataset with those after it"
# So many times as many are there before a start of them is tried again.
MOST = 4
NOT_SOUND = "the run did not end well"
# Seconds between two looks at the training and the table, and at a dataset that others have; how long they may have it.
SHOWN, LOOK, PATIENCE = 1.0, 0.2, 60.0


@dataclass(frozen=True)
class Plan:
    """What a campaign is asked to do; `budget` are seconds after which no run begins."""

    folders: Sequence[Path]
    command: str
    engine: Engine
    home: Path
    at_once: int = 1
    model: Path | None = None
    budget: float | None = None
    again: bool = False
    request: Request = field(default_factory=Request)


@dataclass(frozen=True)
class Standing:
    """How a campaign stands, for those who look on."""

    total: int
    done: Sequence[Ran]
    before: int  # of them by earlier calls
    running: str
    ledger: Ledger
    trained: Sequence[dict[str, Any]]
    frames: int
    training: float  # seconds of processors
    own: float  # the same of predictions, conversions and this program itself
    elapsed: float
    said: str = ""
    refused: Sequence[str] = ()

    @property
    def saved(self) -> float:
        """Seconds of processors, everything counted."""
        return self.ledger.saved - self.training - self.own

    @property
    def share(self) -> float:
        """The part that is saved of what all of these runs would have taken from the default start."""
        all_from_default = self.ledger.spent + self.ledger.saved
        return self.saved / all_from_default if all_from_default else 0.0


def run_campaign(plan: Plan, tell: Callable[[Callable[[], Standing]], None]) -> Standing:
    """Run all folders of a plan, or what an earlier call has left of them."""
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(plan.home))
        folders = folders_of(plan, journal)
        journal.add("call", command=plan.command, runs=len(folders))
        campaign = Campaign(plan, journal, folders, tell, stack)
        return campaign.run()


def folders_of(plan: Plan, journal: Journal) -> list[Path]:
    """The folders of a campaign in the order of their runs: that of the journal, with those that are new behind."""
    given = list(dict.fromkeys(path.resolve() for path in plan.folders))
    given = [path for path in given if not (path / RECORD).exists()]  # no copies in which runs were made
    begun = journal.of("campaign")
    if begun and begun[0]["command"] != plan.command:
        found = f'holds a campaign of the command "{begun[0]["command"]}"'
        raise Refused(Kind.OUTPUT_EXISTS, plan.home, found, "the same command, or another folder")
    known = [Path(name) for event in begun for name in event["folders"]]
    new = sorted(set(given) - set(known), key=lambda path: counted(str(path)))
    if not given:
        raise Refused(Kind.NO_RUN, plan.home, "is given no folders of runs")
    if new:
        new = [new[n] for n in choose_order(new)]
        journal.add("campaign", command=plan.command, folders=[str(path) for path in new])
    return [path for path in (*known, *new) if path in set(given)]


class Campaign:
    """One call of a campaign: what runs, what is learned, and what has come of it so far."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        folders: list[Path],
        tell: Callable[[Callable[[], Standing]], None],
        stack: ExitStack,
    ) -> None:
        self.plan, self.journal, self.folders, self.tell = plan, journal, folders, tell
        self.began, self.own_before = time.monotonic(), own_seconds(journal)
        self.done: dict[str, Ran] = {}
        self.learned: dict[str, str] = {}
        for name, event in journal.of_folders().items():
            self.done[name], self.learned[name] = ran_of(event), event["learned"]
        for name in [name for name, ran in self.done.items() if not (ran.outcome.guess or ran.outcome.default)]:
            del self.done[name], self.learned[name]  # these were never run
        if plan.again:
            self.forget_failures()
        self.before = frozenset(self.done)
        self.offered = sum(bool(ran.model or ran.refused) or ran.control for ran in self.done.values())
        self.postponed = Postponed(self.learn)
        self.unseen = False  # frames that earlier runs do not know of
        self.learning = Learning(plan.home, journal)
        self.learning.complete = self.learn_postponed
        self.learning.settle = partial(self.take_learned, wait=True)
        self.guide: Guide | None = self.learning.newest
        if plan.model is not None and self.guide is None:
            self.learning.begin_with(plan.model)
            self.guide = self.learning.newest
        self.earlier = EarlierRuns(plan.home / DATA)
        self.running: dict[Future[Ran], Path] = {}
        predicting = Lock()
        environment = {}
        if not isinstance(plan.engine, Queue):  # jobs of a queue may run on machines that cannot ask this one
            known = {EARLIER_RUNS: self.earlier.start_of_question}
            environment = dict(stack.enter_context(Answers(predicting, known)).environment)
        self.board = Board(len(folders), silent)
        self.runner = Runner(plan.engine, plan.command, plan.home, plan.request, self.board, environment, predicting)

    def forget_failures(self) -> None:
        """Runs that failed are to be made again."""
        for name in [name for name, ran in self.done.items() if not ran.outcome.ok]:
            for kind in (GUESS, DEFAULT):
                remove_copy(copy_of(Path(name), kind))
            del self.done[name], self.learned[name]
            self.journal.add("again", folder=name)

    def run(self) -> Standing:
        """Until nothing is left, or the time is over."""
        self.learn_again()
        waiting = [folder for folder in self.folders if str(folder) not in self.done]
        pool = ThreadPoolExecutor(self.plan.at_once)
        ended: list[tuple[Path, Ran]] = []
        try:
            while waiting or self.running or ended:
                over = self.plan.budget is not None and time.monotonic() - self.began > self.plan.budget
                waiting = [] if over else waiting
                learned = bool(ended)
                while ended and len(self.earlier) < FIRST_LEARNED:
                    self.take_and_learn(*ended.pop(0))
                while waiting and len(self.running) < self.plan.at_once:
                    folder = waiting.pop(0)
                    guide = self.chosen()
                    if guide is not None and guide.number == EARLIER:
                        self.look_at_all()
                    control = guide is not None and is_control(self.offered)
                    self.offered += guide is not None
                    self.running[pool.submit(self.runner.run, folder, guide, control)] = folder
                for folder, ran in ended:  # while the next runs go
                    self.take_and_learn(folder, ran)
                self.learn_beside(PORTION if waiting and not self.ledger.is_due() else 1)
                if newer := self.learning.poll():
                    self.guide = self.learning.newest
                if learned or newer:
                    self.learning.consider(self.ledger, self.sound + len(self.postponed), len(waiting))
                self.tell(lambda: self.standing)
                ready, _ = wait(self.running, SHOWN, FIRST_COMPLETED)
                ended = [(self.running.pop(future), future.result()) for future in ready]
        except KeyboardInterrupt:
            self.plan.engine.stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self.learn_postponed()
            self.postponed.close()
            self.learning.close()
            self.journal.add("ended call", own=time.process_time())
            self.leave_model()
        return self.standing

    def leave_model(self) -> None:
        """Put the best model where people look for it, after Ctrl-C too."""
        if (best := self.best_model or self.guide) is not None:
            folder = self.plan.home / "model"
            folder.mkdir(exist_ok=True)
            shutil.copyfile(best.path, folder / "best.safetensors")

    def chosen(self) -> Guide | None:
        """What starts the next run: what has been tried too little, earlier runs before the newest model, else what saves most, if anything does."""
        ledger, model = self.ledger, self.best_model
        gain = ledger.gain(EARLIER)
        if len(self.earlier) and (gain is None or (gain <= 0 and ledger.is_due() and self.knows_most)):
            return self.from_earlier
        if model is not None and (ledger.gain(model.number) or np.inf) > max(gain or 0.0, 0.0):
            return model
        return self.from_earlier if gain is not None and gain > 0 else None

    @property
    def knows_most(self) -> bool:
        """Whether few runs wait for their place in the dataset: a trial of what many runs start need not hold up the next run."""
        return MOST * len(self.postponed) <= self.sound

    @property
    def from_earlier(self) -> Guide:
        return Guide(EARLIER, self.plan.home / DATA, self.earlier.start_of_target)

    @property
    def best_model(self) -> Guide | None:
        """The newest model, and once it has been tried the one that saves most, if any does."""
        if self.guide is None:
            return None
        ledger, newest = self.ledger, self.guide.number
        gains = {n: gain for n in range(1, newest + 1) if (gain := ledger.gain(n)) is not None}
        if newest not in gains:
            return self.guide
        best = max(gains, key=lambda n: gains[n])
        return Guide(best, path_of_model(self.plan.home, best)) if gains[best] > 0 else None

    def take(self, folder: Path, ran: Ran, learned: str) -> None:
        """Write down what became of a run, and why it was not learned."""
        self.done[str(folder)], self.learned[str(folder)] = ran, learned
        self.journal.add("done", folder=str(folder), learned=learned, **ran.as_dict())

    def take_and_learn(self, folder: Path, ran: Ran) -> None:
        """Write down what became of a run and put its frames into the dataset, at once where they may start the next one."""
        gain = self.ledger.gain(EARLIER)
        wanted = len(self.earlier) < FIRST_LEARNED or self.learning.newest is not None or gain is None or gain > 0
        if wanted or not is_sound(ran):
            self.learn_postponed()
            self.take(folder, ran, self.learn([ran])[0])
            self.earlier.look()
            return
        self.take(folder, ran, POSTPONED)
        self.postponed.add(folder, ran)

    def learn_beside(self, least: int) -> None:
        """Put the frames of runs that wait for it into the dataset while others go, so many together."""
        self.take_learned(wait=False)
        if len(self.postponed.waiting) >= least:
            self.postponed.begin()

    def take_learned(self, *, wait: bool) -> None:
        for folder, ran, reason in self.postponed.take_ended(wait=wait):
            self.take(folder, ran, reason)
            self.unseen = True

    def look_at_all(self) -> None:
        """Make starts of all runs that are in the dataset."""
        self.take_learned(wait=False)
        if self.unseen:
            self.earlier.look()
            self.unseen = False

    def learn_postponed(self) -> None:
        """Put the frames of all runs that wait for it into the dataset; after a kill the next call does."""
        while len(self.postponed):
            self.postponed.begin()
            self.take_learned(wait=True)

    def learn(self, runs: Sequence[Ran]) -> list[str]:
        """Put the frames of runs into the dataset; of each "", or why it has none."""
        folders = [Path(ran.start.folder) for ran in runs if is_sound(ran) and ran.start is not None]
        try:
            found = self.convert(folders) if folders else []
        except (Refused, OSError) as error:
            return [str(error) if is_sound(ran) else NOT_SOUND for ran in runs]
        return [why_not_learned(ran, found) for ran in runs]

    def convert(self, folders: Sequence[Path]) -> list[InputOutcome]:
        """Convert runs, as soon as nobody else has the dataset open."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                items = find([*folders], list(KNOWN))
                return convert(items, self.plan.home / DATA, Options(), OneProcess(), lambda _: None)
            except Refused as refusal:
                if refusal.kind is not Kind.IN_USE or time.monotonic() > until:
                    raise
                time.sleep(LOOK)

    def learn_again(self) -> None:
        """What could not be learned by an earlier call may be learned by this one."""
        missing = [name for name, reason in self.learned.items() if reason and self.done[name].outcome.ok]
        for name, now in zip(missing, self.learn([self.done[name] for name in missing]), strict=True):
            if now != self.learned[name]:
                self.take(Path(name), self.done[name], now)
        self.earlier.look()

    @property
    def sound(self) -> int:
        """Runs that were learned."""
        return sum(not reason for reason in self.learned.values())

    @property
    def ledger(self) -> Ledger:
        return Ledger([row for ran in self.done.values() if (row := row_of(ran)) is not None])

    @property
    def standing(self) -> Standing:
        names = [name for name in map(str, self.folders) if name in self.done]
        without = [name for name in names if self.learned[name] not in ("", POSTPONED)]
        refused = [self.learned[name] for name in without if self.done[name].start is not None]
        return Standing(
            len(self.folders),
            [self.done[name] for name in names],
            sum(name in self.before for name in names),
            "; ".join(f"{name} {what}" for name, what in self.board.running.items()),
            self.ledger,
            self.learning.trained,
            self.sound,
            self.learning.cpu,
            self.own_before + time.process_time(),
            time.monotonic() - self.began,
            self.learning.failed or self.learning.said,
            refused,
        )


def row_of(ran: Ran) -> Row | None:
    """What a run says about costs; nothing where it did not end well. A model whose start failed has the iterations of the default."""
    start = ran.start
    if start is None or not ended_well(start) or start.progress.iterations is None:
        return None
    seconds = start.cpu_seconds if start.cpu_seconds is not None else start.seconds
    before = ran.outcome.cpu_before if ran.model else 0.0
    return Row(start.progress.iterations, seconds, ran.model, ran.lost, ran.control, ran.refused, before)


def is_sound(ran: Ran) -> bool:
    """Whether a run has frames that can be learned."""
    return ran.start is not None and ended_well(ran.start)


def why_not_learned(ran: Ran, found: Sequence[InputOutcome]) -> str:
    """Why a run is not in the dataset, of what became of all inputs that were found; "" where it is."""
    if not is_sound(ran) or ran.start is None:
        return NOT_SOUND
    mine = [one for one in found if Path(one.path).is_relative_to(ran.start.folder)]
    reasons = [one.reason for one in mine if one.status not in ("converted", "there already")]
    return "; ".join(reasons) if reasons or mine else "no matrices were found"


def ended_well(start: Start) -> bool:
    return not start.returned and start.progress.converged is not False


def own_seconds(journal: Journal) -> float:
    """What earlier calls have taken of processors, besides runs and trainings; killed ones did not say."""
    return sum(float(event["own"]) for event in journal.of("ended call"))
