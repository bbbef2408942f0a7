"""An engine whose runs outlive this program: each leaves its exit code and its times in its folder, where the same command finds them again."""

import os
import platform
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType

from workflows.scf.judge import LOG, TOO_LONG
from workflows.scf.queues import LOOK, Ended, Looking, variables

# The folder in which a run says how it is; only one shell can make it, however often the run is begun.
STATE = "slem-run"
BEGUN, TIMES, ENDED = f"{STATE}/begun", f"{STATE}/times", f"{STATE}/ended"
SHELL = f"""
mkdir {STATE} 2>/dev/null || exit 0
echo "$$ $(uname -n)" > {BEGUN}
( eval "$1" ) > {LOG} 2>&1
echo $? > {STATE}/code
LC_ALL=C times > {TIMES}
mv {STATE}/code {ENDED}
"""
# The name of such a job in the record of a copy.
JOB = "kept"
# Exit code of a run that was killed with the shell that looked after it.
KILLED = 137
# Where the system does not tell that a run ended, it is seen after at most this part of its time, and so many seconds.
SHARE_OF_WAITING, LONGEST_LOOK = 0.01, 1.0
# Seconds in which a shell that has made its folder says who it is.
SOON = 10.0


@dataclass(frozen=True)
class Kept:
    """Processes of this machine that go on when this program is killed. After `stop`, which is Ctrl-C, they are all ended."""

    command: str
    timeout: float | None = None
    stop: Event = field(default_factory=Event)

    def begin(self, copy: Path, environment: Mapping[str, str]) -> str:
        """The name of the job alone: it is in the record before the run begins, which `wait` sees to."""
        return JOB

    def wait(self, copy: Path, job: str, environment: Mapping[str, str], look: Callable[[], None]) -> Ended:
        if self.stop.is_set():
            raise KeyboardInterrupt
        if (copy / STATE).exists():
            return self.watch(copy, None, look)
        with self.start(copy, environment) as process:
            return self.watch(copy, process, look)

    def watch(self, copy: Path, process: "subprocess.Popen[bytes] | None", look: Callable[[], None]) -> Ended:
        """Wait for a run that was begun by this call, or by one that was killed."""
        looking, began = Looking(look), time.time()
        with Bell(copy, process) as bell:
            while True:
                alive = (process is not None and process.poll() is None) or is_alive(copy)
                if (ended := ended_in(copy)) is not None:
                    return ended
                if not alive:
                    return Ended(KILLED, None)
                since = time.time() - begun_at(copy, began)
                if self.timeout is not None and since > self.timeout:
                    end(copy, process)
                    return Ended(TOO_LONG, since)
                left = LONGEST_LOOK if self.timeout is None else min(self.timeout - since, LONGEST_LOOK)
                if bell.wait(self.stop, left, min(max(LOOK, SHARE_OF_WAITING * (time.time() - began)), left)):
                    end(copy, process)
                    raise KeyboardInterrupt
                looking.now_and_then()

    def start(self, copy: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["/bin/sh", "-c", SHELL, "sh", self.command],
            cwd=copy,
            env=variables(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C and kills of this program do not reach it
        )


class Bell:
    """Wakes who waits for a run as soon as its shell ends, so that nobody has to look; a run of another machine is looked at now and then."""

    def __init__(self, copy: Path, process: "subprocess.Popen[bytes] | None") -> None:
        found = (process.pid, platform.node()) if process is not None else shell_of(copy)
        self.handle = None
        if found is not None and found[1] == platform.node():
            with suppress(OSError, AttributeError):  # not every system has such handles
                self.handle = os.pidfd_open(found[0])

    def wait(self, stop: Event, most: float, otherwise: float) -> bool:
        """Wait until the run ends or `most` seconds have passed, `otherwise` where nothing wakes; whether it was stopped."""
        if self.handle is None:
            return stop.wait(otherwise)
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        if poll.poll(1000 * most):
            self.close()
        return stop.is_set()

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def __enter__(self) -> "Bell":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def was_cut_off(copy: Path) -> bool:
    """Whether a run was begun and can no longer end: its processes were killed, or the machine went down."""
    return (copy / STATE).exists() and not is_alive(copy) and ended_in(copy) is None


def shell_of(copy: Path) -> tuple[int, str] | None:
    """The process that looks after the run in a copy, and its machine."""
    try:
        number, machine = (copy / BEGUN).read_text().split()
        return int(number), machine
    except (OSError, ValueError):
        return None


def is_alive(copy: Path) -> bool:
    """Whether the shell of a run is there still; one of another machine is taken to be."""
    found = shell_of(copy)
    if found is None:
        with suppress(OSError):
            return time.time() - (copy / STATE).stat().st_mtime < SOON
        return False
    number, machine = found
    if machine != platform.node():
        return True
    try:
        os.kill(number, 0)
        with suppress(FileNotFoundError):  # where there is no /proc, the number alone has to do
            return Path(os.readlink(f"/proc/{number}/cwd")) == copy.resolve()
    except OSError:
        return False
    return not Path("/proc/self").exists()


def end(copy: Path, process: "subprocess.Popen[bytes] | None") -> None:
    """End the run in a copy with all that it started; one on another machine cannot be ended from here."""
    found = shell_of(copy)
    if process is not None:
        group = process.pid  # which leads a session of its own, and may not have said yet who it is
    elif found is not None and found[1] == platform.node() and is_alive(copy):
        group = found[0]
    else:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def begun_at(copy: Path, otherwise: float) -> float:
    try:
        return (copy / BEGUN).stat().st_mtime
    except OSError:
        return otherwise


def ended_in(copy: Path) -> Ended | None:
    """How the run in a copy ended: exit code, seconds on the clock and of its processors."""
    try:
        code, at = int((copy / ENDED).read_text()), (copy / ENDED).stat().st_mtime
        times = re.findall(r"(\d+)m([\d.]+)s", (copy / TIMES).read_text())
    except (OSError, ValueError):
        return None
    cpu = sum(60 * float(minutes) + float(seconds) for minutes, seconds in times)
    return Ended(code, at - begun_at(copy, at), cpu if times else None)
