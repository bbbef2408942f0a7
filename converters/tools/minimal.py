"""A few functions for each atom in place of all its orbitals: as many as its valence shells have, with the levels of H up to an energy.

At each k-point of a mesh the states below that energy are kept as they are. To them come those combinations of the others that
are nearest to the first function of each valence shell, until there are as many states as functions; the functions are then these, made orthogonal in
the space of the states (as Wannier90 does before it minimises anything).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from basis import Array
from basis.shells import Species
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics import kspace


@dataclass(frozen=True, eq=False)
class Minimal:
    """The species with their functions alone, the rows of these in the matrices of the frame, and the energy (eV) up to which levels are kept."""

    basis: tuple[Species, ...]
    rows_M: Array
    top: float

    @property
    def size(self) -> int:
        return len(self.rows_M)


def kept_shells(species: Species, polarisation: bool) -> list[int]:
    """The first function of each shell, with those that polarise or without."""
    first = [n for n, shell in enumerate(species.shells) if shell.zeta == 1]
    return [n for n in first if polarisation or not species.shells[n].polarisation]


def minimal_functions(frame: Frame, energies_skn: Array, window: float, polarisation: bool) -> Minimal:
    """The functions of a frame, for levels on a mesh up to `window` (eV) above the Fermi level, or as far as there are functions for."""
    basis, inside_s = [], []
    for species in frame.basis:
        kept = kept_shells(species, polarisation)
        sizes = [shell.size for shell in species.shells]
        starts = np.cumsum([0, *sizes])
        basis.append(replace(species, shells=tuple(species.shells[n] for n in kept)))
        inside_s.append(np.concatenate([np.arange(starts[n], starts[n + 1]) for n in kept]))
    start_a = frame.pairs.orbital_start_a
    rows_M = np.concatenate([start_a[a] + inside_s[s] for a, s in enumerate(frame.species_a.tolist())])
    if frame.spin is Spin.SPINOR:
        rows_M = np.concatenate([rows_M, frame.norb + rows_M])
    fermi = fermi_level(frame, energies_skn)
    beyond_sk = energies_skn[..., len(rows_M)] if len(rows_M) < energies_skn.shape[-1] else np.full(1, np.inf)
    top = min(fermi + window, float(beyond_sk.min()) - 1e-9)
    if top < fermi:
        found = f"has more occupied levels than the {len(rows_M)} functions of its valence shells"
        raise Refused(Kind.UNSUPPORTED, frame.place, found, "a format or a set with all orbitals")
    return Minimal(tuple(basis), rows_M, top)


def fermi_level(frame: Frame, energies_skn: Array) -> float:
    if frame.outcome.electrons is None:
        raise Refused(
            Kind.ELECTRONS, frame.place, "does not say how many electrons it has, so that no levels are occupied"
        )
    weights_k = np.full(energies_skn.shape[1], 1 / energies_skn.shape[1])
    filling = kspace.Filling(frame.outcome.electrons)
    return float(kspace.occupations(energies_skn, weights_k, filling, frame.spin)[1][0])


@dataclass(frozen=True, eq=False)
class States:
    """All levels (eV) and orbitals of one spin at one k-point, and the overlap there."""

    energy_n: Array
    c_Mn: Array
    S_MM: Array


def states_at(frame: Frame, kpoints_kc: Array) -> list[list[States]]:
    """The states of each spin at one k-point after the other."""
    return [
        [States(*linalg.eigh(H_MM, S_MM, check_finite=False), S_MM) for H_MM, S_MM in channels]
        for channels in kspace.hamiltonian_and_overlap(frame, kpoints_kc)
    ]


def projected(minimal: Minimal, states: States) -> Array:
    """H between the functions at one k-point."""
    e_n, c_Mn, S_MM = states.energy_n, states.c_Mn, states.S_MM
    on_n = c_Mn.conj().T @ S_MM[:, minimal.rows_M]
    kept_n = e_n < minimal.top
    count, size = int(kept_n.sum()), minimal.size
    states_nm = np.zeros((len(e_n), size), dtype=on_n.dtype)
    states_nm[np.flatnonzero(kept_n), np.arange(count)] = 1
    if count < size:
        rest = on_n[~kept_n]
        overlap = S_MM[np.ix_(minimal.rows_M, minimal.rows_M)]
        nearness, mixing = linalg.eigh(rest @ linalg.solve(overlap, rest.conj().T, assume_a="pos"), check_finite=False)
        states_nm[np.ix_(~kept_n, np.arange(count, size))] = mixing[:, len(nearness) - size + count :]
    left, _, right = linalg.svd(states_nm.conj().T @ on_n, check_finite=False)
    functions_nm = states_nm @ (left @ right)
    return np.asarray(functions_nm.conj().T @ (e_n[:, None] * functions_nm))
