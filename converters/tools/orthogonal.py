"""Orthogonal orbitals for tools that know no overlap: Loewdin's S^-1/2 H S^-1/2 on a k mesh, and how right it is between its points."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from scipy import linalg

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, Pairs
from converters.frames.folding import Folding, centred_mesh_of_frame, fold
from converters.frames.frame import Frame
from converters.physics import kspace

# Good enough: levels up to so far above the Fermi level (eV) are right to so much (eV) everywhere.
WINDOW, GOOD = 5.0, 1e-3
# The supercell of the mesh, in diameters of H; the next one is tried where the levels are not good enough.
DIAMETERS = (1.0, 1.5, 2.0)
# Elements of the matrices at all k-points of a mesh that is chosen here, and of one that is asked for.
MOST_CHOSEN, MOST_ELEMENTS = 3_000_000, 60_000_000
# A direction of S with less than this is none.
SMALLEST_OVERLAP = 1e-9


@dataclass(frozen=True, eq=False)
class Orthogonal:
    """A frame of orthogonal orbitals, with what a user has to know about it: the mesh, and how far levels are off between its points."""

    frame: Frame
    mesh_c: tuple[int, int, int]
    notes: tuple[str, ...]


def orthogonal_orbitals(frame: Frame, mesh: Sequence[int] | None) -> Orthogonal:
    """The frame with H of orthogonal orbitals and S = 1, on the mesh that is asked for or on one that is dense enough."""
    missing = [name for name in ("H", "S") if name not in frame.operators]
    if missing:
        raise Refused(Kind.MISSING_MATRIX, frame.place, f"holds no {' and no '.join(missing)}; levels need both")
    if frame.folded or not frame.pbc_c.any():
        return on_its_only_mesh(frame, mesh)
    mesh_c = whole_mesh(mesh) if mesh else None
    found, error = None, np.inf
    for tried_c in [mesh_c] if mesh_c else meshes_of(frame):
        size = prod(tried_c) * frame.norb**2 * frame.spin.components
        if found is not None and size > MOST_CHOSEN:
            break
        found, energies = Orthogonal(orthogonalised(frame, tried_c), tried_c, ()), between_points(tried_c)
        near, all_of_them, fermi = largest_errors(frame, found.frame, energies)
        error = all_of_them if near is None else near
        found = replace(found, notes=(told(tried_c, near, all_of_them), *doubts(error, fermi)))
        if error < GOOD:
            break
    if found is None:
        raise AssertionError("no mesh was tried")
    return found


def told(mesh_c: Sequence[int], near: float | None, all_of_them: float) -> str:
    words = " x ".join(map(str, mesh_c))
    start = f"orbitals are orthogonal (Loewdin) on {words} k-points; levels are exact there, and between them off by at most"
    if near is None:
        return f"{start} {all_of_them:.1g} eV"
    return f"{start} {near:.1g} eV up to {WINDOW:g} eV above the Fermi level, {all_of_them:.1g} eV in all"


def doubts(error: float, fermi: float | None) -> tuple[str, ...]:
    if error < GOOD:
        return ()
    return (f"WARNING: a denser mesh is needed for levels that are right to {GOOD:g} eV",)


def whole_mesh(mesh: Sequence[int]) -> tuple[int, int, int]:
    a, b, c = (int(n) for n in mesh)
    return a, b, c


def on_its_only_mesh(frame: Frame, mesh: Sequence[int] | None) -> Orthogonal:
    """A molecule has Gamma alone; blocks that are folded over the mesh of a run are right on that mesh alone."""
    own_c = centred_mesh_of_frame(frame, frame.place) or (1, 1, 1)
    if mesh and tuple(mesh) != own_c:
        words = " x ".join(map(str, own_c))
        raise Refused(Kind.NO_SUCH_CHOICE, frame.place, f"has matrices on {words} k-points alone", "this mesh or none")
    words = " x ".join(map(str, own_c))
    note = f"orbitals are orthogonal (Loewdin) on the {words} k-points of the run; what is between them is an interpolation"
    return Orthogonal(orthogonalised(frame, own_c), own_c, (note,) if frame.folded else ())


def meshes_of(frame: Frame) -> Iterator[tuple[int, int, int]]:
    """Meshes about Gamma whose supercells hold all pairs, from the smallest one on; odd, so that no atom is at their border."""
    reach = 2 * float(np.linalg.norm(frame.vectors_pv, axis=1).max(initial=0))
    heights_c = 1 / np.linalg.norm(frame.atoms.cell.reciprocal()[:][frame.pbc_c], axis=1)
    for diameters in DIAMETERS:
        mesh_c = np.ones(3, dtype=int)
        mesh_c[frame.pbc_c] = np.ceil(diameters * reach / heights_c).astype(int) // 2 * 2 + 1
        yield whole_mesh(mesh_c.tolist())


def orthogonalised(frame: Frame, mesh_c: Sequence[int]) -> Frame:
    """H between orthogonal orbitals at the atoms of the old ones: exact on the mesh, each block at its closest images elsewhere."""
    kpoints_kc, _ = kspace.uniform_mesh(mesh_c)
    if len(kpoints_kc) * frame.norb**2 * frame.spin.components > MOST_ELEMENTS:
        words = " x ".join(map(str, mesh_c))
        found = f"has {frame.norb} orbitals, too many for dense matrices at {words} k-points"
        raise Refused(Kind.TOO_LITTLE_MEMORY, frame.place, found, "a smaller mesh, or a format that holds S")
    spinor = frame.spin is Spin.SPINOR
    matrices = []
    for channels in kspace.hamiltonian_and_overlap(frame, kpoints_kc):
        root_MM = inverse_root(frame, channels[0][1][: frame.norb, : frame.norb])
        root_MM = np.kron(np.eye(2), root_MM) if spinor else root_MM
        turned = [root_MM @ H_MM @ root_MM for H_MM, _ in channels]
        matrices.append(kspace.split_spinor(turned[0], frame) if spinor else turned)
    cells = (frame.positions_av, frame.cell_cv, frame.pbc_c, frame.pairs.norb_a.tolist())
    folding = fold(frame.place, kpoints_kc, *cells)
    H = Operator(in_real_space(folding, np.array(matrices).swapaxes(0, 1), mesh_c, frame.spin))
    operators = {"H": H, "S": unit_operator(folding.pairs)}
    return replace(frame, pairs=folding.pairs, operators=operators, folded=False, functions=())


def in_real_space(folding: Folding, H_skMM: Array, mesh_c: Sequence[int], spin: Spin) -> Array:
    """H(R) = sum_k exp(-2 pi i k.R) H(k) / N at the closest images of all pairs, equal parts where several are equally close."""
    pairs, norb = folding.pairs, H_skMM.shape[-1]
    row_x, column_x = pairs.row_column_x
    t_x = np.ravel_multi_index(tuple(np.mod(pairs.R_pc, mesh_c).T), tuple(mesh_c))[pairs.pair_x]
    values_sx = np.zeros((len(H_skMM), pairs.elements), dtype=spin.dtype)
    for values_x, H_kMM in zip(values_sx, H_skMM, strict=True):
        # numpy's transform has the same sign; the mesh begins at Gamma.
        H_tMM = np.fft.fftn(H_kMM.reshape(*mesh_c, norb, norb), axes=(0, 1, 2)).reshape(-1, norb, norb) / len(H_kMM)
        found_x = H_tMM[t_x, row_x, column_x] * folding.weight_p[pairs.pair_x]
        values_x[:] = found_x if spin is Spin.SPINOR else found_x.real
    return values_sx


def unit_operator(pairs: Pairs) -> Operator:
    row_x, column_x = pairs.row_column_x
    return Operator((pairs.onsite_p[pairs.pair_x] & (row_x == column_x)).astype(float)[None])


def inverse_root(frame: Frame, S_MM: Array) -> Array:
    """S^-1/2, the one that is nearest to the orbitals themselves."""
    s_M, U_MM = linalg.eigh(S_MM, check_finite=False)
    if s_M[0] < SMALLEST_OVERLAP:
        found = f"has an S whose smallest eigenvalue is {s_M[0]:.2g}, so that orbitals cannot be made orthogonal"
        raise Refused(Kind.SINGULAR_OVERLAP, frame.place, found, f"at least {SMALLEST_OVERLAP:g}")
    return np.asarray((U_MM / np.sqrt(s_M)) @ U_MM.conj().T)


def between_points(mesh_c: Sequence[int]) -> Array:
    """k-points half-way between those of a mesh, where an interpolation is worst, and two that no symmetry has."""
    halves = itertools.product(*([0.0, 0.5] if n > 1 else [0.0] for n in mesh_c))
    steps = [step for step in halves if any(step)]
    generic = [[0.37, 0.21, 0.43], [1.61, 0.87, 1.29]]
    inside = np.array([*steps, *generic])
    return np.asarray(np.where(np.array(mesh_c) > 1, inside, 0.0) / mesh_c)


def largest_errors(frame: Frame, model: Frame, kpoints_kc: Array) -> tuple[float | None, float, float | None]:
    """The largest error of a level (eV) near and below the Fermi level, that of any, and the Fermi level; None without electrons."""
    e_skn, f_skn = (kspace.eigenvalues(one, kpoints_kc) for one in (frame, model))
    error_skn = np.abs(e_skn - f_skn)
    electrons = frame.outcome.electrons
    if electrons is None:
        return None, float(error_skn.max()), None
    weights_k = np.full(len(kpoints_kc), 1 / len(kpoints_kc))
    _, (fermi, *_) = kspace.occupations(e_skn, weights_k, kspace.Filling(electrons), frame.spin)
    return float(error_skn[e_skn < fermi + WINDOW].max(initial=0)), float(error_skn.max()), fermi
