"""The overlap of any structure from the radial functions of its basis, with no run of a DFT code.

>>> overlap = Overlap(basis, functions)
>>> frame = overlap.frame(structure, "siesta")
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from basis import Array
from basis.radial import Functions
from basis.shells import Species
from basis.spin import Spin
from basis.twocentre import BATCH, KINETIC, TwoCentre
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, Pairs
from converters.frames.folding import Mesh, classes_of_images, mesh_of_frame
from converters.frames.frame import Frame, Provenance
from converters.frames.neighbours import Bonds, Structure, find_bonds, own_pairs, structure_of
from converters.frames.origin import Made, Origin
from converters.physics import kspace

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Orbitals up to which S is diagonalised; of more, Lanczos steps bound its lowest eigenvalue from above.
LARGEST_DENSE, LANCZOS_STEPS = 1000, 80
# Orbitals up to which the corners of the Brillouin zone are looked at besides its centre.
LARGEST_ZONE = 200
# An eigenvalue that the error of S may have made.
SMALLEST_EIGENVALUE = 1e-8


class Overlap:
    """S, and the kinetic energy, of structures whose species are numbered as in `basis`."""

    def __init__(self, basis: Sequence[Species], functions: Sequence[Functions]) -> None:
        self.basis, self.functions = tuple(basis), tuple(functions)
        for species, mine in zip(self.basis, self.functions, strict=True):
            if len(mine) != len(species.shells):
                raise ValueError(f"{species} has {len(species.shells)} shells and {len(mine)} radial functions")

    @classmethod
    def of_frame(cls, frame: Frame) -> "Overlap | None":
        """That of the basis of a frame, where the frame knows its functions; tables are made once for all frames of a basis."""
        functions = tuple(f for f in frame.functions if f is not None)
        return overlap_of(frame.basis, functions) if functions and len(functions) == len(frame.basis) else None

    @cached_property
    def integrals(self) -> TwoCentre:
        return TwoCentre([species.shells for species in self.basis], self.functions)

    @cached_property
    def kinetic_integrals(self) -> TwoCentre:
        return TwoCentre([species.shells for species in self.basis], self.functions, KINETIC)

    @property
    def reach_ss(self) -> Array:
        """Distance from which on each two species have no overlap."""
        return self.integrals.reach_ss

    @property
    def norb_s(self) -> Array:
        return np.array([species.size for species in self.basis])

    def pairs(self, structure: Structure) -> Pairs:
        """The pairs of a structure that overlap, and each atom with itself."""
        atoms = np.arange(len(structure.species_a))
        return own_pairs(find_bonds(structure, atoms, self.reach_ss), atoms, self.norb_s[structure.species_a])[0]

    def values(self, structure: Structure, pairs: Pairs, *, kinetic: bool = False) -> Array:
        """The elements of S on some pairs, or those of the kinetic energy (eV)."""
        vectors_pv = pairs.vectors(structure.positions_av, structure.cell_cv)
        return self._values(structure.species_a[pairs.i_p], structure.species_a[pairs.j_p], vectors_pv, pairs, kinetic)

    def _values(self, A_p: Array, B_p: Array, vectors_pv: Array, pairs: Pairs, kinetic: bool = False) -> Array:
        integrals = self.kinetic_integrals if kinetic else self.integrals
        values_x = np.empty(pairs.elements)
        kind_p = A_p * len(self.basis) + B_p
        for kind in np.unique(kind_p).tolist():
            a, b = divmod(kind, len(self.basis))
            mine = np.flatnonzero(kind_p == kind)
            width = np.arange(int(self.norb_s[a] * self.norb_s[b]))
            for start in range(0, len(mine), BATCH):
                p = mine[start : start + BATCH]
                values_x[pairs.start_p[p][:, None] + width] = integrals.blocks(a, b, vectors_pv[p]).reshape(len(p), -1)
        return values_x

    def gradients(self, structure: Structure, pairs: Pairs) -> Array:
        """dS/dv [v, element] of each pair, where v is the vector from its first atom to its second (1/Angstrom)."""
        vectors_pv = pairs.vectors(structure.positions_av, structure.cell_cv)
        kind_p = structure.species_a[pairs.i_p] * len(self.basis) + structure.species_a[pairs.j_p]
        values_vx = np.empty((3, pairs.elements))
        for kind in np.unique(kind_p).tolist():
            p = np.flatnonzero(kind_p == kind)
            a, b = divmod(kind, len(self.basis))
            blocks = self.integrals.gradients(a, b, vectors_pv[p])
            width = np.arange(blocks[0, 0].size)
            values_vx[:, pairs.start_p[p][:, None] + width] = blocks.reshape(len(p), 3, -1).swapaxes(0, 1)
        return values_vx

    def folded(self, structure: Structure, pairs: Pairs, mesh: Mesh) -> Array:
        """S on pairs in the supercell of a k mesh: those that are images of one another share the sum over all images.

        Where atoms were moved after the pairs were chosen, these need not be the closest images any more; their sums are right all the same.
        """
        atoms = np.unique(pairs.i_p)
        bonds = find_bonds(structure, atoms, self.reach_ss)
        i_d, j_d, R_dc, vectors_dv = with_own(bonds, atoms)
        blocks = Pairs(i_d, j_d, R_dc, pairs.norb_a)
        values_x = self._values(structure.species_a[i_d], structure.species_a[j_d], vectors_dv, blocks)
        values_x *= mesh.signs(R_dc)[blocks.pair_x]
        i_q, j_q = np.concatenate([i_d, pairs.i_p, pairs.j_p]), np.concatenate([j_d, pairs.j_p, pairs.i_p])
        class_q = classes_of_images(i_q, j_q, np.concatenate([R_dc, pairs.R_pc, -pairs.R_pc]), mesh.number_c)
        class_d, class_p = class_q[: len(i_d)], class_q[len(i_d) : len(i_d) + len(pairs)]
        own_p = np.where(pairs.onsite_p, 0.5, 1.0)  # an onsite block is its own partner and appears twice
        sharing_z = np.bincount(class_q[len(i_d) :], weights=np.tile(own_p, 2), minlength=class_q.max() + 1)
        weight_p = mesh.signs(pairs.R_pc) / np.maximum(sharing_z[class_p], 1)
        # The elements of a class stand together, so that its blocks can be added.
        size_z = np.zeros(class_q.max() + 1, dtype=np.int64)
        size_z[class_d], size_z[class_p] = blocks.size_p, pairs.size_p
        first_z = np.cumsum(size_z) - size_z
        place_x = np.repeat(first_z[class_d] - blocks.start_p[:-1], blocks.size_p) + np.arange(blocks.elements)
        sums = np.bincount(place_x, weights=values_x, minlength=int(size_z.sum()))
        taken_x = np.repeat(first_z[class_p] - pairs.start_p[:-1], pairs.size_p) + np.arange(pairs.elements)
        return np.asarray(sums[taken_x] * np.repeat(weight_p, pairs.size_p))

    def like(self, frame: Frame) -> Array:
        """S on the pairs of a frame, folded if its blocks are."""
        structure, mesh = structure_of(frame), mesh_of_frame(frame, frame.formula)
        return self.values(structure, frame.pairs) if mesh is None else self.folded(structure, frame.pairs, mesh)

    def frame(self, structure: Structure, code: str) -> Frame:
        """S of a structure on its own pairs."""
        pairs = self.pairs(structure)
        operator = Operator(self.values(structure, pairs)[None])
        return Frame(
            structure.cell_cv,
            structure.pbc_c.astype(bool),
            structure.positions_av,
            structure.species_a,
            self.basis,
            pairs,
            Spin.NONE,
            {"S": operator},
            provenance=Provenance(code, origins={"S": Origin(Made.INTEGRATED)}),
            functions=self.functions,
        )

    def difference(self, frame: Frame) -> tuple[float, str]:
        """Largest difference to the S of a frame, and where it is."""
        found, where = self.difference_of_stored(frame)
        if not frame.folded:
            lost, place = self.left_out(frame)
            if lost > found:
                return lost, place
        return found, where

    def difference_of_stored(self, frame: Frame) -> tuple[float, str]:
        """The same on the pairs that the frame has, which may be some of its pairs."""
        operator, pairs = frame.operators["S"], frame.pairs
        off_x = np.abs(operator.values_sx[0] - self.like(frame))
        if operator.known_x is not None:
            off_x = np.where(operator.known_x, off_x, 0)
        x = int(off_x.argmax())
        p = int(pairs.pair_x[x])
        return float(off_x[x]), describe_pair(frame, p)

    def left_out(self, frame: Frame) -> tuple[float, str]:
        """Largest element of S on pairs that a frame does not have."""
        structure = structure_of(frame)
        all_pairs = self.pairs(structure)
        missing = all_pairs.take(np.flatnonzero(frame.pairs.find(all_pairs.i_p, all_pairs.j_p, all_pairs.R_pc) < 0))
        if not len(missing):
            return 0.0, ""
        values_x = np.abs(self.values(structure, missing))
        p = int(missing.pair_x[int(values_x.argmax())])
        between = (
            f"atoms {missing.i_p[p]} and {missing.j_p[p]} in the cell {missing.R_pc[p].tolist()}, which it leaves out"
        )
        return float(values_x.max()), between


@lru_cache(maxsize=8)
def overlap_of(basis: tuple[Species, ...], functions: tuple[Functions, ...]) -> Overlap:
    return Overlap(basis, functions)


def with_own(bonds: Bonds, atoms: Array) -> tuple[Array, Array, Array, Array]:
    """i, j, R and vectors of some bonds, and of each atom with itself."""
    none = np.zeros((len(atoms), 3), dtype=np.int64)
    return (
        np.concatenate([atoms[bonds.centre_d], atoms]),
        np.concatenate([bonds.neighbour_d, atoms]),
        np.concatenate([bonds.R_dc, none]),
        np.concatenate([bonds.vectors_dv, none.astype(float)]),
    )


def describe_pair(frame: Frame, p: int) -> str:
    pairs = frame.pairs
    length = float(np.linalg.norm(frame.vectors_pv[p]))
    names = [f"{frame.basis[frame.species_a[a]].name} {a}" for a in (pairs.i_p[p], pairs.j_p[p])]
    return f"{names[0]} and {names[1]} (counted from 0), {length:.3f} Angstrom apart"


def require_positive(frame: Frame) -> float:
    """The lowest eigenvalue of S that was found; refused with the pair of atoms that causes it where it is not positive."""
    lowest = np.inf
    for kpoint_c in zone_corners(frame):
        found, vector_M = lowest_state(frame, kpoint_c)
        lowest = min(lowest, found)
        if found < SMALLEST_EIGENVALUE:
            worst = describe_pair(frame, strongest_pair(frame, kpoint_c, vector_M))
            reason = f"has an S that is not positive definite (eigenvalue {found:.3g}); that comes from {worst}"
            raise Refused(Kind.SINGULAR_OVERLAP, frame.provenance.path or frame.formula, reason)
    return lowest


def zone_corners(frame: Frame) -> Array:
    """Gamma, and the corners of the Brillouin zone of a small cell whose blocks are right there."""
    if frame.norb > LARGEST_ZONE or frame.folded or not frame.pbc_c.any():
        return np.zeros((1, 3))
    along = [(0.0, 0.5) if periodic else (0.0,) for periodic in frame.pbc_c]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)


def lowest_state(frame: Frame, kpoint_c: Array) -> tuple[float, Array]:
    """The lowest eigenvalue of S(k) and its state; of large matrices a bound from above and the state that shows it."""
    matrix = kspace.matrix_at(frame, "S", kpoint_c)[0]
    if matrix.shape[0] <= LARGEST_DENSE:
        values, vectors = linalg.eigh(matrix.toarray(), subset_by_index=[0, 0])
        return float(values[0]), vectors[:, 0]
    return lanczos(matrix.real if not np.any(np.mod(2 * kpoint_c, 1)) else matrix)


def lanczos(matrix: "csr_array") -> tuple[float, Array]:
    """The lowest Ritz value of a Hermitian matrix, and its vector."""
    basis = np.zeros((LANCZOS_STEPS, matrix.shape[0]), dtype=matrix.dtype)
    diagonal, beside = [], []
    vector = np.random.default_rng(0).normal(size=matrix.shape[0]).astype(matrix.dtype)
    for step in range(LANCZOS_STEPS):
        length = float(np.linalg.norm(vector))
        if length < 1e-12:
            break
        if step:
            beside.append(length)
        basis[step] = vector / length
        vector = matrix @ basis[step]
        diagonal.append(float(np.vdot(basis[step], vector).real))
        for _ in range(2):  # once more for what rounding leaves
            vector -= basis[: step + 1].T @ (basis[: step + 1].conj() @ vector)
    values, vectors = linalg.eigh_tridiagonal(diagonal, beside[: len(diagonal) - 1], select="i", select_range=(0, 0))
    return float(values[0]), basis[: len(diagonal)].T @ vectors[:, 0]


def strongest_pair(frame: Frame, kpoint_c: Array, vector_M: Array) -> int:
    """The pair of atoms whose block takes most from the norm of a state."""
    row_x, column_x = frame.pairs.row_column_x
    phase_x = kspace.phases(frame, kpoint_c)[frame.pairs.pair_x]
    part_x = (vector_M[row_x].conj() * phase_x * frame.operators["S"].values_sx[0] * vector_M[column_x]).real
    part_p = np.bincount(frame.pairs.pair_x, weights=part_x, minlength=len(frame.pairs))
    return int(np.where(frame.pairs.onsite_p, np.inf, part_p).argmin())
