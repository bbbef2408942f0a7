"""Benchmarks of size: prediction in pieces, workers, ranks, lazy data and conversion over a cluster.

Every work is beside what bounds it on this machine: one process, or two processes that know nothing of each other.
"""

import multiprocessing
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from workflows.benchmarks.model import CASES, HIDDEN, HIGHER, Case, made_frame, made_model, resident

SIZES = {1000: (5, 5, 5), 5184: (9, 9, 8), 20384: (14, 14, 13), 101568: (24, 23, 23)}
# The largest structure that several workers share, and the room (bytes an atom) that a prediction takes on the disk.
SHARED, ROOM = 20384, 220_000
CASE = Case("Si 2s2p1d", "Si64", ("2s2p1d",), HIDDEN + HIGHER[0], ("H", "S", "DM"))
MEMORY = 4e9
STEPS, BATCH = 24, 4
RUNS = 200


def bench_scale(paths: list[Path], folder: Path | None, parts: list[str]) -> list[dict[str, Any]]:
    """All measurements, or some of them: "pieces", "workers", "ranks", "data", "convert"."""
    known: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
        "pieces": bench_pieces,
        "workers": bench_workers,
        "ranks": bench_ranks,
        "data": bench_data,
        "convert": lambda scratch: bench_cluster(paths, scratch),
    }
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return [row for part in parts or known for row in known[part](Path(scratch))]


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a fresh process with one thread."""
    return at_once(function, [arguments])[0]


def at_once(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """What a function gives for each call, all at once in fresh processes with one thread, which may start others."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(calls), context, one_thread) as pool:
        return [future.result() for future in [pool.submit(function, *arguments) for arguments in calls]]


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def save_example(folder: Path) -> Path:
    """A checkpoint of a silicon model with many neighbours, whose untrained network says something."""
    from slem_plugin.checkpoint import save_checkpoint
    from slem_plugin.network.network import randomise_silent
    from workflows.benchmarks.model import system

    path = folder / "model.safetensors"
    if not path.exists():
        model = made_model(CASE, system(CASE)[1])
        randomise_silent(model.network, 0.1)
        save_checkpoint(path, model)
    return path


def write_silicon(folder: Path, natoms: int) -> Path:
    from ase.build import bulk
    from ase.io import write

    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(SIZES[natoms])
    atoms.rattle(0.05, seed=0)
    write(folder / f"{natoms}.xyz", atoms)
    return folder / f"{natoms}.xyz"


def predict(
    model: Path, structure: Path, output: Path, pieces: int | None, workers: int, double: bool = False
) -> dict[str, float]:
    """Predict one structure; wall and CPU time, and the largest memory of any process, each from an opened model on."""
    from workflows.predict import Cutting, predict_files
    from workflows.processes.engines import choose_engine

    with choose_engine(workers, None, "spawn") as engine:
        list(engine.run(open_model, [model] * workers))  # the processes are there and have imported torch
        start, spent = time.perf_counter(), cpu_of_all()
        list(predict_files(model, [structure], output, double=double, cutting=Cutting(pieces, MEMORY), engine=engine))
        wall = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children.ru_maxrss) / 1024
    return {"wall_s": wall, "cpu_s": cpu_of_all() - spent, "peak_mib": peak}


def open_model(model: Path) -> None:
    from slem_plugin.checkpoint import load_model

    load_model(model)


def cpu_of_all() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def bench_pieces(folder: Path) -> list[dict[str, Any]]:
    """Time for each atom and memory over the size of a structure."""
    from converters.storage.dataset import Dataset

    model = save_example(folder)
    rows: list[dict[str, Any]] = []
    for natoms in SIZES:
        if natoms * ROOM > shutil.disk_usage(folder).free:
            rows.append({"work": f"{natoms} atoms: not measured, they need {natoms * ROOM / 1e9:.0f} GB of disk"})
            continue
        structure = write_silicon(folder, natoms)
        found = {}
        for pieces in (1, None) if natoms == min(SIZES) else (None,):
            output = folder / f"{natoms}-{pieces}.h5"
            found[pieces] = alone(predict, model, structure, output, pieces, 1)
            with Dataset(output) as data:
                pairs = sum(len(part) for part, _ in data.stretches(0, (), 4_000_000))
            rows.append(piece_row(f"{natoms} atoms, {pieces or 'auto'} pieces", natoms, found[pieces], output, pairs))
        if len(found) == 2:
            doubles = [folder / f"double{pieces}.h5" for pieces in (1, 3)]
            for pieces, output in zip((1, 3), doubles, strict=True):
                alone(predict, model, structure, output, pieces, 1, True)
            rows[-1]["1 and 3 pieces, double"] = largest_difference(*doubles)
        for output in folder.glob("*.h5"):
            output.unlink()
    return rows


