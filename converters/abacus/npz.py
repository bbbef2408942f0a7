"""ABACUS's matrices in files of NumPy (out_hsr 3, out_hsr_npz, out_hr_npz, out_dm_npz): dense blocks, and the structure with all its digits.

A file holds the last ionic step: lattice vectors (Bohr), for each atom its species, atomic number and fractional coordinates, n, l and
m of the orbitals of each species, and blocks "mat_i_j_Rx_Ry_Rz" of atoms i <= j counted from 0.
"""

import io
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from basis import Array
from converters.abacus.convention import BOHR
from converters.abacus.csr import Step
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements

BLOCK = re.compile(r"mat_(\d+)_(\d+)_(-?\d+)_(-?\d+)_(-?\d+)")
LAST = 0  # the number of a step that a file does not number
# Blocks without a larger element are none: ABACUS leaves such elements out of its sparse files.
LEAST = 1e-10
Key = tuple[int, int, int, int, int]


def read_step(
    path: Path, orbitals_of_species: Sequence[Sequence[tuple[int, int]]], *, spinor: bool, pauli: bool
) -> Step:
    """The matrix of a file, whose orbitals have to be those (l, m) of the species; a DM of spinors has Pauli components."""
    arrays = arrays_of(path)
    try:
        cell_cv = arrays["lattice_vectors"].reshape(3, 3) * BOHR
        atoms_ax = arrays["atom_info"].reshape(-1, 5)
        species_a = atoms_ax[:, 0].astype(int)
        for s, expected in enumerate(orbitals_of_species):
            found = arrays[f"orbital_info_{s}"].reshape(-1, 3)[:, 1:].astype(int)
            if found.tolist() != [list(pair) for pair in expected]:
                raise Refused(Kind.DAMAGED, path, f"has other orbitals of species {s + 1} than the run")
        norb_a = np.array([len(orbitals_of_species[s]) for s in species_a]) * (2 if spinor else 1)
    except (KeyError, ValueError, IndexError) as error:
        raise Refused(Kind.DAMAGED, path, f"has no structure that can be read: {error!r}") from error
    blocks: dict[Key, Array] = {}
    for name, block in arrays.items():
        if match := BLOCK.fullmatch(name):
            i, j, *R_c = map(int, match.groups())
            if not max(i, j) < len(norb_a) or block.shape != (norb_a[i], norb_a[j]) or max(map(abs, R_c)) > 10_000:
                raise Refused(Kind.DAMAGED, path, f"has a block {name} of shape {block.shape}")
            blocks[i, j, R_c[0], R_c[1], R_c[2]] = block
    if not blocks:
        raise Refused(Kind.DAMAGED, path, "holds no block")
    for (i, j, x, y, z), block in list(blocks.items()):
        blocks.setdefault((j, i, -x, -y, -z), partner_of(block, pauli))
    matrix = join_blocks({key: block for key, block in blocks.items() if np.abs(block).max() > LEAST}, norb_a)
    return Step(LAST, int(norb_a.sum()), matrix, cell_cv, atoms_ax[:, 2:], cell_is_exact=True)


def partner_of(block: Array, pauli: bool) -> Array:
    """The block (j, i, -R) of a block (i, j, R); Pauli components, real ones, stay where they are within two orbitals."""
    if pauli:
        rows, columns = block.shape
        return np.ascontiguousarray(
            block.reshape(rows // 2, 2, columns // 2, 2).transpose(2, 1, 0, 3).reshape(columns, rows)
        )
    return np.ascontiguousarray(block.T.conj())


def join_blocks(blocks: dict[Key, Array], norb_a: Array) -> Elements:
    start_a = np.concatenate([[0], np.cumsum(norb_a)])
    R_tc, t_b = np.unique([key[2:] for key in blocks], axis=0, return_inverse=True)
    rows, columns, images = [], [], []
    for (i, j, *_), t in zip(blocks, t_b.ravel(), strict=True):
        row_e, column_e = np.indices((norb_a[i], norb_a[j])).reshape(2, -1)
        rows.append(row_e + start_a[i])
        columns.append(column_e + start_a[j])
        images.append(np.full(len(row_e), t))
    values = np.concatenate([block.ravel() for block in blocks.values()])
    return Elements(np.concatenate(rows), np.concatenate(columns), np.concatenate(images), R_tc, values[None])


def arrays_of(path: Path) -> dict[str, Array]:
    """The arrays of an uncompressed archive; none may claim more bytes than the file has."""
    size = path.stat().st_size
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                    raise Refused(Kind.DAMAGED, path, f"has a part of {member.file_size} bytes", f"at most {size}")
                arrays[member.filename.removesuffix(".npy")] = array_of(archive.read(member))
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, OSError, struct.error) as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    return arrays


def array_of(content: bytes) -> Array:
    """The array of one .npy file, of numbers alone."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"an array of version {version}")
    shape, is_column_major, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "fc" or is_column_major:
        raise ValueError(f"an array of {dtype}")
    values = np.frombuffer(content, dtype, offset=stream.tell())
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    return values.reshape(shape)
