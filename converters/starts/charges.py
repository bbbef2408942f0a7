"""The charges of atoms in the density of a predicted H, brought to those of the predicted DM.

A potential that is off by 50 meV on an atom moves a tenth of an electron to its neighbours, and an SCF takes that charge back slowly. A
predicted DM has the charges right to a hundredth, for it was learned from them; the density of H is better in all else (docs/results.md).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.frames.smearing import occupation_function
from converters.physics import kspace
from converters.physics.populations import populations
from converters.starts.agreement import Levels, beside_density
from converters.starts.density import (
    MOST_LOST,
    Sampling,
    Solved,
    doubt_count,
    filled_levels,
    scale_density,
    with_density,
)

# Charges (electrons) that are off by less are left as they are.
LEAST_OFF = 2e-3
# The response is that of the first H; so many steps bring charges to a tenth of that.
MOST_STEPS = 3
# Potentials (eV) beyond this are no small errors of H: atoms far apart hardly exchange charge, and their potentials mean nothing.
MOST_POTENTIAL = 0.3
# Numbers of the response of all atoms at one k-point that are held at a time.
LARGEST_RESPONSE = 20_000_000
# Levels (eV) closer than this respond as one.
SAME_LEVEL = 1e-4


def with_charges_of_density(frame: Frame, levels: Levels, sampling: Sampling) -> tuple[Frame, Levels, str]:
    """H with potentials on its atoms that give its density the charges of the frame's DM, its levels, and what was done; all as it was where that is not possible."""
    unchanged = frame, levels, ""
    if frame.folded or "DM" not in frame.operators or levels.doubt or frame.natoms * frame.norb**2 > LARGEST_RESPONSE:
        return unchanged
    electrons = sampling.filling.electrons
    found_a = populations(frame).sum(axis=0)
    if doubt_count(float(found_a.sum()), electrons, MOST_LOST):
        return unchanged
    wanted_a = populations(scale_density(frame, sampling.filling)).sum(axis=0)
    off_a = wanted_a - populations(levels.frame).sum(axis=0)
    if frame.natoms < 2 or np.abs(off_a).max() < LEAST_OFF:
        return unchanged
    orbitals = AtomicOrbitals.of(frame, levels, sampling.with_partners().without_partners())
    inverse_aa = np.linalg.pinv(orbitals.response(), rcond=1e-3)
    v_a, left_a, mended = np.zeros(frame.natoms), off_a, orbitals
    for _ in range(MOST_STEPS):
        v_a = v_a + inverse_aa @ left_a
        v_a -= v_a.mean()
        if np.abs(v_a).max() > MOST_POTENTIAL:
            return unchanged
        mended = orbitals.moved_by(v_a)
        left_a = wanted_a - mended.populations()
        if np.abs(left_a).max() < LEAST_OFF / 10:
            break
    if np.abs(left_a).max() > np.abs(off_a).max() / 2:
        return unchanged
    moved, density = with_potentials(frame, v_a), filled_levels(mended.solved, orbitals.sampling)
    done = beside_density(moved, with_density(moved, density, orbitals.sampling), density, sampling)
    if done.doubt:
        return unchanged
    note = (
        f"potentials of up to {1e3 * np.abs(v_a).max():.0f} meV on the atoms give the density of H the charges of the predicted DM; "
        f"they were off by up to {np.abs(off_a).max():.2g} electrons"
    )
    return moved, done, note


def with_potentials(frame: Frame, v_a: Array) -> Frame:
    """H_ij + S_ij (v_i + v_j) / 2."""
    H, pairs = frame.operators["H"], frame.pairs
    mean_x = ((v_a[pairs.i_p] + v_a[pairs.j_p]) / 2)[pairs.pair_x]
    values_sx = H.values_sx.copy()
    for s in (0, 3) if frame.spin is Spin.SPINOR else range(len(values_sx)):
        values_sx[s] += frame.operators["S"].values_sx[0] * mean_x
    return replace(frame, operators={**frame.operators, "H": replace(H, values_sx=values_sx)})


