"""From predicted matrices to a density from which an SCF starts.

A predicted DM is nearly one: it holds a few thousandths of an electron too many, and its natural occupations stray from
0 and 2. A predicted H gives a proper one, unless a nearly singular S turns its small errors into ghost states.

Both are worked on as dense matrices at the k-points of the run: `matrices[k][s]`, one for each spin channel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import linalg, optimize

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.folding import image_weights, mesh_of_frame
from converters.frames.frame import Frame
from converters.physics import kspace
from converters.physics.kspace import Filling
from converters.starts.ghosts import Solved, without_ghosts

# A prediction is not trusted when this part of its electrons is missing or too many, or has to be moved between its natural
# orbitals: it is of a structure unlike those that were learned, and the code's own start is better.
MOST_LOST, MOST_MOVED = 0.01, 0.08
# The same for the electrons of a predicted DM beside an H from which the run starts, and whose own density has the right number.
# Beside a DM with 2 % too few MgO gained from its H as before (docs/results.md); one that lost a tenth speaks of a structure that H does not know either.
MOST_LOST_BESIDE_H = 0.05
# Larger cells are not solved: a dense matrix of each k-point would not fit.
LARGEST_DENSE = 6000
# An orbital with less of an electron than this adds nothing to a density.
NOTHING = 1e-18
# A trace this far from a whole number does not say how many electrons there are.
CLEAR_COUNT = 0.1

Dense = Sequence[Sequence[Array]]


@dataclass(frozen=True, eq=False)
class Sampling:
    """k-points of the run that is to start, and how it fills its levels."""

    kpoints_kc: Array
    weights_k: Array
    filling: Filling
    spin: Spin

    @property
    def most(self) -> float:
        """Electrons that a level holds."""
        return 2.0 if self.spin is Spin.NONE else 1.0

    def with_partners(self) -> "Sampling":
        """The same with both of k and -k where the run listed one for both."""
        both_qc = np.concatenate([self.kpoints_kc, -self.kpoints_kc])
        _, first_k, k_q = np.unique(kspace.places_of(both_qc), axis=0, return_index=True, return_inverse=True)
        weights_k = np.bincount(k_q.ravel(), weights=np.tile(self.weights_k, 2) / 2)
        return replace(self, kpoints_kc=both_qc[first_k], weights_k=weights_k)

    def without_partners(self) -> "Sampling":
        """The same with one of k and -k, since real matrices of lattice vectors are conjugates of one another there; spinors keep both."""
        if self.spin is Spin.SPINOR:
            return self
        count = len(self.kpoints_kc)
        place_qc = kspace.places_of(np.concatenate([self.kpoints_kc, -self.kpoints_kc]))
        pairs_k = np.sort(np.unique(place_qc, axis=0, return_inverse=True)[1].reshape(2, count), axis=0)
        _, first_k, pair_k = np.unique(pairs_k, axis=1, return_index=True, return_inverse=True)
        weights_k = np.bincount(pair_k.ravel(), weights=self.weights_k)
        return replace(self, kpoints_kc=self.kpoints_kc[first_k], weights_k=weights_k)


@dataclass(frozen=True, eq=False)
class Density:
    """rho(k) to start from, and what was found and done on the way.

    `orbitals` are all those of H and S where it was made of these, ghost states among them: a list of k-points and spin channels.
    """

    rho: Dense
    measured: dict[str, float]
    note: str
    orbitals: "list[list[Orbitals]]" = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Orbitals:
    """Levels e and orbitals c of H and S at one k-point, and S c."""

    e_n: Array
    c_Mn: Array
    Sc_Mn: Array


def doubt(density: Density, electrons: float) -> str:
    """Why a density is not worth starting from; empty when it is."""
    measured = density.measured
    if measured.get("S filter"):
        return f"the predicted H has ghost states down to {measured['lowest level']:.3g}"
    if measured.get("moved", 0.0) > MOST_MOVED:
        return f"the predicted DM is far from a density: {measured['moved']:.0%} of its electrons had to be moved"
    return doubt_count(measured.get("electrons found", electrons), electrons)


def doubt_count(found: float, electrons: float, most: float = MOST_LOST) -> str:
    """The same for the electrons of a predicted DM alone."""
    if abs(found - electrons) <= most * electrons:
        return ""
    return f"the predicted DM holds {found:.2f} electrons where there are {electrons:g}"


# From H


def density_of_levels(H: Dense, S: Sequence[Array], sampling: Sampling) -> Density:
    """The density of the levels of (H, S), filled as the run fills them, without ghost states."""
    try:
        all_levels = [
            [linalg.eigh(part, overlap, check_finite=False) for part in parts]
            for parts, overlap in zip(H, S, strict=True)
        ]
    except np.linalg.LinAlgError as error:
        raise Refused(Kind.SINGULAR_OVERLAP, "S", "is not positive definite, so that H has no levels") from error
    f_skn, fermi = filled_levels(all_levels, sampling)
    solved, threshold, lowest = without_ghosts(all_levels, H, S, occupied(f_skn, sampling))
    orbitals = [[Orbitals(e, c, overlap @ c) for e, c in pairs] for pairs, overlap in zip(all_levels, S, strict=True)]
    if threshold:
        f_skn, fermi = filled_levels(solved, sampling)
    rho = [[filled(c, f_skn[s, k]) for s, (_, c) in enumerate(pairs)] for k, pairs in enumerate(solved)]
    note = f"DM is that of H and S at {len(S)} k-points, Fermi level {fermi[0]:.3f} eV"
    if threshold:
        note += f"; ghost states down to {lowest:.0f} eV: directions of S below {threshold:g} were left out"
    return Density(rho, {"S filter": threshold, "lowest level": lowest}, note, orbitals)


def filled_levels(solved: Solved, sampling: Sampling) -> tuple[Array, list[float]]:
    """Occupations of levels [spin channel, k-point, level], and the Fermi levels."""
    e_skn = np.array([[pair[0] for pair in channels] for channels in solved]).swapaxes(0, 1)
    return kspace.occupations(e_skn, sampling.weights_k, sampling.filling, sampling.spin)


def occupied(f_skn: Array, sampling: Sampling) -> list[list[int]]:
    """How many levels of each k-point and spin channel hold electrons."""
    counts: list[list[int]] = (f_skn > sampling.most / 2).sum(axis=-1).T.tolist()
    return counts


def filled(c_Mn: Array, f_n: Array) -> Array:
    """The density of orbitals with occupations; most are empty, and cost nothing."""
    taken_n = np.abs(f_n) > NOTHING
    return np.asarray((c_Mn[:, taken_n] * f_n[taken_n]) @ c_Mn[:, taken_n].conj().T)


# From DM


def purify(rho: Dense, S: Sequence[Array], sampling: Sampling, how: str) -> Density:
    """A density with the right number of electrons whose natural occupations are possible.

    "scale" multiplies; "clip" bounds the occupations, which is right for metals too; "fill" fills the natural orbitals of
    the highest occupations, as a gapped system does; "auto" is "fill" where a gap shows, else "clip".
    """
    natural = [[natural_orbitals(part, overlap) for part in parts] for parts, overlap in zip(rho, S, strict=True)]
    f_skn = np.array([[pair[0] for pair in pairs] for pairs in natural]).swapaxes(0, 1)
    if how == "auto":
        how = "fill" if has_gap(f_skn, sampling) else "clip"
    new_skn = refill(f_skn, sampling, how)
    found = float(np.einsum("skn,k->", f_skn, sampling.weights_k))
    moved = float(np.einsum("skn,k->", np.abs(f_skn - new_skn), sampling.weights_k))
    measured = {"electrons found": found, "moved": moved / sampling.filling.electrons}
    measured |= {"lowest occupation": float(f_skn.min()), "highest occupation": float(f_skn.max())}
    new = [[(c * new_skn[s, k]) @ c.conj().T for s, (_, c) in enumerate(pairs)] for k, pairs in enumerate(natural)]
    done = {"scale": "scaled", "clip": "bounded", "fill": "projected on its natural orbitals"}[how]
    note = f"DM held {found:.5f} electrons in occupations from {f_skn.min():.4f} to {f_skn.max():.4f}; it is {done}"
    return Density(new, measured, note)


def natural_orbitals(rho: Array, S: Array) -> tuple[Array, Array]:
    """Occupations f and orbitals c of rho = c f c^dagger with c^dagger S c = 1."""
    lower = np.linalg.cholesky(S)
    f_n, u = np.linalg.eigh(lower.conj().T @ rho @ lower)
    return f_n, linalg.solve_triangular(lower.conj().T, u, lower=False)


def has_gap(f_skn: Array, sampling: Sampling) -> bool:
    """True when the natural occupations are clearly full or empty, as many at each k-point, and hold the electrons."""
    x_skn = f_skn / sampling.most
    full_sk = (x_skn > 0.5).sum(axis=-1)
    held = sampling.most * np.einsum("sk,k->", full_sk, sampling.weights_k)
    clear = not ((x_skn > 0.25) & (x_skn < 0.75)).any()
    return bool(clear and (full_sk == full_sk[:, :1]).all() and abs(held - sampling.filling.electrons) < 1e-6)


def refill(f_skn: Array, sampling: Sampling, how: str) -> Array:
    """New occupations of natural orbitals that hold the electrons, each spin its own where the moment is known."""
    filling, weights_k = sampling.filling, sampling.weights_k
    if sampling.spin is Spin.COLLINEAR and filling.moment is not None:
        wanted = [(filling.electrons + sign * filling.moment) / 2 for sign in (1, -1)]
        return np.concatenate([refill_set(f[None], weights_k, n, 1.0, how) for f, n in zip(f_skn, wanted, strict=True)])
    return refill_set(f_skn, weights_k, filling.electrons, sampling.most, how)


def refill_set(f_skn: Array, weights_k: Array, electrons: float, most: float, how: str) -> Array:
    if how == "scale":
        return np.asarray(f_skn * (electrons / np.einsum("skn,k->", f_skn, weights_k)))
    if how == "fill":
        return kspace.fill_lowest(-f_skn, weights_k, electrons, most)[0]

    def excess(shift: float) -> float:
        return float(np.einsum("skn,k->", np.clip(f_skn + shift, 0, most), weights_k) - electrons)

    widest = most + float(np.abs(f_skn).max())
    return np.clip(f_skn + optimize.brentq(excess, -widest, widest, xtol=1e-14), 0, most)


# Frames


def frame_of_levels(frame: Frame, sampling: Sampling) -> tuple[Frame, Density]:
    """The frame with the DM of its own H and S."""
    require_solvable(frame, sampling)
    matrices = list(kspace.hamiltonian_and_overlap(frame, sampling.kpoints_kc))
    H = [[part for part, _ in parts] for parts in matrices]
    density = density_of_levels(H, [parts[0][1] for parts in matrices], sampling)
    return with_density(frame, density, sampling), density


def frame_purified(frame: Frame, sampling: Sampling, how: str) -> tuple[Frame, Density]:
    """The frame with its DM made proper.

    For a crystal this asks for pairs as far as DM reaches: where the pair list ends earlier, as that of most codes does, DM
    is no projector on it, and projecting it does harm.
    """
    require_solvable(frame, sampling)
    sampling = sampling.with_partners()
    S = [parts[0] for parts in kspace.dense_at_each(frame, "S", sampling.kpoints_kc)]
    density = purify(list(operator_on_mesh(frame, "DM", sampling.kpoints_kc)), S, sampling, how)
    return with_density(frame, density, sampling), density


def require_solvable(frame: Frame, sampling: Sampling) -> None:
    if not len(sampling.kpoints_kc):
        raise Refused(Kind.NO_START, frame.formula, "needs the k-points of the run that is to start")
    if frame.norb > LARGEST_DENSE:
        raise Refused(
            Kind.TOO_LITTLE_MEMORY,
            frame.formula,
            f"has {frame.norb} orbitals; matrices of at most {LARGEST_DENSE} are solved densely",
        )


def with_density(frame: Frame, density: Density, sampling: Sampling) -> Frame:
    operator = kspace.sum_over_kpoints(frame, sampling.kpoints_kc, sampling.weights_k, density.rho)
    if (mesh := mesh_of_frame(frame, frame.formula)) is not None:
        # The closest images share what is the block of each of them.
        share_p = image_weights(frame.pairs, frame.vectors_pv, mesh.number_c)
        operator = replace(operator, values_sx=operator.values_sx * share_p[frame.pairs.pair_x])
    return replace(frame, operators={**frame.operators, "DM": operator})


def scale_density(frame: Frame, filling: Filling) -> Frame:
    """The frame with its DM times a number, one for each spin where the moment is known, so that it holds the electrons."""
    found = np.atleast_1d(kspace.count_electrons(frame))
    factor_s = np.full(frame.spin.components, filling.electrons / found.sum())
    if frame.spin is Spin.COLLINEAR and filling.moment is not None:
        factor_s = np.array([filling.electrons + filling.moment, filling.electrons - filling.moment]) / (2 * found)
    DM = frame.operators["DM"]
    return replace(frame, operators={**frame.operators, "DM": replace(DM, values_sx=DM.values_sx * factor_s[:, None])})


def operator_on_mesh(frame: Frame, name: str, kpoints_kc: Array, mesh_kc: Array | None = None) -> Iterator[list[Array]]:
    """O(k) at points of a lattice of them (all of which are `mesh_kc`, where not all are asked for), each block counted at its closest image alone.

    A DM(R) of a mesh repeats in the supercell of the mesh: DM(R + N) = DM(R). Codes store these repetitions wherever
    orbitals reach them, and the sum over R must not count them again.
    """
    whole = frame.folded or not frame.pbc_c.any()
    weight_p = (
        np.ones(len(frame.pairs))
        if whole
        else image_weights(
            frame.pairs,
            frame.vectors_pv,
            kspace.supercell_of_points(frame.formula, kpoints_kc if mesh_kc is None else mesh_kc),
        )
    )
    operator = frame.operators[name]
    weighted = replace(operator, values_sx=operator.values_sx * weight_p[frame.pairs.pair_x])
    yield from kspace.dense_at_each(replace(frame, operators={**frame.operators, name: weighted}), name, kpoints_kc)


def electrons_of(frame: Frame) -> float:
    """The electrons that a frame says it has, else the whole number next to Tr(DM S)."""
    if frame.outcome.electrons is not None:
        return frame.outcome.electrons
    if not {"S", "DM"} <= set(frame.operators):
        raise Refused(Kind.ELECTRONS, frame.formula, "does not say how many electrons it has")
    found = float(kspace.count_electrons(frame).sum())
    if abs(found - round(found)) > CLEAR_COUNT:
        raise Refused(Kind.ELECTRONS, frame.formula, f"holds {found:.3f} electrons", "a whole number")
    return float(round(found))
