"""Benchmarks that were stopped go on, and take nothing half made for the whole."""

from pathlib import Path

import numpy as np
import pytest

from converters.errors import Refused
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import BEST, LAST, load_checkpoint
from tests.fixtures import frames_of
from workflows.benchmarks.curve import LEARNED, bench_curve
from workflows.benchmarks.starts_of_cases import is_trained, train_quietly
from workflows.benchmarks.starts_of_runs import Plan, bare_copies, convert_whole, learn

HERE = "workflows.benchmarks"


def test_a_training_that_was_stopped_goes_on(tmp_path):
    """It has a best model by then, which is no reason to start from it."""
    data, model = tmp_path / "data.h5", tmp_path / "model"
    with DatasetWriter(data) as writer:
        for frame in frames_of("siesta", "si2") * 2:
            writer.append(frame)

    def stop(seconds, _, __):
        if seconds >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_quietly(data, model, 0.04, stop)
    assert (model / BEST).exists()
    assert not is_trained(model)
    before = load_checkpoint(model / LAST)[0].history["progress"]
    told = []
    train_quietly(data, model, 0.04, lambda *words: told.append(words))
    assert is_trained(model)
    after = load_checkpoint(model / LAST)[0].history["progress"]
    assert after["step"] == int(told[-1][2].split()[0]) == before["step"] + len(told)
    assert before["seconds"] < 2.4 <= after["seconds"] < 3.4


def test_the_curve_learns_from_frames_of_which_none_is_there_twice(tmp_path, monkeypatch):
    """More than 300 lie nearer to each other; a model of other minutes is another one."""
    written, trained = {}, []

    def write(path, positions_tav):
        written[path.name] = positions_tav[:, 0, 0].tolist()
        with DatasetWriter(path) as writer:
            writer.append(frame)

    def copy(source, path, number):
        chosen = np.linspace(0, len(written[source.name]) - 1, number).astype(int)
        written[path.name] = np.array(written[source.name])[chosen].tolist()

    (frame,) = frames_of("siesta", "si2")
    monkeypatch.setattr(f"{HERE}.curve.dynamics", lambda: np.arange(3500.0)[:, None, None])
    monkeypatch.setattr(f"{HERE}.curve.write_frames", write)
    monkeypatch.setattr(f"{HERE}.curve.copy_frames", copy)
    monkeypatch.setattr(f"{HERE}.curve.train_quietly", lambda data, model, _: trained.append((data.name, model.name)))
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: None)
    monkeypatch.setattr(f"{HERE}.curve.rows_of", lambda *_: [{}])
    rows = bench_curve(tmp_path, [2.0], [30, 300, 1000])
    assert [(row["frames"], row["minutes"]) for row in rows] == [(30, 2.0), (300, 2.0), (1000, 2.0)]
    for number in (30, 300, 1000):
        found = written[f"{number}.h5"]
        assert len(set(found)) == number
        assert max(found) < LEARNED < min(written["kept.h5"])
    assert written["300.h5"] == list(range(0, 3000, 10))
    bench_curve(tmp_path, [0.42], [30])
    assert [name for _, name in trained] == [
        *(f"{number}_2_minutes.model" for number in (30, 300, 1000)),
        "30_0.42_minutes.model",
    ]
    with pytest.raises(Refused, match="3000 frames"):
        bench_curve(tmp_path, [2.0], [3001])


def test_runs_are_gathered_whole(tmp_path, monkeypatch):
    """What a stopped conversion left is not what the next call learns from."""

    def convert(_, output, *__):
        with DatasetWriter(output) as writer:
            writer.append(frames_of("siesta", "si2")[0])
        if stopped:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(f"{HERE}.starts_of_runs.convert", convert)
    stopped = True
    with pytest.raises(KeyboardInterrupt):
        convert_whole([], tmp_path / "data.h5", 1)
    assert list(tmp_path.iterdir()) == []
    stopped = False
    convert_whole([], tmp_path / "data.h5", 1)
    with Dataset(tmp_path / "data.h5") as frames:
        assert len(frames) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.h5"]


def test_what_spoils_a_model_is_said_by_the_benchmark_of_starts(tmp_path):
    """As slem-train says it: DM has images of a coarse k mesh."""
    said = []
    (tmp_path / "from_1").mkdir()
    with DatasetWriter(tmp_path / "from_1/data.h5") as writer:
        for frame in frames_of("siesta", "ptse2") * 2:
            writer.append(frame)
    folders = [Path(part) for part in Path(frame.provenance.path).parts]  # the names of the learned runs
    learn(folders, tmp_path / "from_1", Plan("siesta", say=said.append), 0.01)
    assert len([note for note in said if "convert with --dm-mesh auto" in note]) == 1


def test_kept_back_runs_of_another_input_are_not_those_of_before(tmp_path):
    """A mixer that was changed between two calls is another measurement; what runs leave in their folders is none."""
    run = tmp_path / "a"
    run.mkdir()
    (run / "si.fdf").write_text("MeshCutoff 100 Ry\n")
    (copy,) = bare_copies([run], tmp_path / "work")
    (run / "si.EIG").write_text("left by a run")
    assert bare_copies([run], tmp_path / "work") == [copy]
    (run / "si.fdf").write_text("MeshCutoff 100 Ry\nSCF.Mixer.History 6\n")
    with pytest.raises(Refused, match=r"was made when .*si\.fdf was another file.*another --folder"):
        bare_copies([run], tmp_path / "work")
