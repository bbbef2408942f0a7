"""Benchmark of overlaps: tables and Gaussians, beside PySCF and beside writing the numbers down."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.integrate import trapezoid
from threadpoolctl import threadpool_limits

from basis import Array
from basis.radial import Functions, table_of_points
from basis.shells import Species, parse_shells
from basis.twocentre import TwoCentre
from basis.units import BOHR
from converters.frames.neighbours import Structure
from converters.physics.overlap import Overlap
from converters.pyscf.molecule import convention, gaussian_species

if TYPE_CHECKING:
    from ase import Atoms

# Atoms of the periodic structures, and of the molecule that PySCF does too.
SIZES, MOLECULE = (8, 216, 1000, 8000), 512
GAUSSIAN_BASIS = "def2-svp"
MOST_GRADIENTS = 44_000


def bench_overlap() -> list[dict[str, Any]]:
    """Silicon 2s2p1d with a cutoff of 7 Bohr, then silicon in a Gaussian basis; one thread, CPU seconds."""
    with threadpool_limits(1):
        return [*tables(SIZES), *gaussians(MOLECULE)]


def tables(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    species, functions = silicon()
    made = TwoCentre([species.shells], [functions])
    rows = [row("set-up of the tables", 1, 0, cpu_seconds(lambda: made.blocks(0, 0, np.zeros((1, 3)))), None)]
    for natoms in sizes:
        overlap = Overlap((species,), (functions,))
        structure = structure_of_atoms(rattled_silicon(natoms))
        overlap.values(structure, overlap.pairs(structure_of_atoms(rattled_silicon(8))))  # the tables
        pairs, seconds = timed(lambda: overlap.pairs(structure))  # noqa: B023 - called at once
        rows.append(row("pairs", natoms, len(pairs), seconds, None))
        values, seconds = timed(lambda: overlap.values(structure, pairs))  # noqa: B023
        copy = cpu_seconds(lambda: np.array(values))  # noqa: B023
        rows.append(row("S", natoms, len(pairs), seconds, copy))
    some = pairs.take(np.arange(min(len(pairs), MOST_GRADIENTS)))
    _, seconds = timed(lambda: overlap.gradients(structure, some))
    rows.append(row("dS/dR of some pairs", natoms, len(some), seconds, None))
    return rows


def gaussians(natoms: int) -> list[dict[str, Any]]:
    """A molecule of silicon, whole: our pairs, and PySCF's dense matrix."""
    from pyscf import gto, lib

    atoms = rattled_silicon(natoms)
    atoms.pbc = False
    known = gaussian_species(GAUSSIAN_BASIS, ["Si"])
    overlap = Overlap(tuple(known), tuple(known.values()))
    structure = structure_of_atoms(atoms)
    set_up = cpu_seconds(lambda: overlap.integrals.blocks(0, 0, np.zeros((1, 3))))
    pairs, seconds = timed(lambda: overlap.pairs(structure))
    values, more = timed(lambda: overlap.values(structure, pairs))
    with lib.with_omp_threads(1):
        molecule = gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis=GAUSSIAN_BASIS, verbose=0)
        matrix, theirs = timed(lambda: molecule.intor("int1e_ovlp"))
    off = largest_difference(values, pairs.row_column_x, matrix, known)
    return [
        row(f"{GAUSSIAN_BASIS}: set-up of the tables", 1, 0, set_up, None),
        row(
            f"{GAUSSIAN_BASIS}: pairs and S, beside PySCF ({off:.0e} apart)", natoms, len(pairs), seconds + more, theirs
        ),
    ]


def largest_difference(
    values_x: Array, places: tuple[Array, Array], matrix: Array, known: dict[Species, Functions]
) -> float:
    """Between our elements and those of PySCF's matrix of atoms of one species."""
    from basis.conventions import to_standard

    (species,) = known
    order, signs = to_standard(species.shells, convention)
    row_x, column_x = (at_x // species.size * species.size + order[at_x % species.size] for at_x in places)
    sign_x = np.prod([signs[at_x % species.size] for at_x in places], axis=0)
    return float(np.abs(values_x - matrix[row_x, column_x] * sign_x).max())


def silicon() -> tuple[Species, Functions]:
    """Functions like those of silicon 2s2p1d with a cutoff of 7 Bohr, on 700 points."""
    shells, cutoff = parse_shells("2s2p1d"), 7.0 * BOHR
    r = np.linspace(0, cutoff, 700)
    found = []
    for shell, exponent in zip(shells, (0.35, 0.9, 0.25, 0.7, 0.5), strict=True):
        values = r**shell.l * np.exp(-exponent * r**2) * np.cos(np.pi * r / cutoff / 2)
        values /= np.sqrt(trapezoid(values**2 * r**2, r))
        found.append(table_of_points(r, values, cutoff, 60.0 / BOHR, 0.0))
    return Species("Si", 14, shells, "bench"), tuple(found)


def rattled_silicon(natoms: int) -> "Atoms":
    from ase.build import bulk

    cells = max(1, round((natoms / 8) ** (1 / 3)))
    atoms = bulk("Si", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=0)
    return atoms


def structure_of_atoms(atoms: "Atoms") -> Structure:
    return Structure(
        np.array(atoms.cell), np.array(atoms.pbc), np.array(atoms.positions), np.zeros(len(atoms), dtype=int)
    )


def row(work: str, natoms: int, pairs: int, seconds: float, beside: float | None) -> dict[str, Any]:
    """`beside` is the peer's time, or that of copying the numbers."""
    return {
        "work": work,
        "atoms": natoms,
        "pairs": pairs,
        "CPU s": seconds,
        "ms per atom": seconds * 1e3 / natoms,
        "beside, s": "" if beside is None else beside,
        "ratio": "" if beside is None else seconds / beside,
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    return timed(work)[1]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start
