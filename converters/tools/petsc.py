"""H(k) and S(k) as PETSc's binary matrices: all numbers big-endian, integers of 32 bits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from basis.spin import Spin
from converters.frames.frame import Frame
from converters.physics.sparse import Source, matrices_at
from converters.starts.start import Options, Written

# What the first number of a file says that holds a sparse matrix.
MATRIX = 1211216


def write(frame: Frame, folder: Path, options: Options) -> Written:
    """For builds of PETSc with complex numbers, and for those with real ones too where the matrices are real."""
    return write_source(Source.of_frame(frame), folder, options)


def write_source(source: Source, folder: Path, options: Options) -> Written:
    """The same of a frame that need not be in memory."""
    found = matrices_at(source, ("H", "S"), np.array(options.kpoint))
    names = ["H_up", "H_down"] if source.outline.spin is Spin.COLLINEAR else ["H"]
    written = []
    for name, matrix in zip([*names, "S"], [*found["H"], *found["S"]], strict=True):
        kinds = {"complex": complex} if np.iscomplexobj(matrix.data) else {"complex": complex, "real": float}
        for word, kind in kinds.items():
            written.append(folder / f"{name}_{word}.petsc")
            with written[-1].open("wb") as file:
                file.writelines(binary_matrix(matrix, kind))
    where = ", ".join(f"{x:g}" for x in options.kpoint)
    return Written(tuple(written), {}, (f"H and S are those of the k-point {where}",))


def binary_matrix(matrix: sparse.csr_array, kind: type) -> Iterator[bytes]:
    """What MatLoad reads: the kind of object, rows, columns, elements, elements of each row, columns, values."""
    matrix.sort_indices()
    rows, columns = matrix.shape
    head = np.array([MATRIX, rows, columns, matrix.nnz], dtype=">i4")
    yield head.tobytes()
    yield np.diff(matrix.indptr).astype(">i4").tobytes()
    yield matrix.indices.astype(">i4").tobytes()
    yield np.asarray(matrix.data, dtype=kind).astype(">c16" if kind is complex else ">f8").tobytes()
