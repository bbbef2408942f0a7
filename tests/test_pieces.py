"""Prediction in pieces: the same blocks as in one piece, each once, whatever is cut, killed or shared out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

from basis.spin import Spin
from converters.errors import Refused
from converters.frames.neighbours import Structure
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import load_model, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.samples import make_model
from slem_plugin.network.network import randomise_silent
from slem_plugin.pieces import Piece, atoms_within, cut_structure
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from workflows.benchmarks import scale as bench_scale
from workflows.predict import Cutting, parse_pieces, predict_files
from workflows.processes.engines import Dask, Engine, Processes
from workflows.processes.pieces import pieces_folder

ROOT = Path(__file__).parent.parent
# Silicon sees oxygen farther than oxygen sees oxygen.
CUTOFFS = np.array([[4.2, 3.6], [3.6, 2.4]])


def made_model(folder, shells="2s1p", spin=Spin.NONE, **keys):
    """A checkpoint of a model in float64 whose network says something."""
    frames = [made_frame(random_structure(n), two_species(shells), spin, seed=n, cutoff_ss=CUTOFFS) for n in range(2)]
    config = Config(
        **{"channels": "8x0e+2x0o+4x1o+2x1e+4x2e+2x2o", "latent": 16, "waves": 6, "precision": "float64", **keys}
    )
    model = make_model(frames, config)
    if model.network is not None:
        randomise_silent(model.network, 0.3)
    save_checkpoint(folder / "model.safetensors", model)
    return folder / "model.safetensors"


def spread_out(natoms, size, pbc, seed=0):
    """Atoms of both kinds that are not on top of each other."""
    random = np.random.default_rng(seed)
    cell_cv = np.diag(size) + 0.2 * random.normal(size=(3, 3))
    positions = []
    while len(positions) < natoms:
        new = random.random(3) @ cell_cv
        images = [n @ cell_cv * pbc for n in np.stack(np.meshgrid(*[(-1, 0, 1)] * 3), -1).reshape(-1, 3)]
        if all(np.linalg.norm(new + shift - old) > 1.3 for old in positions for shift in images):
            positions.append(new)
    # Some are outside of the cell, and in no order.
    positions = np.array(positions) + random.integers(-1, 2, (natoms, 3)) * pbc @ cell_cv
    return Atoms(random.permuted(["Si", "O"] * natoms)[:natoms], positions, cell=cell_cv, pbc=pbc)


STRUCTURES = {
    "crystal smaller than the cutoff": (3, (3.1, 3.4, 2.9), (True, True, True)),
    "crystal": (60, (13, 11, 12), (True, True, True)),
    "slab": (40, (14, 12, 7), (True, True, False)),
    "wire": (30, (5, 5, 30), (False, False, True)),
    "molecule": (25, (9, 8, 9), (False, False, False)),
}


def predicted(model_path, structure_path, output, **options):
    list(predict_files(model_path, [structure_path], output, **options))
    return output


def assert_same_blocks(frame, whole):
    for name in ("i_p", "j_p", "R_pc"):
        assert np.array_equal(getattr(frame.pairs, name), getattr(whole.pairs, name))
    assert frame.operators.keys() == whole.operators.keys()
    for name, operator in whole.operators.items():
        assert np.abs(frame.operators[name].values_sx - operator.values_sx).max() < 1e-10


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("pieces", [2, 7])
def test_pieces_have_the_blocks_of_the_whole(tmp_path, name, pieces):
    atoms = spread_out(*STRUCTURES[name])
    write(tmp_path / "s.xyz", atoms)
    model_path = made_model(tmp_path)
    outputs = [predicted(model_path, tmp_path / "s.xyz", tmp_path / f"{n}.h5", cutting=Cutting(n)) for n in (1, pieces)]
    with Dataset(outputs[0]) as one, Dataset(outputs[1]) as other:
        assert_same_blocks(other[0], one[0])
        assert other[0].provenance == one[0].provenance
        assert other[0].outcome == one[0].outcome
    assert not pieces_folder(outputs[1]).exists()


@pytest.mark.parametrize(
    ("shells", "spin", "keys"),
    [
        ("1s1p1d1f", Spin.NONE, {"operators": "H"}),
        ("2s1p", Spin.COLLINEAR, {}),
        ("1s1p", Spin.SPINOR, {}),
        ("2s1p", Spin.NONE, {"operators": "S"}),
        ("2s1p", Spin.NONE, {"operators": "H,S,DM", "precision": "float32"}),
    ],
)
def test_all_kinds_of_models_are_cut(tmp_path, shells, spin, keys):
    write(tmp_path / "s.xyz", spread_out(24, (9, 8, 9), (True, True, False)))
    model_path = made_model(tmp_path, shells, spin, **keys)
    output = predicted(model_path, tmp_path / "s.xyz", tmp_path / "p.h5", cutting=Cutting(4), double=True)
    from ase.io import read

    with Dataset(output) as data:
        assert_same_blocks(data[0], predict(load_model(model_path, torch.float64), read(tmp_path / "s.xyz")))


def test_blocks_folded_over_a_mesh_are_cut(tmp_path):
    from dataclasses import replace

    model = load_model(made_model(tmp_path))
    model.blueprint = replace(model.blueprint, mesh=(2, 1, 1))
    save_checkpoint(tmp_path / "folded.safetensors", model)
    write(tmp_path / "s.xyz", spread_out(12, (6, 5, 8), (True, True, True)))
    outputs = [
        predicted(tmp_path / "folded.safetensors", tmp_path / "s.xyz", tmp_path / f"{n}.h5", cutting=Cutting(n))
        for n in (1, 3)
    ]
    with Dataset(outputs[0]) as one, Dataset(outputs[1]) as other:
        assert other[0].folded
        assert_same_blocks(other[0], one[0])


def test_pieces_are_compact_and_every_pair_has_one_owner(tmp_path):
    model = load_model(made_model(tmp_path))
    structure = model.structure(spread_out(60, (13, 11, 12), (True, True, True)))
    piece_a = cut_structure(structure, 5)
    assert np.bincount(piece_a).tolist() == [12] * 5
    pieces = [Piece.of(model, structure, np.flatnonzero(piece_a == n)) for n in range(5)]
    found = np.concatenate([np.column_stack([p.pairs.i_p, p.pairs.j_p, p.pairs.R_pc]) for p in pieces])
    pairs = model.graph(structure)[0]
    assert np.array_equal(np.unique(found, axis=0), np.column_stack([pairs.i_p, pairs.j_p, pairs.R_pc]))
    assert len(found) == len(pairs)


def test_memory_decides_about_pieces(tmp_path):
    model = load_model(made_model(tmp_path))
    structure = Structure(
        100 * np.eye(3), np.ones(3, bool), 2.0 * np.stack(np.meshgrid(*[np.arange(50)] * 3), -1).reshape(-1, 3)[:20000],
        np.zeros(20000, dtype=int),
    )  # fmt: skip
    assert Cutting(None, 64e9).count(model, structure, 1) == 10
    assert Cutting(None, 0.96e9).count(model, structure, 1) > 10
    assert Cutting(3).count(model, structure, 1) == 3
    assert Cutting(1).count(model, structure, 1) == 0
    small = model.structure(spread_out(60, (13, 11, 12), (True, True, True)))
    assert Cutting().count(model, small, 8) == 0
    assert atoms_within(model, structure, 2e9) < atoms_within(model, structure, 4e9)
    with pytest.raises(Refused, match="too little"):
        atoms_within(model, structure, 1e8)
    with pytest.raises(Refused, match="a number from 1 on"):
        parse_pieces("0")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A model, a structure and its prediction in six pieces."""
    folder = tmp_path_factory.mktemp("example")
    write(folder / "s.xyz", spread_out(60, (13, 11, 12), (True, True, True)))
    model_path = made_model(folder)
    return model_path, folder / "s.xyz", predicted(model_path, folder / "s.xyz", folder / "p.h5", cutting=Cutting(6))


