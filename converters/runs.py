"""Runs: what a reader is asked to read, and how folders are searched for them."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

from converters.errors import Refused

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

# The DFT codes: a name on the command line and the module that reads and writes it. A module is imported when a folder
# is searched for its runs. It defines
#   NAME                      the name in this table
#   find_runs(folder, files)  the runs in a folder, recognised by the contents of its files
#   read_run(run)             the frames of one run, checked as far as the files allow
CODES = {name: f"converters.{name}" for name in ("abacus", "deeph", "openmx", "pyscf", "siesta")}


@dataclass(frozen=True)
class Run:
    """One calculation on disk.

    `matrices` are the files that hold its matrices, the first of them names the run; `others` may be read for what
    those do not say. `claimed` are folders below that belong to the run and are not searched.
    """

    code: str
    folder: Path
    matrices: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    claimed: tuple[Path, ...] = ()

    @property
    def main(self) -> Path:
        return self.matrices[0]

    @cached_property
    def source(self) -> str:
        """Identity of the run: its code and the contents of its matrices, wherever they lie."""
        contents = [digest_file(path) for path in self.matrices]
        return hashlib.sha256(json.dumps([self.code, contents]).encode()).hexdigest()

    def digests(self, *files: Path) -> dict[str, str]:
        """SHA-256 of each file, by its name relative to the folder."""
        return {str(path.relative_to(self.folder)): digest_file(path) for path in files}


def digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def starts_with(path: Path, magic: bytes) -> bool:
    """True for a readable file that begins with the bytes."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return False


def code_module(name: str) -> ModuleType:
    return import_module(CODES[name])


def search(path: Path, codes: list[str]) -> Iterator[Run | Refused]:
    """Runs at or below a path in alphabetical order, and what could not be searched or understood."""
    if path.is_file():
        found: list[Run | Refused] = [run for run in runs_in(path.parent, codes) if run.main == path]
        yield from found or [Refused(path, f"is no main file of a {' or '.join(codes)} run")]
        return
    empty = True
    problems: list[OSError] = []
    for name, folders, _ in os.walk(path, onerror=problems.append):
        folders.sort()
        while problems:
            empty = False
            error = problems.pop()
            yield Refused(error.filename, f"cannot be searched: {(error.strerror or str(error)).lower()}")
        runs = runs_in(Path(name), codes)
        claimed = {folder for run in runs for folder in run.claimed}
        folders[:] = [folder for folder in folders if Path(name, folder) not in claimed]
        empty = empty and not runs
        found_codes = sorted({run.code for run in runs})
        if len(found_codes) > 1:
            reason = f"holds runs of {' and '.join(found_codes)}; expected one code, choose one with --code"
            yield Refused(name, reason)
        else:
            yield from runs
    for error in problems:
        empty = False
        yield Refused(error.filename, f"cannot be searched: {(error.strerror or str(error)).lower()}")
    if empty:
        yield Refused(path, f"holds nothing to read; expected run folders of {' or '.join(codes)}")


def runs_in(folder: Path, codes: list[str]) -> list[Run]:
    """Runs of the given codes in one folder."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []  # the walk itself reports it
    return [run for code in codes for run in code_module(code).find_runs(folder, files)] if files else []
