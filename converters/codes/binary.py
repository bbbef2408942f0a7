"""Binary files read with a look at their size first: a count that lies is caught before memory is asked for."""

from pathlib import Path
from typing import Any

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.storage.files import draft_of


class Binary:
    """The bytes of a file and a place in them; every read says where the file ends too early."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = memoryview(path.read_bytes())
        self.at = 0

    def refuse(self, found: str, expected: str = "") -> Refused:
        return Refused(Kind.DAMAGED, f"{self.path} byte {self.at}", found, expected)

    def require(self, count: int, what: str) -> None:
        if count < 0 or self.at + count > len(self.data):
            left = len(self.data) - self.at
            raise self.refuse(f"has {left} bytes left in the file", f"{what} of {count} bytes")

    def take(self, dtype: Any, count: int, what: str) -> Array:
        """The next values, as a copy."""
        size = np.dtype(dtype).itemsize * int(count)
        self.require(size, what)
        values = np.frombuffer(self.data, dtype, int(count), self.at).copy()
        self.at += size
        return values

    def skip(self, size: int, what: str) -> None:
        self.require(size, what)
        self.at += size

    def require_end(self) -> None:
        if self.at != len(self.data):
            raise self.refuse(f"has {len(self.data) - self.at} more bytes", "the end of the file")


class FortranFile(Binary):
    """Sequential unformatted records: a 4-byte length before and after each, little endian."""

    def record_size(self) -> int:
        """Bytes of the next record."""
        self.require(8, "a record")
        return int(np.frombuffer(self.data, "<i4", 1, self.at)[0])

    def record(self, dtype: Any, count: int, what: str) -> Array:
        """The values of the next record, which must hold just this many."""
        size = self.record_size()
        wanted = np.dtype(dtype).itemsize * int(count)
        if size != wanted:
            raise self.refuse(f"has a record of {size} bytes", f"{what}, a record of {wanted} bytes")
        self.at += 4
        values = self.take(dtype, count, what)
        self._end_record(size, what)
        return values

    def fields(self, what: str, *layout: tuple[Any, int]) -> list[Array]:
        """The parts of the next record, given as (dtype, count)."""
        size = sum(np.dtype(dtype).itemsize * count for dtype, count in layout)
        raw = self.record("u1", size, what)
        parts, at = [], 0
        for dtype, count in layout:
            part = np.frombuffer(raw, dtype, count, at)
            at += part.nbytes
            parts.append(part)
        return parts

    def _end_record(self, size: int, what: str) -> None:
        if self.take("<i4", 1, what)[0] != size:
            self.at -= 4
            raise self.refuse("has another closing length", f"the end of {what}, a record of {size} bytes")

    def rows(self, counts: Array, dtype: Any, what: str) -> Array:
        """The values of one record for each row, joined; `counts` says how many each row has."""
        width = np.dtype(dtype).itemsize // 4
        words = counts * width
        total = int(words.sum()) + 2 * len(counts)
        self.require(4 * total, what)
        raw = np.frombuffer(self.data, "<i4", total, self.at)
        first = np.concatenate([[0], np.cumsum(words + 2)[:-1]]).astype(np.int64)
        last = first + words + 1
        wrong = (raw[first] != 4 * words) | (raw[last] != 4 * words)
        if wrong.any():
            row = int(np.argmax(wrong))
            self.at += 4 * int(first[row])
            raise self.refuse(f"has {raw[first[row]]}", f"row {row + 1} of {what}, a record of {4 * words[row]} bytes")
        inside = np.ones(total, dtype=bool)
        inside[first] = inside[last] = False
        self.at += 4 * total
        return raw[inside].view(dtype)


class FortranWriter:
    """The same records, collected and written at once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def record(self, *fields: Array | bytes) -> None:
        body = b"".join(
            field if isinstance(field, bytes) else np.ascontiguousarray(field).tobytes() for field in fields
        )
        length = len(body).to_bytes(4, "little")
        self.parts += [length, body, length]

    def rows(self, counts: Array, values: Array) -> None:
        """One record for each row."""
        for row in np.split(values, np.cumsum(counts)[:-1]):
            self.record(row)

    def save(self, path: Path) -> None:
        with draft_of(path) as draft, draft.open("wb") as file:
            file.writelines(self.parts)
