"""The training beside the runs: begun where it pays, in a process of its own, and ended when nothing is left to be started."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from converters.storage.dataset import Dataset
from workflows.campaign.guide import MODELS, Guide, path_of_model
from workflows.campaign.journal import Journal
from workflows.campaign.worth import BESIDES, Decision, Ledger

DATA = "data.h5"
# Frames before the first training, fewer where they hold so many atoms, and by how much they grow before the next one.
FIRST, FEWEST, ATOMS, GROWTH = 6, 3, 96, 1.5
# Where many runs are to come the first training waits for this part of them: three times the frames save a third more, in as many seconds.
AWAITED = 0.05


class Learning:
    """Trains models of a campaign, one after the other; all that came of them is in the journal."""

    def __init__(self, home: Path, journal: Journal) -> None:
        self.home, self.journal = home, journal
        self.process: subprocess.Popen[str] | None = None
        self.answer: Future[dict[str, Any]] | None = None
        self.said = ""
        self.cpu_before = seconds_of_trainings(journal)
        self.complete: Callable[[], object] = lambda: None  # writes what the dataset does not have yet
        self.settle: Callable[[], object] = lambda: None  # waits for whoever writes into the dataset
        self.failed = ""

    @property
    def trained(self) -> list[dict[str, Any]]:
        return [event for event in self.journal.of("trained") if "refused" not in event]

    @property
    def newest(self) -> Guide | None:
        """The newest model."""
        number = self.trained[-1]["model"] if self.trained else 0
        return Guide(number, path_of_model(self.home, number)) if number else None

    @property
    def cpu(self) -> float:
        """Seconds that trainings have taken of processors, those of earlier calls among them."""
        return self.cpu_before + self.cpu_now

    @property
    def cpu_now(self) -> float:
        if self.process is None:
            return 0.0
        with suppress(OSError, ValueError, IndexError):
            words = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - self.began  # where processes do not say, the clock is the most that it can be

    def begin_with(self, given: Path) -> None:
        """Take a model from elsewhere as the first one."""
        place = path_of_model(self.home, 1)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(given / "best.safetensors" if given.is_dir() else given, place)
        self.journal.add("trained", model=1, frames=0, cpu=0.0, errors={}, source=str(given))

    def consider(self, ledger: Ledger, frames: int, left: int) -> None:
        """Begin a training where it pays; say why not where it does not."""
        if self.answer is not None or self.failed or left <= 0:
            return
        before = max((event["frames"] for event in self.trained), default=0)
        awaited = 0.0 if before else AWAITED * (len(ledger.rows) + left)
        if frames < max(GROWTH * before, awaited) or (frames < FIRST and not self.are_large(frames)):
            return
        newest = self.newest.number if self.newest else 0
        decision: Decision = ledger.decide(left, self.cpu, newest, self.besides)
        if not decision.seconds:
            if not self.said:
                self.journal.add("no training", why=decision.why, frames=frames)
            self.said = decision.why
            return
        self.said = ""
        self.begin(frames, decision, newest)

    @property
    def besides(self) -> float:
        """Seconds that the last training took besides its steps."""
        asked = {event["model"]: event["seconds"] for event in self.journal.of("training")}
        last, before = 0.0, 0.0
        for event in self.journal.events:
            if event["event"] == "call":
                before = 0.0  # a process of its own
            elif event["event"] == "trained" and event["model"] in asked and "cpu" in event:
                last, before = event["cpu"] - before - asked[event["model"]], event["cpu"]
        return max(last, BESIDES)

    def are_large(self, frames: int) -> bool:
        """Whether a few frames already show many surroundings of atoms."""
        if frames < FEWEST:
            return False
        self.settle()
        with Dataset(self.home / DATA) as data:
            return sum(frame.natoms for frame in data.outlines()) >= ATOMS

    def begin(self, frames: int, decision: Decision, newest: int) -> None:
        number = newest + 1
        place = self.home / MODELS
        place.mkdir(exist_ok=True)
        self.complete()
        snapshot = place / DATA  # the campaign goes on writing into its own
        shutil.copyfile(self.home / DATA, snapshot)
        before = path_of_model(self.home, newest) if newest else None
        wanted = {
            "data": str(snapshot.resolve()),
            "model": str(path_of_model(self.home, number)),
            "before": None if before is None else str(before),
            "seconds": decision.seconds,
        }
        self.journal.add("training", model=number, frames=frames, seconds=decision.seconds, why=decision.why)
        process = self.started()
        answer: Future[dict[str, Any]] = Future()
        # A daemon: a script that ends does not wait for a training.
        Thread(target=lambda: answer.set_result(self.ask(process, wanted)), daemon=True).start()
        self.answer = answer

    @staticmethod
    def ask(process: "subprocess.Popen[str]", wanted: dict[str, Any]) -> dict[str, Any]:
        """Send a training to the process and wait for what came of it."""
        if process.stdin is None or process.stdout is None:
            return {"refused": "the training process has no pipes"}
        try:
            process.stdin.write(json.dumps(wanted) + "\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            return {"refused": "the training process has ended; there may be too little memory"}
        return found

    def started(self) -> "subprocess.Popen[str]":
        if self.process is None:
            log = (self.home / "training.log").open("ab")
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            self.began = time.monotonic()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workflows.campaign.trainer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                start_new_session=True,  # Ctrl-C is for the campaign, which ends it
            )
            log.close()
        return self.process

    def poll(self) -> bool:
        """Whether a training has ended; its model is then the newest one."""
        if self.answer is None or not self.answer.done():
            return False
        found, self.answer = self.answer.result(), None
        number = (self.newest.number if self.newest else 0) + 1
        self.journal.add("trained", model=number, **found)
        if "refused" in found:
            self.failed = found["refused"]
        return True

    def close(self) -> None:
        """End the training process; what it took is written down."""
        if self.process is not None:
            cpu = self.cpu_now
            if self.process.returncode is None:
                os.kill(self.process.pid, signal.SIGKILL)  # its own kill() would reap it, and with it what it took
                _, _, usage = os.wait4(self.process.pid, 0)
                self.process.returncode = -9
                cpu = max(cpu, usage.ru_utime + usage.ru_stime)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self.journal.add("ended training process", cpu=cpu)
            self.cpu_before += cpu
            self.process = None
        if self.answer is not None:
            self.answer.result()  # that the process has ended
            self.answer = None
        (self.home / MODELS / DATA).unlink(missing_ok=True)


def seconds_of_trainings(journal: Journal) -> float:
    """What the trainings of earlier calls have taken; of a call that was killed, what it had taken at its last model."""
    total = last = 0.0
    for event in journal.events:
        if event["event"] == "call":
            total, last = total + last, 0.0
        elif event["event"] in ("trained", "ended training process"):
            last = float(event.get("cpu", last))  # a process that died did not say
    return total + last
