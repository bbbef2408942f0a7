"""The energy of any density by an SCF object of PySCF, and its forces: one Fock matrix is built, and nothing is iterated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.calculators.calculator import CalculationFailed

from basis import Array
from basis.units import BOHR, HARTREE
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.pyscf.dm0 import atoms_of, guess_density, sampling_of_scf
from converters.pyscf.molecule import make_basis
from converters.starts.asking import Question
from converters.starts.density import natural_orbitals
from converters.starts.judged import Judged

# Occupations of a density of full and empty orbitals.
WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class Functional:
    """What an SCF object says of a density whose natural orbitals are full or empty; forces of RHF, RKS, UHF and UKS of molecules.

    The energy is stationary at the converged density, so that its error is of second order in that of the density. That of the forces is of first
    order: they are those of a converged density.
    """

    mf: Any
    dm0: Array
    energy: float
    fock: Array

    @classmethod
    def of(cls, mf: Any, dm0: Array) -> "Functional":
        if getattr(mf, "sigma", None):
            found = "smears its occupations, so that its energy is not a function of the density"
            raise Refused(Kind.UNSUPPORTED, type(mf).__name__, found, "full and empty orbitals")
        hcore, potential = mf.get_hcore(), mf.get_veff(dm=dm0)
        energy = float(mf.energy_tot(dm0, hcore, potential)) * HARTREE
        return cls(mf, dm0, energy, np.asarray(mf.get_fock(hcore, mf.get_ovlp(), potential, dm0)))

    def forces(self) -> Array:
        """-dE/dR (eV/Angstrom), where the orbitals change only as much as they must to stay orthonormal."""
        if hasattr(self.mf, "cell") or self.fock.shape != self.dm0.shape or self.fock.shape[-1] != self.mf.mol.nao:
            found = "gives no forces of a density that has not converged"
            raise Refused(Kind.UNSUPPORTED, type(self.mf).__name__, found, "RHF, RKS, UHF or UKS of a molecule")
        gradients = self.mf.nuc_grad_method()
        gradients.verbose = 0
        return np.asarray(-gradients.kernel(*self.levels()) * HARTREE / BOHR)

    def levels(self) -> tuple[Array, Array, Array]:
        """Energies (Hartree), coefficients and occupations of the orbitals that solve the Fock matrix among the full, and among the empty ones."""
        S, most = self.mf.get_ovlp(), 2.0 if self.dm0.ndim == 2 else 1.0
        found = [self.solve(rho, F, S, most) for rho, F in zip(*map(by_spin, (self.dm0, self.fock)), strict=True)]
        energies, coefficients, occupations = (np.array(parts) for parts in zip(*found, strict=True))
        if self.dm0.ndim == 2:
            return energies[0], coefficients[0], occupations[0]
        return energies, coefficients, occupations

    @staticmethod
    def solve(rho: Array, F: Array, S: Array, most: float) -> tuple[Array, Array, Array]:
        f_n, c_Mn = natural_orbitals(rho, S)
        full_n = f_n > most / 2
        if np.abs(f_n - most * full_n).max() > WHOLE:
            raise Refused(Kind.UNSUPPORTED, "density", "has orbitals that are neither full nor empty, and so no forces")
        parts = []
        for occupation, chosen_n in ((most, full_n), (0.0, ~full_n)):
            c_Mm = c_Mn[:, chosen_n]
            e_m, u_mm = np.linalg.eigh(c_Mm.T @ F @ c_Mm)
            parts.append((e_m, c_Mm @ u_mm, np.full(len(e_m), occupation)))
        e_n, c_Mn, f_n = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return e_n, c_Mn, f_n


def judge(mf: Any, predict: Callable[[Question], Frame], properties: Sequence[str]) -> Judged:
    """What is predicted for the atoms of an SCF object, with the energy of its density, and forces if they are wanted."""
    frame = predict((*atoms_of(mf), *make_basis(mf.mol)))
    dm0, _, doubt = guess_density(mf, frame)
    if doubt:
        raise CalculationFailed(doubt)
    functional = Functional.of(mf, dm0)
    results: dict[str, Any] = {"energy": functional.energy}
    if "forces" in properties:
        results["forces"] = functional.forces()
    return Judged(frame, sampling_of_scf(mf, frame.spin).filling, mf.mol.atom_charges(), results)


def by_spin(matrix: Array) -> Array:
    return matrix.reshape(-1, *matrix.shape[-2:])
