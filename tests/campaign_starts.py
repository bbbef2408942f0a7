"""How near the starts are that are made of earlier runs: python -m tests.campaign_starts data.h5

The last four frames of a dataset of one kind of atoms are left out, and their densities made from more and more of the
others. What is missed is the norm of the difference in the metric of S, for each root of an electron.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from converters.frames.folding import with_images_as_one
from converters.frames.frame import Frame, operator_on
from converters.physics import kspace
from converters.starts.agreement import overlapping_elements
from converters.starts.density import operator_on_mesh, scale_density
from converters.starts.earlier import MANY, combined_frame
from converters.starts.fit import sampling_of
from converters.starts.response import Response
from converters.starts.whole import with_all_elements
from converters.storage.dataset import Dataset

LEFT_OUT, COUNTS = 4, (1, 2, 4, 8, 14, 20, 40, 100)
COMBINED = (8, 24, MANY)


def missed(made: Frame, true: Frame) -> float:
    """How far the density of a frame is from the true one, where orbitals overlap."""
    sampling = sampling_of(true, None, None).with_partners()
    on_true = replace(true, operators={"S": true["S"], "DM": operator_on(made, "DM", true.pairs)})
    scaled = scale_density(on_true, sampling.filling)["DM"].values_sx
    apart_sx = np.where(overlapping_elements(true), scaled - true["DM"].values_sx, 0)
    apart = replace(true, operators={"S": true["S"], "DM": replace(true["DM"], values_sx=apart_sx)})
    S = kspace.dense_at_each(apart, "S", sampling.kpoints_kc)
    D = operator_on_mesh(apart, "DM", sampling.kpoints_kc)
    total = 0.0
    for (overlap, *_), parts, weight in zip(S, D, sampling.weights_k, strict=True):
        lower = np.linalg.cholesky(overlap)
        total += weight * sum(float(np.linalg.norm(lower.conj().T @ part @ lower) ** 2) for part in parts)
    return (total / sampling.filling.electrons) ** 0.5


def measure(frames: Sequence[Frame]) -> list[dict[str, float | int | str]]:
    """A row for each number of earlier runs."""
    known, unknown = frames[:-LEFT_OUT], frames[-LEFT_OUT:]
    rows, response = [], Response.of(known[0])
    unturned = (
        None
        if response is None
        else Response(known[0], response.repeats.with_turns(np.zeros(len(response.repeats.turn_qcc), dtype=bool)))
    )
    for count in [n for n in COUNTS if n <= len(known)]:
        there = known[:count]
        row: dict[str, float | int | str] = {"earlier runs": count}
        nearest = [min(there, key=lambda one: np.linalg.norm(one.positions_av - new.positions_av)) for new in unknown]
        row["the nearest"] = mean([missed(old, new) for old, new in zip(nearest, unknown, strict=True)])
        for most in COMBINED:
            made = [combined_frame(there, new.cell_cv, new.positions_av, 1, most) for new in unknown]
            row[f"{most} combined"] = mean([missed(one, new) for one, new in zip(made, unknown, strict=True) if one])
        for name, answer in (("answer, translations alone", unturned), ("answer, turns too", response)):
            if answer is not None:
                for frame in there[answer.count :]:
                    answer.add(frame)
                made = [answer.frame_at(new.cell_cv, new.numbers_a, new.positions_av) for new in unknown]
                row[name] = mean([missed(one, new) for one, new in zip(made, unknown, strict=True) if one])
        rows.append(row)
    return rows


def mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    with Dataset(Path(sys.argv[1])) as data:
        frames = [with_images_as_one(with_all_elements(data[n])) for n in range(len(data))]
    for row in measure(frames):
        print(row)