def test_a_failed_run_goes_on_and_writes_the_same_bytes(example, tmp_path):
    model_path, structure, expected = example

    class Failing(Engine):
        """Works on so many items and then breaks."""

        def __init__(self, items):
            self.left = items

        def run(self, function, items):
            for item, result in super().run(function, items):
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                yield item, result

    output = tmp_path / "p.h5"
    for items in (0, 2, 3, 4, 2):  # and one more each time, that nobody hears of
        with pytest.raises(KeyboardInterrupt):
            predicted(model_path, structure, output, cutting=Cutting(6), engine=Failing(items))
        if output.exists():
            with Dataset(output) as data:  # room is reserved, but there is no frame yet
                assert len(data) == 0
    predicted(model_path, structure, output, cutting=Cutting(2))  # a prediction that goes on keeps its pieces
    assert output.read_bytes() == expected.read_bytes()
    assert not pieces_folder(output).exists()


def test_pieces_of_another_prediction_are_not_mixed_in(example, tmp_path):
    model_path, structure, expected = example
    output = tmp_path / "p.h5"
    output.write_bytes(expected.read_bytes())
    with Dataset(output) as data:
        identity = data[0].provenance.source
    pieces_folder(output).mkdir()  # as a kill just before the end leaves it
    (pieces_folder(output) / "plan.json").write_text(json.dumps({"identity": identity}))
    found = list(predict_files(model_path, [structure], output))
    assert [one.status for one in found] == ["there already"]
    assert not pieces_folder(output).exists()
    write(tmp_path / "other.xyz", spread_out(10, (7, 7, 7), (True, True, True), seed=3))
    with pytest.raises(Refused, match="holds other predictions"):
        predicted(model_path, tmp_path / "other.xyz", output)
    more = list(predict_files(model_path, [structure, tmp_path / "other.xyz"], output))
    assert [one.status for one in more] == ["there already", "predicted"]
    with pytest.raises(Refused, match="more than these"):
        predicted(model_path, structure, output)
    pieces_folder(tmp_path / "q.h5").mkdir()
    (pieces_folder(tmp_path / "q.h5") / "plan.json").write_text('{"identity": "another"}')
    with pytest.raises(Refused, match="pieces of another prediction"):
        predicted(model_path, structure, tmp_path / "q.h5", cutting=Cutting(3))


