"""Direct solvers of sparse Hermitian matrices behind one protocol: factor, solve, and the inertia where the factors show it.

The inertia of H - E S is the number of levels below E, exactly (Sylvester): S is positive definite. MKL PARDISO and MUMPS
find it with Bunch and Kaufman's pivots; SciPy's SuperLU makes unsymmetric factors, which show no inertia that could be trusted.
Of complex matrices neither gives it (PARDISO's own is wrong): they are factored as real ones of twice the size.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes.util import find_library
from importlib import metadata, util
from pathlib import Path
from typing import Any, Protocol
from weakref import finalize

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from basis import Array
from converters.errors import Kind, Refused

Matrix = sparse.csr_array
# Solutions with larger relative residuals are refused: the factors are not those of the matrix.
EXACT = 1e-10
INSTALL = "pip install 'slem-plugin[pardiso]' (MKL), or python-mumps from conda-forge"


class Engine(Protocol):
    """A direct solver of matrices on one pattern, which is analysed once; `below` is None where it does not know."""

    name: str

    def factor(self, matrix: Matrix) -> None: ...

    def solve(self, b: Array) -> Array: ...

    @property
    def below(self) -> int | None:
        """Eigenvalues below zero of the matrix that was factored last."""
        ...


def engines() -> list[str]:
    """The solvers that are installed, the best one first."""
    return [name for name, there in (("pardiso", has_mkl()), ("mumps", has_mumps()), ("superlu", True)) if there]


def choose_engine(name: str, pattern: Matrix) -> Engine:
    """A solver by its name, or ("auto") the best one that is installed, for matrices on a pattern."""
    made: dict[str, Callable[[Matrix], Engine]] = {"pardiso": Pardiso, "mumps": Mumps, "superlu": SuperLU}
    if name not in ("auto", *made):
        raise Refused(Kind.NO_SUCH_CHOICE, "solver", f'is "{name}"', f"auto, {', '.join(made)}")
    if name != "auto" and name not in engines():
        raise Refused(Kind.NOT_INSTALLED, name, "is not installed", INSTALL)
    kind = made[engines()[0] if name == "auto" else name]
    return kind(pattern) if kind is SuperLU or np.isrealobj(pattern.data) else Doubled(kind, pattern)


def require_exact(engine: Engine, matrix: Matrix) -> None:
    """Refuse factors that do not solve: a pivot was lost, and their inertia says nothing."""
    b = np.random.default_rng(0).standard_normal(matrix.shape[0])
    x = engine.solve(b.astype(matrix.dtype))
    scale = np.abs(matrix.data).max() * np.linalg.norm(x) + np.linalg.norm(b)
    residual = float(np.linalg.norm(matrix @ x - b) / scale)
    if not residual < EXACT:
        raise Refused(
            Kind.SINGULAR_OVERLAP,
            engine.name,
            f"factors the matrix with a relative residual of {residual:.2g}: at this energy stands a level, or an orbital for itself, or S is nearly singular",
            f"at most {EXACT:g}",
        )


# SciPy


class SuperLU:
    name = "superlu"
    below = None

    def __init__(self, pattern: Matrix) -> None:
        self.factors: Any = None

    def factor(self, matrix: Matrix) -> None:
        options = {"SymmetricMode": True, "DiagPivotThresh": 0.001}
        self.factors = None  # the memory of the former ones
        try:
            self.factors = linalg.splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options=options)
        except RuntimeError as error:
            raise Refused(Kind.SINGULAR_OVERLAP, self.name, f"cannot factor the matrix: {error}") from error
        require_exact(self, matrix)

    def solve(self, b: Array) -> Array:
        return np.asarray(self.factors.solve(np.ascontiguousarray(b)))


# Complex matrices


def as_real(matrix: Matrix) -> Matrix:
    """The real symmetric matrix of twice the size that has each eigenvalue of a Hermitian one twice."""
    return sparse.block_array([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]], format="csr")


class Doubled:
    """A solver of real matrices for complex ones."""

    def __init__(self, kind: Callable[[Matrix], Engine], pattern: Matrix) -> None:
        self.engine = kind(as_real(pattern))
        self.name = self.engine.name

    def factor(self, matrix: Matrix) -> None:
        self.engine.factor(as_real(matrix))

    @property
    def below(self) -> int | None:
        twice = self.engine.below
        return None if twice is None or twice % 2 else twice // 2

    def solve(self, b: Array) -> Array:
        both = self.engine.solve(np.concatenate([b.real, b.imag]))
        return both[: len(b)] + 1j * both[len(b) :]


# MKL PARDISO, by its C interface

SYMMETRIC_INDEFINITE = -2
ANALYSE, FACTOR, SOLVE, FREE = 11, 22, 33, -1
# Numbers of the control array, from 0: own settings, nested dissection, perturbation of pivots (10^-n), Bunch and Kaufman's pivots, indices from 0;
# found: perturbed pivots and negative eigenvalues.
SETTINGS = {0: 1, 1: 2, 9: 13, 20: 1, 34: 1}
PERTURBED, POSITIVE, NEGATIVE = 13, 21, 22
MEANING = {-2: "not enough memory", -4: "a zero pivot", -8: "too many elements for 32 bits", -9: "not enough memory"}


def mkl_files() -> list[str]:
    """Where the library of MKL may be: in the package of pip, in the environment of conda, on the path of the system."""
    found = []
    with suppress(metadata.PackageNotFoundError):
        files = metadata.files("mkl") or []
        found = [str(file.locate()) for file in files if file.name.startswith(("libmkl_rt", "mkl_rt"))]
    found += [str(path) for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.*"))]
    if path := find_library("mkl_rt"):
        found.append(path)
    return [path for path in found if os.sep not in path or Path(path).exists()]


def has_mkl() -> bool:
    return bool(mkl_files())


def load_mkl() -> ctypes.CDLL:
    for path in mkl_files():
        with suppress(OSError):
            return ctypes.CDLL(path)
    raise Refused(Kind.NOT_INSTALLED, "pardiso", "the library of MKL cannot be loaded", INSTALL)


class Pardiso:
    name = "pardiso"

    def __init__(self, pattern: Matrix) -> None:
        self.library = load_mkl()
        self.memory = np.zeros(64, dtype=np.int64)
        self.control = np.zeros(64, dtype=np.int32)
        for n, value in SETTINGS.items():
            self.control[n] = value
        self.upper = UpperHalf(pattern)
        self.values = self.upper.values(pattern)
        self.call(ANALYSE)
        freed = (self.library, self.memory, len(self.upper.start_M) - 1, self.control)
        self._end = finalize(self, free_pardiso, *freed)

    def factor(self, matrix: Matrix) -> None:
        self.values = self.upper.values(matrix)
        self.call(FACTOR)
        require_exact(self, matrix)

    @property
    def below(self) -> int | None:
        """None where pivots were too small and had to be changed, or the library does not say."""
        counted = int(self.control[POSITIVE]) + int(self.control[NEGATIVE])
        whole = counted == len(self.upper.start_M) - 1 and not self.control[PERTURBED]
        return int(self.control[NEGATIVE]) if whole else None

    def solve(self, b: Array) -> Array:
        b = np.asfortranarray(b, dtype=self.values.dtype)
        x = np.zeros_like(b, order="F")
        self.call(SOLVE, b, x)
        return x

    def call(self, phase: int, b: Array | None = None, x: Array | None = None) -> None:
        columns = 1 if b is None or b.ndim == 1 else b.shape[1]
        arrays = (self.values, self.upper.start_M, self.upper.column_e)
        call_pardiso(self.library, self.memory, phase, arrays, columns, self.control, b, x)


def call_pardiso(
    library: ctypes.CDLL,
    memory: Array,
    phase: int,
    arrays: Sequence[Array],
    columns: int,
    control: Array,
    b: Array | None = None,
    x: Array | None = None,
) -> None:
    error = ctypes.c_int32(0)

    def number(value: int) -> Any:
        return ctypes.byref(ctypes.c_int32(value))

    def place(array: Array | None) -> Any:
        return None if array is None else array.ctypes.data_as(ctypes.c_void_p)

    size = len(arrays[1]) - 1
    library.pardiso(
        place(memory),
        number(1),
        number(1),
        number(SYMMETRIC_INDEFINITE),
        number(phase),
        number(size),
        *(place(array) for array in arrays),
        None,
        number(columns),
        place(control),
        number(0),
        place(b),
        place(x),
        ctypes.byref(error),
    )
    if error.value:
        short = error.value in (-2, -9)
        said = MEANING.get(error.value, "an error of the library")
        where = Kind.TOO_LITTLE_MEMORY if short else Kind.SINGULAR_OVERLAP
        raise Refused(where, "pardiso", f"stopped with number {error.value} ({said}) for {size} orbitals")


def free_pardiso(library: ctypes.CDLL, memory: Array, size: int, control: Array) -> None:
    empty = np.zeros(size + 1, dtype=np.int32)
    call_pardiso(library, memory, FREE, (np.zeros(1), empty, empty), 1, control)


class UpperHalf:
    """The upper half of the matrices on a pattern."""

    def __init__(self, pattern: Matrix) -> None:
        row_e = np.repeat(np.arange(pattern.shape[0], dtype=pattern.indices.dtype), np.diff(pattern.indptr))
        self.kept_e = pattern.indices >= row_e
        count_M = np.bincount(row_e[self.kept_e], minlength=pattern.shape[0])
        self.start_M = np.concatenate([[0], np.cumsum(count_M)]).astype(np.int32)
        self.column_e = pattern.indices[self.kept_e].astype(np.int32)

    def values(self, matrix: Matrix) -> Array:
        return np.ascontiguousarray(matrix.data[self.kept_e])


# MUMPS, by the package python-mumps

NEGATIVE_PIVOTS = 12


def has_mumps() -> bool:
    return util.find_spec("mumps") is not None


class Mumps:
    name = "mumps"

    def __init__(self, pattern: Matrix) -> None:
        import mumps

        self.context = mumps.Context()
        self.analysed = False

    def factor(self, matrix: Matrix) -> None:
        self.context.set_matrix(sparse.coo_array(matrix), symmetric=True)
        try:
            self.context.factor(reuse_analysis=self.analysed, ordering="auto" if self.analysed else "metis")
        except RuntimeError as error:
            raise Refused(Kind.SINGULAR_OVERLAP, self.name, f"cannot factor the matrix: {error}") from error
        self.analysed = True
        require_exact(self, matrix)

    @property
    def below(self) -> int | None:
        return int(self.context.mumps_instance.infog[NEGATIVE_PIVOTS])

    def solve(self, b: Array) -> Array:
        return np.asarray(self.context.solve(np.array(b, order="F")))
