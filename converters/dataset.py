"""The dataset file: frames in one HDF5 file, specified in docs/dataset.md.

    >>> with Dataset("data.h5") as data:
    ...     frame = data[0]
    >>> with DatasetWriter("data.h5") as writer:
    ...     writer.append(frame)

Everything ragged is one long array with the ends of the frames beside it, so reading frame n costs the same for any n.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from basis import Array
from basis.shells import Shell, Species
from basis.spin import Spin
from converters.blocks import Operator, Pairs
from converters.errors import Refused, reason_of
from converters.extents import Extent, extent_of
from converters.frame import OPERATORS, Frame, Outcome, Provenance, Spectrum
from converters.journal import JournaledFile, journal_path
from converters.runs import HDF5_MAGIC, starts_with

FORMAT, VERSION = "slem-dataset", 1
UNITS = "energy: eV; length: Angstrom; density matrix: electrons; spin moment: Bohr magneton"
CONVENTION = (
    "Real spherical harmonics without Condon-Shortley phase, m = -l..l inside a shell (p: y z x). Block (i, j, R) is "
    "<phi_i in cell 0 | O | phi_j in cell R>; O(k) = sum_R exp(+2 pi i k.R) O(R), k fractional. Of (i, j, R) and "
    "(j, i, -R) one is stored: i < j, or i = j and the first nonzero component of R positive, or R = 0. Spinor H and DM are "
    "complex, stored as real and imaginary part in turn."
)

# Arrays whose frames differ in length: name, type and shape of one row. `frames/ends` has one column for each.
RAGGED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "atoms/species": (np.int32, ()),
    "atoms/positions": (np.float64, (3,)),
    "pairs": (np.int32, (5,)),
    **{f"{name}/values": (np.float64, ()) for name in OPERATORS},
    **{f"{name}/known": (np.uint8, ()) for name in OPERATORS},
    "spectrum/kpoints": (np.float64, (4,)),
    "spectrum/energies": (np.float64, ()),
    "record": (np.uint8, ()),
}
# Arrays with one row for each frame.
FIXED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "frames/ends": (np.int64, (len(RAGGED),)),
    "frames/cell": (np.float64, (3, 3)),
    "frames/periodic": (np.uint8, (3,)),
    "frames/spin": (np.uint8, ()),
    "frames/outcome": (np.float64, (6,)),
    "frames/source": (np.uint8, (32,)),
}
BASIS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "basis/name": (h5py.string_dtype(), ()),
    "basis/radial": (h5py.string_dtype(), ()),
    "basis/number": (np.int32, ()),
    "basis/shells_end": (np.int64, ()),
    "basis/shells": (np.int32, (4,)),
}
# Arrays that many processes may write at once, each its part of a reserved frame.
WRITTEN_IN_PLACE = ("pairs", *(f"{name}/values" for name in OPERATORS))
SPINS = tuple(Spin)  # a frame's layout is stored as its place here: none, collinear, spinor
OUTCOME = tuple(field.name for field in dataclasses.fields(Outcome))
# Frames whose small arrays are read together.
OUTLINES_AT_ONCE = 1000
SMALLEST_CHUNK, LARGEST_CHUNK = 1 << 10, 1 << 20  # bytes


class Dataset:
    """A dataset open for reading: `len(data)`, `data[n]`, iteration, `data.basis`, `data.code`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._journaled: JournaledFile | None = None
        try:
            if journal_path(self.path).exists():
                self._journaled = JournaledFile(self.path, writable=False)
            self._file = h5py.File(self._journaled or self.path, "r")
        except OSError as error:
            raise Refused(self.path, reason_of(error)) from error
        try:
            check_header(self.path, self._file)
            self.code = str(self._file.attrs["code"])
            self.basis = read_basis(self._file)
            self._ends = self._file["frames/ends"]
            self._length = int(self._ends.shape[0])
            self._ragged = {name: self._file[name] for name in RAGGED}
            self._fixed = {name: self._file[name] for name in FIXED}
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            self.close()
            raise Refused(self.path, f"is no whole {FORMAT}: {error}") from error
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
        except (ValueError, KeyError, TypeError, IndexError, OSError, RuntimeError) as error:
            raise Refused(f"{self.path} frame {n}", f"cannot be read: {error}") from error

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
        record = json.loads(arrays["record"].tobytes())
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
            spectrum=spectrum_from_record(record.pop("spectrum"), arrays),
            folded=record.pop("folded"),
            provenance=Provenance(**record | {"notes": tuple(record["notes"])}),
        )

    def outlines(self) -> Iterator[Frame]:
        """All frames without their pairs and matrices, whose names stand with no numbers: what can be said of many frames fast."""
        for start in range(0, len(self), OUTLINES_AT_ONCE):
            yield from self._outlines(start, min(start + OUTLINES_AT_ONCE, len(self)))

    def outline(self, n: int) -> Frame:
        """One frame without its pairs and matrices."""
        if not 0 <= n < len(self):
            raise Refused(self.path, f"has {len(self)} frames; there is no frame {n}")
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
        self._journaled: JournaledFile | None = None
        self._file: h5py.File | None = None
        if self.path.exists():
            self._open()

    def _open(self) -> None:
        if not starts_with(self.path, HDF5_MAGIC):  # h5py would begin a new file inside
            raise Refused(self.path, "is no HDF5 file")
        try:
            self._journaled = JournaledFile(self.path, writable=True)
        except OSError as error:
            raise Refused(self.path, reason_of(error)) from error
        try:
            self._file = h5py.File(self._journaled, "r+", libver=("earliest", "v108"))
            check_header(self.path, self._file)
            self.code = str(self._file.attrs["code"])
            self.basis = list(read_basis(self._file))
            self._arrays = {name: self._file[name] for name in (*RAGGED, *FIXED)}
            self._ends = last_row(self._arrays["frames/ends"])
        except OSError as error:
            self._close_unchanged()
            raise Refused(self.path, reason_of(error)) from error
        except (KeyError, ValueError, RuntimeError) as error:
            self._close_unchanged()
            raise Refused(self.path, f"is no whole {FORMAT}: {error}") from error
        except Refused:
            self._close_unchanged()
            raise

    def append(self, frame: Frame) -> None:
        """Add one frame; refused when it is of another code than the file."""
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
            raise Refused(where, f"is of {frame.provenance.code}; {self.path} holds {self.code}")
        self.basis += [species for species in frame.basis if species not in self.basis]
        self._pending.append(frame)
        if len(self._pending) >= self.commit_every:
            self.commit()

    def commit(self) -> None:
        """Make all appended frames part of the file."""
        if self._file is None or self._journaled is None or not self._pending:
            return
        write_basis(self._file, self.basis)
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
            raise Refused(self.path, f"holds frames of {self.code}, not of {outline.provenance.code}")
        self.commit()
        self.basis += [species for species in outline.basis if species not in self.basis]
        write_basis(self._file, self.basis)
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

    def finish(self, outline: Frame, lengths: Mapping[str, int]) -> None:
        """Make a reserved frame, whose room is filled by now, part of the file."""
        if self._file is None or self._journaled is None:
            raise Refused(self.path, "holds no reserved frame")
        rows = rows_of(outline, number_species(self.basis))
        ends = self._ends + [lengths.get(name, len(rows[name])) for name in RAGGED]
        start = self._arrays["frames/ends"].shape[0]
        for name in FIXED:
            extend(self._arrays[name], start, ends[None] if name == "frames/ends" else rows[name][None])
        self._file.flush()
        self._journaled.commit()
        self._ends = ends

    def forget_pending(self) -> None:
        """Drop the frames that were appended since the last commit."""
        self._pending = []
        if self._file is not None:
            self.basis = list(read_basis(self._file))

    def _close_unchanged(self) -> None:
        """Let go of the file as the last commit left it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._journaled is not None:
            self._journaled.discard()
            self._journaled.close()
            self._journaled = None

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


def check_header(path: Path, file: h5py.File) -> None:
    """Refuse a file that is not a dataset of a version that this program knows."""
    found = file.attrs.get("format")
    if found != FORMAT:
        raise Refused(path, f'is an HDF5 file with format "{found}"; expected "{FORMAT}"')
    version = file.attrs.get("version")
    if version != VERSION:
        raise Refused(path, f"has version {version} of {FORMAT}; this program reads version {VERSION}")


def create(path: Path, sizes: Mapping[str, int], code: str, *, plain: bool) -> None:
    """Write an empty dataset for frames with so many bytes in each array; the file appears whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with h5py.File(draft, "w", libver=("earliest", "v108")) as file:
            attributes = {"format": FORMAT, "version": VERSION, "units": UNITS, "convention": CONVENTION}
            file.attrs.update(attributes | {"code": code})
            for name, (dtype, row) in {**RAGGED, **FIXED, **BASIS}.items():
                chunk = chunk_rows(sizes.get(name, 0), dtype, row) if name not in BASIS else 16
                packing = packing_of(name, plain)
                file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(chunk, *row), **packing)
            file["frames/ends"].attrs["columns"] = list(RAGGED)
            file["frames/outcome"].attrs["columns"] = list(OUTCOME)
            file["basis/shells"].attrs["columns"] = ["l", "n", "zeta", "polarisation"]
            file["pairs"].attrs["columns"] = ["i", "j", "R1", "R2", "R3"]
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Refused(path, f"cannot be written: {reason_of(error)}") from error