def test_frames_may_stand_before_and_after_a_frame_in_pieces(example, tmp_path):
    model_path, structure, _ = example
    small = [spread_out(10, (7, 7, 7), (True, True, True), seed=n) for n in range(2)]
    write(tmp_path / "small.xyz", small)
    together = tmp_path / "t.h5"
    for paths in (
        [tmp_path / "small.xyz"],
        [tmp_path / "small.xyz", structure],
        [tmp_path / "small.xyz", structure, tmp_path / "small.xyz"],
    ):
        list(predict_files(model_path, paths, together, cutting=Cutting(4)))
    with Dataset(together) as data:
        assert [frame.natoms for frame in data] == [10, 10, 60, 10, 10]
        for n in (0, 3):
            assert_same_blocks(data[n], predict(load_model(model_path), data[n].atoms))
        assert [outline.natoms for outline in data.outlines()] == [10, 10, 60, 10, 10]


@pytest.fixture(scope="module")
def workers():
    """Two processes, which import PyTorch once for all tests."""
    with Processes(2, "spawn") as engine:
        yield engine


def test_workers_share_the_structures_of_a_file(example, workers, tmp_path):
    model_path, _, _ = example
    write(tmp_path / "small.xyz", [spread_out(8, (7, 7, 7), (True, True, True), seed=n) for n in range(5)])
    alone, together = tmp_path / "a.h5", tmp_path / "t.h5"
    predicted(model_path, tmp_path / "small.xyz", alone)
    predicted(model_path, tmp_path / "small.xyz", together, engine=workers)
    assert alone.read_bytes() == together.read_bytes()


