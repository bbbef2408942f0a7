"""Rows of SQLite databases: which tables a file has, and one row at a time, however large the file is."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from basis import Array
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.storage.files import SQLITE_MAGIC, starts_with

TABLE = "data"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read, which nobody writes; what the library says of it as a refusal."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
        try:
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise Refused(Kind.DAMAGED, path, f"is a damaged database: {error}") from error


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of the columns of the table of molecules; none for a file that is no database or has no such table."""
    if not starts_with(path, SQLITE_MAGIC):
        return ()
    with opened(path) as connection:
        return tuple(str(row[1]) for row in connection.execute(f"PRAGMA table_info({TABLE})"))


@dataclass(frozen=True)
class RowRun(Run):
    """One row of a database: `wanted` are the columns that are read."""

    wanted: tuple[str, ...] = ()

    @cached_property
    def values(self) -> dict[str, Any]:
        """What the columns hold."""
        names = ", ".join(f'"{name}"' for name in self.wanted)
        with opened(self.main) as connection:
            found = connection.execute(f"SELECT {names} FROM {TABLE} WHERE rowid = ?", (self.row,)).fetchone()
        if found is None:
            raise Refused(Kind.DAMAGED, self.place, "is not there")
        return dict(zip(self.wanted, found, strict=True))

    @cached_property
    def source(self) -> str:
        """Identity of the row by what it holds."""
        digest = hashlib.sha256(self.code.encode())
        for value in self.values.values():
            content = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    @property
    def place(self) -> str:
        return f"{self.main} row {self.row}"

    def number(self, name: str) -> float | None:
        """A number; None where the row says nothing."""
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) else None

    def array(self, name: str, dtypes: Sequence[str], *shape: int) -> Array:
        """The numbers of a blob of a known shape, of whichever of some types fits its size; -1 in the shape is what is left."""
        blob = self.values[name]
        size = int(np.prod([length for length in shape if length > 0]))
        for dtype in map(np.dtype, dtypes):
            fits = isinstance(blob, bytes) and blob and len(blob) % (size * dtype.itemsize) == 0
            if fits and (-1 in shape or len(blob) == size * dtype.itemsize):
                return np.frombuffer(blob, dtype.newbyteorder("<")).reshape(shape).astype(dtype)
        held = f"{len(blob)} bytes" if isinstance(blob, bytes) else f"{blob!r}"[:40]
        raise Refused(Kind.DAMAGED, self.place, f"has {held} in {name}", f"numbers of the shape {shape}")


def row_run(run: Run) -> RowRun:
    """A run that `rows_of` made."""
    if not isinstance(run, RowRun):
        raise TypeError(f"{run.place} is no row of a database")
    return run


def rows_of(code: str, path: Path, wanted: tuple[str, ...]) -> Iterator[RowRun]:
    """A run for each row, in the order of their numbers."""
    with opened(path) as connection:
        numbers = [int(row[0]) for row in connection.execute(f"SELECT rowid FROM {TABLE} ORDER BY rowid")]
    yield from (RowRun(code, path.parent, (path,), row=number, wanted=wanted) for number in numbers)
