"""Matrices that a run stored without lattice vectors: where do their blocks belong?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import TRANSPOSED, Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Operator, Pairs, is_canonical, make_pairs
from converters.frames.frame import Frame

# Imaginary part of H(R) that integrals on a coarse grid may leave (eV); a mesh without -k for each k leaves far more.
LARGEST_IMAGINARY = 2e-3
# Atoms that are equally close up to this (Angstrom) share a folded block.
SAME_DISTANCE = 1e-6
# Places in a cell (fractions) are the same up to this.
SAME_PLACE_IN_CELL = 1e-6
# No run has atoms that are farther apart than these cells; a damaged number may.
MOST_CELLS = 10_000


@dataclass(frozen=True, eq=False)
class Images:
    """The closest images of each two atoms, in both directions: atom i in cell 0, atom j in cell R, and how many are equally close.

    A run at Gamma alone adds up all images of a block. The sum is given to the closest image, in equal parts where several
    are equally close, so that nothing depends on the cell in which an atom stands. `distance_aa` and `second_aa` (Angstrom)
    are the distances of the closest image and of the next one that is farther.
    """

    i_q: Array
    j_q: Array
    R_qc: Array
    count_q: Array
    distance_aa: Array
    second_aa: Array

    @classmethod
    def of(cls, positions_av: Array, cell_cv: Array) -> "Images":
        natoms = len(positions_av)
        near_nc = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        between_aav = positions_av[None] - positions_av[:, None]
        shift_aac = -np.round(between_aav @ np.linalg.inv(cell_cv))
        if not np.abs(shift_aac).max() < MOST_CELLS:
            apart = f"has atoms {np.abs(shift_aac).max():.3g} cells apart"
            raise Refused(Kind.BAD_PHYSICS, "structure", apart, f"less than {MOST_CELLS}")
        shift_aac = shift_aac.astype(np.int64)
        found, distance_aa, second_aa = [], np.zeros((natoms, natoms)), np.zeros((natoms, natoms))
        for i in range(natoms):
            R_anc = shift_aac[i][:, None] + near_nc
            distance_an = np.linalg.norm(between_aav[i][:, None] + R_anc @ cell_cv, axis=-1)
            distance_aa[i] = distance_an.min(axis=1)
            is_closest_an = distance_an < distance_aa[i][:, None] + SAME_DISTANCE
            second_aa[i] = np.where(is_closest_an, np.inf, distance_an).min(axis=1)
            several_a = is_closest_an.sum(axis=1)
            second_aa[i][several_a > 1] = distance_aa[i][several_a > 1]
            j_q, n_q = np.nonzero(is_closest_an)
            found.append((np.full(len(j_q), i), j_q, R_anc[j_q, n_q], several_a[j_q]))
        i_q, j_q, R_qc, count_q = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return cls(i_q, j_q, R_qc, count_q, distance_aa, second_aa)

    def place(self, matrix: Elements, norb_a: Array) -> Elements:
        """Elements without lattice vectors at the closest images of their atoms."""
        natoms = len(norb_a)
        atom_M = np.repeat(np.arange(natoms), norb_a)
        class_e = atom_M[matrix.row_e] * natoms + atom_M[matrix.column_e]
        class_q = self.i_q * natoms + self.j_q  # sorted: atom by atom
        first_e = np.searchsorted(class_q, class_e)
        count_e = self.count_q[first_e]
        e_x = np.repeat(np.arange(len(class_e)), count_e)
        inside_x = np.arange(len(e_x)) - np.repeat(np.cumsum(count_e) - count_e, count_e)
        R_tc, t_q = np.unique(self.R_qc, axis=0, return_inverse=True)
        return Elements(
            matrix.row_e[e_x],
            matrix.column_e[e_x],
            t_q.ravel()[first_e[e_x] + inside_x],
            R_tc,
            matrix.values_se[:, e_x] / count_e[e_x],
        )

    def are_summed(self, stored_aa: Array, reach_aa: Array) -> bool:
        """Whether blocks are sums over several images, where orbitals reach so far (Angstrom) and these blocks were stored.

        H reaches beyond its orbitals through projectors; how far, the farthest stored block shows.
        """
        beyond = (self.distance_aa - reach_aa)[stored_aa].max(initial=0)
        return bool((self.second_aa < reach_aa + max(beyond, 0.0)).any())


def stored_blocks(matrices: Iterable[Elements], norb_a: Array) -> Array:
    """Which two atoms have a block in any of some matrices."""
    atom_M = np.repeat(np.arange(len(norb_a)), norb_a)
    stored_aa = np.zeros((len(norb_a), len(norb_a)), dtype=bool)
    for matrix in matrices:
        stored_aa[atom_M[matrix.row_e], atom_M[matrix.column_e]] = True
    return stored_aa


@dataclass(frozen=True, eq=False)
class Folding:
    """Where the blocks of a k mesh go: pairs with their weights, and the phases of the mesh."""

    pairs: Pairs
    weight_p: Array
    phase_pk: Array

    def operator(self, place: str | Path, M_skMM: Array, real: bool) -> Operator:
        """The matrix in real space on the pairs."""
        asymmetry = np.abs(M_skMM.swapaxes(-1, -2) - adjoint_partner(M_skMM)).max(initial=0)
        if not asymmetry < 1e-6:
            raise Refused(
                Kind.BAD_PHYSICS, place, f"has a matrix that is not Hermitian by {asymmetry:.3g}", "at most 1e-06"
            )
        row_x, column_x = self.pairs.row_column_x
        values_sx = np.zeros((len(M_skMM), self.pairs.elements), dtype=complex)
        for k in range(M_skMM.shape[1]):
            values_sx += (self.weight_p * self.phase_pk[:, k])[self.pairs.pair_x] * M_skMM[:, k, row_x, column_x]
        if not real:
            return Operator(values_sx)
        if (imaginary := np.abs(values_sx.imag).max(initial=0)) > LARGEST_IMAGINARY:
            found = f"has complex H(R) or DM(R) (imaginary part {imaginary:.3g})"
            raise Refused(Kind.UNSUPPORTED, place, found, "a mesh with -k for each k")
        return Operator(np.ascontiguousarray(values_sx.real))


def adjoint_partner(M_skMM: Array) -> Array:
    """Conjugate of each component's partner under transposition (ud and du exchanged for spinors)."""
    return (M_skMM[TRANSPOSED[Spin.SPINOR]] if len(M_skMM) == 4 else M_skMM).conj()


