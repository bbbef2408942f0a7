"""Benchmarks of the model: each work in a process of its own with one thread, beside the bare matrix products in it; or on a GPU."""

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basis import Array
from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, Provenance
from workflows.benchmarks.conversion import cpu_seconds

CUTOFF = 7.4  # Angstrom: 86 neighbours in silicon
LAYERS = 3
HIDDEN = "32x0e+24x1o+8x1e+12x2e+4x2o"
HIGHER = ("+6x3o+2x3e+6x4e+2x4o", "+3x5o+1x5e+3x6e+1x6o", "+3x7o+1x7e+3x8e+1x8o")


@dataclass(frozen=True)
class Case:
    """A structure, a basis and a network to measure."""

    name: str
    system: str
    shells: tuple[str, ...]
    channels: str
    operators: tuple[str, ...] = ("H",)
    repeats: int = 3


CASES = (
    Case("Si64 1s1p", "Si64", ("1s1p",), HIDDEN),
    Case("Si64 2s2p1d", "Si64", ("2s2p1d",), HIDDEN + HIGHER[0]),
    Case("Si64 2s2p1d1f", "Si64", ("2s2p1d1f",), HIDDEN + "".join(HIGHER[:2])),
    Case("Si64 2s2p1d1f1g", "Si64", ("2s2p1d1f1g",), HIDDEN + "".join(HIGHER)),
    Case("Si64 2s2p1d, H S DM", "Si64", ("2s2p1d",), HIDDEN + HIGHER[0], ("H", "S", "DM")),
    Case("water trimer", "water", ("3s2p1d", "2s1p"), HIDDEN + HIGHER[0], repeats=30),
)


def bench_model(device: str = "cpu") -> list[dict[str, Any]]:
    """Training steps and predictions of all cases: one thread and CPU seconds, or a GPU and seconds of the clock."""
    from slem_plugin.config import Config

    device = Config(device=device).torch_device
    rows = []
    for case in CASES:
        for work in ("training step", "prediction"):
            rows.append(in_process(case, work, device))
    return rows


def in_process(case: Case, work: str, device: str) -> dict[str, Any]:
    """Measure in a fresh process, so that memory and caches are its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (case, work, device))


def measure(case: Case, work: str, device: str) -> dict[str, Any]:
    """One row of the table; memory is the most that the process held, less what it held after the imports, or that of the GPU."""
    import torch

    from slem_plugin.config import Config
    from slem_plugin.learning.learner import Learner, scales_of
    from slem_plugin.learning.samples import make_lesson
    from slem_plugin.prediction import predict

    torch.set_num_threads(1)
    before = resident()
    structure, basis = system(case)
    model = made_model(case, basis)
    pairs, graph = model.graph(structure)
    if work == "training step":
        frame = made_frame(structure, basis, pairs, case.operators)
        learner, lesson = Learner.start(model, Config(device=device)), make_lesson(frame, model)
        del frame, pairs
        scales = scales_of([lesson])

        def run() -> None:
            learner.step(lesson.to(learner.device), scales, Config())

        core = run
    else:
        model.network.to(device)
        single = graph.to(model.dtype, device)

        def run() -> None:
            predict(model, structure)

        def core() -> None:
            with torch.no_grad():
                model.network(single)

    run()
    seconds = median_seconds(run, case.repeats, device)
    peak = resident(most=True) - before if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
    floor = median_seconds(replay(matrix_products(core)), case.repeats, device)
    return {
        "name": f"{case.name}, {work}",
        "cpu_seconds" if device == "cpu" else "seconds": round(seconds, 5),
        "floor_seconds": round(floor, 5),
        "peak_mib": round(peak, 1),
        "edges": graph.bonds,
        "parameters": sum(weight.numel() for weight in model.network.parameters()),
    }


def profile_step(device: str = "cpu") -> list[dict[str, Any]]:
    """Where the time of a training step of silicon goes, on the processor or in the kernels of a GPU, the largest costs first."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from slem_plugin.config import Config
    from slem_plugin.learning.learner import Learner, scales_of
    from slem_plugin.learning.samples import make_lesson

    torch.set_num_threads(1)
    case = CASES[1]
    structure, basis = system(case)
    model = made_model(case, basis)
    lesson = make_lesson(made_frame(structure, basis, model.graph(structure)[0], case.operators), model)
    learner, scales = Learner.start(model, Config(device=device)), scales_of([lesson])
    lesson = lesson.to(learner.device)
    learner.step(lesson, scales, Config())
    on_gpu = learner.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as recorded:
        learner.step(lesson, scales, Config())
    spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    costs = sorted(((getattr(event, spent), event) for event in recorded.key_averages()), key=lambda cost: -cost[0])
    total = sum(cost for cost, _ in costs)
    return [
        {"operation": event.key, "ms": cost / 1e3, "part": cost / total, "calls": event.count} for cost, event in costs[:8]
    ]  # fmt: skip


