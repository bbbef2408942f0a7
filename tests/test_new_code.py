"""A second code proves the door: what docs/new_code.md adds, and nothing else, passes the contract of every code."""

import contextlib
import functools
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from basis.spin import Spin
from converters.codes.known import KNOWN
from converters.errors import Refused
from converters.starts.targets import code_of_input
from slem_plugin.testing.codes import CodeContract, Expected, frames_in
from tests import plain_program
from tests.fixtures import scratch, unpacked
from tests.pages import blocks_of
from workflows.benchmarks.starts_of_runs import (
    Plan,
    bench_starts,
    errors_of,
    finish_all,
    has_matrices,
    run_beside,
    runs_in,
)
from workflows.cli import main
from workflows.commands.bench_and_demo import minutes_of
from workflows.scf.queues import Here
from workflows.scf.run_folders import Job, run_folders

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "new_code.md"


@functools.cache
def plain_files():
    """The files of the page, in a folder that lives as long as the tests."""
    place = scratch()[1] / "new_code"
    for block in blocks_of(PAGE.read_text()):
        if block.file:
            (place / block.file).parent.mkdir(parents=True, exist_ok=True)
            (place / block.file).write_text(block.text)
    plain_program.run(place / "chains" / "ch")
    return place


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The one line of the page that makes the code known."""
    monkeypatch.syspath_prepend(str(plain_files()))
    from plain_record import ABOUT

    monkeypatch.setitem(KNOWN, ABOUT.name, ABOUT)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("plain", "plain_record")]:
        del sys.modules[name]


class TestPlain(CodeContract):
    code = "plain"
    good = {  # noqa: RUF012 - the contract reads it
        "ch": Expected(("C 1s1p", "H 1s"), 10, Spin.COLLINEAR, levels=1e-9, moment=2),
    }
    fuzzed = ("ch",)

    def folder_of(self, name):
        return plain_files() / "chains" / name

    def frames_of(self, name):
        return frames_in(self.code, self.folder_of(name))


def invoke(*words):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done


def test_the_commands_know_it(tmp_path):
    """The search, the exact overlap of its radial functions, and the S of a structure."""
    folder = plain_files()
    report = json.loads(invoke("convert", folder / "chains", "-o", tmp_path / "data.h5", "--json").stdout)
    (run,) = report["inputs"]
    assert (run["code"], run["status"]) == ("plain", "converted")
    shown = json.loads(invoke("info", tmp_path / "data.h5", "--json").stdout)
    assert "plain" in json.dumps(shown)
    bases = [word for name in ("C", "H") for word in ("--basis", folder / "chains" / "ch" / f"{name}.radial")]
    made = json.loads(invoke("overlap", tmp_path / "data.h5", *bases, "-o", tmp_path / "s.h5", "--json").stdout)
    assert made["structures"][0]["difference"] < 1e-9


def test_a_run_starts_from_its_own_matrices(tmp_path):
    """The code itself needs one iteration."""
    folder = plain_files()
    invoke("convert", folder / "chains", "-o", tmp_path / "data.h5")
    invoke("export", tmp_path / "data.h5", "--into", folder / "chains" / "ch", "-o", tmp_path / "start")
    plain_program.run(tmp_path / "start")
    from plain.restart import read_progress

    progress, before = read_progress(tmp_path / "start"), read_progress(folder / "chains" / "ch")
    assert progress.took_guess
    assert progress.iterations == 1 < before.iterations
    assert progress.energy == pytest.approx(before.energy, abs=1e-6)


def test_scf_runs_it_from_a_prediction(tmp_path, monkeypatch):
    folder = tmp_path / "ch"
    folder.mkdir()
    shutil.copy(plain_files() / "chains" / "ch" / "plain.in", folder)
    (frame,) = frames_in("plain", plain_files() / "chains" / "ch")
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: "a model")
    monkeypatch.setattr("slem_plugin.prediction.predict", lambda model, atoms: frame)
    command = f"{sys.executable} {plain_program.__file__} ."
    (outcome,) = run_folders([folder], Job(Here(command), command, tmp_path / "model", compare=True))
    assert outcome.verdict == "ok"
    assert outcome.route == "dm"
    assert outcome.guess.progress.iterations == 1 < outcome.default.progress.iterations
    assert abs(outcome.difference) < 1e-6


def inputs_in(folder, numbers):
    """Runs that have not been made, each of another structure; the last is that of the page."""
    text = (plain_files() / "chains" / "ch" / "plain.in").read_text()
    assert "C 0 0.6 0" in text
    runs = [folder / f"run{n}" for n in numbers]
    for n, run in enumerate(runs):
        run.mkdir()
        (run / "plain.in").write_text(text.replace("C 0 0.6 0", f"C 0 {0.6 + 0.001 * (len(runs) - 1 - n):g} 0"))
    return runs


def test_the_benchmark_of_starts_runs_learns_and_compares(tmp_path, monkeypatch):
    """Each run is made once: those to learn from, the default start, one for each route and model, and one for each route from its own matrices; a second call finds all of them, a second set is the runs before."""
    runs = inputs_in(tmp_path, (1, 2, 10))
    (frame,) = frames_in("plain", plain_files() / "chains" / "ch")
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: "a model")
    monkeypatch.setattr("slem_plugin.prediction.predict", lambda model, atoms: frame)
    monkeypatch.setattr("workflows.benchmarks.starts_of_runs.train_quietly", lambda *_: None)
    monkeypatch.setattr("workflows.benchmarks.starts_of_runs.errors_of", lambda *_: {})
    command = f"echo x >> {tmp_path / 'count'}; {sys.executable} {plain_program.__file__} ."
    plan = Plan(command, learn=(1, 2), keep=1, routes=("auto", "h2dm"))
    rows = bench_starts(runs[::-1], tmp_path / "work", plan)
    made = len((tmp_path / "count").read_text().split())
    assert made == 2 + 1 + 4 + 2
    assert [(row["learned"], row["route"]) for row in rows] == [(1, "auto"), (1, "h2dm"), (2, "auto"), (2, "h2dm")]
    for row in rows:
        assert (row["runs"], row["wrong"]) == (1, 0)
        assert row["iterations"] == row["own matrices"] == 1 < row["default"]
        assert all(float(seconds) > 0 for seconds in row["CPU s"].split(" / "))
        assert (row["default not converged"], row["why wrong"]) == (0, "")
    assert sorted(path.name for path in (tmp_path / "work" / "learned").iterdir()) == ["run1", "run2"]
    assert bench_starts(runs, tmp_path / "work", plan) == rows
    assert len((tmp_path / "count").read_text().split()) == made
    asked = []
    place = "workflows.benchmarks.starts_of_runs"
    monkeypatch.setattr(f"{place}.start_all", lambda kept, _, __, work, *___: asked.append((work, *kept)) or [])
    monkeypatch.setattr(f"{place}.iterations_from_own", lambda *_: 1.0)
    rows = bench_starts(runs, tmp_path / "work", replace(plan, learn=(1,), routes=("auto",), sets=2))
    assert asked == [(tmp_path / "work", runs[2]), (tmp_path / "work" / "set_2", runs[1])]
    assert [row["set"] for row in rows] == [1, 2]
    with pytest.raises(Refused, match="3 run folders"):
        bench_starts(runs, tmp_path / "work", replace(plan, learn=(3,)))


def test_the_benchmark_of_starts_leaves_out_what_did_not_converge(tmp_path, monkeypatch):
    """The rows say of how many runs the model is; where nothing is left they say why."""
    runs = inputs_in(tmp_path, range(4))
    place, titles = "workflows.benchmarks.starts_of_runs", []

    @contextlib.contextmanager
    def stage(title):
        titles.append(title)
        yield lambda *_: None

    monkeypatch.setattr(f"{place}.train_quietly", lambda *_: None)
    monkeypatch.setattr(f"{place}.start_all", lambda *_: [])
    monkeypatch.setattr(f"{place}.errors_of", lambda *_: {})
    monkeypatch.setattr(f"{place}.iterations_from_own", lambda *_: 1.0)
    spoilt = "case $PWD in */run1) sed -i 's/^converged 1/converged 0/' matrices.txt;; esac"
    command = f"{sys.executable} {plain_program.__file__} .; {spoilt}"
    plan = Plan(command, learn=(3,), keep=1, routes=("dm",), minutes=(2,), stage=stage)
    (row,) = bench_starts(runs, tmp_path / "work", plan)
    assert row["learned"] == 2
    assert "learning from the first 3 without 1 whose SCF did not converge, 2 minutes of the processor" in titles
    with pytest.raises(Refused, match="expected a converged SCF"):
        bench_starts(runs[1:], tmp_path / "other", replace(plan, learn=(1,)))


def test_the_benchmark_of_starts_takes_nothing_of_other_runs(tmp_path, monkeypatch):
    """More runs may be kept back in the folder of an earlier call, but a model of others is not that of the first ones."""
    runs, place = inputs_in(tmp_path, range(4)), "workflows.benchmarks.starts_of_runs"
    monkeypatch.setattr(f"{place}.train_quietly", lambda *_: None)
    monkeypatch.setattr(f"{place}.start_all", lambda *_: [])
    monkeypatch.setattr(f"{place}.errors_of", lambda *_: {})
    monkeypatch.setattr(f"{place}.iterations_from_own", lambda *_: 1.0)
    plan = Plan(f"{sys.executable} {plain_program.__file__} .", learn=(2,), keep=1, routes=("dm",))
    for given in (runs[:3], runs):
        assert [row["learned"] for row in bench_starts(given, tmp_path / "work", plan)] == [2]
    data = tmp_path / "work" / "from_2" / "data.h5"
    assert not run_beside(runs[:2], data)
    assert "run1" in run_beside(runs[:1], data)
    with pytest.raises(Refused, match=r"run0.*expected another --folder"):
        bench_starts(runs[1:], tmp_path / "work", plan)


def test_errors_are_those_of_the_runs_that_are_kept_back_now(tmp_path, monkeypatch):
    """Not of those that an earlier call kept back."""
    runs, read = inputs_in(tmp_path, range(3)), []
    for run in runs:
        plain_program.run(run)
    history = {"config": {"time": "2m"}, "progress": {"step": 7}}
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: "a model")
    monkeypatch.setattr("slem_plugin.checkpoint.load_checkpoint", lambda path: (SimpleNamespace(history=history), None))
    place = "workflows.benchmarks.starts_of_runs"
    monkeypatch.setattr(f"{place}.converged_run", lambda outcome: outcome)
    monkeypatch.setattr(f"{place}.evaluate_dataset", lambda _, data, *__: read.append(run_beside(runs[2:], data)) or {})
    for kept in (runs[:2], runs[2:], runs[1:], runs[2:]):
        errors_of(tmp_path / "model", kept, tmp_path)
    assert [Path(path).parent.name for path in read] == ["run0", "", "run1", ""]


def test_the_benchmark_of_starts_says_what_it_does(tmp_path, monkeypatch):
    """Without a terminal too: a line at the begin of each part of the work."""
    runs = [tmp_path / f"run{n}" for n in range(3)]
    for run in runs:
        run.mkdir()
        shutil.copy(plain_files() / "chains" / "ch" / "plain.in", run)
    place = "workflows.benchmarks.starts_of_runs"
    monkeypatch.setattr(f"{place}.train_quietly", lambda *_: None)
    monkeypatch.setattr(f"{place}.start_all", lambda *_: [])
    monkeypatch.setattr(f"{place}.errors_of", lambda *_: {})
    monkeypatch.setattr(f"{place}.iterations_from_own", lambda *_: 1.0)
    words = ["--learn", "1", "--keep", "1", "--sets", "2", "--minutes", "3", "--routes", "dm", "--folder"]
    command = f"{sys.executable} {plain_program.__file__} ."
    done = CliRunner().invoke(main, ["bench", "starts", *map(str, runs), "--cmd", command, *words, str(tmp_path / "w")])
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "running those to learn from that have no results",
        "learning from the first 1, 3 minutes of the processor",
        "starting set 1 by dm, learned from 1",
        "starting set 1 by dm from its own matrices",
        "starting set 2 by dm, learned from 1",
        "starting set 2 by dm from its own matrices",
    ]


def test_runs_to_learn_from_are_made_as_many_at_once_as_wished(tmp_path):
    """Each of two waits until the other one is there."""
    runs = [tmp_path / f"run{n}" for n in range(2)]
    for run in runs:
        run.mkdir()
        shutil.copy(plain_files() / "chains" / "ch" / "plain.in", run)
    there = f"[ $(ls {tmp_path}/learned/*/here | wc -l) = 2 ]"
    command = f"touch here; for n in $(seq 100); do {there} && exit 0; sleep 0.1; done; exit 1"
    assert finish_all(runs, tmp_path / "learned", Plan(command, at_once=2)) == [
        tmp_path / "learned" / run.name for run in runs
    ]


def test_each_number_of_runs_may_have_its_own_minutes(tmp_path, monkeypatch):
    """In whatever order both are given; one number is for all."""
    assert minutes_of("3", "10,30") == minutes_of("3", "") == (3,)
    assert minutes_of("3,12,6", "10,100,30") == (3, 6, 12)
    for text, learn in (("3,6", "10,30,100"), ("a while", ""), ("3,6", ""), ("0", "10")):
        with pytest.raises(click.BadParameter, match="one number"):
            minutes_of(text, learn)
    lengths = []
    place = "workflows.benchmarks.starts_of_runs"
    monkeypatch.setattr(f"{place}.finish", lambda folder, *_: folder)
    monkeypatch.setattr(f"{place}.learn", lambda folders, _, __, minutes: lengths.append((len(folders), minutes)))
    runs = [tmp_path / f"run{n}" for n in range(4)]
    for run in runs:
        run.mkdir()
    plan = Plan("true", learn=(1, 3), minutes=(0.5, 2), keep=1, routes=())
    assert bench_starts(runs, tmp_path / "work", plan) == []
    assert lengths == [(1, 0.5), (3, 2)]


def test_a_run_that_has_inputs_alone_is_made_before_it_is_learned_from(tmp_path):
    """ABACUS's input without results looks like a run; learning would leave it out in silence."""
    run = tmp_path / "si2"
    shutil.copytree(unpacked("abacus", "si2"), run)
    assert has_matrices(run)
    for folder in run.glob("OUT.*"):
        shutil.rmtree(folder)
    assert not has_matrices(run)


