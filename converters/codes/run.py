"""Runs: what a reader is asked to read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from basis.radial import Functions
from basis.shells import Species
from converters.storage.files import digest_file


@dataclass(frozen=True)
class Run:
    """One calculation on disk.

    `matrices` are the files that hold its matrices, the first of them names the run; `others` may be read for what
    those do not say. `claimed` are folders below that belong to the run and are not searched. `row` is its number in a database of many.
    """

    code: str
    folder: Path
    matrices: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    claimed: tuple[Path, ...] = ()
    row: int | None = None

    @property
    def main(self) -> Path:
        return self.matrices[0]

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return str(self.main)

    @cached_property
    def source(self) -> str:
        """Identity of the run: its code and the contents of its matrices, wherever they lie."""
        contents = [self.digest(path) for path in self.matrices]
        return hashlib.sha256(json.dumps([self.code, contents]).encode()).hexdigest()

    def digests(self, *files: Path) -> dict[str, str]:
        """SHA-256 of each file, by its name relative to the folder."""
        return {str(path.relative_to(self.folder)): self.digest(path) for path in files}

    def digest(self, path: Path) -> str:
        """SHA-256 of a file; long ones are read for it once."""
        if path not in self._digests:
            self._digests[path] = digest_file(path)
        return self._digests[path]

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return {}


@dataclass(frozen=True, eq=False)
class FoundFunctions:
    """Radial functions that belong to a run, and the files that they are from."""

    functions: Mapping[Species, Functions]
    files: tuple[Path, ...] = ()
