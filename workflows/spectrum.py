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
from converters.physics.sparse import Source, count_electrons, matrices_at
from converters.physics.spectral import Pencil, fermi_level, levels_near
from converters.storage.dataset import Dataset


@dataclass(frozen=True)
class Wanted:
    """What to find out of a frame; energies in eV, `dos` is (lowest, highest) and perhaps the number of points."""

    kpoint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    levels: int = 0
    near: float | None = None
    dos: tuple[float, ...] | None = None
    atoms: Sequence[int] = ()
    moments: int = 400
    vectors: int = 4
    matrices: Path | None = None


def describe_spectrum(path: Path, number: int, wanted: Wanted) -> dict[str, Any]:
    """Everything that was asked for, as plain values."""
    with Dataset(path) as data:
        source = Source.of_dataset(data, number)
        outline = source.outline
        found: dict[str, Any] = {"frame": f"{path} {number}", "formula": outline.formula, "orbitals": outline.norb}
        if {"DM", "S"} <= set(outline.operators) and not outline.folded:
            found["electrons"] = {
                "Tr(DM S)": float(count_electrons(source).sum()),
                "expected": outline.outcome.electrons,
            }
        if not (wanted.levels or wanted.dos or wanted.atoms or wanted.matrices):
            return found
        matrices = matrices_at(source, ("H", "S"), np.array(wanted.kpoint))
    H_s, S = matrices["H"], matrices["S"][0]
    found["elements"] = int(S.nnz)
    if wanted.matrices is not None:
        found["matrices"] = save_matrices(wanted.matrices, H_s, S)
    sizes_a = outline.pairs.norb_a
    if outline.spin is Spin.SPINOR:
        sizes_a = np.tile(sizes_a, 2)
    near = wanted.near if wanted.near is not None else outline.outcome.fermi
    if wanted.dos or wanted.atoms or (wanted.levels and near is None):
        pencils = [Pencil.of(H, S, sizes_a) for H in H_s]
        counted = [(pencil, pencil.total_moments(wanted.moments, wanted.vectors, seed=0)) for pencil in pencils]
        most = 2.0 if outline.spin is Spin.NONE else 1.0
        found["density of states"] = densities(counted, wanted, most)
        if outline.outcome.electrons is not None:
            found["fermi level"] = fermi_level([(p, m) for p, (m, _) in counted], outline.outcome.electrons, most)
            near = found["fermi level"] if near is None else near
        if wanted.atoms:
            energies_e = energies_of(wanted)
            places = orbitals_of(sizes_a, len(outline.species_a), wanted.atoms)
            found["atoms"] = {
                str(a): [
                    (most * p.density(p.atom_moments(where, wanted.moments), energies_e)).tolist() for p in pencils
                ]
                for a, where in zip(wanted.atoms, places, strict=True)
            }
    if wanted.levels:
        if near is None:
            raise Refused(
                Kind.NO_BANDS, path, "says neither a Fermi level nor how many electrons there are; give --near"
            )
        found["near (eV)"] = near
        found["levels"] = [levels_near(H, S, near, wanted.levels).tolist() for H in H_s]
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


def densities(counted: Sequence[tuple[Pencil, tuple[Array, Array]]], wanted: Wanted, most: float) -> dict[str, Any]:
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