def test_inputs_are_known_by_their_names_and_then_by_their_contents(tmp_path):
    (tmp_path / "plain.in").write_text("# mesh\n1 1 1\n")
    (tmp_path / "lattice.dat").write_text("1 2 3\n")
    assert code_of_input(tmp_path / "lattice.dat") == "openmx"
    assert code_of_input(tmp_path) == "plain"
    (tmp_path / "INPUT").write_text("INPUT_PARAMETERS\nnspin 1\n")
    with pytest.raises(Refused, match="inputs of abacus and plain"):
        code_of_input(tmp_path)
    (tmp_path / "INPUT").write_text("notes\n")
    assert code_of_input(tmp_path) == "plain"
    assert code_of_input(tmp_path / "lattice.dat") == "openmx"


def test_the_benchmark_of_starts_stands_defaults_that_fail(tmp_path, monkeypatch):
    """Where the code's default never converges, a start that does is a success without a gain; the matrices in which it ended tell the errors."""
    runs = inputs_in(tmp_path, range(2))
    (frame,) = frames_in("plain", plain_files() / "chains" / "ch")
    history = {"config": {"time": "2m"}, "progress": {"step": 7}}
    read = []
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: "a model")
    monkeypatch.setattr("slem_plugin.checkpoint.load_checkpoint", lambda path: (SimpleNamespace(history=history), None))
    monkeypatch.setattr("slem_plugin.prediction.predict", lambda model, atoms: frame)
    place = "workflows.benchmarks.starts_of_runs"
    monkeypatch.setattr(f"{place}.train_quietly", lambda *_: None)
    monkeypatch.setattr(f"{place}.evaluate_dataset", lambda _, data, *__: read.append(runs_in(data)) or {})
    fails = "case $PWD in *-slem-default) rm -f matrices.txt; exit 1;; esac"
    command = f"{sys.executable} {plain_program.__file__} .; {fails}"
    (row,) = bench_starts(runs, tmp_path / "work", Plan(command, learn=(1,), keep=1, routes=("dm",)))
    assert (row["runs"], row["wrong"], row["default not converged"], row["saved"]) == (1, 0, 1, "")
    assert row["iterations"] == 1
    assert math.isnan(row["default"])
    assert math.isnan(row["own matrices"])
    assert read == [1]
