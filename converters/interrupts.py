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