def piece_row(name: str, natoms: int, found: dict[str, float], output: Path, pairs: int) -> dict[str, Any]:
    return {
        "work": name,
        "wall_s": found["wall_s"],
        "ms_per_atom": found["wall_s"] / natoms * 1e3,
        "cpu_ms_per_atom": found["cpu_s"] / natoms * 1e3,
        "peak_mib": found["peak_mib"],
        "kb_per_atom": output.stat().st_size / natoms / 1e3,
        "pairs_per_atom": pairs / natoms,
        "1 and 3 pieces, double": "",
    }


def largest_difference(one: Path, other: Path) -> float:
    from converters.storage.dataset import Dataset

    with Dataset(one) as a, Dataset(other) as b:
        names = tuple(a.outline(0).operators)
        both = zip(a.stretches(0, names, 2_000_000), b.stretches(0, names, 2_000_000), strict=True)
        return max(float(np.abs(x[name] - y[name]).max()) for (_, x), (_, y) in both for name in names)


def bench_workers(folder: Path) -> list[dict[str, Any]]:
    """Two workers against one, beside two predictions at once that know nothing of each other."""
    natoms = max(size for size in SIZES if size <= SHARED)
    model, structure = save_example(folder), write_silicon(folder, natoms)
    rows: list[dict[str, Any]] = []
    for workers in (1, 2):
        found = alone(predict, model, structure, folder / f"w{workers}.h5", 16, workers)
        rows.append(ratio_row(f"{natoms} atoms, 16 pieces, {workers} workers", found["wall_s"], rows))
        (folder / f"w{workers}.h5").unlink()
    each = [(model, structure, folder / f"b{n}.h5", 16, 1) for n in range(2)]
    wall = max(found["wall_s"] for found in at_once(predict, each))
    rows.append(ratio_row("two such predictions at once, for each", wall / 2, rows))
    for n in range(2):
        (folder / f"b{n}.h5").unlink()
    return rows


