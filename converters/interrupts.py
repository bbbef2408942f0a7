"""Ctrl-C at a moment that can bear it, and kills that are taken as Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C until the end: HDF5 does not survive an exception in the functions through which it writes."""
    if threading.current_thread() is not threading.main_thread():  # the others never hear of it
        yield
        return
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(signal.SIGINT, None)


@contextlib.contextmanager
def noticed() -> Iterator[list[int]]:
    """A list that is not empty once Ctrl-C came: libraries may turn the exception that it raises into one of their own."""
    came: list[int] = []

    def notice(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # somebody else looks after it
        yield came
        return
    signal.signal(signal.SIGINT, notice)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def kills_as_interrupts() -> Iterator[None]:
    """The kill of a batch system, of `timeout` or of a terminal that closes raises what Ctrl-C does, so that nothing of ours runs on alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    before = {number: handler for number, handler in before.items() if handler is signal.SIG_DFL}  # nohup ignores one
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