def test_a_worker_that_dies_costs_only_time(example, workers, tmp_path):
    model_path, structure, expected = example
    output = tmp_path / "p.h5"
    killed: list[int] = []
    killer = threading.Thread(target=kill_at_work, args=(workers, pieces_folder(output), killed))
    killer.start()
    predicted(model_path, structure, output, cutting=Cutting(6), engine=workers)
    killer.join()
    assert len(killed) == 1
    assert output.read_bytes() == expected.read_bytes()


def kill_at_work(engine, folder, killed):
    """Kill one of the processes of an engine as soon as the first piece is predicted."""
    until = time.monotonic() + 120
    while not list(folder.glob("inside-*")):
        if time.monotonic() > until:
            return
        time.sleep(0.001)
    killed.append(next(iter(engine._pool._processes)))
    os.kill(killed[0], signal.SIGKILL)


def test_ranks_share_the_pieces(example, tmp_path):
    model_path, structure, expected = example
    output = tmp_path / "p.h5"
    runner = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "workflows"]
    words = ["predict", model_path, structure, "-o", output, "--pieces", 6]
    command = [sys.executable, "-m", *runner, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == expected.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_predicts_and_converts(example, tmp_path):
    distributed = pytest.importorskip("distributed")
    from tests.test_commands import hydrogen
    from workflows import convert

    model_path, structure, expected = example
    for n in range(3):
        hydrogen(tmp_path / "runs" / f"h{n}", 0.7 + 0.02 * n)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None, host="127.0.0.1"
    )
    with cluster, Dask(cluster.scheduler_address) as engine:
        output = predicted(model_path, structure, tmp_path / "p.h5", cutting=Cutting(6), engine=engine)
        items = convert.find([tmp_path / "runs", tmp_path / "p.h5"], ["pyscf"])
        outcomes = convert.convert(items, tmp_path / "data.h5", convert.Options(), engine, lambda _: None)
    assert output.read_bytes() == expected.read_bytes()
    assert [outcome.status for outcome in outcomes] == ["converted"] * 3 + ["refused"]
    with Dataset(tmp_path / "data.h5") as data:
        assert len(data) == 3


def test_an_address_without_a_scheduler_is_refused():
    pytest.importorskip("distributed")
    with pytest.raises(Refused, match="scheduler"):
        Dask("no address at all")


def test_a_reserved_frame_may_be_given_up(example, tmp_path):
    """Room that nobody filled is used by the next frame."""
    _, _, expected = example
    with Dataset(expected) as data:
        frame, outline = data[0], data.outline(0)
    with DatasetWriter(tmp_path / "d.h5", plain=True) as writer:
        writer.reserve(outline, {"pairs": 10 * len(frame.pairs), "H/values": 5})
    with DatasetWriter(tmp_path / "d.h5") as writer:
        writer.append(frame)
    with Dataset(tmp_path / "d.h5") as data:
        assert_same_blocks(data[0], frame)
    with DatasetWriter(tmp_path / "packed.h5") as writer:
        writer.append(frame)
    with pytest.raises(Refused, match="is compressed"), DatasetWriter(tmp_path / "packed.h5") as writer:
        writer.reserve(outline, {"pairs": 5})


def test_the_benchmark_measures_small_structures_too(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_scale, "SIZES", {64: (2, 2, 2)})
    monkeypatch.setattr(bench_scale, "alone", lambda function, *arguments: function(*arguments))
    rows = bench_scale.bench_scale([], tmp_path, ["pieces"])
    assert [row["work"] for row in rows] == ["64 atoms, 1 pieces", "64 atoms, auto pieces"]
    assert rows[1]["1 and 3 pieces, double"] < 1e-10
    assert rows[0]["pairs_per_atom"] == 44
