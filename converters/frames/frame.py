"""Frame: one structure with its basis, its matrices and what the code said about the run.

>>> frame.atoms              # an ase.Atoms
>>> frame                    # code, formula, orbitals, matrices in one line; a table in a notebook
>>> frame.block("H", 0, 1)   # <phi_0 | H | phi_1>, eV; frame.block("H", 0, 1, R=(0, 0, 1)) for atom 1 in another cell
>>> frame.H(k), frame.S(k)   # matrices at a k-point
>>> frame["DM"].values_sx    # all elements, packed
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from basis import Array
from basis.radial import Functions
from basis.shells import Species
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, Pairs, spread_operator, unpack_elements
from converters.frames.dense import block_between, matrices_at, matrices_by_cell
from converters.frames.orbitals import Orbital, orbitals_of
from converters.frames.origin import FileForm, Origin
from converters.frames.smearing import is_smearing

if TYPE_CHECKING:
    from ase import Atoms

# The matrices a frame may hold: Hamiltonian (eV), overlap, density (electrons).
OPERATORS = ("H", "S", "DM")


@dataclass(frozen=True)
class Outcome:
    """What the code said about its run; None where it said nothing."""

    energy: float | None = None
    fermi: float | None = None
    electrons: float | None = None
    moment: float | None = None
    converged: bool | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a frame comes from: enough to find the run again and to know whether it changed.

    `source` identifies the run by the contents of its matrix files (64 hexadecimal digits; empty for a frame that was
    never on disk), `files` holds the SHA-256 of each file that was read, `settings` what the input said that people ask for,
    `measured` what reading found out (asymmetry of the stored halves, for example), `notes` what a person should know. `origins` says of each
    matrix where it is from, `form` how the files were written, `predicted` that the frame is what a model says.
    """

    code: str = ""
    version: str = ""
    path: str = ""
    source: str = ""
    step: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str | float | int | bool | None] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    form: FileForm = field(default_factory=FileForm)
    predicted: bool = False


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The k-points of a run and the eigenvalues that the code printed at them.

    The density matrix is the weighted sum over these k-points; time reversal may have removed the partner of a k-point
    where matrices are real. `energies_skn` (eV) has one spin for none and spinor layouts and two for collinear; it may
    hold fewer bands than there are orbitals, and NaN where nothing was printed. `tolerance` is how exactly the code printed them; `smearing` is "fermi",
    "gauss", "mp1" (Methfessel and Paxton's of order 1), "mp2" and so on, "cold", "fixed" (lowest levels filled) or "" when it is not known, and `width` its width (eV). `fixed_moment` says
    that each spin has its own electron number. `kpoint_error` is how far the fractions may be from those that the code used, where
    it printed them with few digits, `matrix_rounding` how far elements of H and S are, as a part of themselves, for the same reason.
    """

    kpoints_kc: Array
    weights_k: Array
    energies_skn: Array
    tolerance: float = 1e-6
    smearing: str = ""
    width: float = 0.0
    fixed_moment: bool = False
    kpoint_error: float = 0.0
    matrix_rounding: float = 0.0

    def __post_init__(self) -> None:
        nk = len(self.weights_k)
        require_shape("Spectrum.kpoints_kc", self.kpoints_kc, (nk, 3))
        require_shape("Spectrum.energies_skn", self.energies_skn, (None, nk, None))
        if self.smearing and not is_smearing(self.smearing):
            raise ValueError(
                f'Spectrum.smearing is "{self.smearing}"; expected fermi, gauss, mp1 to mp9, cold, fixed or nothing'
            )


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure, its basis and its matrices on one pair list.

    `operators` may hold "H" (eV), "S" and "DM" (electrons). H and DM have the spin layout `spin`; S always has one real
    component. A block (i, j, R) is <phi_i in cell 0 | O | phi_j in cell R>, and DM is the matrix of the projector:
    rho(k) = sum_R exp(2 pi i k.R) DM(R) = sum_n f c c^dagger, so that the electron number is the sum of DM * conj(S).
    `functions` are the radial functions of the species, None for one of which they are not known. `folded` says that each block is a sum over its images in the supercell of the k mesh: right at the k-points of the
    run, an interpolation between them.
    """

    cell_cv: Array
    pbc_c: Array
    positions_av: Array
    species_a: Array
    basis: tuple[Species, ...]
    pairs: Pairs
    spin: Spin
    operators: Mapping[str, Operator]
    outcome: Outcome = Outcome()
    spectrum: Spectrum | None = None
    provenance: Provenance = Provenance()
    folded: bool = False
    functions: tuple[Functions | None, ...] = ()

    def __post_init__(self) -> None:
        natoms = len(self.species_a)
        require_shape("Frame.cell_cv", self.cell_cv, (3, 3))
        require_shape("Frame.pbc_c", self.pbc_c, (3,))
        require_shape("Frame.positions_av", self.positions_av, (natoms, 3))
        if natoms == 0 or not 0 <= self.species_a.min() <= self.species_a.max() < len(self.basis):
            raise ValueError(f"Frame.species_a must name species 0 to {len(self.basis) - 1} for at least one atom")
        expected = [self.basis[s].size for s in self.species_a]
        if self.pairs.norb_a.tolist() != expected:
            raise ValueError(
                f"Frame.pairs has {self.pairs.norb_a.tolist()} orbitals per atom; the basis has {expected}"
            )
        if self.functions and len(self.functions) != len(self.basis):
            raise ValueError(f"Frame.functions has {len(self.functions)} species; expected {len(self.basis)} or none")
        for name, operator in self.operators.items():
            if name not in OPERATORS:
                raise ValueError(f'Frame.operators has "{name}"; expected only {", ".join(OPERATORS)}')
            layout = self.layout(name)
            require_shape(f"Frame {name}", operator.values_sx, (layout.components, self.pairs.elements))
            if operator.values_sx.dtype != layout.dtype:
                raise ValueError(f"Frame {name} is {operator.values_sx.dtype}; expected {layout.dtype}")
            if operator.known_x is not None:
                require_shape(f"Frame {name} known_x", operator.known_x, (self.pairs.elements,))
        object.__setattr__(self, "operators", MappingProxyType(dict(self.operators)))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), tuple(
            dict(self.operators) if name == "operators" else getattr(self, name) for name in self.__dataclass_fields__
        )

    def layout(self, name: str) -> Spin:
        """Spin layout of an operator: overlaps know no spin."""
        return Spin.NONE if name == "S" else self.spin

    def __repr__(self) -> str:
        matrices = "+".join(name for name in OPERATORS if name in self.operators) or "no matrices"
        kind = f"predicted {self.provenance.code}" if self.predicted else self.provenance.code
        return f"<{kind} frame: {self.formula}, {self.norb} orbitals, {len(self.pairs)} pairs, {matrices}, spin {self.spin}>"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks, with where each matrix is from."""
        rows = {"orbitals": self.norb, "pairs": len(self.pairs), "spin": self.spin, "from": self.place}
        rows |= {name: value for name, value in vars(self.outcome).items() if value is not None}
        rows |= {name: self.origin(name) for name in self.operators}
        cells = "".join(f"<tr><th>{escape(str(a))}</th><td>{escape(str(b))}</td></tr>" for a, b in rows.items())
        return f"<table><caption>{escape(self.formula)} ({escape(self.provenance.code)})</caption>{cells}</table>"

    def __contains__(self, name: object) -> bool:
        return name in self.operators

    def __iter__(self) -> Iterator[str]:
        """Names of the matrices."""
        return iter(self.operators)

    def __getitem__(self, name: str) -> Operator:
        """A matrix, all its elements packed."""
        if name not in self.operators:
            held = ", ".join(self.operators) or "no matrix"
            raise Refused(Kind.MISSING_MATRIX, self.place, f"holds no {name}", f"one of {held}")
        return self.operators[name]

    @property
    def place(self) -> str:
        """Where the frame is from, for messages."""
        return self.provenance.path or self.formula

    def block(self, name: str, i: SupportsIndex, j: SupportsIndex, R: Sequence[int] = (0, 0, 0)) -> Array:
        """<phi_i in cell 0 | O | phi_j in cell R> of atoms counted from 0, shape (spin components, orbitals of i, orbitals of j).

        Either direction may be asked for, though only one is stored.
        """
        a, b = self._atom(i), self._atom(j)
        R_c = np.asarray(R)
        if R_c.shape != (3,) or (R_c != np.round(R_c)).any():
            raise Refused(Kind.NO_SUCH_CHOICE, self.place, f"has no cell {R}", "three whole numbers")
        block = block_between(self.pairs, self[name], self.layout(name), a, b, R_c.astype(np.int64))
        if block is None:
            between = f"atoms {a} and {b} in cell {tuple(R_c.astype(int).tolist())}"
            farthest = np.linalg.norm(self.vectors_pv, axis=1).max(initial=0)
            found = f"holds no block between {between}"
            raise Refused(Kind.NO_SUCH_CHOICE, self.place, found, f"a pair up to {farthest:.3g} Angstrom apart")
        return block

    def _atom(self, number: SupportsIndex) -> int:
        a = index(number)
        if not 0 <= a < self.natoms:
            last = f"a number from 0 to {self.natoms - 1}"
            raise Refused(Kind.NO_SUCH_CHOICE, self.place, f"has {self.natoms} atoms and no atom {a}", last)
        return a

    def block_of_pair(self, name: str, p: SupportsIndex) -> Array:
        """Block number p of the pair list, shape (spin components, orbitals of i, orbitals of j)."""
        number = index(p)
        if not 0 <= number < len(self.pairs):
            last = f"a number from 0 to {len(self.pairs) - 1}"
            found = f"has {len(self.pairs)} pairs and no pair {number}"
            raise Refused(Kind.NO_SUCH_CHOICE, self.place, found, last)
        return self.pairs.block(self[name].values_sx, number)

    @cached_property
    def orbitals(self) -> tuple[Orbital, ...]:
        """The orbitals of the cell in the order of the matrices, such as "Si1 3p_y", with their rows and signs in the code's."""
        return orbitals_of(self.basis, self.species_a, self.provenance.form.harmonics)

    def H(self, k: Sequence[float] = (0, 0, 0)) -> Array:
        """H(k) (eV), k in fractions of the reciprocal vectors: orbitals x orbitals; with collinear spin up and down, for spinors all up orbitals first."""
        return self._at("H", k)

    def S(self, k: Sequence[float] = (0, 0, 0)) -> Array:
        """S(k): orbitals x orbitals; for spinors twice, once for each spin."""
        return self._at("S", k)

    def DM(self, k: Sequence[float] = (0, 0, 0)) -> Array:
        """The density matrix at k: shape as that of H."""
        return self._at("DM", k)

    def _at(self, name: str, k: Sequence[float]) -> Array:
        layout = self.layout(name)
        parts = [part.toarray() for part in matrices_at(self.pairs, self[name], layout, np.asarray(k))]
        if name == "S" and self.spin is Spin.SPINOR:
            return np.kron(np.eye(2), parts[0])
        if layout is Spin.SPINOR:
            return np.block([parts[:2], parts[2:]])
        return np.array(parts) if layout is Spin.COLLINEAR else parts[0]

    def to_dense(self, name: str) -> tuple[Array, Array]:
        """The lattice vectors R of a matrix, and dense O(R) at each: shape (R, spin component, orbital, orbital)."""
        return matrices_by_cell(self.pairs, self[name], self.layout(name))

    def to_sisl(self, names_a: Sequence[Sequence[str]] | None = None) -> Any:
        """A sisl.Hamiltonian of H and S, with geometry and orbitals, whose names may be given for each atom."""
        from converters.frames.to_sisl import sisl_hamiltonian

        if names_a is None:
            names_a = [[str(orbital) for orbital in self.orbitals if orbital.atom == a] for a in range(self.natoms)]
        kinds_a = [self.basis[s].name for s in self.species_a]
        # An element that the code left out is a zero.
        H, S = (unpack_elements(self.pairs, Operator(self[name].values_sx), self.layout(name)) for name in ("H", "S"))
        return sisl_hamiltonian(self.atoms, names_a, kinds_a, H, S)

    def origin(self, name: str) -> Origin:
        """Where a matrix is from, and what was done to it."""
        return self.provenance.origins.get(name, Origin())

    @property
    def predicted(self) -> bool:
        """Whether a model says so, and no run."""
        return self.provenance.predicted

    @property
    def natoms(self) -> int:
        return len(self.species_a)

    @cached_property
    def norb(self) -> int:
        """Orbitals of the cell, not counting spin."""
        return int(self.pairs.norb_a.sum())

    @property
    def numbers_a(self) -> Array:
        """Atomic numbers; 0 for ghosts."""
        return np.array([species.number for species in self.basis])[self.species_a]

    @property
    def atoms(self) -> "Atoms":
        """The structure as ase.Atoms."""
        from ase import Atoms

        return Atoms(numbers=self.numbers_a, positions=self.positions_av, cell=self.cell_cv, pbc=self.pbc_c)

    @cached_property
    def vectors_pv(self) -> Array:
        """Vector from atom i to atom j in cell R of each pair."""
        return self.pairs.vectors(self.positions_av, self.cell_cv)

    @property
    def formula(self) -> str:
        return str(self.atoms.get_chemical_formula())


def with_matrix(frame: Frame, name: str, operator: Operator, origin: Origin) -> Frame:
    """The frame with another matrix in the place of one of its own, and where that is from."""
    provenance = replace(frame.provenance, origins={**frame.provenance.origins, name: origin})
    return replace(frame, operators={**frame.operators, name: operator}, provenance=provenance)


def operator_on(frame: Frame, name: str, pairs: Pairs) -> Operator:
    """An operator of a frame on another list of pairs; pairs that the frame lacks are unknown."""
    return spread_operator(frame.operators[name], frame.pairs, pairs)


def require_shape(name: str, array: Array, shape: tuple[int | None, ...]) -> None:
    """Raise unless the array has the shape; None stands for any length."""
    if array.ndim != len(shape) or any(want not in (None, have) for have, want in zip(array.shape, shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has shape {array.shape}; expected ({wanted})")
