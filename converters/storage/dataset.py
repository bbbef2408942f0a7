"""The dataset file: frames in one HDF5 file, specified in docs/dataset.md.

    >>> with Dataset("data.h5") as data:
    ...     frame = data[0]

Everything ragged is one long array with the ends of the frames beside it, so reading frame n costs the same for any n.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex, overload

import h5py
import numpy as np

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.blocks import Pairs
from converters.frames.frame import OPERATORS, Frame
from converters.storage.files import open_hdf5
from converters.storage.journal import JournaledFile, journal_path
from converters.storage.layout import (
    FIXED,
    FORMAT,
    OUTLINES_AT_ONCE,
    RAGGED,
    SPINS,
    WRITTEN_IN_PLACE,
    arrays_of,
    check_header,
    outcome_from_row,
    read_basis,
    read_functions,
    read_operator,
    read_spectrum,
)
from converters.storage.pandas_table import as_table
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

    def __repr__(self) -> str:
        species = ", ".join(map(str, self.basis))
        return f"<dataset {self.path}: {len(self)} frames of {self.code}; {species}>"

    def __iter__(self) -> Iterator[Frame]:
        return (self[n] for n in range(len(self)))

    @overload
    def __getitem__(self, n: SupportsIndex) -> Frame: ...
    @overload
    def __getitem__(self, n: slice) -> list[Frame]: ...
    def __getitem__(self, n: SupportsIndex | slice) -> Frame | list[Frame]:
        """One frame, the last ones counted from -1, or the frames of a slice, all read at once."""
        if isinstance(n, slice):
            return [self._frame(m) for m in range(*n.indices(len(self)))]
        number = index(n)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path} has {len(self)} frames; there is no frame {number}")
        return self._frame(number % len(self))

    def _frame(self, n: int) -> Frame:
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

    def table(self) -> Any:
        """What the runs said, one row for each frame: a pandas DataFrame where pandas is installed, else a list of dictionaries."""
        return as_table(row_of(n, frame) for n, frame in enumerate(self.outlines()))

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

    def species_of_frames(self) -> list[frozenset[int]]:
        """Which species of the basis are in each frame."""
        ends = self._ends[:, list(RAGGED).index("atoms/species")].tolist()
        species = self._ragged["atoms/species"][:].tolist()
        return [frozenset(species[a:b]) for a, b in pairwise([0, *ends])]

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


def row_of(n: int, frame: Frame) -> dict[str, Any]:
    """What is said of a frame in a table."""
    outcome, source = frame.outcome, frame.provenance
    return {
        "frame": n,
        "formula": frame.formula,
        "atoms": frame.natoms,
        "orbitals": frame.norb,
        "spin": str(frame.spin),
        "matrices": "+".join(frame.operators),
        **vars(outcome),
        "predicted": frame.predicted,
        "path": source.path,
    }
