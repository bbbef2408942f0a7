"""The charges of atoms in the density of a predicted H, brought to those of the predicted DM.

A potential that is off by 50 meV on an atom moves a tenth of an electron to its neighbours, and an SCF takes that charge back slowly. A
predicted DM has the charges right to a hundredth, for it was learned from them; the density of H is better in all else (docs/results.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.frames.smearing import occupation_function
from converters.physics import kspace
from converters.physics.populations import populations
from converters.starts.agreement import Levels
from converters.starts.density import (
    MOST_LOST,
    NOTHING,
    Dense,
    Orbitals,
    Sampling,
    doubt_count,
    filled,
    scale_density,
    with_density,
)

# Charges (electrons) that are off by less are left as they are.
LEAST_OFF = 2e-3
# Charges are brought as near as that; the response is that of the first H, and takes at most so many steps.
ENOUGH, MOST_STEPS = LEAST_OFF / 10, 3
# Potentials (eV) beyond this are no small errors of H: atoms far apart hardly exchange charge, and their potentials mean nothing.
MOST_POTENTIAL = 0.3
# Numbers of the response of all atoms at one k-point that are held at a time.
LARGEST_RESPONSE = 20_000_000
# A level with less of what it may hold than this is empty, one that lacks less is full.
NO_PART = 1e-10
# Levels (eV) closer than this respond as one.
SAME_LEVEL = 1e-4


def with_charges_of_density(
    frame: Frame, levels: Levels, sampling: Sampling, needs_density: bool = True
) -> tuple[Frame, Levels, str]:
    """H with potentials on its atoms that give its density the charges of the frame's DM, its levels, and what was done; all as it was where that is not possible.

    Where the density is not needed and the response says that it is linear, H is not solved again and the levels stay as they were.
    """
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
    solved_at = sampling.with_partners().without_partners()
    atoms = Atoms.of(frame)
    answer = response(levels.density.orbitals, atoms, solved_at)
    inverse_aa = np.linalg.pinv(answer.charges_aa, rcond=1e-3)
    v_a, left_a, rho = np.zeros(frame.natoms), off_a, None
    for _ in range(MOST_STEPS):
        v_a = v_a + inverse_aa @ left_a
        v_a -= v_a.mean()
        if np.abs(v_a).max() > MOST_POTENTIAL:
            return unchanged
        if not needs_density and answer.most_left(v_a, off_a) < ENOUGH:
            left_a = np.zeros(frame.natoms)
            break
        rho, found_a = density_with(levels.density.orbitals, v_a, atoms, solved_at)
        left_a = wanted_a - found_a
        if np.abs(left_a).max() < ENOUGH:
            break
    if np.abs(left_a).max() > np.abs(off_a).max() / 2:
        return unchanged
    moved, done = with_potentials(frame, v_a), levels
    if rho is not None:
        density = replace(levels.density, rho=rho, orbitals=[])
        done = replace(levels, frame=with_density(moved, density, solved_at), density=density)
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
class Atoms:
    """The atom of each row of a dense matrix."""

    atom_M: Array
    natoms: int

    @classmethod
    def of(cls, frame: Frame) -> "Atoms":
        atom_M = np.repeat(np.arange(frame.natoms), frame.pairs.norb_a)
        return cls(np.tile(atom_M, 2 if frame.spin is Spin.SPINOR else 1), frame.natoms)


def density_with(
    orbitals: Sequence[Sequence[Orbitals]], v_a: Array, atoms: Atoms, sampling: Sampling
) -> tuple[Dense, Array]:
    """rho(k) of the same H with potentials on the atoms, H + (D S + S D) / 2 with D = diag(v), and its electrons on each atom (Mulliken).

    It is solved in the orbitals without the potentials, where no other matrices are needed.
    """
    v_M = v_a[atoms.atom_M]
    turned: list[list[tuple[Array, Array]]] = []
    for channels in orbitals:
        turned.append([])
        for known in channels:
            V_nn = (known.c_Mn.conj().T * v_M) @ known.Sc_Mn
            turned[-1].append(np.linalg.eigh(np.diag(known.e_n) + (V_nn + V_nn.conj().T) / 2))
    e_skn = np.array([[e_n for e_n, _ in channels] for channels in turned]).swapaxes(0, 1)
    f_skn, _ = kspace.occupations(e_skn, sampling.weights_k, sampling.filling, sampling.spin)
    rho: list[list[Array]] = []
    total_M = np.zeros(len(v_M))
    for k, weight in enumerate(sampling.weights_k):
        rho.append([])
        for s, known in enumerate(orbitals[k]):
            taken_n = np.abs(f_skn[s, k]) > NOTHING
            turn_nn, f_n = turned[k][s][1][:, taken_n], f_skn[s, k][taken_n]
            c_Mn, Sc_Mn = known.c_Mn @ turn_nn, known.Sc_Mn @ turn_nn
            rho[-1].append(filled(c_Mn, f_n))
            total_M += weight * ((c_Mn.conj() * Sc_Mn).real @ f_n)
    return rho, np.bincount(atoms.atom_M, total_M, atoms.natoms)


@dataclass(frozen=True, eq=False)
class ChargeResponse:
    """How charges of atoms answer to potentials on atoms.

    `charges_aa` are dq_i / dv_j (electrons per eV) of Mulliken charges, with as many electrons as before. `moved_aa` are the
    electrons that go to other levels, v_i v_j moved_ij, of which the first order knows nothing.
    """

    charges_aa: Array
    moved_aa: Array

    def most_left(self, v_a: Array, off_a: Array) -> float:
        """About how many electrons a charge may still be off by with these potentials: what the first order leaves, and the largest part of the second."""
        return float(np.abs(off_a - self.charges_aa @ v_a).max() + v_a @ self.moved_aa @ v_a)


def response(orbitals: Sequence[Sequence[Orbitals]], atoms: Atoms, sampling: Sampling) -> ChargeResponse:
    """To first order dP_mn = F_mn dH_mn between the levels m and n, F_mn = (f_m - f_n) / (e_m - e_n), which is nothing where both are full or both are empty."""
    filling, most = sampling.filling, sampling.most
    e_skn = np.array([[known.e_n for known in channels] for channels in orbitals]).swapaxes(0, 1)
    f_skn, fermi = kspace.occupations(e_skn, sampling.weights_k, filling, sampling.spin)
    rows_a = [np.flatnonzero(atoms.atom_M == a) for a in range(atoms.natoms)]
    parts = np.zeros((len(f_skn), atoms.natoms, atoms.natoms))
    moved_aa = np.zeros((atoms.natoms, atoms.natoms))
    for k, weight in enumerate(sampling.weights_k):
        for s, known in enumerate(orbitals[k]):
            f_n = f_skn[s, k]
            holds_n, takes_n = (np.abs(f_n - limit) > NO_PART * most for limit in (0, most))
            F_nn = slopes(known.e_n, f_n, holds_n, takes_n, fermi[min(s, len(fermi) - 1)], filling, most)
            both_nn = np.outer(takes_n[holds_n], holds_n[takes_n])  # these come as mn and as nm, the others once
            held, Sheld = (part[:, holds_n].conj().T for part in (known.c_Mn, known.Sc_Mn))
            taken, Staken = (part[:, takes_n] for part in (known.c_Mn, known.Sc_Mn))
            W_ann = np.array([held[:, M] @ Staken[M] + Sheld[:, M] @ taken[M] for M in rows_a])
            flat = W_ann.reshape(atoms.natoms, -1) / 2
            adjoint, once_nn = flat.conj().T, np.where(both_nn, 0.5, 1)
            parts[s] += weight * ((flat * (2 * once_nn * F_nn).ravel()) @ adjoint).real
            moved_aa += weight * ((flat * (once_nn * F_nn**2 / most).ravel()) @ adjoint).real
    groups = [parts.sum(axis=0)] if len(fermi) == 1 else list(parts)
    return ChargeResponse(np.asarray(sum(at_fixed_count(chi_aa) for chi_aa in groups)), moved_aa)


def at_fixed_count(chi_aa: Array) -> Array:
    """The response with the Fermi level moved so that the sum of all charges stays."""
    row_a = chi_aa.sum(axis=1)
    whole = row_a.sum()
    return chi_aa - np.outer(row_a, row_a) / whole if abs(whole) > 1e-9 else chi_aa


def slopes(
    e_n: Array, f_n: Array, holds_n: Array, takes_n: Array, fermi: float, filling: kspace.Filling, most: float
) -> Array:
    """(f_m - f_n) / (e_m - e_n) of levels m that hold electrons and n that take some; where they are the same, the derivative of the occupation."""
    gap_nn = np.subtract.outer(e_n[holds_n], e_n[takes_n])
    same_nn = np.abs(gap_nn) < SAME_LEVEL
    with np.errstate(divide="ignore", invalid="ignore"):
        F_nn = np.where(same_nn, 0.0, np.subtract.outer(f_n[holds_n], f_n[takes_n]) / gap_nn)
    if filling.smearing != "fixed" and filling.width > 0 and same_nn.any():
        shape, step = occupation_function(filling.smearing), 1e-3
        x_n = (e_n[takes_n] - fermi) / filling.width
        derivative_n = most * (shape(x_n + step) - shape(x_n - step)) / (2 * step * filling.width)
        F_nn = np.where(same_nn, np.broadcast_to(derivative_n, F_nn.shape), F_nn)
    return np.asarray(F_nn)