def system(case: Case) -> tuple[Any, tuple[Species, ...]]:
    """The structure of a case and its basis."""
    from ase.build import bulk

    from converters.frames.neighbours import Structure

    if case.system == "Si64":
        atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
        atoms.rattle(0.05, seed=0)
        basis: tuple[Species, ...] = (Species("Si", 14, parse_shells(case.shells[0])),)
        return Structure(np.array(atoms.cell), np.array(atoms.pbc), atoms.positions, np.zeros(64, dtype=int)), basis
    basis = tuple(Species(name, z, parse_shells(text)) for name, z, text in zip("OH", (8, 1), case.shells, strict=True))
    water_av = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    positions_av = np.concatenate(
        [water_av, water_av[:, [1, 2, 0]] + [0, 0, 2.8], water_av[:, [2, 0, 1]] + [2.6, 0, 1]]
    )
    positions_av += np.random.default_rng(0).normal(0, 0.05, positions_av.shape)
    return Structure(np.zeros((3, 3)), np.zeros(3, dtype=bool), positions_av, np.array([0, 1, 1] * 3)), basis


def made_model(case: Case, basis: tuple[Species, ...]) -> Any:
    """A model fitted to a small made-up frame; silicon is stretched a little, so that its cutoff is the wanted one."""
    from converters.frames.neighbours import Structure, find_pairs
    from slem_plugin.baseline.fitting import MARGIN
    from slem_plugin.config import Config
    from slem_plugin.learning.samples import make_model

    structure, _ = system(case)
    far = 12.0
    if case.system == "Si64":
        far = CUTOFF / MARGIN
        structure = Structure(
            structure.cell_cv / 2, structure.pbc_c, structure.positions_av[:8], structure.species_a[:8]
        )
    norb_a = np.array([basis[s].size for s in structure.species_a])
    pairs = find_pairs(structure, np.full((len(basis), len(basis)), far), norb_a)
    if case.system == "Si64":
        stretch = far / np.linalg.norm(pairs.vectors(structure.positions_av, structure.cell_cv), axis=1).max()
        structure = Structure(
            stretch * structure.cell_cv, structure.pbc_c, stretch * structure.positions_av, structure.species_a
        )
    config = Config(channels=case.channels, operators=",".join(case.operators), layers=LAYERS)
    return make_model([made_frame(structure, basis, pairs, case.operators)], config)


def made_frame(structure: Any, basis: tuple[Species, ...], pairs: Any, operators: Sequence[str]) -> Frame:
    """A frame of random numbers that fall off with distance, with an overlap, as every code stores one."""
    random = np.random.default_rng(0)
    fall_x = np.exp(-np.linalg.norm(pairs.vectors(structure.positions_av, structure.cell_cv), axis=1))[pairs.pair_x]
    matrices = {
        name: Operator(symmetric(pairs, random.normal(size=pairs.elements) * fall_x))
        for name in dict.fromkeys(("S", *operators))
    }
    row_x, column_x = pairs.row_column_x
    S_x = 0.1 * matrices["S"].values_sx + (pairs.onsite_p[pairs.pair_x] & (row_x == column_x))
    matrices["S"] = Operator(S_x)
    return Frame(
        structure.cell_cv, structure.pbc_c, structure.positions_av, structure.species_a, basis, pairs, Spin.NONE, matrices,
        provenance=Provenance("bench"),
    )  # fmt: skip


def symmetric(pairs: Any, values_x: Array) -> Array:
    """The same numbers with symmetric onsite blocks."""
    onsite_x, transposed_x = pairs.onsite_transposed
    values_x[onsite_x] = (values_x[onsite_x] + values_x[transposed_x]) / 2
    return values_x[None]


def matrix_products(work: Callable[[], None]) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """All matrix products that torch makes in some work, those into their places too, with their operands."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    aten = torch.ops.aten
    products = {aten.mm.default, aten.mm.out, aten.bmm.default, aten.addmm.default, aten.addmm_.default}

    def kept(x: Any) -> Any:
        return x.detach() if isinstance(x, torch.Tensor) else x

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function in products:
                found.append((function, tuple(map(kept, args)), {name: kept(x) for name, x in kwargs.items()}))
            return function(*args, **kwargs)

    with Listen():  # type: ignore[no-untyped-call]
        work()
    return found


def replay(products: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> Callable[[], None]:
    """The bare products of some work, without anything in between."""

    def run() -> None:
        for function, operands, options in products:
            function(*operands, **options)

    return run


def median_seconds(work: Callable[[], None], repeats: int, device: str) -> float:
    measured = cpu_seconds if device == "cpu" else gpu_seconds
    work()
    return float(np.median([measured(work) for _ in range(repeats)]))


def gpu_seconds(work: Callable[[], None]) -> float:
    """Seconds of the clock until a GPU has done some work."""
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def resident(most: bool = False) -> float:
    """Memory that this process holds now, or the most it ever held, MiB."""
    if most:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
