"""Copies of run folders in which runs happen, and what each of them remembers: what it is for, its job in a queue, how it went."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused
from converters.storage.files import write_whole
from workflows.scf.outcome import Start, start_of

# Results of earlier runs, which a copy must not start from or be mistaken for.
LOGS = ("*.out", "*.log", "*.std")
RESULTS = (*LOGS, *dict.fromkeys(pattern for about in KNOWN.values() for pattern in about.results))
RECORD = "slem-scf.json"
GUESS, DEFAULT = "guess", "default"


@dataclass(frozen=True)
class Record:
    """What a copy is for (`key`: its command, model and input), how its guess was made, its job in a queue, and how it went.

    `model` is the number of the model in a campaign, which has several.
    """

    key: str
    route: str = ""
    seconds_before: float = 0.0
    notes: tuple[str, ...] = ()
    apart: float | None = None
    job: str = ""
    model: int = 0
    start: Start | None = None
    cpu_before: float = 0.0

    def save(self, copy: Path) -> None:
        write_whole(copy / RECORD, json.dumps(asdict(self), indent=2).encode())


def read_record(copy: Path) -> Record | None:
    """What a copy remembers; None where it is none of ours, or was left before it remembered anything."""
    try:
        found: Mapping[str, Any] = json.loads((copy / RECORD).read_text())
        start = None if found["start"] is None else start_of(found["start"])
        return Record(**{**found, "notes": tuple(found["notes"]), "start": start})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key_of(folder: Path, *parts: str) -> str:
    """One text for a run: the files in its folder, and what else it depends on."""
    digest = hashlib.sha256("\0".join(parts).encode())
    source = folder if folder.is_dir() else folder.parent
    skipped = shutil.ignore_patterns(*RESULTS)
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    for name in names:
        if not skipped(str(source), [name]):
            digest.update(f"\0{name}\0".encode() + (source / name).read_bytes())
    return digest.hexdigest()[:16]


def copy_of(folder: Path, kind: str) -> Path:
    """Where the copy of a run folder goes: beside it."""
    folder = (folder if folder.is_dir() else folder.parent).resolve()
    return folder.parent / f"{folder.name}{suffix_of(kind)}"


def suffix_of(kind: str) -> str:
    return f"-slem-{kind}"


def earlier_record(folder: Path, kind: str, key: str, overwrite: bool) -> Record | None:
    """What an earlier call did for the same run: it ended well, or its job may still be in a queue. What failed or is unfinished is removed."""
    copy = copy_of(folder, kind)
    if not copy.exists():
        return None
    record = None if overwrite else read_record(copy)
    if record is not None and record.key == key:
        start = record.start
        ended_well = start is not None and start.returned == 0 and start.progress.energy is not None
        if ended_well or (record.job and record.start is None):
            return record
    if not overwrite and (record is None or record.key != key):
        raise Refused(Kind.OUTPUT_EXISTS, copy, "exists; remove it, or replace it with --overwrite")
    shutil.rmtree(copy, ignore_errors=True)
    return None


def remove_copy(copy: Path) -> None:
    """Remove a copy; a kill leaves it whole or under a name that nobody looks at."""
    gone = copy.with_name(f".{copy.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if copy.exists():
        copy.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def fresh_copy(folder: Path, kind: str, key: str) -> Path:
    """A copy of the run folder without the results of earlier runs, which remembers what it is for."""
    source, copy = folder if folder.is_dir() else folder.parent, copy_of(folder, kind)
    draft = copy.with_name(f".{copy.name}.draft")  # a kill leaves no copy that remembers nothing
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, ignore=shutil.ignore_patterns(*RESULTS))
    Record(key).save(draft)
    draft.rename(copy)
    return copy
