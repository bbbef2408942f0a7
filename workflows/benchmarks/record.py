"""The record of a measurement: its numbers with the command, the date and the machine, as a file that tables are made from."""

import importlib.metadata
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from itertools import takewhile
from pathlib import Path
from typing import Any

from converters.json_text import json_text
from converters.storage.files import write_whole


def save_record(path: Path, rows: Sequence[dict[str, Any]], paths: Sequence[Path] = ()) -> None:
    """Write what this command has measured, of those paths."""
    record = {
        "command": command_line([Path(sys.argv[0]).name, *sys.argv[1:]], paths),
        "date": date.today().isoformat(),
        "machine": f"{processor_name()}, {core_count()} cores",
        "program": importlib.metadata.version("slem-plugin"),
        "rows": rows,
    }
    write_whole(path, (json_text(record) + "\n").encode())


def command_line(words: Sequence[str], paths: Sequence[Path]) -> str:
    """The words as a line for a shell; paths of one folder stand in it as one pattern, as they were likely given."""
    names: dict[Path, list[str]] = {}
    for path in paths:
        names.setdefault(path.parent, []).append(path.name)
    said: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        path = Path(word)
        if before.startswith("-") or path not in paths or len(names[path.parent]) == 1:
            said.append(shlex.quote(word))
        elif (pattern := pattern_of(path.parent, names[path.parent])) not in said:
            said.append(pattern)
    return " ".join(said)


def pattern_of(folder: Path, names: Sequence[str]) -> str:
    """What a shell turns into these names of a folder, and others that begin as they do."""
    inside = "" if folder == Path() else str(folder / "_")[:-1]
    letters = takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    common = inside + "".join(letter for letter, _ in letters)
    return f"{shlex.quote(common) if common else ''}*"


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """What the system calls the processor."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