@dataclass(frozen=True, eq=False)
class AtomicOrbitals:
    """Orbitals c of H and S at k-points, with S c: what potentials on atoms make of them needs no other matrices.

    All are lists of k-points and spin channels. `atom_M` is the atom of each row.
    """

    solved: Solved
    overlapping: list[list[Array]]
    atom_M: Array
    natoms: int
    sampling: Sampling

    @classmethod
    def of(cls, frame: Frame, levels: Levels, sampling: Sampling) -> "AtomicOrbitals":
        solved = levels.density.orbitals
        overlaps = kspace.dense_at_each(frame, "S", sampling.kpoints_kc)
        overlapping = [[parts[0] @ c for _, c in channels] for parts, channels in zip(overlaps, solved, strict=True)]
        atom_M = np.repeat(np.arange(frame.natoms), frame.pairs.norb_a)
        atom_M = np.tile(atom_M, len(solved[0][0][1]) // len(atom_M))
        return cls(solved, overlapping, atom_M, frame.natoms, sampling)

    def moved_by(self, v_a: Array) -> "AtomicOrbitals":
        """Those with potentials on the atoms, H + (D S + S D) / 2 with D = diag(v), solved in the orbitals without them."""
        v_M = v_a[self.atom_M]
        solved: Solved = []
        overlapping: list[list[Array]] = []
        for channels, products in zip(self.solved, self.overlapping, strict=True):
            solved.append([])
            overlapping.append([])
            for (e_n, c_Mn), Sc_Mn in zip(channels, products, strict=True):
                V_nn = (c_Mn.conj().T * v_M) @ Sc_Mn
                levels_n, turn_nn = linalg.eigh(np.diag(e_n) + (V_nn + V_nn.conj().T) / 2, check_finite=False)
                solved[-1].append((levels_n, c_Mn @ turn_nn))
                overlapping[-1].append(Sc_Mn @ turn_nn)
        return replace(self, solved=solved, overlapping=overlapping)

    def occupations(self) -> tuple[Array, list[float]]:
        e_skn = np.array([[e_n for e_n, _ in channels] for channels in self.solved]).swapaxes(0, 1)
        return kspace.occupations(e_skn, self.sampling.weights_k, self.sampling.filling, self.sampling.spin)

    def populations(self) -> Array:
        """Electrons of each atom (Mulliken)."""
        f_skn, _ = self.occupations()
        total_M = np.zeros(len(self.atom_M))
        for k, weight in enumerate(self.sampling.weights_k):
            for s, ((_, c_Mn), Sc_Mn) in enumerate(zip(self.solved[k], self.overlapping[k], strict=True)):
                total_M += weight * np.einsum("Mn,Mn,n->M", c_Mn.conj(), Sc_Mn, f_skn[s, k], optimize=True).real
        return np.bincount(self.atom_M, total_M, self.natoms)

    def response(self) -> Array:
        """dq_i / dv_j (electrons per eV) of Mulliken charges and potentials of atoms, with as many electrons as before.

        To first order dP_mn = F_mn dH_mn between the levels m and n, F_mn = (f_m - f_n) / (e_m - e_n).
        """
        filling = self.sampling.filling
        f_skn, fermi = self.occupations()
        rows_a = [np.flatnonzero(self.atom_M == a) for a in range(self.natoms)]
        parts = np.zeros((len(f_skn), self.natoms, self.natoms))
        for k, weight in enumerate(self.sampling.weights_k):
            for s, ((e_n, c_Mn), Sc_Mn) in enumerate(zip(self.solved[k], self.overlapping[k], strict=True)):
                F_nn = slopes(e_n, f_skn[s, k], fermi[min(s, len(fermi) - 1)], filling, self.sampling.most)
                W_ann = np.array([c_Mn[M].conj().T @ Sc_Mn[M] for M in rows_a])
                W_ann = (W_ann + W_ann.conj().swapaxes(1, 2)) / 2
                flat = W_ann.reshape(self.natoms, -1)
                parts[s] += weight * ((flat * F_nn.ravel()) @ flat.conj().T).real
        groups = [parts.sum(axis=0)] if len(fermi) == 1 else list(parts)
        return np.asarray(sum(at_fixed_count(chi_aa) for chi_aa in groups))


def at_fixed_count(chi_aa: Array) -> Array:
    """The response with the Fermi level moved so that the sum of all charges stays."""
    row_a = chi_aa.sum(axis=1)
    whole = row_a.sum()
    return chi_aa - np.outer(row_a, row_a) / whole if abs(whole) > 1e-9 else chi_aa


def slopes(e_n: Array, f_n: Array, fermi: float, filling: kspace.Filling, most: float) -> Array:
    """(f_m - f_n) / (e_m - e_n); where the levels are the same, the derivative of the occupation."""
    gap_nn = np.subtract.outer(e_n, e_n)
    same_nn = np.abs(gap_nn) < SAME_LEVEL
    with np.errstate(divide="ignore", invalid="ignore"):
        F_nn = np.where(same_nn, 0.0, np.subtract.outer(f_n, f_n) / gap_nn)
    if filling.smearing != "fixed" and filling.width > 0:
        shape, step = occupation_function(filling.smearing), 1e-3
        x_n = (e_n - fermi) / filling.width
        derivative_n = most * (shape(x_n + step) - shape(x_n - step)) / (2 * step * filling.width)
        F_nn = np.where(same_nn, np.broadcast_to(derivative_n, F_nn.shape), F_nn)
    return np.asarray(F_nn)
