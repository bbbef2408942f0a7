"""What a user is told when an input cannot be used."""

from pathlib import Path


class Refused(Exception):
    """An input that is not used, with the place and the reason in one line."""

    def __init__(self, place: str | Path, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = str(place), reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.place, self.reason)
