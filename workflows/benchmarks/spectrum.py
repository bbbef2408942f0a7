"""Benchmarks of spectra: levels of predicted frames by each direct solver that is installed, beside SciPy's SuperLU; moments of their densities of states."""

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from converters.physics.factors import engines
from workflows.benchmarks.scale import alone

LEVELS, MOMENTS = 8, 40


def bench_spectrum(paths: list[Path], parts: list[str]) -> list[dict[str, Any]]:
    """All measurements, or some of them: "levels", "densities"."""
    rows: list[dict[str, Any]] = []
    if not parts or "levels" in parts:
        rows += bench_levels(paths)
    if not parts or "densities" in parts:
        rows += [alone(measure_density, path) for path in paths]
    return rows


def measure_density(path: Path) -> dict[str, Any]:
    """CPU time of each step to a density of states with one random vector and the local inverse of S."""
    from converters.physics.sparse import Source, matrices_at
    from converters.physics.spectral import Pencil
    from converters.storage.dataset import Dataset

    clock = [time.process_time()]
    with Dataset(path) as data:
        source = Source.of_dataset(data, 0)
        outline = source.outline
        H, S = (parts[0] for parts in matrices_at(source, ("H", "S"), np.zeros(3)).values())
    clock.append(time.process_time())
    pencil = Pencil.of(H, S, outline.pairs.norb_a, largest_factor=0)
    clock.append(time.process_time())
    pencil.total_moments(MOMENTS, 1, seed=0)
    clock.append(time.process_time())
    read, prepared, counted = np.diff(clock)
    return {
        "work": f"{MOMENTS} moments of {outline.formula}, {outline.norb} orbitals",
        "matrices, CPU s": round(read, 2),
        "S^-1 and ends, CPU s": round(prepared, 2),
        "moments, CPU s": round(counted, 2),
        "ms per atom and moment": round(1e3 * counted / MOMENTS / outline.natoms, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def bench_levels(paths: list[Path]) -> list[dict[str, Any]]:
    """CPU time and memory of eight levels of the first frame of each file, each solver in a process of its own with one thread."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        mine = {name: alone(measure_levels, path, name) for name in reversed(engines())}
        floor = mine["superlu"]
        rows += [row_of(name, found, floor) for name, found in mine.items()]
    return rows


def row_of(name: str, found: dict[str, Any], floor: dict[str, Any]) -> dict[str, Any]:
    return {
        "work": f"{LEVELS} levels of {found['formula']}, {found['orbitals']} orbitals",
        "solver": name,
        "cpu_seconds": round(found["cpu"], 2),
        "one count, CPU s": round(found["count"], 2) if found["count"] else "none",
        "peak_mib": round(found["peak_mib"]),
        "ratio": round(floor["cpu"] / found["cpu"], 2),
        "apart (eV)": float(np.abs(np.array(found["levels"]) - floor["levels"]).max()),
    }


def measure_levels(path: Path, solver: str) -> dict[str, Any]:
    """Levels about the middle of the atoms' own: with reading, assembly and factors; then one count beside them."""
    from converters.physics.levels import Levels, atomic_fermi
    from converters.physics.sparse import Source, matrices_at
    from converters.storage.dataset import Dataset

    start = time.process_time()
    with Dataset(path) as data:
        source = Source.of_dataset(data, 0)
        outline = source.outline
        H, S = (parts[0] for parts in matrices_at(source, ("H", "S"), np.zeros(3)).values())
    sizes_a = outline.pairs.norb_a
    middle = atomic_fermi(H, S, sizes_a, (outline.outcome.electrons or outline.norb) / 2)
    levels = Levels(H, S, solver, largest_dense=0)  # SuperLU itself is measured
    found = levels.near(middle, LEVELS)
    spent = time.process_time() - start
    if levels.counts:
        levels.below(middle + 0.1)
    return {
        "formula": outline.formula,
        "orbitals": outline.norb,
        "cpu": spent,
        "count": time.process_time() - start - spent if levels.counts else None,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "levels": found.tolist(),
    }
