"""Orthogonal functions for tools that know no overlap: Loewdin's S^-1/2 H S^-1/2 on a k mesh, or a minimal set, and how right it is between the k-points."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from scipy import linalg

from basis import Array
from basis.shells import Species
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, Pairs
from converters.frames.folding import Folding, centred_mesh_of_frame, fold
from converters.frames.frame import Frame
from converters.physics import kspace
from converters.tools.minimal import Minimal, fermi_level, minimal_functions, projected, states_at

# Good enough: levels up to so far above the Fermi level (eV) are right to so much (eV) everywhere.
WINDOW, GOOD = 5.0, 1e-2
# A minimal set has the levels up to one of these above the Fermi level (eV).
WINDOWS, FAR_BETTER = (2.0, 1.0), 2.0
# The supercell of the mesh, in diameters of H; the next one is tried where the levels are not good enough.
DIAMETERS = (1.0, 1.5, 2.0)
# Elements of the matrices at all k-points of a mesh that is chosen here, and of one that is asked for.
MOST_CHOSEN, MOST_ELEMENTS = 3_000_000, 60_000_000
# A direction of S with less than this is none.
SMALLEST_OVERLAP = 1e-9


@dataclass(frozen=True, eq=False)
class Orthogonal:
    """A frame of orthogonal orbitals with S = 1, the mesh on which its levels are exact, and what a user has to know about it."""

    frame: Frame
    mesh_c: tuple[int, int, int]
    notes: tuple[str, ...]


def orthogonal_orbitals(frame: Frame, mesh: Sequence[int] | None, functions: str = "all") -> Orthogonal:
    """H of orthogonal orbitals, on the mesh that is asked for or on one that is dense enough.

    `functions` is "all" for one for each orbital, or "minimal" for those of the valence shells alone.
    """
    missing = [name for name in ("H", "S") if name not in frame.operators]
    if missing:
        raise Refused(Kind.MISSING_MATRIX, frame.place, f"holds no {' and no '.join(missing)}; levels need both")
    if frame.folded or not frame.pbc_c.any():
        return on_its_only_mesh(frame, mesh, functions)
    meshes = iter([whole_mesh(mesh)] if mesh else meshes_of(frame))
    found, error = best_on(frame, next(meshes), functions)
    for mesh_c in meshes:
        if error < GOOD or prod(mesh_c) * frame.norb**2 * frame.spin.components > MOST_CHOSEN:
            break
        found, error = best_on(frame, mesh_c, functions)
    return found


def best_on(frame: Frame, mesh_c: tuple[int, int, int], functions: str) -> tuple[Orthogonal, float]:
    """The best model on a mesh, and its largest error between the points (eV)."""
    tried = models_on(frame, mesh_c, functions)
    exact_skn = kspace.eigenvalues(frame, between_points(mesh_c))
    errors = [largest_errors(frame, exact_skn, *each, mesh_c) for each in tried]
    least = min(error for error, *_ in errors)
    # The sets come from the smallest one on: a larger one has to be far better.
    best = next(n for n, (error, *_) in enumerate(errors) if error <= FAR_BETTER * least)
    model = tried[best][0]
    return Orthogonal(model, mesh_c, notes_on(frame, model, mesh_c, errors[best])), errors[best][0]


def models_on(frame: Frame, mesh_c: Sequence[int], functions: str) -> list[tuple[Frame, float | None]]:
    """The models that are tried on a mesh, each with the energy up to which it has all levels (None: it has all): one of all orbitals, or several minimal ones from the smallest on."""
    require_size(frame, mesh_c)
    kpoints_kc, _ = kspace.uniform_mesh(mesh_c)
    if functions == "all":
        matrices = [loewdin(frame, channels) for channels in kspace.hamiltonian_and_overlap(frame, kpoints_kc)]
        return [(model_of(frame, frame.basis, mesh_c, matrices), None)]
    states = states_at(frame, kpoints_kc)
    energies_skn = np.array([[one.energy_n for one in channels] for channels in states]).swapaxes(0, 1)
    found: dict[tuple[int, float], Minimal] = {}
    refusals = []
    for polarisation, window in itertools.product((False, True), WINDOWS):
        try:
            few = minimal_functions(frame, energies_skn, window, polarisation)
        except Refused as refusal:
            refusals.append(refusal)
        else:
            found.setdefault((few.size, few.top), few)
    if not found:
        raise refusals[-1]
    models: list[tuple[Frame, float | None]] = []
    for few in found.values():
        matrices = [[projected(few, one) for one in channels] for channels in states]
        models.append((model_of(frame, few.basis, mesh_c, matrices), few.top))
    return models


def notes_on(
    frame: Frame, model: Frame, mesh_c: Sequence[int], errors: tuple[float, float, float | None]
) -> tuple[str, ...]:
    """The functions and the mesh, how far levels are off between its points, and a warning where that is far."""
    error, everywhere, limit = errors
    on = f"on {' x '.join(map(str, mesh_c))} k-points"
    whole = model.norb == frame.norb
    start = f"{model.norb} orthogonal functions for {frame.norb} orbitals, {on}: levels" if not whole else ""
    start = start or f"orbitals are orthogonal (Loewdin) {on}: levels"
    if limit is None:
        return (f"{start} are exact there, and between them off by at most {error:.1g} eV", *doubt(error, whole))
    words = f"{start} up to {limit:.2f} eV are exact there, and between them off by at most {error:.1g} eV"
    if whole:
        words = f"{start} are exact there; between them off by at most {error:.1g} eV up to {limit:.2f} eV, {everywhere:.1g} eV in all"
    return (words, *doubt(error, whole))


def doubt(error: float, whole: bool) -> tuple[str, ...]:
    if error < GOOD:
        return ()
    instead = " or a minimal set of functions" * whole
    return (f"WARNING: levels that are right to {GOOD:g} eV need a denser mesh{instead}",)


def whole_mesh(mesh: Sequence[int]) -> tuple[int, int, int]:
    a, b, c = (int(n) for n in mesh)
    return a, b, c


def on_its_only_mesh(frame: Frame, mesh: Sequence[int] | None, functions: str) -> Orthogonal:
    """A molecule has Gamma alone; blocks that are folded over the mesh of a run are right on that mesh alone."""
    own_c = centred_mesh_of_frame(frame, frame.place) or (1, 1, 1)
    if mesh and tuple(mesh) != own_c:
        words = " x ".join(map(str, own_c))
        raise Refused(Kind.NO_SUCH_CHOICE, frame.place, f"has matrices on {words} k-points alone", "this mesh or none")
    model, top = models_on(frame, own_c, functions)[0]
    words = " x ".join(map(str, own_c))
    few = top is not None and model.norb < frame.norb
    which = "levels"
    if top is not None and few:
        # Rounded down: the next level may be the first that is not there.
        which = f"{model.norb} orthogonal functions for {frame.norb} orbitals: levels up to {np.floor(100 * top) / 100:.2f} eV"
    if frame.folded:
        note = f"{which} are exact on the {words} k-points of the run; what is between them is an interpolation"
        return Orthogonal(model, own_c, (note,))
    return Orthogonal(model, own_c, (f"{which} are exact, those above are not levels of H",) if few else ())


def meshes_of(frame: Frame) -> Iterator[tuple[int, int, int]]:
    """Meshes about Gamma whose supercells hold all pairs, from the smallest one on; odd, so that no atom is at their border."""
    reach = 2 * float(np.linalg.norm(frame.vectors_pv, axis=1).max(initial=0))
    heights_c = 1 / np.linalg.norm(frame.atoms.cell.reciprocal()[:][frame.pbc_c], axis=1)
    for diameters in DIAMETERS:
        mesh_c = np.ones(3, dtype=int)
        mesh_c[frame.pbc_c] = np.ceil(diameters * reach / heights_c).astype(int) // 2 * 2 + 1
        yield whole_mesh(mesh_c.tolist())


def require_size(frame: Frame, mesh_c: Sequence[int]) -> None:
    if prod(mesh_c) * frame.norb**2 * frame.spin.components > MOST_ELEMENTS:
        words = " x ".join(map(str, mesh_c))
        found = f"has {frame.norb} orbitals, too many for dense matrices at {words} k-points"
        raise Refused(Kind.TOO_LITTLE_MEMORY, frame.place, found, "a smaller mesh, or a format that holds S")


def model_of(
    frame: Frame, basis: tuple[Species, ...], mesh_c: Sequence[int], matrices: Sequence[Sequence[Array]]
) -> Frame:
    """The frame of functions at the atoms whose H at each k-point of a mesh is given for each spin; each block at its closest images."""
    kpoints_kc, _ = kspace.uniform_mesh(mesh_c)
    hermitian = [[(H_MM + H_MM.conj().T) / 2 for H_MM in channels] for channels in matrices]
    if frame.spin is Spin.SPINOR:
        hermitian = [kspace.split_spinor(channels[0]) for channels in hermitian]
    norb_a = [basis[s].size for s in frame.species_a.tolist()]
    folding = fold(frame.place, kpoints_kc, frame.positions_av, frame.cell_cv, frame.pbc_c, norb_a)
    H = Operator(in_real_space(folding, np.array(hermitian).swapaxes(0, 1), mesh_c, frame.spin))
    operators = {"H": H, "S": unit_operator(folding.pairs)}
    return replace(frame, basis=basis, pairs=folding.pairs, operators=operators, folded=False, functions=())


def loewdin(frame: Frame, channels: Sequence[tuple[Array, Array]]) -> list[Array]:
    """S^-1/2 H S^-1/2 of each spin channel."""
    root_MM = inverse_root(frame, channels[0][1][: frame.norb, : frame.norb])
    root_MM = np.kron(np.eye(2), root_MM) if frame.spin is Spin.SPINOR else root_MM
    return [root_MM @ H_MM @ root_MM for H_MM, _ in channels]


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


def largest_errors(
    frame: Frame, exact_skn: Array, model: Frame, top: float | None, mesh_c: Sequence[int]
) -> tuple[float, float, float | None]:
    """The largest error of a level (eV) between the points of a mesh: below an energy, of any, and that energy: `top`, or a bit above the Fermi level where there is one."""
    f_skn = kspace.eigenvalues(model, between_points(mesh_c))
    e_skn = exact_skn[..., : f_skn.shape[-1]]
    error_skn, limit = np.abs(e_skn - f_skn), top
    if limit is None and frame.outcome.electrons is not None:
        limit = fermi_level(frame, e_skn) + WINDOW
    below = e_skn < (np.inf if limit is None else limit)
    return float(error_skn[below].max(initial=0)), float(error_skn.max()), limit
