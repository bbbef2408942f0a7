"""Benchmarks: what this program costs on this machine, beside a floor measured in the same run."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from basis import Array
from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, make_pairs
from converters.frames.frame import Frame, Provenance
from converters.runs import code_module
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from workflows.convert import Options, convert, find
from workflows.processes.engines import choose_engine


def bench_dataset(frames: int, folder: Path | None) -> list[dict[str, Any]]:
    """Writing and reading a file of small frames, of the size of water in def2-SVP."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return list(measure_dataset(frames, Path(scratch)))


def measure_dataset(frames: int, scratch: Path) -> list[dict[str, Any]]:
    frame = water_like_frame()
    few = min(frames, 1000)
    rows = []
    raw = cpu_seconds(lambda: write_raw(frame, few, scratch / "raw.h5")) / few
    rows.append(row("write, raw arrays with h5py", raw, raw))
    for commit_every in (1, 100):
        path = scratch / f"commit{commit_every}.h5"
        count = frames if commit_every > 1 else few
        spent = cpu_seconds(lambda: write_frames(frame, count, path, commit_every)) / count  # noqa: B023 - called at once
        rows.append(row(f"write, commit every {commit_every}", spent, raw))
    path = scratch / "commit100.h5"
    first = median_read(path, np.zeros(100, dtype=int))
    rows.append(row("read frame 0, file just opened", first, first))
    places = np.random.default_rng(0).integers(0, frames, 100)
    rows.append(row(f"read a random one of {frames} frames, file just opened", median_read(path, places), first))
    return rows


def bench_convert(paths: list[Path], codes: list[str], folder: Path | None) -> list[dict[str, Any]]:
    """Reading and converting the runs below some paths; the floor is reading the bytes of their files."""
    runs = [run for run in find(paths, codes) if isinstance(run, Run)]
    if not runs:
        raise Refused(Kind.NO_RUN, paths[0], "holds no run to measure")
    rows = []
    for code in sorted({run.code for run in runs}):
        mine = [run for run in runs if run.code == code]
        list(code_module(code).read_run(mine[0]))  # imports and caches
        spent = [cpu_seconds(lambda: list(code_module(code).read_run(run))) for run in mine]  # noqa: B023 - called at once
        floor = [cpu_seconds(lambda: [path.read_bytes() for path in run.matrices]) for run in mine]  # noqa: B023
        size = np.mean([sum(path.stat().st_size for path in run.matrices) for run in mine])
        rows.append(row(f"{code}: read a run of {size / 1e6:.1f} MB", float(np.median(spent)), float(np.median(floor))))
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            whole = [wall_of_conversion(mine, Path(scratch) / f"{jobs}.h5", jobs) for jobs in (1, 2)]
        rows.append(row(f"{code}: convert {len(mine)} runs with checks, wall, -j 1", whole[0], whole[0]))
        rows.append(row(f"{code}: convert {len(mine)} runs with checks, wall, -j 2", whole[1], whole[0]))
    return rows


def wall_of_conversion(runs: list[Run], output: Path, jobs: int) -> float:
    start = time.perf_counter()
    with choose_engine(jobs, None, "fork") as engine:
        convert(list(runs), output, Options(), engine, lambda _: None)
    return time.perf_counter() - start


def row(work: str, seconds: float, floor: float) -> dict[str, Any]:
    return {"work": work, "ms": seconds * 1e3, "floor_ms": floor * 1e3, "ratio": seconds / floor}


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def median_read(path: Path, places: Array) -> float:
    """Median CPU time of reading one frame, with nothing of the file in HDF5's caches."""
    spent = []
    for n in places.tolist():
        with Dataset(path) as data:
            spent.append(cpu_seconds(lambda: data[n]))  # noqa: B023 - called at once
    return float(np.median(spent))


def water_like_frame() -> Frame:
    """A frame of the size of water in def2-SVP, filled with random numbers."""
    basis = (Species("O", 8, parse_shells("3s2p1d")), Species("H", 1, parse_shells("2s1p")))
    species_a = np.array([0, 1, 1])
    norb_a = np.array([basis[s].size for s in species_a])
    i_p, j_p = np.triu_indices(3)
    pairs = make_pairs(i_p, j_p, np.zeros((len(i_p), 3), dtype=int), norb_a)
    random = np.random.default_rng(0)
    operators = {name: Operator(random.normal(size=(1, pairs.elements))) for name in ("H", "S", "DM")}
    positions_av = random.normal(size=(3, 3))
    provenance = Provenance("bench", path="memory")
    pbc_c = np.zeros(3, dtype=bool)
    return Frame(
        np.zeros((3, 3)), pbc_c, positions_av, species_a, basis, pairs, Spin.NONE, operators, provenance=provenance
    )


def write_frames(frame: Frame, count: int, path: Path, commit_every: int) -> None:
    with DatasetWriter(path, commit_every=commit_every) as writer:
        for _ in range(count):
            writer.append(frame)


def write_raw(frame: Frame, count: int, path: Path) -> None:
    """The floor: the same arrays with plain h5py, one group for each frame, not compressed."""
    pairs = np.column_stack([frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc]).astype(np.int32)
    with h5py.File(path, "w") as file:
        for n in range(count):
            group = file.create_group(str(n))
            group["positions"], group["cell"] = frame.positions_av, frame.cell_cv
            group["species"], group["pairs"] = frame.species_a.astype(np.int32), pairs
            for name, operator in frame.operators.items():
                group[name] = operator.values_sx
