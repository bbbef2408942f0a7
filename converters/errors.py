"""What a user is told when an input cannot be used."""

import re
from pathlib import Path


class Refused(Exception):
    """An input that is not used, with the place and the reason in one line."""

    def __init__(self, place: str | Path, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = str(place), reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.place, self.reason)


IN_USE = "is in use by another process; wait for it to end, or write elsewhere"


def reason_of(error: OSError | RuntimeError) -> str:
    """The operating system's or HDF5's message, in few words."""
    text = str(error)
    if "unable to lock file" in text:
        return IN_USE
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if said := re.search(r"error message = '([^']*)'", text):
        return said[1].lower()
    if "file signature not found" in text:
        return "is no HDF5 file"
    if "truncated file" in text:
        return "is cut off: " + text[text.index("truncated file") :].rstrip(")")
    return text