def packing_of(name: str, plain: bool) -> dict[str, Any]:
    """How an array is stored: compressed, or where others write into it, uncompressed and with its room taken at once."""
    if name in BASIS:
        return {}
    if not plain or name not in WRITTEN_IN_PLACE:
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return {"dcpl": layout}


def number_species(basis: Sequence[Species]) -> dict[Species, int]:
    return {species: index for index, species in enumerate(basis)}


def chunk_rows(size: int, dtype: Any, row: tuple[int, ...]) -> int:
    """Rows of a chunk: about one frame, so that reading one frame unpacks little else."""
    return max(1, min(max(size, SMALLEST_CHUNK), LARGEST_CHUNK) // width_of(dtype, row))


def width_of(dtype: Any, row: tuple[int, ...]) -> int:
    """Bytes of one row."""
    return int(np.dtype(dtype).itemsize * np.prod(row, dtype=int))


def sizes_of(rows: Mapping[str, Array]) -> dict[str, int]:
    return {name: value.nbytes for name, value in rows.items()}


def extend(dataset: h5py.Dataset, start: int, rows: Array) -> None:
    """Put rows at a place and let the dataset end there."""
    dataset.resize(start + len(rows), axis=0)
    dataset[start:] = rows


def last_row(dataset: h5py.Dataset) -> Array:
    return np.asarray(dataset[-1] if dataset.shape[0] else np.zeros(dataset.shape[1:], dataset.dtype))


def rows_of(frame: Frame, place: dict[Species, int]) -> dict[str, Array]:
    """What one frame adds to each array of the file; `place` is the number of each species in the file."""
    pairs, outcome, spectrum = frame.pairs, frame.outcome, frame.spectrum
    species = np.array([place[item] for item in frame.basis])
    rows = {
        "atoms/species": species[frame.species_a],
        "atoms/positions": np.asarray(frame.positions_av),
        "pairs": np.column_stack([pairs.i_p, pairs.j_p, pairs.R_pc]),
        "spectrum/kpoints": np.empty((0, 4)),
        "spectrum/energies": np.empty(0),
        "record": np.frombuffer(json.dumps(record_of(frame)).encode(), np.uint8),
        "frames/cell": frame.cell_cv,
        "frames/periodic": frame.pbc_c,
        "frames/spin": np.array(SPINS.index(frame.spin)),
        "frames/outcome": np.array([np.nan if (v := getattr(outcome, name)) is None else float(v) for name in OUTCOME]),
        "frames/source": np.frombuffer(bytes.fromhex(frame.provenance.source or "00" * 32), np.uint8),
    }
    for name in OPERATORS:
        operator = frame.operators.get(name)
        known = operator is None or operator.known_x is None
        rows[f"{name}/values"] = np.empty(0) if operator is None else operator.values_sx.ravel().view(np.float64)
        rows[f"{name}/known"] = np.empty(0) if known else np.asarray(operator.known_x)  # type: ignore[union-attr]
    if spectrum is not None:
        rows["spectrum/kpoints"] = np.column_stack([spectrum.kpoints_kc, spectrum.weights_k])
        rows["spectrum/energies"] = spectrum.energies_skn.ravel()
    return rows


def record_of(frame: Frame) -> dict[str, Any]:
    """Provenance and the small facts of the spectrum, as JSON holds them."""
    record: dict[str, Any] = {
        field.name: getattr(frame.provenance, field.name) for field in dataclasses.fields(Provenance)
    }
    record |= {name: dict(record[name]) for name in ("files", "settings", "measured")}
    record["folded"] = frame.folded
    spectrum = frame.spectrum
    record["spectrum"] = spectrum and {
        "shape": list(spectrum.energies_skn.shape),
        "tolerance": spectrum.tolerance,
        "smearing": spectrum.smearing,
        "width": spectrum.width,
        "fixed_moment": spectrum.fixed_moment,
    }
    return record


def read_operator(name: str, spin: Spin, arrays: Mapping[str, Array]) -> Operator:
    layout = Spin.NONE if name == "S" else spin
    known_x = arrays[f"{name}/known"]
    values_sx = arrays[f"{name}/values"].view(layout.dtype).reshape(layout.components, -1)
    return Operator(values_sx, known_x.astype(bool) if len(known_x) else None)


def spectrum_from_record(record: dict[str, Any] | None, arrays: Mapping[str, Array]) -> Spectrum | None:
    if record is None:
        return None
    energies_skn = arrays["spectrum/energies"].reshape(record.pop("shape"))
    kpoints = arrays["spectrum/kpoints"]
    return Spectrum(kpoints[:, :3], kpoints[:, 3], energies_skn, **record)


def outcome_from_row(row: Array) -> Outcome:
    values: dict[str, Any] = {
        name: None if np.isnan(value) else float(value) for name, value in zip(OUTCOME, row, strict=True)
    }
    for name, kind in (("converged", bool), ("iterations", int)):
        values[name] = None if values[name] is None else kind(values[name])
    return Outcome(**values)


def read_basis(file: h5py.File) -> tuple[Species, ...]:
    """Species of the file, in its order."""
    shells = [Shell(int(l), int(n), int(zeta), bool(p)) for l, n, zeta, p in file["basis/shells"][:]]
    ends = file["basis/shells_end"][:].tolist()
    names, radials = file["basis/name"].asstr()[:], file["basis/radial"].asstr()[:]
    return tuple(
        Species(str(name), int(number), tuple(shells[start:end]), str(radial))
        for name, number, radial, start, end in zip(
            names, file["basis/number"][:], radials, [0, *ends][:-1], ends, strict=True
        )
    )


def write_basis(file: h5py.File, basis: Sequence[Species]) -> None:
    """Add the species that the file does not have yet."""
    have = file["basis/name"].shape[0]
    new = basis[have:]
    if not new:
        return
    shells_start = file["basis/shells"].shape[0]
    shells = [(s.l, s.n, s.zeta, s.polarisation) for species in new for s in species.shells]
    ends = shells_start + np.cumsum([len(species.shells) for species in new])
    extend(file["basis/name"], have, np.array([species.name for species in new], dtype=object))
    extend(file["basis/radial"], have, np.array([species.radial for species in new], dtype=object))
    extend(file["basis/number"], have, np.array([species.number for species in new]))
    extend(file["basis/shells_end"], have, ends)
    extend(file["basis/shells"], shells_start, np.array(shells).reshape(-1, 4))
