"""Where the user's command runs: here, or as a job of a cluster's queue, which goes on when nobody watches."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from converters.errors import Kind, Refused
from converters.starts.start import MODEL_VARIABLE
from workflows.scf.judge import LOG, TOO_LONG

# How a queue is asked for a job, by the program that takes jobs: it is there while the answer is neither empty nor a failure.
QUERIES = {
    "sbatch": "squeue --noheader --jobs {job}",
    "qsub": "qstat {job} || qstat -j {job}",  # PBS, or Grid Engine
    "bsub": "bjobs -noheader -r -p -s {job}",
}
# How a queue is asked what became of a job that is there no more, and what it answers: SLURM, for some minutes.
FATES = {"sbatch": "scontrol show job --oneliner {job}"}
STATE, CODE, OUTPUT = (
    re.compile(r"\bJobState=(\S+)"),
    re.compile(r"\bExitCode=(\d+):(\d+)"),
    re.compile(r"\bStdOut=(\S+)"),
)
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL")
# What queues say of a job that they do not know any more; where they fail otherwise they do not answer, and the job may go on.
UNKNOWN = re.compile(r"invalid job id|unknown job|has finished|is not found|not exist", re.I)
# What they say when they will take a job later: a user has too many there, or the queue is restarted. It is tried again as often as this.
LATER = re.compile(r"MaxSubmit|per-user limit|unable to contact|timed out|temporarily|try again", re.I)
TRIES = 120
NO_PROGRAM, FAILED, BY_SIGNAL = 127, 1, 128  # exit codes
# A job is gone when a queue does not know it so many times in a row; once may be a scheduler that is busy.
MISSES = 3
# Seconds between two looks at a process and at its log; a log that takes long to read is looked at less often.
LOOK, LOOK_AT_LOG = 0.1, 2.0
SHARE_OF_LOOKING = 0.002


@dataclass(frozen=True)
class Ended:
    """The exit code of a run, and the seconds that it took, of the clock and of its processors; None where a queue does not say."""

    returned: int
    seconds: float | None
    cpu_seconds: float | None = None


class Engine(Protocol):
    """Runs the user's command in a folder; when `stop` is set, waiting ends."""

    @property
    def stop(self) -> Event: ...

    def begin(self, copy: Path, environment: Mapping[str, str]) -> str:
        """Hand the run over and give the name of its job; "" where it begins when it is waited for."""

    def wait(self, copy: Path, job: str, environment: Mapping[str, str], look: Callable[[], None]) -> Ended:
        """Wait for the end of the run; `look` is called now and then."""