def fold(
    place: str | Path, fractional_kc: Array, positions_av: Array, cell_cv: Array, pbc_c: Array, norb_a: list[int]
) -> Folding:
    """Closest images of all pairs of atoms in the supercell of a k mesh; all pairs in cell 0 for a molecule."""
    mesh_c = mesh_of(place, fractional_kc)
    cells_tc = np.stack(np.meshgrid(*(np.arange(n) for n in mesh_c), indexing="ij"), axis=-1).reshape(-1, 3)
    images_c = [np.arange(-2, 3) if periodic else np.zeros(1, dtype=int) for periodic in pbc_c]
    images_nc = np.stack(np.meshgrid(*images_c, indexing="ij"), axis=-1).reshape(-1, 3) * mesh_c
    R_tnc = cells_tc[:, None] + images_nc
    i_q, j_q, R_qc, weight_q = [], [], [], []
    for i, position_v in enumerate(positions_av):
        between_av = positions_av[i:] - position_v
        home_ac = supercells_between(between_av, cell_cv, pbc_c, mesh_c)
        near_av = between_av + home_ac @ cell_cv
        distance_atn = np.linalg.norm(near_av[:, None, None] + R_tnc @ cell_cv, axis=-1)
        closest_atn = distance_atn < distance_atn.min(axis=-1, keepdims=True) + SAME_DISTANCE
        a_q, t_q, n_q = np.nonzero(closest_atn)
        i_q.append(np.full(len(a_q), i))
        j_q.append(a_q + i)
        R_qc.append(R_tnc[t_q, n_q] + home_ac[a_q])
        weight_q.append(1 / closest_atn.sum(axis=-1)[a_q, t_q])
    found = [np.concatenate(parts) for parts in (i_q, j_q, R_qc, weight_q)]
    kept = is_canonical(*found[:3])
    i_p, j_p, R_pc, weight_p = (array[kept] for array in found)
    pairs = make_pairs(i_p, j_p, R_pc, np.array(norb_a))
    weight_p[pairs.find(i_p, j_p, R_pc)] = weight_p.copy()
    phase_pk = np.exp(-2j * np.pi * pairs.R_pc @ fractional_kc.T) / len(fractional_kc)
    return Folding(pairs, weight_p, phase_pk)


