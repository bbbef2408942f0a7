"""Writing datasets: frames are appended, or room is made in which many processes write one; each commit is whole or not at all.

>>> with DatasetWriter("data.h5") as writer:
...     writer.append(frame)
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from basis.radial import Functions, same_functions
from basis.shells import Species
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.frame import Frame
from converters.interrupts import uninterrupted
from converters.storage.extents import Extent, extent_of
from converters.storage.files import HDF5_MAGIC, starts_with
from converters.storage.journal import JournaledFile
from converters.storage.layout import (
    FIXED,
    FORMAT,
    RAGGED,
    VERSION,
    arrays_of,
    check_header,
    create,
    dense_arrays,
    extend,
    last_row,
    number_species,
    read_basis,
    read_functions,
    rows_of,
    sizes_of,
    width_of,
    write_basis,
    write_functions,
)

# What HDF5 and JSON raise of a damaged file, besides OSError.
DAMAGED = (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError)


class DatasetWriter:
    """A dataset open for appending; made by the first frame if it does not exist.

    All frames are of one code. Spin layouts and basis sets may differ from frame to frame: each frame says its own.
    Each `append` is committed at once: a process killed at any later moment leaves it in the file. With
    `commit_every` > 1 frames are committed in groups, which is faster for many small ones. A new file with `plain` has
    its matrices uncompressed, so that frames can be reserved in it.
    """

    def __init__(self, path: str | Path, *, commit_every: int = 1, plain: bool = False) -> None:
        self.path, self.commit_every, self.plain = Path(path), commit_every, plain
        self._pending: list[Frame] = []
        self.basis: list[Species] = []
        self.functions: dict[Species, Functions] = {}
        self._new_functions = False
        self._journaled: JournaledFile | None = None
        self._file: h5py.File | None = None
        if self.path.exists():
            self._open()

    @uninterrupted()
    def _open(self) -> None:
        if not starts_with(self.path, HDF5_MAGIC):  # h5py would begin a new file inside
            raise Refused(Kind.NOT_OURS, self.path, "is not an HDF5 file")
        try:
            self._journaled = JournaledFile(self.path, writable=True)
        except OSError as error:
            raise refused_by_system(self.path, error) from error
        try:
            self._file = h5py.File(self._journaled, "r+", libver=("earliest", "v108"))
            check_header(self.path, self._file)
            self.code = str(self._file.attrs["code"])
            self._read_basis()
            self._arrays = arrays_of(self._file)
            self._ends = last_row(self._arrays["frames/ends"])
        except OSError as error:
            self._close_unchanged()
            raise refused_by_system(self.path, error) from error
        except DAMAGED as error:
            self._close_unchanged()
            raise Refused(Kind.DAMAGED, self.path, f"is not a complete {FORMAT}: {error}") from error
        except Refused:
            self._close_unchanged()
            raise

    def _read_basis(self) -> None:
        """Species and their functions as the file has them."""
        if self._file is not None:
            self.basis = list(read_basis(self._file))
            found = zip(self.basis, read_functions(self._file, self.basis), strict=True)
            self.functions = {species: functions for species, functions in found if functions is not None}
            self._new_functions = False

    @uninterrupted()
    def append(self, frame: Frame) -> None:
        """Add one frame; refused when it is of another code than the file, or has other functions for a species of the file."""
        if self._file is None:
            rows = rows_of(frame, number_species(frame.basis))
            dense = () if self.plain else dense_arrays(rows)
            create(self.path, sizes_of(rows), frame.provenance.code, plain=self.plain, dense=dense)
            self._open()
        where = frame.provenance.path or str(self.path)
        if frame.provenance.code != self.code:
            raise Refused(Kind.OTHER_DATASET, where, f"is of {frame.provenance.code}; {self.path} holds {self.code}")
        self._take_basis(frame, where)
        self._pending.append(frame)
        if len(self._pending) >= self.commit_every:
            self.commit()

    def _take_basis(self, frame: Frame, where: str) -> None:
        """Add the species of a frame and their functions to those of the file."""
        known = {s: f for s, f in zip(frame.basis, frame.functions, strict=False) if f is not None}
        for species, functions in known.items():
            if species in self.functions and not same_functions(functions, self.functions[species]):
                raise Refused(
                    Kind.OTHER_DATASET,
                    where,
                    f"has other radial functions for {species} {species.radial} than {self.path}",
                )
        new = {species: functions for species, functions in known.items() if species not in self.functions}
        self.basis += [species for species in frame.basis if species not in self.basis]
        self.functions |= new
        self._new_functions |= bool(new)

    def _write_basis(self, file: h5py.File) -> None:
        if file.attrs["version"] != VERSION:  # what is added to a file of an older program needs this one
            file.attrs["version"] = VERSION
        more = len(self.basis) > len(file["basis/name"])
        write_basis(file, self.basis)
        if self._new_functions or more:
            write_functions(file, self.basis, self.functions)
            self._new_functions = False

    @uninterrupted()
    def commit(self) -> None:
        """Make all appended frames part of the file."""
        if self._file is None or self._journaled is None or not self._pending:
            return
        self._write_basis(self._file)
        rows = [rows_of(frame, number_species(self.basis)) for frame in self._pending]
        lengths = np.array([[len(row[name]) for name in RAGGED] for row in rows])
        ends = self._ends + np.cumsum(lengths, axis=0)
        for column, name in enumerate(RAGGED):
            parts = [row[name] for row in rows if len(row[name])]
            if parts:
                extend(self._arrays[name], int(self._ends[column]), np.concatenate(parts))
        start = self._arrays["frames/ends"].shape[0]
        for name in FIXED:
            extend(self._arrays[name], start, ends if name == "frames/ends" else np.array([row[name] for row in rows]))
        self._file.flush()
        self._journaled.commit()
        self._ends, self._pending = ends[-1], []

    @uninterrupted()
    def reserve(self, outline: Frame, lengths: Mapping[str, int]) -> dict[str, Extent]:
        """Room for a frame whose pairs and matrices others will write, and where that room is.

        `outline` is the frame without them, `lengths` are the rows of "pairs" and "H/values" ... that it will have. The frame is not
        part of the file before `finish`.
        """
        rows = rows_of(outline, number_species(outline.basis))
        if self._file is None:
            sizes = sizes_of(rows) | {name: length * width_of(*RAGGED[name]) for name, length in lengths.items()}
            create(self.path, sizes, outline.provenance.code, plain=True)
            self._open()
        if self._file is None or self._journaled is None or outline.provenance.code != self.code:
            raise Refused(
                Kind.OTHER_DATASET, self.path, f"holds frames of {self.code}, not of {outline.provenance.code}"
            )
        if self._arrays["pairs"].compression is not None:
            raise Refused(
                Kind.UNSUPPORTED,
                self.path,
                "is compressed, so that frames cannot be written into it in parts; give another name",
            )
        self.commit()
        self._take_basis(outline, str(self.path))
        self._write_basis(self._file)
        rows = rows_of(outline, number_species(self.basis))
        for column, name in enumerate(RAGGED):
            start = int(self._ends[column])
            if name in lengths:
                self._arrays[name].resize(start + lengths[name], axis=0)
            else:
                extend(self._arrays[name], start, rows[name])
        self._file.flush()
        self._journaled.commit()
        return {name: extent_of(self._arrays[name], int(self._ends[list(RAGGED).index(name)])) for name in lengths}

    @uninterrupted()
    def finish(self, outline: Frame, lengths: Mapping[str, int]) -> None:
        """Make a reserved frame, whose room is filled by now, part of the file."""
        if self._file is None or self._journaled is None:
            raise Refused(Kind.NOT_OURS, self.path, "holds no reserved frame")
        rows = rows_of(outline, number_species(self.basis))
        ends = self._ends + [lengths.get(name, len(rows[name])) for name in RAGGED]
        start = self._arrays["frames/ends"].shape[0]
        for name in FIXED:
            extend(self._arrays[name], start, ends[None] if name == "frames/ends" else rows[name][None])
        self._file.flush()
        self._journaled.commit()
        self._ends = ends

    @uninterrupted()
    def forget_pending(self) -> None:
        """Drop the frames that were appended since the last commit."""
        self._pending = []
        self._read_basis()

    @uninterrupted()
    def _close_unchanged(self) -> None:
        """Let go of the file as the last commit left it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._journaled is not None:
            self._journaled.discard()
            self._journaled.close()
            self._journaled = None

    @uninterrupted()
    def close(self) -> None:
        self.commit()
        if self._file is not None and self._journaled is not None:
            self._file.close()
            self._journaled.commit()
            self._journaled.close()
            self._file = self._journaled = None

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._close_unchanged()
