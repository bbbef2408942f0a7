"""The journal of a campaign: one line for each thing that has happened, and one campaign at a time in a folder."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from converters.errors import Kind, Refused
from converters.storage.files import lock

NAME, LOCK = "journal.jsonl", "lock"


class Journal:
    """Events of a campaign, each a line of JSON that is on the disk before `add` returns; a line that a kill cut off is dropped."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(self._lock, folder, fcntl.LOCK_EX)
        except Refused:
            os.close(self._lock)
            raise
        self.events, whole = read_events(self.path)
        self._file = self.path.open("ab")
        self._file.truncate(whole)

    def add(self, what: str, **facts: Any) -> None:
        event = {"event": what, **facts}
        self._file.write(json.dumps(event).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(event)

    def of(self, what: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == what]

    def of_folders(self) -> dict[str, dict[str, Any]]:
        """What became of each folder: the last event "done", unless it is to be run again."""
        found = {}
        for event in self.events:
            if event["event"] == "done":
                found[event["folder"]] = event
            elif event["event"] == "again":
                found.pop(event["folder"], None)
        return found

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            os.close(self._lock)


def read_events(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The events of a journal, and the bytes up to the end of the last whole one."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    try:
        events = [json.loads(line) for line in content[:whole].splitlines()]
        if not all("event" in event for event in events):
            raise ValueError("a line without its event")
    except (ValueError, TypeError) as error:
        raise Refused(Kind.NOT_OURS, path, f"is no journal of a campaign: {error}") from error
    return events, whole
