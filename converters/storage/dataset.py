"""The dataset file: frames in one HDF5 file, specified in docs/dataset.md.

    >>> with Dataset("data.h5") as data:
    ...     frame = data[0]
    >>> with DatasetWriter("data.h5") as writer:
    ...     writer.append(frame)

Everything ragged is one long array with the ends of the frames beside it, so reading frame n costs the same for any n.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from basis import Array
from basis.radial import Functions, same_functions
from basis.shells import Species
from basis.spin import Spin
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.blocks import Pairs
from converters.frames.frame import OPERATORS, Frame
from converters.interrupts import uninterrupted
from converters.storage.extents import Extent, extent_of
from converters.storage.files import HDF5_MAGIC, open_hdf5, starts_with
from converters.storage.journal import JournaledFile, journal_path
from converters.storage.layout import (
    FIXED,
    FORMAT,
    OUTLINES_AT_ONCE,
    RAGGED,
    SPINS,
    VERSION,
    WRITTEN_IN_PLACE,
    arrays_of,
    check_header,
    create,
    extend,
    last_row,
    number_species,
    outcome_from_row,
    read_basis,
    read_functions,
    read_operator,
    read_spectrum,
    rows_of,
    sizes_of,
    width_of,
    write_basis,
    write_functions,
)
from converters.storage.record import read_record

# What HDF5 and JSON raise of a damaged file, besides OSError.
DAMAGED = (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError)


class Dataset:
    """A dataset open for reading: `len(data)`, `data[n]`, iteration, `data.basis`, `data.code`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._journaled: JournaledFile | None = None
        try:
            if journal_path(self.path).exists():
                self._journaled = JournaledFile(self.path, writable=False)
            self._file = h5py.File(self._journaled, "r") if self._journaled else open_hdf5(self.path)
        except OSError as error:
            raise refused_by_system(self.path, error) from error
        try:
            check_header(self.path, self._file)
            self.code = str(self._file.attrs["code"])
            self.basis = read_basis(self._file)
            self.functions = read_functions(self._file, self.basis)
            arrays = arrays_of(self._file)
            self._ends = arrays["frames/ends"]
            self._length = int(self._ends.shape[0])
            self._ragged = {name: arrays[name] for name in RAGGED}
            self._fixed = {name: arrays[name] for name in FIXED}
        except (*DAMAGED, OSError) as error:
            self.close()
            raise Refused(Kind.DAMAGED, self.path, f"is not a complete {FORMAT}: {error}") from error
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int) -> Frame:
        if not -len(self) <= n < len(self):
            raise IndexError(f"{self.path} has {len(self)} frames; there is no frame {n}")
        n %= len(self)
        try:
            return self._read_frame(n)
        except (*DAMAGED, OSError) as error:
            raise Refused(Kind.DAMAGED, f"{self.path} frame {n}", f"cannot be read: {error}") from error

    def _read_frame(self, n: int) -> Frame:
        ends = self._ends[max(0, n - 1) : n + 1]
        starts = ends[0] if n else np.zeros_like(ends[0])
        arrays: dict[str, Array] = {}
        for (name, dataset), start, stop in zip(self._ragged.items(), starts, ends[-1], strict=True):
            if not 0 <= start <= stop <= dataset.shape[0]:
                raise ValueError(f"{name} ends at {stop}; expected {start} to {dataset.shape[0]}")
            arrays[name] = dataset[start:stop] if stop > start else np.empty((0, *dataset.shape[1:]), dataset.dtype)
        there = [name for name in OPERATORS if len(arrays[f"{name}/values"])]
        return self._make_frame(n, arrays, there)

    def _make_frame(self, n: int, arrays: Mapping[str, Array], operators: Sequence[str]) -> Frame:
        record = read_record(arrays["record"].tobytes())
        species_a = arrays["atoms/species"].astype(np.int64)
        norb_a = np.array([species.size for species in self.basis])[species_a]
        spin = SPINS[self._fixed["frames/spin"][n]]
        i_p, j_p, R_pc = arrays["pairs"][:, 0], arrays["pairs"][:, 1], arrays["pairs"][:, 2:]
        return Frame(
            cell_cv=self._fixed["frames/cell"][n],
            pbc_c=self._fixed["frames/periodic"][n].astype(bool),
            positions_av=arrays["atoms/positions"],
            species_a=species_a,
            basis=self.basis,
            pairs=Pairs(i_p.astype(np.int64), j_p.astype(np.int64), R_pc.astype(np.int64), norb_a),
            spin=spin,
            operators={name: read_operator(name, spin, arrays) for name in operators},
            outcome=outcome_from_row(self._fixed["frames/outcome"][n]),
            spectrum=read_spectrum(record.spectrum, arrays),
            folded=record.folded,
            functions=self.functions,
            provenance=record.provenance,
        )

    def outlines(self) -> Iterator[Frame]:
        """All frames without their pairs and matrices, whose names stand with no numbers: what can be said of many frames fast."""
        for start in range(0, len(self), OUTLINES_AT_ONCE):
            yield from self._outlines(start, min(start + OUTLINES_AT_ONCE, len(self)))

    def outline(self, n: int) -> Frame:
        """One frame without its pairs and matrices."""
        if not 0 <= n < len(self):
            raise Refused(Kind.NO_SUCH_CHOICE, self.path, f"has {len(self)} frames; there is no frame {n}")
        return next(self._outlines(n, n + 1))

    def stretches(self, n: int, names: Sequence[str], elements: int) -> Iterator[tuple[Pairs, dict[str, Array]]]:
        """The pairs of a frame and the values of some operators, about so many matrix elements at a time."""
        outline = self.outline(n)
        norb_a = outline.pairs.norb_a
        start, stop = self._rows("pairs", n)
        at_once, before = max(1, elements // int(norb_a.max()) ** 2), 0
        for first in range(start, stop, at_once):
            rows = self._ragged["pairs"][first : min(first + at_once, stop)].astype(np.int64)
            pairs = Pairs(rows[:, 0], rows[:, 1], rows[:, 2:], norb_a)
            after = before + pairs.elements
            yield pairs, {name: self._part(name, n, outline.layout(name), before, after) for name in names}
            before = after

    def _rows(self, name: str, n: int) -> tuple[int, int]:
        """First and last row of a frame in an array."""
        column = list(RAGGED).index(name)
        return int(self._ends[n - 1, column]) if n else 0, int(self._ends[n, column])

    def _part(self, name: str, n: int, layout: Spin, first: int, end: int) -> Array:
        """The elements first to end of each spin component of an operator."""
        start, stop = self._rows(f"{name}/values", n)
        width = np.dtype(layout.dtype).itemsize // 8
        length = (stop - start) // layout.components
        rows = [
            self._ragged[f"{name}/values"][start + s * length + first * width : start + s * length + end * width]
            for s in range(layout.components)
        ]
        return np.stack(rows).view(layout.dtype)

    def _outlines(self, start: int, stop: int) -> Iterator[Frame]:
        if stop > start:
            ends = np.concatenate(
                [self._ends[start - 1 : start] if start else [[0] * len(RAGGED)], self._ends[start:stop]]
            )
            small = [
                column for column, name in enumerate(RAGGED) if name not in WRITTEN_IN_PLACE and "known" not in name
            ]
            names = list(RAGGED)
            arrays = {names[c]: self._ragged[names[c]][ends[0, c] : ends[-1, c]] for c in small}
            for n in range(start, stop):
                here = ends[n - start : n - start + 2]
                parts = {names[c]: arrays[names[c]][here[0, c] - ends[0, c] : here[1, c] - ends[0, c]] for c in small}
                there = [name for name in OPERATORS if np.ptp(here[:, names.index(f"{name}/values")])]
                empty = {name: np.empty((0, *RAGGED[name][1]), RAGGED[name][0]) for name in names if name not in parts}
                yield self._make_frame(n, parts | empty, there)

    def array(self, name: str) -> Array:
        """A whole array that has one row for each frame, such as "frames/outcome"."""
        return np.asarray(self._fixed[name][:])

    def sources(self) -> set[str]:
        """Identities of the runs whose frames are in the file."""
        return {row.tobytes().hex() for row in self.array("frames/source")}

    def close(self) -> None:
        self._file.close()
        if self._journaled is not None:
            self._journaled.close()

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
            create(
                self.path,
                sizes_of(rows_of(frame, number_species(frame.basis))),
                frame.provenance.code,
                plain=self.plain,
            )
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
