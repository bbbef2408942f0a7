"""Orbitals of a run of PySCF with their energies and occupations, and the H and DM that they make."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin
from basis.units import HARTREE
from converters.errors import Kind, Refused

# PySCF stores its levels in full, so only rounding separates them from those of the restored H (eV).
LEVEL_TOLERANCE = 1e-7
# Orbitals of a run miss no more than this to be orthonormal in its S; where that is nearly singular, S is rounded by no more than this.
MOST_MISSING, SAME_OVERLAP = 1e-6, 1e-10
# k-points that are equal, in units of the reciprocal cell.
SAME_POINT = 1e-6


@dataclass(frozen=True, eq=False)
class Levels:
    """Orbitals of a run in one shape: spin channel, k-point, orbital of PySCF's order, level; energies in Hartree."""

    spin: Spin
    coeff_skMn: Array
    energy_skn: Array
    occupation_skn: Array

    @property
    def complete(self) -> bool:
        """False when linearly dependent orbitals were dropped."""
        return self.coeff_skMn.shape[-2] == self.coeff_skMn.shape[-1]

    def fock(self, S_kMM: Array) -> Array:
        """The matrix F = S C e C^dagger S that has these levels."""
        SC_skMn = S_kMM @ self.coeff_skMn
        return (SC_skMn * self.energy_skn[:, :, None]) @ SC_skMn.conj().swapaxes(-1, -2)

    def density(self) -> Array:
        return (self.coeff_skMn * self.occupation_skn[:, :, None]) @ self.coeff_skMn.conj().swapaxes(-1, -2)

    def tolerance(self, S_kMM: Array) -> float:
        """How exactly (eV) these levels can be found again from H and S.

        Where S is nearly singular its rounding moves levels: by e_n times what the orbitals miss to be orthonormal in S.
        """
        SC_skMn = S_kMM @ self.coeff_skMn
        missing_sknn = self.coeff_skMn.conj().swapaxes(-1, -2) @ SC_skMn - np.eye(SC_skMn.shape[-1])
        off = float(np.abs(missing_sknn).sum(axis=-1).max())
        if not off < MOST_MISSING and not self.difference_of_overlaps(SC_skMn, missing_sknn) < SAME_OVERLAP:
            return LEVEL_TOLERANCE  # another S, which the levels will show
        moved = np.abs(self.energy_skn[..., None] * missing_sknn).sum(axis=-1).max()
        return max(LEVEL_TOLERANCE, float(moved) * HARTREE)

    def lopsidedness(self, S_kMM: Array, fractional_kc: Array) -> float:
        """How far (eV) levels move when H(k) and H(-k) are made each other's conjugates, as they are but for PySCF's grids."""
        if self.spin is Spin.SPINOR:
            return 0.0
        sum_kkc = fractional_kc[:, None] + fractional_kc
        apart_kk = np.abs(sum_kkc - np.round(sum_kkc)).max(axis=-1)
        if apart_kk.min(axis=1).max() > SAME_POINT:
            return 0.0  # no -k: the levels will show what that costs
        F_skMM = self.fock(S_kMM)
        off_skMM = (F_skMM[:, apart_kk.argmin(axis=1)].conj() - F_skMM) / 2
        off_sknn = self.coeff_skMn.conj().swapaxes(-1, -2) @ off_skMM @ self.coeff_skMn
        return float(np.abs(off_sknn).sum(axis=-1).max()) * HARTREE

    def difference_of_overlaps(self, SC_skMn: Array, missing_sknn: Array) -> float:
        """Largest element of S of the run, in which its orbitals are orthonormal, less S; infinite where they do not span it."""
        return (
            float(np.abs(SC_skMn @ missing_sknn @ SC_skMn.conj().swapaxes(-1, -2)).max()) if self.complete else np.inf
        )

    def is_aufbau(self) -> bool:
        """True when exactly the lowest levels are filled, over all k-points, in each spin that has its own number."""
        most = 2.0 if self.spin is Spin.NONE else 1.0
        for e_kn, f_kn in zip(self.energy_skn, self.occupation_skn, strict=True):
            full = f_kn > most / 2
            if np.abs(f_kn - most * full).max(initial=0) > 1e-10:
                return False
            if full.any() and not full.all() and e_kn[full].max() > e_kn[~full].min():
                return False
        return True


def make_levels(place: str | Path, norb: int, mesh: bool, mo_coeff: Array, mo_energy: Array, mo_occ: Array) -> Levels:
    """Levels of PySCF's arrays, which begin with an axis of spins (UHF) and one of k-points (`mesh`) where there are."""
    C, e, f = np.asarray(mo_coeff), np.asarray(mo_energy, dtype=float), np.asarray(mo_occ, dtype=float)
    spins = C.ndim - 2 - mesh
    if spins == 0 and C.shape[-2] == 4 * norb:
        found = "has the four components of a Dirac-Hartree-Fock run"
        raise Refused(Kind.UNSUPPORTED, place, found, "the two of X2C, or one")
    if (
        spins not in (0, 1)
        or e.shape != f.shape
        or C.shape[:-2] + C.shape[-1:] != e.shape
        or C.shape[-2] not in (norb, 2 * norb)
    ):
        raise Refused(
            Kind.DAMAGED,
            place,
            f"has orbitals {C.shape}, energies {e.shape}, occupations {f.shape}",
            f"{norb} orbitals",
        )
    for name, array in (("coefficients", C), ("energies", e), ("occupations", f)):
        if not np.isfinite(array).all():
            raise Refused(Kind.BAD_PHYSICS, place, f"has a NaN or infinity in its orbital {name}", "finite numbers")
    if not mesh:
        C, e, f = np.expand_dims(C, -3), np.expand_dims(e, -2), np.expand_dims(f, -2)
    if spins:
        return Levels(Spin.COLLINEAR, C, e, f)
    if C.shape[-2] == 2 * norb:
        return Levels(Spin.SPINOR, C[None], e[None], f[None])
    if np.isin(f, (0, 1, 2)).all() and (f == 1).any():  # ROHF
        return Levels(Spin.COLLINEAR, np.stack([C, C]), np.stack([e, e]), np.stack([f > 0, f == 2]).astype(float))
    return Levels(Spin.NONE, C[None], e[None], f[None])
