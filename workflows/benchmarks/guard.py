"""Benchmark of the guard: how well the distance of predicted H and DM, which needs no reference, foretells what a start is worth.

Clusters of water are rattled more and more, until they are unlike all that the model has learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflows.benchmarks.start_cases import CASES, GUARD, make_scf, water_cluster
from workflows.benchmarks.starts_of_cases import learn, start_structure

if TYPE_CHECKING:
    from ase import Atoms

    from slem_plugin.model import Model

# How far each coordinate is moved on top of the usual rattling (Angstrom), and structures of each.
RATTLES, EACH = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3), 5
# Ranges of the distance (electrons) that are rows of the table.
RANGES = ((0.0, 0.01), (0.01, 0.03), (0.03, 0.06), (0.06, 0.15), (0.15, np.inf))


@dataclass(frozen=True)
class Sample:
    """One structure: the distance of its predictions, and cycles and first gradients of each start over those of the default."""

    apart: float
    cycles: dict[str, float]
    gradients: dict[str, float]


def bench_guard(folder: Path, minutes: float) -> list[dict[str, Any]]:
    """Rows: what starts of structures within a range of distances saved, and the rank correlations over all."""
    from slem_plugin.checkpoint import load_model

    model = load_model(learn(GUARD, folder, minutes))
    samples = [measure(atoms, model) for atoms in structures()]
    rows: list[dict[str, Any]] = []
    for low, high in RANGES:
        inside = [sample for sample in samples if low <= sample.apart < high]
        if inside:
            rows.append({"H - DM, electrons": f"{low:g} to {high:g}", "structures": len(inside), **saved(inside)})
    return [*rows, correlations(samples)]


def structures() -> list["Atoms"]:
    made = []
    for rattle in RATTLES:
        for n in range(EACH):
            random = np.random.default_rng(500 + n)
            atoms = water_cluster(random, 1, 3)
            atoms.positions += random.normal(0, rattle, atoms.positions.shape)
            made.append(atoms)
    return made


def measure(atoms: "Atoms", model: "Model") -> Sample:
    from converters.frames.neighbours import Structure
    from converters.pyscf.dm0 import sampling_of_scf, structure_of
    from converters.starts.agreement import measure_agreement
    from slem_plugin.prediction import predict

    mf = make_scf(CASES[GUARD], atoms, verbose=0)
    frame = predict(model, Structure(*structure_of(mf, model.blueprint.basis)))
    found = measure_agreement(frame, sampling_of_scf(mf, frame.spin))
    default, *others = start_structure(CASES[GUARD], atoms, model, ("default", "dm", "h"))
    return Sample(
        np.inf if found is None else found.apart,
        {start.start: start.cycles / default.cycles for start in others},
        {start.start: start.first_gradient / default.first_gradient for start in others},
    )


def saved(samples: Sequence[Sample]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for start in ("dm", "h"):
        ratios = [sample.cycles[start] for sample in samples]
        row[f"{start}: cycles saved"] = f"{1 - np.mean(ratios):.0%}"
        row[f"{start}: worst"] = f"{1 - max(ratios):.0%}"
        row[f"{start}: first gradient / default"] = float(np.median([sample.gradients[start] for sample in samples]))
    return row


def correlations(samples: Sequence[Sample]) -> dict[str, Any]:
    """Spearman's rank correlations of the distance with what each start is worth."""
    from scipy.stats import spearmanr

    apart = [sample.apart for sample in samples]
    row: dict[str, Any] = {"rank correlation of H - DM over": f"{len(samples)} structures"}
    for start in ("dm", "h"):
        row[f"{start}: first gradient"] = float(spearmanr(apart, [s.gradients[start] for s in samples]).statistic)
        row[f"{start}: cycles"] = float(spearmanr(apart, [s.cycles[start] for s in samples]).statistic)
    return row
