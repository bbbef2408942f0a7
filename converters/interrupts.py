"""Ctrl-C at a moment that can bear it."""

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
