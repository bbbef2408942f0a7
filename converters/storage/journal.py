"""A file whose changes become visible all at once, so that a killed writer leaves a whole file.

HDF5 changes its own tables in place and in no particular order. Here its writes pass through `JournaledFile`: bytes
beyond the committed end go straight to the file, where nothing points to them yet; changes of committed bytes are kept
in memory. A commit first writes those changes to a journal beside the file, renames it into place, applies it and
removes it. Opening a file that has a journal applies it first; without write permission it is laid over the file in
memory. Power failures are guarded against on close, where both files are synchronised to the disk.
"""

import contextlib
import fcntl
import os
import struct
import weakref
import zlib
from pathlib import Path

from converters.errors import Kind, Refused
from converters.storage.files import lock

PAGE = 4096
MAGIC = b"SLEMJRN1"
HEADER = struct.Struct("<8sQQI")  # magic, number of pages, file size after the commit, checksum of the rest
RECORD = struct.Struct("<Q")  # page number, followed by the page


def journal_path(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def read_journal(path: Path) -> tuple[dict[int, bytes], int] | None:
    """Pages and file size of the journal of a file, or None when there is none. A damaged journal is refused."""
    try:
        raw = journal_path(path).read_bytes()
    except FileNotFoundError:
        return None
    record = RECORD.size + PAGE
    if len(raw) >= HEADER.size:
        magic, count, size, checksum = HEADER.unpack_from(raw)
        body = raw[HEADER.size :]
        if magic == MAGIC and len(body) == count * record and zlib.crc32(body) == checksum:
            starts = range(0, len(body), record)
            return {RECORD.unpack_from(body, at)[0]: body[at + RECORD.size : at + record] for at in starts}, size
    raise Refused(
        Kind.DAMAGED_JOURNAL, journal_path(path), "is damaged", "a journal of this program (restore it or delete it)"
    )


# Files that are open in this process. A forked child closes its copies: they would keep the lock after the parent ended.
OPEN: "weakref.WeakSet[JournaledFile]" = weakref.WeakSet()


def close_inherited() -> None:
    for journaled in OPEN:
        os.close(journaled.descriptor)


os.register_at_fork(after_in_child=close_inherited)


class JournaledFile:
    """A binary file for h5py's file-object driver, with `commit` in place of single writes.

    The file must exist. A writer holds an exclusive lock until `close`, a reader a shared one.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self.descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            lock(self.descriptor, self.path, fcntl.LOCK_EX if writable else fcntl.LOCK_SH)
            self.pages: dict[int, bytearray] = {}
            self.failure: OSError | None = None
            self.committed = self.size = os.fstat(self.descriptor).st_size
            self._recover()
        except BaseException:
            os.close(self.descriptor)
            raise
        self.position = 0
        OPEN.add(self)

    def _recover(self) -> None:
        found = read_journal(self.path)
        if found is None:
            return
        pages, self.size = found
        self.pages = {number: bytearray(page) for number, page in pages.items()}
        if self.writable:
            self._apply()

    def _apply(self) -> None:
        """Write the changed pages into the file and drop the journal."""
        for number, page in self.pages.items():
            write_all(self.descriptor, page[: max(0, self.size - number * PAGE)], number * PAGE)
        os.ftruncate(self.descriptor, self.size)
        journal_path(self.path).unlink(missing_ok=True)
        self.pages = {}
        self.committed = self.size

    def commit(self) -> None:
        """Make all writes since the last commit part of the file; refused, with nothing changed, where one of them failed."""
        if self.failure is not None:
            raise unwritable(self.path, self.failure) from self.failure
        if self.pages:
            body = b"".join(RECORD.pack(number) + bytes(page) for number, page in self.pages.items())
            journal, draft = journal_path(self.path), journal_path(self.path).with_suffix(".journal-draft")
            header = HEADER.pack(MAGIC, len(self.pages), self.size, zlib.crc32(body))
            try:
                draft.write_bytes(header + body)
                draft.replace(journal)
            except OSError as error:
                draft.unlink(missing_ok=True)
                raise unwritable(self.path, error) from error
        self._apply()

    def discard(self) -> None:
        """Forget all writes since the last commit."""
        self.pages, self.size, self.failure = {}, self.committed, None
        os.ftruncate(self.descriptor, self.committed)

    def close(self) -> None:
        if self.descriptor >= 0:
            if self.writable:
                with contextlib.suppress(OSError):  # not every file system can
                    os.fsync(self.descriptor)
            os.close(self.descriptor)
            OPEN.discard(self)
            self.descriptor = -1

    # The file interface that HDF5 uses.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self.position, min(self.position + len(view), self.size)
        wanted = max(0, stop - start)
        have = 0
        while have < wanted:
            count = os.preadv(self.descriptor, [view[have:wanted]], start + have)
            if count == 0:
                break
            have += count
        view[have:wanted] = bytes(wanted - have)
        for number in self._changed_pages(start, stop):
            low, high = max(start, number * PAGE), min(stop, (number + 1) * PAGE)
            view[low - start : high - start] = self.pages[number][low - number * PAGE : high - number * PAGE]
        self.position = start + wanted
        return wanted

    def _changed_pages(self, start: int, stop: int) -> list[int]:
        touched = range(start // PAGE, -(-stop // PAGE))
        if len(touched) <= len(self.pages):
            return [number for number in touched if number in self.pages]
        return [number for number in self.pages if touched.start <= number < touched.stop]

    def read(self, count: int = -1) -> bytes:
        buffer = bytearray(max(0, self.size - self.position if count < 0 else count))
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def write(self, data: bytes | memoryview) -> int:
        """Take bytes; HDF5 does not survive an exception here, so a failure is kept for the next commit and the rest in memory."""
        view = memoryview(data).cast("B")
        start, stop = self.position, self.position + len(view)
        boundary = -(-self.committed // PAGE) * PAGE  # pages are kept whole: the last committed one may be partial
        at = self._remember(view, start, min(stop, boundary if self.failure is None else stop))
        try:
            write_all(self.descriptor, view[at - start :], at)
        except OSError as error:
            self.failure = error
            self._remember(view[at - start :], at, stop)
        self.position = stop
        self.size = max(self.size, stop)
        return len(view)

    def _remember(self, view: memoryview, start: int, stop: int) -> int:
        """Keep the bytes from start to stop in memory; returns where the rest begins."""
        at = start
        while at < stop:
            number = at // PAGE
            end = min(stop, (number + 1) * PAGE)
            page = self._page(number)
            page[at - number * PAGE : end - number * PAGE] = view[at - start : end - start]
            at = end
        return at

    def _page(self, number: int) -> bytearray:
        if number not in self.pages:
            page = os.pread(self.descriptor, PAGE, number * PAGE)
            self.pages[number] = bytearray(page.ljust(PAGE, b"\0"))
        return self.pages[number]

    def truncate(self, size: int) -> int:
        """Set the size; a committed end moves only with the commit."""
        self.size = size
        return size

    def flush(self) -> None:
        """Nothing: only `commit` makes writes visible."""


def unwritable(path: Path, error: OSError) -> Refused:
    what = error.strerror.lower() if error.strerror else str(error)
    return Refused(
        Kind.NO_ACCESS,
        path,
        f"cannot be written: {what}; all that it held is there, make room and run the same command again",
    )


def write_all(descriptor: int, data: memoryview | bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)
