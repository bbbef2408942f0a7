"""Training with several ranks, and with frames that do not fit into the memory, gives what one process with all of them gives."""

import csv
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from basis.spin import Spin
from converters.errors import Refused
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.config import Config
from slem_plugin.learning.learner import loss_of
from slem_plugin.learning.lessons import Lessons, pack, size_of, unpack
from slem_plugin.learning.loop import batch_order
from slem_plugin.learning.samples import make_lesson, make_model
from slem_plugin.testing.codes import assert_same_frame
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from tests.test_training import small_config, train_quietly
from workflows.cli import main
from workflows.train import Frames, train_folder

ROOT = Path(__file__).parent.parent
SILENT = dict.fromkeys(("prepared", "watch", "report"), lambda *_: None)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "made.h5"
    with DatasetWriter(path) as writer:
        for n in range(6):
            writer.append(made_frame(random_structure(n), two_species("2s1p"), Spin.COLLINEAR, seed=n))
    return path


CONFIG = """
channels = "8x0e+6x1o+2x1e+4x2e+2x2o"
latent = 16
waves = 8
batch = 3
evaluations = 4
precision = "float64"
validate = "4-5"
"""


def train(dataset, folder, *words, config=CONFIG):
    """Run slem-train, several ranks in processes of their own; its exit code and what it said."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".toml")
    path.write_text(config)
    given = ["train", dataset, "-o", folder, *([] if "--resume" in words else ["--config", path]), *words]
    if "--ranks" not in words:
        done = CliRunner().invoke(main, list(map(str, given)))
        return done.exit_code, done.stdout, done.stderr
    command = [sys.executable, "-m", "workflows", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


def curve(folder):
    """Steps, losses and errors of the log, without the times."""
    with (folder / "log.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_two_ranks_learn_as_one_and_may_be_resumed_as_one(dataset, tmp_path):
    assert train(dataset, tmp_path / "one", "--steps", 8)[0] == 0
    code, out, err = train(dataset, tmp_path / "two", "--steps", 8, "--ranks", 2, "--json")
    assert code == 0, err
    assert len(json.loads(out)["evaluations"]) == 4  # the leader alone speaks
    assert curve(tmp_path / "two") == curve(tmp_path / "one")
    assert train(dataset, tmp_path / "two", "--steps", 12, "--resume")[0] == 0
    assert curve(tmp_path / "two")[:4] == curve(tmp_path / "one")
    assert [row["step"] for row in curve(tmp_path / "two")][-1] == "12"


def test_a_batch_must_feed_all_ranks(dataset, tmp_path):
    (tmp_path / "one.toml").write_text("batch = 1")
    words = ["train", dataset, "-o", tmp_path / "m", "--steps", 4, "--config", tmp_path / "one.toml", "--ranks", 2]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code != 0
    assert "2 ranks need at least one frame each" in done.stderr
    two = SimpleNamespace(count=2, leader=True)  # as torchrun may start them
    with pytest.raises(Refused, match="2 ranks need at least one frame each"):
        train_folder(dataset, tmp_path / "m", Config(batch=1), resume=False, ranks=two, **SILENT)


class TestLessons:
    @pytest.fixture
    def frames(self, dataset):
        with Dataset(dataset) as data:
            yield Frames(data, range(len(data)))

    @pytest.fixture
    def model(self, frames):
        model = make_model([frames[n] for n in range(3)], small_config())
        with torch.no_grad():
            for weight in model.network.parameters():
                weight.normal_(0, 0.2)  # else the loss does not depend on the graph
        return model

    def test_other_processes_prepare_the_same(self, frames, model):
        names = [f"frame {n}" for n in range(6)]
        with Lessons(frames, names, model, memory=1.0, workers=1) as lessons:
            order = (batch_order(step, 2, 6, seed=0) for step in count())
            for step, found in zip(range(5), lessons.stream(order), strict=False):
                for n, lesson in zip(batch_order(step, 2, 6, seed=0), found, strict=True):
                    expected = make_lesson(frames[n], model)
                    assert lesson.graph.slots == expected.graph.slots
                    a, b = (
                        float(loss_of(model.network(x.graph), x, {"H": 1.0, "DM": 1.0}, 1.0).detach())
                        for x in (lesson, expected)
                    )
                    assert a == pytest.approx(b, rel=1e-5)
            assert lessons._pool is not None
            assert not lessons._kept

    def test_memory_bounds_what_is_kept(self, frames, model):
        size = size_of(make_lesson(frames[0], model))
        with Lessons(frames, ["x"] * 6, model, memory=2.5 * size, workers=0) as lessons:
            for _ in zip(range(12), lessons.stream(batch_order(step, 1, 6, 0) for step in count()), strict=False):
                assert sum(map(size_of, lessons._kept.values())) <= 2.5 * size
            assert len(lessons._kept) >= 1

    def test_lessons_cross_to_other_processes_whole(self, frames, model):
        lesson = make_lesson(frames[0], model)
        again = unpack(pack(lesson))
        assert size_of(again) == size_of(lesson)
        for name in lesson.graph.__dataclass_fields__:
            a, b = getattr(lesson.graph, name), getattr(again.graph, name)
            same = (
                [torch.equal(x, y) for x, y in zip(a, b, strict=True)]
                if isinstance(a, tuple)
                else [a == b if isinstance(a, int) else torch.equal(a, b)]
            )
            assert all(same)

    def test_little_memory_learns_the_same(self, frames, model, tmp_path):
        config = small_config(steps=6, evaluations=2)
        reports = []
        for folder, memory in (("much", 1e9), ("little", 1.0)):
            fresh = make_model([frames[n] for n in range(3)], config)
            reports.append(train_quietly(fresh, frames, tmp_path / folder, config, memory=memory)[1])
        for one, other in zip(*reports, strict=True):
            assert other.loss == pytest.approx(one.loss, rel=1e-6)
            assert other.errors == pytest.approx(one.errors, rel=1e-6)


def test_outlines_say_what_frames_say(dataset):
    with Dataset(dataset) as data:
        for outline, frame in zip(data.outlines(), data, strict=True):
            assert set(outline.operators) == set(frame.operators)
            assert len(outline.pairs) == 0
            fields = ("outcome", "provenance", "spin", "folded", "basis")
            assert all(getattr(outline, name) == getattr(frame, name) for name in fields)
        assert_same_frame(data[5], made_frame(random_structure(5), two_species("2s1p"), Spin.COLLINEAR, seed=5))


def test_memory_is_written_with_a_unit():
    with pytest.raises(Refused, match="4GB"):
        Config(memory="much")
