"""Views of a frame in reciprocal space: H(k), S(k), eigenvalues, and the density matrix of (H, S).

O(k) = sum_R exp(+2 pi i k.R) O(R) with k in fractions of the reciprocal vectors. A spinor matrix has all up orbitals
first: its index is s * norb + orbital.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg, sparse

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator
from converters.frames.dense import matrices_at
from converters.frames.folding import image_weights, mesh_of, mesh_of_frame
from converters.frames.frame import Frame
from converters.frames.smearing import gaussian, is_monotonic, occupation_function
from converters.physics.lattice_sums import add_blocks, add_elements, kpoints_at_once, sum_over_cells, sums_together

# k-points that no run has.
MOST_KPOINTS = 1_000_000
# Points of a mesh that is none along the axes: more of them are not looked at.
MOST_SKEW = 3000
# k-points are the same to so many digits (fractions): OpenMX moves its mesh by some millionths.
DIGITS_OF_K = 5
PLACE_OF_K = 10.0**-DIGITS_OF_K
# k and -k have the same levels where they are partners to so many.
DIGITS_OF_SAME = 10


def matrix_at(frame: Frame, name: str, kpoint_c: Array) -> list[sparse.csr_array]:
    """O(k) as sparse matrices: two for a collinear operator, else one.

    S of a spinor frame comes doubled, one copy for each spin.
    """
    layout = frame.layout(name)
    blocks = matrices_at(frame.pairs, frame.operators[name], layout, kpoint_c)
    if layout is Spin.SPINOR:
        return [sparse.block_array([blocks[:2], blocks[2:]], format="csr")]
    if name == "S" and frame.spin is Spin.SPINOR:
        return [sparse.block_diag([blocks[0], blocks[0]], format="csr")]
    return blocks


def phases(frame: Frame, kpoint_c: Array) -> Array:
    """exp(2 pi i k.R) of each pair."""
    return np.exp(2j * np.pi * (frame.pairs.R_pc @ np.asarray(kpoint_c, dtype=float)))


def dense_at(frame: Frame, name: str, kpoint_c: Array) -> list[Array]:
    """O(k) as dense matrices; real where all phases are real and the operator is."""
    return made_whole(frame, name, halves_at(frame, name, np.asarray(kpoint_c, dtype=float)))


def dense_at_each(frame: Frame, name: str, kpoints_kc: Array) -> Iterator[list[Array]]:
    """O(k) as dense matrices at one k-point after the other."""
    layout = frame.layout(name)
    if not sums_together(frame.pairs, len(kpoints_kc)):
        yield from (dense_at(frame, name, k_c) for k_c in kpoints_kc)
        return
    for batch_kc in np.split(kpoints_kc, np.arange(0, len(kpoints_kc), kpoints_at_once(frame, layout))[1:]):
        half_skMM = sum_over_cells(frame, name, batch_kc)
        for k, k_c in enumerate(batch_kc):
            is_real = has_real_phases(k_c) and layout is not Spin.SPINOR
            half_sMM = half_skMM[:, k].real if is_real else half_skMM[:, k]
            yield made_whole(frame, name, joined(half_sMM, layout))


def has_real_phases(kpoint_c: Array) -> bool:
    return not np.any(np.mod(2 * kpoint_c, 1))


def made_whole(frame: Frame, name: str, halves: Sequence[Array]) -> list[Array]:
    """Matrices of which the stored half is there, onsite blocks times 1/2."""
    whole = [half + half.conj().T for half in halves]
    doubled = name == "S" and frame.spin is Spin.SPINOR
    return [np.kron(np.eye(2), whole[0])] if doubled else whole


def halves_at(frame: Frame, name: str, kpoint_c: Array) -> list[Array]:
    """The stored half of O(k), onsite blocks times 1/2, summed at once: a matrix of each R costs more for a k-point alone."""
    layout, pairs, norb = frame.layout(name), frame.pairs, frame.norb
    angle_p = 2 * np.pi * (pairs.R_pc @ kpoint_c)
    is_real = layout is not Spin.SPINOR and has_real_phases(kpoint_c)
    row_x, column_x = pairs.row_column_x
    place_x = row_x * norb + column_x
    half_sMM: Array = np.zeros((layout.components, norb * norb), dtype=float if is_real else complex)
    for wave, factor in ((np.cos, 1),) if is_real else ((np.cos, 1), (np.sin, 1j)):
        weight_x = (pairs.copies_p / 2 * wave(angle_p))[pairs.pair_x]
        for s, values_x in enumerate(frame.operators[name].values_sx):
            half_sMM[s] += factor * summed_at(place_x, weight_x * values_x, norb * norb)
    return joined(half_sMM.reshape(-1, norb, norb), layout)


def joined(parts_sMM: Array, layout: Spin) -> list[Array]:
    """A matrix for each spin channel, of those of each component."""
    return [np.block([[*parts_sMM[:2]], [*parts_sMM[2:]]])] if layout is Spin.SPINOR else [*parts_sMM]


def summed_at(place_x: Array, values_x: Array, size: int) -> Array:
    """Sums of the elements at each place."""
    sums = [
        np.bincount(place_x, part_x, size) for part_x in (values_x.real, values_x.imag)[: 1 + np.iscomplexobj(values_x)]
    ]
    return sums[0] + 1j * sums[1] if len(sums) > 1 else sums[0]


# Coefficients of orbitals that may be kept while levels are filled.
KEPT_ORBITALS = 10_000_000


def hamiltonian_and_overlap(frame: Frame, kpoints_kc: Array) -> Iterator[list[tuple[Array, Array]]]:
    """Dense (H(k), S(k)) of each spin channel (two for a collinear frame, else one), k-point by k-point."""
    both = (dense_at_each(frame, name, np.atleast_2d(kpoints_kc)) for name in ("H", "S"))
    for H_sMM, S_sMM in zip(*both, strict=True):
        yield [(H_MM, S_sMM[0]) for H_MM in H_sMM]


def eigenvalues(frame: Frame, kpoints_kc: Array, step: Callable[[], None] = lambda: None) -> Array:
    """Eigenvalues (eV) of H(k) c = e S(k) c, shape (spin channel, k, band); `step` is called after each k."""
    levels_ksn = []
    for channels in hamiltonian_and_overlap(frame, kpoints_kc):
        levels_ksn.append([linalg.eigh(H, S, eigvals_only=True, check_finite=False) for H, S in channels])
        step()
    return np.array(levels_ksn).swapaxes(0, 1)


@dataclass(frozen=True, eq=False)
class Solved:
    """Levels (eV) at some k-points, and their orbitals at each of these for each spin channel, where they are few enough to be kept."""

    energies_skn: Array
    orbitals_ks: Sequence[Sequence[Array]] = ()


def solve(frame: Frame, kpoints_kc: Array) -> Solved:
    """Levels and orbitals at some k-points."""
    if len(kpoints_kc) * frame.norb**2 * frame.spin.components >= KEPT_ORBITALS:
        return Solved(eigenvalues(frame, kpoints_kc))
    solved = [
        [linalg.eigh(H_MM, S_MM, check_finite=False) for H_MM, S_MM in channels]
        for channels in hamiltonian_and_overlap(frame, kpoints_kc)
    ]
    energies_skn = np.array([[e_n for e_n, _ in channels] for channels in solved]).swapaxes(0, 1)
    return Solved(energies_skn, [[c_Mn for _, c_Mn in channels] for channels in solved])


@dataclass(frozen=True)
class Filling:
    """How levels are filled: electrons, smearing kind and width (eV), and the moment if it is held fixed."""

    electrons: float
    smearing: str = "fixed"
    width: float = 0.0
    moment: float | None = None


def require_mesh(path: Path, mesh_c: Sequence[int]) -> None:
    """Refuse what is no k mesh, and one that no computer could hold."""
    if len(mesh_c) != 3 or min(mesh_c) < 1 or np.prod(np.array(mesh_c, dtype=float)) > MOST_KPOINTS:
        words = " ".join(map(str, mesh_c))
        raise Refused(
            Kind.DAMAGED, path, f"has the k mesh {words}", f"three numbers from 1 on, {MOST_KPOINTS} points at most"
        )


def uniform_mesh(mesh_c: Sequence[int] | Array, first_c: Sequence[float] | Array = (0, 0, 0)) -> tuple[Array, Array]:
    """All points of a mesh as fractions, `first_c` the first of them, and equal weights; about Gamma where nothing is said."""
    axes = [first + np.arange(n) / n for n, first in zip(np.asarray(mesh_c).tolist(), first_c, strict=True)]
    kpoints_kc = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return kpoints_kc, np.full(len(kpoints_kc), 1 / len(kpoints_kc))


def mesh_points(
    mesh_c: Sequence[int] | Array, spin: Spin, first_c: Sequence[float] | Array = (0, 0, 0)
) -> tuple[Array, Array]:
    """k-points and weights of a mesh for a density; of k and -k one, where matrices are real and both give the same."""
    kpoints_kc, weights_k = uniform_mesh(mesh_c, first_c)
    if spin is Spin.SPINOR:
        return kpoints_kc, weights_k
    places_qc = places_of(np.concatenate([kpoints_kc, -kpoints_kc]))
    _, place_q = np.unique(places_qc, axis=0, return_inverse=True)
    own_k, partner_k = np.split(place_q.ravel(), 2)
    chosen_k = own_k <= partner_k
    return kpoints_kc[chosen_k], np.where(own_k < partner_k, 2 * weights_k, weights_k)[chosen_k]


def one_of_partners(kpoints_kc: Array, spin: Spin) -> tuple[Array, Array]:
    """Which k-points are to be solved, of k and -k the first one where matrices are real, and which of these each k-point is."""
    if spin is Spin.SPINOR:
        return np.arange(len(kpoints_kc)), np.arange(len(kpoints_kc))
    places_qc = np.round(np.mod(np.concatenate([kpoints_kc, -kpoints_kc]), 1), DIGITS_OF_SAME)
    _, place_q = np.unique(np.mod(places_qc, 1), axis=0, return_inverse=True)
    place_k = np.minimum(*np.split(place_q.ravel(), 2))
    _, first_n, number_k = np.unique(place_k, return_index=True, return_inverse=True)
    order_n = np.argsort(first_n)
    return first_n[order_n], np.argsort(order_n)[number_k]


def places_of(kpoints_kc: Array) -> Array:
    """Numbers of the k-points along each axis, equal for equal ones; those of one call can be compared, no others."""
    places_kc = np.empty(kpoints_kc.shape, dtype=int)
    for c, x_k in enumerate(np.mod(kpoints_kc, 1).T):
        order = np.argsort(x_k)
        x_n = x_k[order]
        place_n = np.cumsum(np.diff(x_n, prepend=x_n[:1]) > PLACE_OF_K)
        place_n[x_n > x_n[:1] + 1 - PLACE_OF_K] = 0  # those next to 1 are next to 0
        places_kc[order, c] = place_n
    return places_kc


def mesh_of_points(place: str | Path, kpoints_kc: Array) -> Array:
    """Numbers of k-points along each axis of a mesh, which may be moved by some millionths, of k and -k each its own way."""
    evened_kc = np.empty(kpoints_kc.shape)
    for c, place_k in enumerate(places_of(kpoints_kc).T):
        _, first_n, number_k = np.unique(place_k, return_index=True, return_inverse=True)
        evened_kc[:, c] = kpoints_kc[first_n, c][number_k]
    return mesh_of(place, evened_kc, DIGITS_OF_K)


def supercell_of_points(place: str | Path, kpoints_kc: Array) -> Array:
    """The supercell in which densities of these k-points repeat: the numbers of a mesh along the axes, else its vectors as rows.

    Differences of the points generate a lattice that has the reciprocal one within it; where they are all of its points,
    the vectors R with whole k.R for all of them are the supercell.
    """
    try:
        return mesh_of_points(place, kpoints_kc)
    except Refused:
        count = len(kpoints_kc)
        steps_kc = np.round(count * (kpoints_kc - kpoints_kc[0]))
        if count > MOST_SKEW or np.abs(steps_kc / count - kpoints_kc + kpoints_kc[0]).max() > PLACE_OF_K:
            raise
        basis_cc = lattice_basis([*steps_kc.astype(int).tolist(), *(count * np.eye(3, dtype=int)).tolist()])
        supercell_cc = np.round(count * np.linalg.inv(basis_cc).T).astype(np.int64)
        if round(abs(np.linalg.det(supercell_cc))) != count:
            raise
        return supercell_cc


def lattice_basis(rows: list[list[int]]) -> Array:
    """Three vectors that generate the same lattice as many, which have whole components (Hermite's normal form)."""
    basis = []
    for c in range(3):
        while len(others := [row for row in rows if row[c]]) > 1:
            least = min(others, key=lambda row: abs(row[c]))
            rows = [
                row if row is least else [x - row[c] // least[c] * y for x, y in zip(row, least, strict=True)]
                for row in rows
            ]
        basis += others
        rows = [row for row in rows if not row[c]]
    return np.array(basis)


def points_of_supercell(supercell_cc: Array, first_c: Array) -> tuple[Array, Array]:
    """All k-points k with whole N k - `first_c`, where the rows of N are the supercell in lattice vectors, and equal weights."""
    numbers_c = np.abs(np.diagonal(lattice_basis(supercell_cc.T.tolist())))
    steps_kc = np.stack(np.meshgrid(*map(np.arange, numbers_c), indexing="ij"), axis=-1).reshape(-1, 3)
    return (steps_kc + first_c) @ np.linalg.inv(supercell_cc).T, np.full(len(steps_kc), 1 / len(steps_kc))


def tolerance_of_levels(residual: float, factor: float) -> float:
    """How exactly printed eigenvalues are met (eV) that are one mixing step away from H: some factor times the root of its residual."""
    return float(max(1e-5, factor * max(residual, 0.0) ** 0.5))


def occupations(energies_skn: Array, weights_k: Array, filling: Filling, spin: Spin) -> tuple[Array, list[float]]:
    """Occupation of each level (at most 2 without spin, else 1) and the Fermi level (eV) of each filled set."""
    if spin is Spin.COLLINEAR and filling.moment is not None:
        wanted = [(filling.electrons + sign * filling.moment) / 2 for sign in (1, -1)]
        parts = [fill(e_kn[None], weights_k, n, filling, 1.0) for e_kn, n in zip(energies_skn, wanted, strict=True)]
        return np.concatenate([part[0] for part in parts]), [part[1] for part in parts]
    f_skn, fermi = fill(energies_skn, weights_k, filling.electrons, filling, 2.0 if spin is Spin.NONE else 1.0)
    return f_skn, [fermi]


def fill(e_skn: Array, weights_k: Array, electrons: float, filling: Filling, most: float) -> tuple[Array, float]:
    """Occupations that hold the wanted electrons, and their Fermi level."""
    from scipy.optimize import brentq

    capacity = most * e_skn.shape[0] * e_skn.shape[2] * weights_k.sum()
    if not 0 <= electrons <= capacity * (1 + 1e-12):
        raise ValueError(f"{electrons:g} electrons do not fit into levels for {capacity:g}")
    if filling.smearing == "fixed" or filling.width <= 0:
        return fill_lowest(e_skn, weights_k, electrons, most)
    shape = occupation_function(filling.smearing)

    def excess(fermi: float, shape: Callable[[Array], Array] = shape) -> float:
        return float(np.einsum("skn,k->", shape((e_skn - fermi) / filling.width), weights_k) * most - electrons)

    margin = 60 * filling.width + 1.0
    low, high = e_skn.min() - margin, e_skn.max() + margin
    if not is_monotonic(filling.smearing):
        near = brentq(partial(excess, shape=gaussian), low, high)
        low, high = bracket_about(excess, near, filling.width)
    fermi = brentq(excess, low, high, xtol=1e-13, rtol=1e-14)
    return most * shape((e_skn - fermi) / filling.width), fermi


def bracket_about(excess: Callable[[float], float], near: float, width: float) -> tuple[float, float]:
    """Two Fermi levels with too few and too many electrons, as close to a given one as tenths of the width tell."""
    for step in range(1, 1000):
        low, high = near - step * width / 10, near + step * width / 10
        if excess(low) <= 0 <= excess(high):
            return low, high
    raise ValueError(f"no Fermi level within {100 * width:g} eV of {near:g} eV holds the electrons")


def fill_lowest(e_skn: Array, weights_k: Array, electrons: float, most: float) -> tuple[Array, float]:
    """Lowest levels full; levels equal to 1e-6 eV at the top share what is left."""
    order = np.argsort(e_skn, axis=None, kind="stable")
    level = e_skn.ravel()[order]
    room = most * np.broadcast_to(weights_k[None, :, None], e_skn.shape).ravel()[order]
    last = min(int(np.searchsorted(np.cumsum(room), electrons * (1 - 1e-12))), len(level) - 1)
    shared = np.abs(level - level[last]) < 1e-6
    below = (level < level[last]) & ~shared
    part = (electrons - room[below].sum()) / room[shared].sum()
    f = np.empty(e_skn.size)
    f[order] = most * np.where(below, 1.0, np.where(shared, part, 0.0))
    first_empty = level[level > level[last] + 1e-6]
    top = (level[last] + first_empty[0]) / 2 if part > 1 - 1e-9 and len(first_empty) else level[last]
    return f.reshape(e_skn.shape), float(top)


def densities_at(
    frame: Frame, kpoints_kc: Array, weights_k: Array, filling: Filling, solved: Solved | None = None
) -> Iterator[list[Array]]:
    """rho(k) of each spin channel at one k-point after the other, for levels filled over all of them.

    `solved` are these levels where they are known already.
    """
    solved = solve(frame, kpoints_kc) if solved is None else solved
    f_skn, _ = occupations(solved.energies_skn, weights_k, filling, frame.spin)
    for k, orbitals_s in enumerate(solved.orbitals_ks or orbitals_again(frame, kpoints_kc)):
        yield [density_of(c_Mn, f_skn[s, k]) for s, c_Mn in enumerate(orbitals_s)]


def orbitals_again(frame: Frame, kpoints_kc: Array) -> Iterator[list[Array]]:
    """Orbitals that are too many to be kept, at one k-point after the other."""
    for channels in hamiltonian_and_overlap(frame, kpoints_kc):
        yield [linalg.eigh(H_MM, S_MM, check_finite=False)[1] for H_MM, S_MM in channels]


def density_of(c_Mn: Array, f_n: Array) -> Array:
    """The density of orbitals that are filled so far; empty ones have no part in it."""
    c_Mn, f_n = c_Mn[:, f_n != 0], f_n[f_n != 0]
    return np.asarray((c_Mn * f_n) @ c_Mn.conj().T)


def density_matrix(
    frame: Frame, kpoints_kc: Array, weights_k: Array, filling: Filling, solved: Solved | None = None
) -> Operator:
    """DM of the frame's (H, S) on its pair list; where that is folded the closest images share the sum over all of them."""
    densities = densities_at(frame, kpoints_kc, weights_k, filling, solved)
    built = sum_over_kpoints(frame, kpoints_kc, weights_k, densities)
    if (mesh := mesh_of_frame(frame, frame.formula)) is None:
        return built
    weight_p = image_weights(frame.pairs, frame.vectors_pv, mesh.number_c)
    return Operator(built.values_sx * weight_p[frame.pairs.pair_x])


def sum_over_kpoints(
    frame: Frame, kpoints_kc: Array, weights_k: Array, densities: Iterable[Sequence[Array]]
) -> Operator:
    """DM(R) = sum_k w_k exp(-2 pi i k.R) rho(k) on the pair list of the frame.

    Without spinors only the real part is kept, which is what the partners that time reversal removed from the k-points
    would leave.
    """
    add = add_blocks if sums_together(frame.pairs, len(kpoints_kc)) else add_elements
    return Operator(add(frame, kpoints_kc, weights_k, map(partial(spin_parts, frame.spin), densities)))


def spin_parts(spin: Spin, rho_sMM: Sequence[Array]) -> Sequence[Array]:
    """One matrix for each component of a layout."""
    return split_spinor(rho_sMM[0]) if spin is Spin.SPINOR else rho_sMM


def split_spinor(matrix: Array) -> list[Array]:
    """The uu, ud, du, dd parts of a spinor matrix, which has all up orbitals first."""
    n = len(matrix) // 2
    return [matrix[:n, :n], matrix[:n, n:], matrix[n:, :n], matrix[n:, n:]]


def count_electrons(frame: Frame) -> Array:
    """Tr(DM S) of each spin channel: up and down where the layout knows them, else one number."""
    if not frame.folded:
        weighted_x = np.repeat(frame.pairs.copies_p, frame.pairs.size_p) * frame.operators["S"].values_sx[0]
        traces = np.array([DM_x.real @ weighted_x for DM_x in frame.operators["DM"].values_sx])
        return traces[[0, 3]] if frame.spin is Spin.SPINOR else np.asarray(traces)
    # Folded blocks were shared among images: only the sums at the k-points of the run are whole.
    total = np.zeros(frame.spin.channels)
    for k_c, weight in run_kpoints(frame):
        S_MM, DM_sMM = spatial_overlap(frame, k_c), dense_at(frame, "DM", k_c)
        if frame.spin is Spin.SPINOR:
            DM_sMM = [split_spinor(DM_sMM[0])[s] for s in (0, 3)]
        total += weight * np.array([np.vdot(S_MM, DM_MM).real for DM_MM in DM_sMM])
    return total


def run_kpoints(frame: Frame) -> Iterator[tuple[Array, float]]:
    """k-points of the run with their weights; Gamma when it has none."""
    if frame.spectrum is None:
        yield np.zeros(3), 1.0
    else:
        yield from zip(frame.spectrum.kpoints_kc, frame.spectrum.weights_k, strict=True)


def spatial_overlap(frame: Frame, kpoint_c: Array) -> Array:
    """Dense S(k) once, also for spinors."""
    return dense_at(frame, "S", kpoint_c)[0][: frame.norb, : frame.norb]