@dataclass(frozen=True)
class Here:
    """Processes of this machine. After `stop` they are all ended."""

    command: str
    timeout: float | None = None
    stop: Event = field(default_factory=Event)

    def begin(self, copy: Path, environment: Mapping[str, str]) -> str:
        return ""

    def wait(self, copy: Path, job: str, environment: Mapping[str, str], look: Callable[[], None]) -> Ended:
        began = time.perf_counter()
        with (copy / LOG).open("wb") as log:
            process = subprocess.Popen(
                self.command,
                shell=True,  # the command is the user's own line, with its pipes and redirections
                cwd=copy,
                env=variables(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all that it started can be ended with it
            )
            looking, spent = Looking(look), None
            try:
                while (spent := spent_by(process)) is None:
                    if self.stop.wait(LOOK):
                        raise KeyboardInterrupt
                    if self.timeout is not None and time.perf_counter() - began > self.timeout:
                        return Ended(TOO_LONG, time.perf_counter() - began)
                    looking.now_and_then()
            finally:
                if spent is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return Ended(process.returncode, time.perf_counter() - began, spent)


def spent_by(process: subprocess.Popen[bytes]) -> float | None:
    """The CPU seconds of a process and of all that it waited for, once it has ended; None while it runs."""
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True)
class Queue:
    """Jobs of a cluster: `submit` hands one over and prints its name, `query` says whether it is still there. `stop` ends the watching, never a job."""

    submit: str
    query: str = ""
    every: float = 30.0
    stop: Event = field(default_factory=Event)

    def begin(self, copy: Path, environment: Mapping[str, str]) -> str:
        for _ in range(TRIES):
            job, said = self.handed_over(copy, environment)
            if job:
                return job
            if not LATER.search(said):
                break
            if self.stop.wait(self.every):
                raise KeyboardInterrupt
        lines = said.strip().splitlines()
        raise Refused(Kind.NO_START, copy, f'was not taken by "{self.submit}": {lines[-1] if lines else "no answer"}')

    def handed_over(self, copy: Path, environment: Mapping[str, str]) -> tuple[str, str]:
        """The job of a run, or "" and what the queue said."""
        with (copy / LOG).open("wb") as log:  # the name of the job is there even where nobody waits for it any more
            done = subprocess.run(
                self.submit,
                shell=True,
                cwd=copy,
                env=variables(environment),
                stdout=log,
                stderr=subprocess.PIPE,
                check=False,
            )
            answer = (copy / LOG).read_text(errors="replace")
            log.write(done.stderr)
        job = "" if done.returncode else job_named_in(answer)
        return job, done.stderr.decode(errors="replace") or answer

    def wait(self, copy: Path, job: str, environment: Mapping[str, str], look: Callable[[], None]) -> Ended:
        query, missed, ended = self.query_for(job), 0, Ended(0, None)
        while (
            missed < MISSES and not ended.returned
        ):  # files of other machines may be late, which only success waits for
            missed = 0 if self.holds(query) else missed + 1
            look()
            if missed == 1:
                ended = self.fate_of(job, copy) or ended
            if self.stop.wait(self.every):
                raise KeyboardInterrupt
        return ended

    @property
    def program(self) -> str:
        return Path(self.submit.split()[0]).name

    def query_for(self, job: str) -> str:
        query = self.query or QUERIES.get(self.program, "")
        if not query:
            raise Refused(
                Kind.NO_SUCH_CHOICE, self.program, "is no queue that is known", f"{', '.join(QUERIES)}, or --queue"
            )
        return query.replace("{job}", job)

    def holds(self, query: str) -> bool:
        """Whether a job is still there; it is while a queue that we know does not answer."""
        done = asked(query)
        if done.returncode == NO_PROGRAM:
            raise Refused(Kind.NO_START, self.program, f'cannot be asked by "{query}"', "--queue")
        if done.returncode and not self.query:
            return UNKNOWN.search(done.stderr + done.stdout) is None
        return done.returncode == 0 and bool(done.stdout.strip())

    def fate_of(self, job: str, copy: Path) -> Ended | None:
        """How a job ended, where its queue says so; it is written down where people look for what the run printed."""
        question = FATES.get(self.program, "")
        if self.query or not question:
            return None
        said = asked(question.replace("{job}", job)).stdout
        states = STATE.findall(said)
        if not states or not set(states) <= set(OVER):
            return None
        handed_over = (copy / LOG).stat()
        with (copy / LOG).open("a") as log:
            codes = [":".join(code) for code in CODE.findall(said)]
            log.write(f"the queue says: {' '.join(states)}, exit code {' '.join(codes)}\n")
            log.writelines(f"what the job printed: {path}\n" for path in OUTPUT.findall(said))
        os.utime(copy / LOG, ns=(handed_over.st_atime_ns, handed_over.st_mtime_ns))  # files of the job are later
        return Ended(max(map(exit_code, states, CODE.findall(said))), None)


def asked(question: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(question, shell=True, capture_output=True, text=True, check=False)


def exit_code(state: str, code: tuple[str, str]) -> int:
    """The exit code of a job, of which SLURM tells code and signal; one that was ended from outside has failed whatever its code is."""
    if state in ("TIMEOUT", "DEADLINE"):
        return TOO_LONG
    returned, ended_by = map(int, code)
    return returned or (BY_SIGNAL + ended_by if ended_by else 0 if state == "COMPLETED" else FAILED)


def job_named_in(said: str) -> str:
    """The job that a queue names when it takes one; empty where it names none."""
    for pattern in (r"\bjob\s+<?(\d[\w.\[\]-]*)", r"^(\d[\w.\[\]-]*)", r"(?:\b|_)(\d[\w.\[\]-]*)"):
        if found := re.search(pattern, said, re.I | re.M):
            return found[1]
    return ""


class Looking:
    """Calls a function from time to time, less often the longer it takes."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look, self.next = look, time.perf_counter() + LOOK_AT_LOG

    def now_and_then(self) -> None:
        began = time.perf_counter()
        if began >= self.next:
            self.look()
            took = time.perf_counter() - began
            self.next = time.perf_counter() + max(LOOK_AT_LOG, took / SHARE_OF_LOOKING)


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the command: the user's own, but for the model, which a default start must not find."""
    return {key: value for key, value in os.environ.items() if key != MODEL_VARIABLE} | dict(environment)
