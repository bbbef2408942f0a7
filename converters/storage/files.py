"""Files on all kinds of file systems: written whole or not at all, whatever ends the program, and read where there are no locks."""

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from converters.errors import IN_USE, Kind, Refused

# What file systems say that have no locks, or whose server has none.
UNSUPPORTED_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
PACKED = (".gz", ".bz2", ".xz", ".zst", ".Z")
SQLITE_MAGIC = b"SQLite format 3\0"


def starts_with(path: Path, magic: bytes) -> bool:
    """True for a readable file that begins with the bytes."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return False


def file_among(folders: Iterable[Path], name: str) -> Path | None:
    """The file of a name in the first of some folders that has it."""
    return next((folder / name for folder in folders if name and (folder / name).is_file()), None)


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it takes the place of `path` once all is written, and is removed where that fails."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    with draft_of(path) as draft:
        draft.write_bytes(content)


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file to read; not one that another program writes, where the file system can tell."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        found = re.search(r"unable to lock file, errno = (\d+)", str(error))
        if found is None or int(found[1]) not in UNSUPPORTED_LOCK:
            raise
    return h5py.File(path, "r", locking=False)


@contextmanager
def draft_hdf5(path: Path, **options: object) -> Iterator[h5py.File]:
    """A new HDF5 file that appears whole; nobody else knows its draft, which needs no lock."""
    with draft_of(path) as draft, h5py.File(draft, "w", locking=False, **options) as file:
        yield file


def lock(descriptor: int, path: Path, kind: int) -> None:
    """Take a lock of a kind of `fcntl`, on file systems that have locks; refused where somebody else has it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Refused(Kind.IN_USE, path, IN_USE) from error
    except OSError as error:
        if error.errno not in UNSUPPORTED_LOCK:
            raise