def supercells_between(between_av: Array, cell_cv: Array, pbc_c: Array, mesh_c: Array) -> Array:
    """The lattice vectors, of supercells of the mesh, that bring atoms near to each other wherever they stand."""
    if not pbc_c.any():
        return np.zeros(between_av.shape, dtype=np.int64)
    supercells_ac = -np.round(between_av @ np.linalg.inv(cell_cv) / mesh_c)
    return np.asarray(np.where(pbc_c, supercells_ac * mesh_c, 0)).astype(np.int64)


def image_weights(pairs: Pairs, vectors_pv: Array, mesh_c: Array) -> Array:
    """1 for pairs that are the closest of all their images in the supercell of a mesh (1/n where n are), else 0.

    `mesh_c` are the numbers of a mesh, or the vectors of a supercell as rows, in lattice vectors.
    """
    i_q, j_q = np.concatenate([pairs.i_p, pairs.j_p]), np.concatenate([pairs.j_p, pairs.i_p])
    R_qc = np.concatenate([pairs.R_pc, -pairs.R_pc])
    distance_q = np.tile(np.linalg.norm(vectors_pv, axis=1), 2)
    is_closest_q, class_q = closest_of_images(i_q, j_q, R_qc, distance_q, mesh_c)
    own_q = np.where(np.tile(pairs.onsite_p, 2), 0.5, 1.0)  # an onsite block is its own partner and appears twice
    images_z = np.bincount(class_q, weights=is_closest_q * own_q)
    return np.asarray((is_closest_q / images_z[class_q])[: len(pairs)])


def closest_of_images(i_q: Array, j_q: Array, R_qc: Array, distance_q: Array, mesh_c: Array) -> tuple[Array, Array]:
    """Which directed pairs are the closest of their images in the supercell of a mesh, and the number of each one's class."""
    class_q = classes_of_images(i_q, j_q, R_qc, mesh_c)
    closest_z = np.full(class_q.max() + 1, np.inf)
    np.minimum.at(closest_z, class_q, distance_q)
    return distance_q < closest_z[class_q] + SAME_DISTANCE, class_q


def classes_of_images(i_q: Array, j_q: Array, R_qc: Array, mesh_c: Array) -> Array:
    """Directed pairs that are images of one another in the supercell of a mesh have the same number."""
    inside_qc = np.mod(R_qc, mesh_c) if mesh_c.ndim == 1 else inside_supercell(R_qc, mesh_c)
    _, class_q = np.unique(np.column_stack([i_q, j_q, inside_qc]), axis=0, return_inverse=True)
    return np.asarray(class_q.ravel())


def mesh_about_gamma(frame: Frame) -> Array | None:
    """The numbers of points of the mesh about Gamma over which a frame is folded; None where it is not, or by another mesh, or one that it does not name."""
    mesh = None if frame.spectrum is None else mesh_of_frame(frame)
    return None if mesh is None or mesh.shifted_c.any() else mesh.number_c


def with_images_as_one(frame: Frame) -> Frame:
    """A folded frame whose blocks stand inside the supercell of its mesh, so that where atoms have moved a block has the same place, whichever of its images is the closest."""
    old, mesh_c = frame.pairs, mesh_about_gamma(frame)
    if mesh_c is None or not old.R_pc.any():
        return frame
    i_p, j_p, R_pc, swapped_p = one_of_images(old.i_p, old.j_p, old.R_pc, mesh_c)
    pairs = make_pairs(i_p, j_p, R_pc, old.norb_a)
    if len(pairs) == len(old) and np.array_equal(pairs.key_p, old.key_p):
        return frame
    row_x, column_x = old.inside_x
    rows_x, columns_x = (old.norb_a[atom_p][old.pair_x] for atom_p in (old.i_p, old.j_p))
    swapped_x = swapped_p[old.pair_x]
    inside_x = np.where(swapped_x, column_x * rows_x + row_x, row_x * columns_x + column_x)
    place_x = pairs.start_p[pairs.find(i_p, j_p, R_pc)][old.pair_x] + inside_x
    operators = {}
    for name, operator in frame.operators.items():
        values_sx = np.where(swapped_x, adjoint_partner(operator.values_sx), operator.values_sx)
        sums_sx = np.zeros((len(values_sx), pairs.elements), dtype=values_sx.dtype)
        for sum_x, values_x in zip(sums_sx, values_sx, strict=True):
            np.add.at(sum_x, place_x, values_x)
        operators[name] = Operator(sums_sx)
    return replace(frame, pairs=pairs, operators=operators)