def ratio_row(name: str, seconds: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    first = rows[0]["wall_s"] if rows else seconds
    return {"work": name, "wall_s": seconds, "times as fast": first / seconds}


def bench_ranks(folder: Path) -> list[dict[str, Any]]:
    """Steps of two ranks against those of one with the same batch, beside two trainings that know nothing of each other."""
    rows: list[dict[str, Any]] = []
    for natoms in (8, 64):
        mine: list[dict[str, Any]] = []
        for ranks, name in (
            (1, "1 process"),
            (2, "2 ranks"),
            (0, "two trainings at once with half the batch, the slower one"),
        ):
            seconds = max(train_steps(natoms, ranks))
            mine.append(ratio_row(f"Si{natoms}, {BATCH} frames a step, {name}, one step", seconds, mine))
        rows += mine
    return rows


def train_steps(natoms: int, ranks: int) -> list[float]:
    """Seconds of a step in each process; 0 ranks are two processes that know nothing of each other."""
    if ranks == 1:
        return [float(alone(time_steps, natoms, BATCH))]
    if ranks == 0:
        return at_once(time_steps, [(natoms, BATCH // 2)] * 2)
    runner = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "workflows.benchmarks.scale"]
    done = subprocess.run(
        [sys.executable, "-m", *runner, str(natoms), str(BATCH // ranks)], capture_output=True, text=True, check=True
    )
    return [float(line) for line in done.stdout.split()]


def time_steps(natoms: int, batch: int) -> float:
    """Seconds of a training step of so many silicon frames by this rank, all ranks together; the median."""
    from slem_plugin.config import Config
    from slem_plugin.learning.learner import Learner, scales_of
    from slem_plugin.learning.samples import join_lessons, make_lesson
    from slem_plugin.ranks import find_ranks
    from workflows.benchmarks.model import system

    one_thread()
    structure, basis = system(CASES[1])
    model = made_model(CASE, basis)
    if natoms == 8:
        structure = type(structure)(
            structure.cell_cv / 2, structure.pbc_c, structure.positions_av[:8], structure.species_a[:8]
        )
    frame = made_frame(structure, basis, model.graph(structure)[0], CASE.operators)
    lesson = make_lesson(frame, model)
    ranks = find_ranks()
    learner, scales = Learner.start(model, Config(), ranks), scales_of([lesson])
    spent = []
    for _ in range(STEPS):
        start = time.perf_counter()
        learner.step(join_lessons([lesson] * batch), scales, Config())
        spent.append(time.perf_counter() - start)
    ranks.close()
    return float(np.median(spent[3:]))


def bench_data(folder: Path) -> list[dict[str, Any]]:
    """How long steps wait for their data where none of it is kept in memory."""
    return [alone(wait_for_data, folder, workers) for workers in (0, 1)]


def wait_for_data(folder: Path, workers: int) -> dict[str, Any]:
    """A training on silicon frames of which none is kept."""
    from itertools import count

    from converters.storage.dataset import Dataset
    from converters.storage.writer import DatasetWriter
    from slem_plugin.config import Config
    from slem_plugin.learning.learner import Learner, scales_of
    from slem_plugin.learning.lessons import Lessons
    from slem_plugin.learning.loop import batch_order
    from slem_plugin.learning.samples import join_lessons
    from workflows.benchmarks.model import system
    from workflows.train import Frames

    structure, basis = system(CASES[1])
    model = made_model(CASE, basis)
    small = type(structure)(structure.cell_cv / 2, structure.pbc_c, structure.positions_av[:8], structure.species_a[:8])
    path = folder / f"data{workers}.h5"
    with DatasetWriter(path) as writer:
        for _ in range(16):
            writer.append(made_frame(small, basis, model.graph(small)[0], CASE.operators))
    with Dataset(path) as data, Lessons(Frames(data, range(16)), ["x"] * 16, model, 0.0, workers) as lessons:
        learner, scales = Learner.start(model, Config()), scales_of([lessons[0]])
        order = (batch_order(step, 1, 16, 0) for step in count())
        begun, before = 0.0, 0.0
        for step, mine in enumerate(lessons.stream(order)):
            if step == 10:  # the other process has started
                begun, before = time.perf_counter(), lessons.waited
            learner.step(join_lessons(mine), scales, Config())
            if step == 110:
                break
        wall = time.perf_counter() - begun
        waited = lessons.waited - before
        return {
            "work": f"Si8, nothing kept, {workers} processes prepare",
            "ms_per_step": wall / 101 * 1e3,
            "waiting": waited / wall,
            "peak_mib": resident(),
        }


def bench_cluster(paths: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Conversion of many folders over a local dask cluster of two against two processes of our own."""
    from converters.codes.known import KNOWN
    from workflows.convert import Options, convert, find
    from workflows.processes.engines import choose_engine

    items = find(paths or [make_runs(folder / "runs")], list(KNOWN))
    rows: list[dict[str, Any]] = []
    cluster = alone_cluster()
    try:
        for name, jobs, address in (
            ("-j 1", 1, None),
            ("-j 2", 2, None),
            ("--dask, 2 workers", 1, cluster.scheduler_address),
        ):
            with choose_engine(jobs, address, "fork") as engine:
                start = time.perf_counter()
                convert(items, folder / f"{name.split(',')[0].strip('- ')}.h5", Options(), engine, lambda _: None)
                rows.append(ratio_row(f"convert {len(items)} runs, {name}", time.perf_counter() - start, rows))
    finally:
        cluster.close()
    return rows


def alone_cluster() -> Any:
    from distributed import LocalCluster

    return LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")


def make_runs(folder: Path) -> Path:
    """PySCF runs of rattled water molecules."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(make_run, [(n, folder / str(n)) for n in range(RUNS)], chunksize=4)
    return folder


def make_run(n: int, folder: Path) -> None:
    from pyscf import lib

    from workflows.benchmarks.start_cases import run_scf
    from workflows.demo import MOLECULE, one_water

    lib.num_threads(1)
    with redirect_stdout(None):  # PySCF names its log there
        run_scf(MOLECULE, one_water(np.random.default_rng(n)), folder)


if __name__ == "__main__":
    sys.stdout.write(f"{time_steps(int(sys.argv[1]), int(sys.argv[2]))}\n")
