"""Bars on stderr while a command works: how far it is, how fast, and how long it will take; quiet in a pipe but for a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES = 20
# What is left is not foretold from fewer seconds of steps than these; preparations before the first one say nothing of it.
SECONDS_TO_JUDGE = 5


class Tell(Protocol):
    """Says how many steps of how many are done, and what was found so far."""

    def __call__(self, done: int, total: int | None, found: str = "") -> None: ...


class RateColumn(ProgressColumn):
    """Steps in a second, or seconds a step."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:.3g}/s" if task.speed >= 1 else f"{1 / task.speed:.3g} s each")


def silent(done: int, total: int | None, found: str = "") -> None:
    """For those who do not look."""


@contextmanager
def progress(title: str, *, shown: bool = True) -> Iterator[Tell]:
    """A bar to tell of the steps that are done; without a terminal a line every 20 seconds."""
    err = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[found]}", markup=False),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started = last = began = time.monotonic()
    first = -1
    with Progress(*columns, console=err, transient=True, disable=not (shown and err.is_terminal)) as bar:
        task = bar.add_task(title, total=None, found="")

        def tell(done: int, total: int | None, found: str = "") -> None:
            nonlocal last, first, began
            bar.update(task, completed=done, total=total, found=found)
            now = time.monotonic()
            first, began = (done, now) if first < 0 else (first, began)
            if shown and not err.is_terminal and now - last > SECONDS_BETWEEN_LINES and done > first:
                last, parts = now, [f"{title}: {done}", f"{now - started:.0f} s"]
                if total is not None:
                    parts = [f"{title}: {done} of {total}", parts[1]]
                    if now - began >= SECONDS_TO_JUDGE:
                        parts.append(f"about {(now - began) * (total - done) / (done - first):.0f} s to go")
                err.print(", ".join([*parts, *filter(None, [found])]), soft_wrap=True, markup=False)

        yield tell


@contextmanager
def counted(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """The same where steps come one by one: call it after each."""
    done = 0
    with progress(title) as tell:

        def step() -> None:
            nonlocal done
            done += 1
            tell(done, total)

        yield step


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """A clock beside work that cannot say how far it is."""
    err = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        bar.add_task(title, total=None)
        yield