def one_of_images(i_p: Array, j_p: Array, R_pc: Array, mesh_c: Array) -> tuple[Array, Array, Array, Array]:
    """The same one of all images of each pair and of its partner in the supercell of a mesh, and where it is one of the partner."""
    there_pc, back_pc = np.mod(R_pc, mesh_c), np.mod(-R_pc, mesh_c)
    apart_pc = np.column_stack([i_p - j_p, there_pc - back_pc])
    first_p = (apart_pc != 0).argmax(axis=1)
    swapped_p = apart_pc[np.arange(len(i_p)), first_p] > 0
    i, j = np.where(swapped_p, j_p, i_p), np.where(swapped_p, i_p, j_p)
    return i, j, np.where(swapped_p[:, None], back_pc, there_pc), swapped_p


def inside_supercell(R_qc: Array, supercell_cc: Array) -> Array:
    """The lattice vectors in the supercell with these rows that differ from others by its vectors."""
    away_qc = np.floor(R_qc @ np.linalg.inv(supercell_cc) + SAME_PLACE_IN_CELL)
    return np.asarray(R_qc - away_qc.astype(np.int64) @ supercell_cc)


def mesh_of(place: str | Path, fractional_kc: Array, digits: int = 6) -> Array:
    """Numbers of k-points along each axis of a mesh that is uniform to so many digits."""
    shifted = fractional_kc - fractional_kc[0]
    mesh_c = np.array([len(np.unique(np.mod(np.round(k, digits), 1))) for k in shifted.T])
    off_mesh_kc = shifted - np.round(shifted * mesh_c) / mesh_c
    on_mesh = np.abs(off_mesh_kc).max(initial=0) < 10.0**-digits
    if not on_mesh or mesh_c.prod() != len(fractional_kc):
        raise Refused(
            Kind.UNSUPPORTED,
            place,
            f"has {len(fractional_kc)} k-points that are no uniform mesh",
            "cell.make_kpts(mesh), or the SCF object of a run with k-point symmetry",
        )
    return mesh_c


@dataclass(frozen=True, eq=False)
class Mesh:
    """The k mesh over whose supercell blocks are folded: points along each axis, and the axes along which it lies half a step beside Gamma."""

    number_c: Array
    shifted_c: Array

    @classmethod
    def of_points(cls, place: str | Path, fractional_kc: Array) -> "Mesh":
        number_c = mesh_of(place, fractional_kc)
        shift_c = np.abs(np.mod(fractional_kc[0] * number_c + 0.5, 1) - 0.5)
        if np.minimum(shift_c, 0.5 - shift_c).max() > 1e-5:
            raise Refused(
                Kind.MISSING_FILES, place, "has a k mesh neither at Gamma nor half a step beside it", "one of these"
            )
        return cls(number_c, shift_c > 0.25)

    @classmethod
    def about_gamma(cls, numbers: Sequence[int]) -> "Mesh":
        return cls(np.array(numbers), np.zeros(3, dtype=bool))

    def signs(self, R_qc: Array) -> Array:
        """Signs with which images of a block are added; along an axis with a shift they alternate."""
        return np.asarray(1 - 2 * ((R_qc // self.number_c) @ self.shifted_c.astype(int) % 2))


def mesh_of_frame(frame: Frame, name: str = "") -> Mesh | None:
    """The k mesh over whose supercell the blocks of a frame are folded; None where they are not."""
    if not frame.folded:
        return None
    if frame.spectrum is None:
        raise Refused(Kind.UNSUPPORTED, name, "holds blocks folded over a k mesh that it does not name")
    return Mesh.of_points(name, frame.spectrum.kpoints_kc)


def centred_mesh_of_frame(frame: Frame, name: str = "") -> tuple[int, int, int] | None:
    """The numbers of k-points of that mesh, which has to be about Gamma."""
    mesh = mesh_of_frame(frame, name)
    if mesh is None:
        return None
    if mesh.shifted_c.any():
        raise Refused(
            Kind.UNSUPPORTED, name, "holds blocks folded over a k mesh that is not centred at Gamma", "one that is"
        )
    a, b, c = mesh.number_c.tolist()
    return a, b, c
