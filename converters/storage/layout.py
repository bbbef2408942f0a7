"""The layout of a dataset file: which arrays it has, what a frame puts into them, and how a frame is made of them again.

docs/dataset.md specifies it.
"""

import dataclasses
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from basis import Array
from basis.radial import ABOUT, Functions, pack_functions, unpack_functions
from basis.shells import Shell, Species
from basis.spin import Spin
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.blocks import Operator
from converters.frames.frame import OPERATORS, Frame, Outcome, Spectrum
from converters.storage.files import draft_hdf5
from converters.storage.record import write_record

FORMAT, VERSION = "slem-dataset", 2
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
    "basis/functions_about": (np.float64, (len(ABOUT),)),
    "basis/functions": (np.float64, (3,)),
}
# Arrays that many processes may write at once, each its part of a reserved frame.
WRITTEN_IN_PLACE = ("pairs", *(f"{name}/values" for name in OPERATORS))
SPINS = tuple(Spin)  # a frame's layout is stored as its place here: none, collinear, spinor
OUTCOME = tuple(field.name for field in dataclasses.fields(Outcome))
# Frames whose small arrays are read together.
OUTLINES_AT_ONCE = 1000
SMALLEST_CHUNK, LARGEST_CHUNK = 1 << 10, 1 << 20  # bytes
# Matrices are compressed where that leaves at most this part of so many of their elements. Digits are noise to zlib, zeros are not: of H and DM
# 0.83 to 0.93 is left and of S 0.25 to 0.8, and compressing takes two thirds of the time of writing.
WORTH_PACKING, TRIED = 0.8, 1 << 17


def check_header(path: Path, file: h5py.File) -> None:
    """Refuse a file that is not a dataset of a version that this program knows."""
    found = file.attrs.get("format")
    if found != FORMAT:
        raise Refused(Kind.NOT_OURS, path, f'is an HDF5 file with format "{found}"', f'"{FORMAT}"')
    version = file.attrs.get("version")
    if version not in range(1, VERSION + 1):
        found = f"has version {version} of {FORMAT}; this program reads versions 1 to {VERSION}"
        raise Refused(Kind.NEWER_PROGRAM, path, found)


def arrays_of(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The arrays of a file by name."""
    arrays = {name: file[name] for name in (*RAGGED, *FIXED)}
    lengths = {name: arrays[name].shape[0] for name in FIXED}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its arrays are of different numbers of frames: {lengths}")
    return arrays


def create(path: Path, sizes: Mapping[str, int], code: str, *, plain: bool, dense: Collection[str] = ()) -> None:
    """Write an empty dataset for frames with so many bytes in each array; the file appears whole or not at all.

    `dense` are the arrays that compressing makes hardly smaller.
    """
    try:
        with draft_hdf5(path, libver=("earliest", "v108")) as file:
            attributes = {"format": FORMAT, "version": VERSION, "units": UNITS, "convention": CONVENTION}
            file.attrs.update(attributes | {"code": code})
            for name, (dtype, row) in {**RAGGED, **FIXED, **BASIS}.items():
                if name in BASIS:
                    create_basis_array(file, name)
                    continue
                chunk = chunk_rows(sizes.get(name, 0), dtype, row)
                packing = {} if name in dense else packing_of(name, plain, sizes.get(name, 0) > LARGEST_CHUNK)
                file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(chunk, *row), **packing)
            file["frames/ends"].attrs["columns"] = list(RAGGED)
            file["frames/outcome"].attrs["columns"] = list(OUTCOME)
            file["basis/shells"].attrs["columns"] = ["l", "n", "zeta", "polarisation"]
            file["pairs"].attrs["columns"] = ["i", "j", "R1", "R2", "R3"]
    except (OSError, RuntimeError) as error:
        raise refused_by_system(path, error, "cannot be written", Kind.NO_ACCESS) from error


def create_basis_array(file: h5py.File, name: str) -> None:
    dtype, row = BASIS[name]
    chunk = 512 if name == "basis/functions" else 16
    file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(chunk, *row))
    if name == "basis/functions_about":
        file[name].attrs["columns"] = list(ABOUT)


def packing_of(name: str, plain: bool, unfilled: bool) -> dict[str, Any]:
    """How an array is stored: compressed, or where others write into it, uncompressed and with its room taken at once.

    Zeros are not written to room for gigabytes (`unfilled`).
    """
    if not plain or name not in WRITTEN_IN_PLACE:
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    if unfilled:
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return {"dcpl": layout}


def dense_arrays(rows: Mapping[str, Array]) -> list[str]:
    """The matrices of a frame that compressing makes hardly smaller."""
    return [name for name in WRITTEN_IN_PLACE if name.endswith("/values") and len(rows[name]) and is_dense(rows[name])]


def is_dense(values: Array) -> bool:
    """Whether zlib leaves most of some numbers, tried with numbers from all of them."""
    tried = np.ascontiguousarray(values[:: max(1, len(values) // TRIED)])
    shuffled = tried.view(np.uint8).reshape(len(tried), -1).T.tobytes()  # as HDF5 does
    return len(zlib.compress(shuffled, 1)) > WORTH_PACKING * len(shuffled)


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
        "record": np.frombuffer(write_record(frame), np.uint8),
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


def read_operator(name: str, spin: Spin, arrays: Mapping[str, Array]) -> Operator:
    layout = Spin.NONE if name == "S" else spin
    known_x = arrays[f"{name}/known"]
    values_sx = arrays[f"{name}/values"].view(layout.dtype).reshape(layout.components, -1)
    return Operator(values_sx, known_x.astype(bool) if len(known_x) else None)


def read_spectrum(about: Mapping[str, Any] | None, arrays: Mapping[str, Array]) -> Spectrum | None:
    """The levels of a frame, of what its record and its arrays say."""
    if about is None:
        return None
    energies_skn = arrays["spectrum/energies"].reshape(about["shape"])
    kpoints = arrays["spectrum/kpoints"]
    rest = {name: value for name, value in about.items() if name != "shape"}
    return Spectrum(kpoints[:, :3], kpoints[:, 3], energies_skn, **rest)


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


def read_functions(file: h5py.File, basis: Sequence[Species]) -> tuple[Functions | None, ...]:
    """The radial functions of the species of a file, None for those of which it has none."""
    if "basis/functions" not in file:  # files of older programs
        return (None,) * len(basis)
    about, rows = file["basis/functions_about"][:], file["basis/functions"][:]
    return unpack_functions(about, rows, [species.shells for species in basis])


def write_functions(file: h5py.File, basis: Sequence[Species], known: Mapping[Species, Functions]) -> None:
    """Put down all radial functions that are known."""
    unknown = {species: (None,) * len(species.shells) for species in basis}
    packed = pack_functions([function for species in basis for function in known.get(species, unknown[species])])
    for name, rows in zip(("basis/functions_about", "basis/functions"), packed, strict=True):
        if name not in file:  # files of older programs
            create_basis_array(file, name)
        extend(file[name], 0, rows)
