"""Spectra of large frames from the command line: sparse matrices, electrons, levels near an energy, densities of states."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.levels import Gap, Levels, atomic_fermi, find_gap
from converters.physics.sparse import Source, count_electrons, matrices_at
from converters.physics.spectral import Pencil, fermi_level
from converters.storage.dataset import Dataset
from workflows.pictures.local_states import require_ending, save_shares, shares_of_atoms

# The moments of all states of one spin, with their errors.
Counted = tuple[Pencil, tuple[Array, Array]]
# The Fermi level has a name for each of the ways in which it is found: of the random moments of all states, or of the levels next to it.
BY_MOMENTS, BY_COUNTS = "fermi level by moments (eV)", "fermi level by counts (eV)"


@dataclass(frozen=True)
class Wanted:
    """What to find out of a frame; energies in eV, `dos` is (lowest, highest) and perhaps the number of points.

    Of `count` only the number of levels is wanted, of `window` all of them.
    """

    kpoint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    levels: int = 0
    near: float | None = None
    gap: bool = False
    count: tuple[float, ...] | None = None
    window: tuple[float, ...] | None = None
    solver: str = "auto"
    dos: tuple[float, ...] | None = None
    atoms: Sequence[int] = ()
    moments: int = 400
    vectors: int = 4
    matrices: Path | None = None
    map: Path | None = None

    @property
    def nothing(self) -> bool:
        return not (self.by_solver or self.dos or self.atoms or self.matrices)

    @property
    def by_solver(self) -> bool:
        """Whether a direct solver is needed."""
        return bool(self.levels or self.gap or self.count or self.window)


def describe_spectrum(path: Path, number: int, wanted: Wanted) -> dict[str, Any]:
    """Everything that was asked for, as plain values."""
    if wanted.map is not None:
        require_ending(wanted.map)
    with Dataset(path) as data:
        source = Source.of_dataset(data, number)
        outline = source.outline
        found: dict[str, Any] = {"frame": f"{path} {number}", "formula": outline.formula, "orbitals": outline.norb}
        if {"DM", "S"} <= set(outline.operators) and not outline.folded:
            found["electrons"] = {
                "Tr(DM S)": float(count_electrons(source).sum()),
                "expected": outline.outcome.electrons,
            }
        if wanted.nothing:
            return found
        matrices = matrices_at(source, ("H", "S"), np.array(wanted.kpoint))
    H_s, S = matrices["H"], matrices["S"][0]
    found["elements"] = int(S.nnz)
    if wanted.matrices is not None:
        found["matrices"] = save_matrices(wanted.matrices, H_s, S)
    sizes_a = outline.pairs.norb_a
    if outline.spin is Spin.SPINOR:
        sizes_a = np.tile(sizes_a, 2)
    system = System(path, outline, H_s, S, sizes_a)
    spins = [Levels(H, S, wanted.solver) for H in H_s] if wanted.by_solver else []
    near = wanted.near if wanted.near is not None else outline.outcome.fermi
    by_moments = bool(wanted.levels) and near is None and not wanted.gap and not spins[0].counts
    if by_moments:
        system.require_electrons()
    if by_moments or wanted.dos or wanted.atoms:
        found |= describe_moments(system, wanted)
        near = found[BY_MOMENTS] if by_moments else near
    if spins:
        found["solver"] = spins[0].name
        if wanted.gap or (wanted.levels and near is None):
            gap = system.find_gap(spins, near)
            found |= gap_facts(gap)
            near = gap.fermi if near is None else near
        found |= describe_levels(system, spins, wanted, near)
    return found


@dataclass(frozen=True, eq=False)
class System:
    """H of each spin and S at one k-point, with the outline of their frame; of a spinor matrix the atoms count twice."""

    path: Path
    outline: Frame
    H_s: Sequence[sparse.csr_array]
    S: sparse.csr_array
    sizes_a: Array

    @property
    def most(self) -> float:
        """Electrons in a level."""
        return 2.0 if self.outline.spin is Spin.NONE else 1.0

    def require_electrons(self) -> float:
        electrons = self.outline.outcome.electrons
        if electrons is None:
            words = (
                "does not say how many electrons there are, so that no gap is known and levels need an energy (--near)"
            )
            raise Refused(Kind.ELECTRONS, self.path, words)
        return electrons

    def find_gap(self, spins: Sequence[Levels], near: float | None) -> Gap:
        electrons = self.require_electrons()
        if near is None:
            near = atomic_fermi(self.H_s[0], self.S, self.sizes_a, electrons / self.most / len(self.H_s))
        return find_gap(spins, electrons, self.most, near)

    def count_states(self, wanted: Wanted) -> list[Counted]:
        """The moments of all states of each spin."""
        pencils = [Pencil.of(H, self.S, self.sizes_a) for H in self.H_s]
        return [(pencil, pencil.total_moments(wanted.moments, wanted.vectors, seed=0)) for pencil in pencils]

    def fermi_by_moments(self, counted: Sequence[Counted]) -> dict[str, float]:
        """Where the moments fill the states, if it is known how many electrons there are."""
        electrons = self.outline.outcome.electrons
        moments = [(pencil, moments_n) for pencil, (moments_n, _) in counted]
        return {} if electrons is None else {BY_MOMENTS: fermi_level(moments, electrons, self.most)}


def gap_facts(gap: Gap) -> dict[str, Any]:
    return {
        BY_COUNTS: gap.fermi,
        "highest occupied (eV)": gap.homo,
        "lowest empty (eV)": gap.lumo,
        "gap (eV)": gap.width,
        "levels below": gap.occupied,
        "counts": gap.counts,
    }


def describe_levels(system: System, spins: Sequence[Levels], wanted: Wanted, near: float | None) -> dict[str, Any]:
    """Counts and levels by the direct solver, one list for each spin."""
    found: dict[str, Any] = {}
    if wanted.count:
        low, high = wanted.count[0], wanted.count[1]
        found["levels in the window"] = [levels.below(high) - levels.below(low) for levels in spins]
    if wanted.window:
        found["window"] = [levels.within(wanted.window[0], wanted.window[1]).tolist() for levels in spins]
    if wanted.levels and near is not None:
        found["near (eV)"] = near
        if wanted.map is None:
            found["levels"] = [levels.near(near, wanted.levels).tolist() for levels in spins]
        else:
            found |= map_levels(system, spins, wanted.levels, near, wanted.map)
    return found


def map_levels(system: System, spins: Sequence[Levels], count: int, near: float, path: Path) -> dict[str, Any]:
    """The levels next to an energy, with a picture of the atoms that have them."""
    natoms = system.outline.natoms
    states = [levels.states_near(near, count) for levels in spins]
    shares_na = np.concatenate([shares_of_atoms(system.S, c_Mn, system.sizes_a, natoms) for _, c_Mn in states])
    save_shares(path, system.outline, [level for e_n, _ in states for level in e_n], shares_na)
    return {"levels": [e_n.tolist() for e_n, _ in states], "map": str(path)}


def describe_moments(system: System, wanted: Wanted) -> dict[str, Any]:
    """The Fermi level that the moments say, and where they are wanted densities of states, of all orbitals and of the atoms that were named."""
    counted = system.count_states(wanted)
    found: dict[str, Any] = system.fermi_by_moments(counted)
    if not (wanted.dos or wanted.atoms):
        return found
    pencils, sizes_a, most, natoms = [p for p, _ in counted], system.sizes_a, system.most, system.outline.natoms
    found["density of states"] = densities(counted, wanted, most)
    found["error of S^-1"] = max(pencil.error for pencil in pencils)
    if wanted.atoms:
        energies_e = energies_of(wanted)
        places = orbitals_of(sizes_a, natoms, wanted.atoms)
        found["atoms"] = {
            str(a): [(most * p.density(p.atom_moments(where, wanted.moments), energies_e)).tolist() for p in pencils]
            for a, where in zip(wanted.atoms, places, strict=True)
        }
    return found


def energies_of(wanted: Wanted) -> Array:
    low, high, count = (*(wanted.dos or (-20.0, 20.0)), 401)[:3]
    return np.linspace(low, high, int(count))


def orbitals_of(sizes_a: Array, natoms: int, atoms: Sequence[int]) -> list[Array]:
    """The orbitals of some atoms; of both spins where `sizes_a` names all atoms twice, as in a spinor matrix."""
    if any(not 0 <= a < natoms for a in atoms):
        raise Refused(Kind.NO_SUCH_CHOICE, "--atoms", f"are {list(atoms)}; the frame has atoms 0 to {natoms - 1}")
    atom_M = np.repeat(np.arange(len(sizes_a)) % natoms, sizes_a)
    return [np.flatnonzero(atom_M == a) for a in atoms]


def densities(counted: Sequence[Counted], wanted: Wanted, most: float) -> dict[str, Any]:
    """The densities of states of each spin (states per eV), and how sharp and how sure they are."""
    energies_e = energies_of(wanted)
    orbitals = counted[0][0].S.shape[0]
    return {
        "energies": energies_e.tolist(),
        "states per eV": [(most * p.density(m, energies_e)).tolist() for p, (m, _) in counted],
        "resolution (eV)": max(p.resolution(wanted.moments) for p, _ in counted),
        "statistical error of a moment": float(max(np.nanmax(error) for _, (_, error) in counted) / orbitals)
        if wanted.vectors > 1
        else None,
    }


def save_matrices(folder: Path, H_s: Sequence[sparse.csr_array], S: sparse.csr_array) -> list[str]:
    """H.npz (one for each spin) and S.npz, for scipy.sparse.load_npz."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["H"] if len(H_s) == 1 else ["H_up", "H_down"]
    files = [folder / f"{name}.npz" for name in (*names, "S")]
    for file, matrix in zip(files, (*H_s, S), strict=True):
        sparse.save_npz(file, matrix, compressed=False)
    return [str(file) for file in files]
