"""The record of a measurement: its numbers with the command, the date and the machine, as a file that tables are made from."""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from converters.storage.files import write_whole


def save_record(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write what this command has measured."""
    record = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "machine": f"{processor_name()}, {core_count()} cores",
        "program": importlib.metadata.version("slem-plugin"),
        "rows": rows,
    }
    write_whole(path, (json.dumps(record, indent=2) + "\n").encode())


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
