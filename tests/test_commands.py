"""The commands for data as a user meets them: what they print, what they refuse, how they end; help and benchmarks."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pyscf import gto, scf

import workflows.convert
from converters.frames.blocks import Operator
from converters.pyscf import frame_from_scf
from converters.runs import search
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from tests.fixtures import unpacked
from workflows.benchmarks import curve
from workflows.benchmarks import model as bench_model
from workflows.benchmarks.record import command_line
from workflows.cli import main
from workflows.demo import run_demo
from workflows.processes.engines import Lost, Processes
from workflows.terminal.show import show_rows

ROOT = Path(__file__).parent.parent


def slem(*arguments):
    """Exit code, stdout and stderr of `slem` with these arguments."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def hydrogen(folder, distance, name="run.chk"):
    folder.mkdir(parents=True, exist_ok=True)
    mf = scf.RHF(gto.M(atom=f"H 0 0 0; H 0 0 {distance}", basis="6-31g", verbose=0))
    mf.chkfile = str(folder / name)
    mf.kernel()
    return mf


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for n in range(4):
        hydrogen(folder / f"h{n}", 0.7 + 0.05 * n)
    return folder


def test_convert_check_info(runs, tmp_path):
    data = tmp_path / "data.h5"
    code, out, err = slem("convert", runs, "-o", data)
    assert (code, err) == (0, "")
    assert "4 converted; 4 new frames" in out
    code, out, _ = slem("check", data)
    assert code == 0
    assert "4 of 4 sound" in out
    electrons = next(line for line in out.splitlines() if "Tr(DM S) = electrons" in line)
    assert abs(float(electrons.split()[5])) < 1e-8  # what is shown is how far off the worst frame is
    code, out, _ = slem("info", data, "--json")
    facts = json.loads(out)
    assert (code, facts["frames"], facts["code"]) == (0, 4, "pyscf")
    assert facts["species"][0].startswith("H 2s (gto-")
    assert facts["frames with"] == {"H": 4, "S": 4, "DM": 4}
    assert "H 2s (gto-" in slem("info", data)[1]


def test_order_is_kept_and_nothing_is_read_twice(runs, tmp_path):
    data = tmp_path / "data.h5"
    paths = [runs / f"h{n}" for n in (2, 0, 3, 1)]
    assert slem("convert", paths[0], paths[1], "-o", data)[0] == 0
    code, out, _ = slem("convert", *paths, "-o", data, "-j", 2, "--json")
    report = json.loads(out)
    assert code == 0
    assert [entry["status"] for entry in report["inputs"]] == ["there already"] * 2 + ["converted"] * 2
    with Dataset(data) as frames:
        assert [Path(frame.provenance.path).parent for frame in frames] == paths
    before = data.read_bytes()
    copy = shutil.copytree(runs / "h1", tmp_path / "moved")
    assert "5 there already" in slem("convert", *paths, copy, "-o", data)[1]
    assert data.read_bytes() == before


def test_folders_are_read_in_the_order_in_which_people_count(runs, tmp_path):
    names = ["md_2", "md_10", "md_10b", "md_100", "x"]
    for name in names[::-1]:
        shutil.copytree(runs / "h1", tmp_path / "runs" / name)
    found = [run.folder.name for run in search(tmp_path / "runs", ["pyscf"])]
    assert found == names


def bad_folders(tmp_path, monkeypatch):
    """Inputs that cannot be used, each with what the user must be told."""
    good = hydrogen(tmp_path / "a_good", 0.74)
    (tmp_path / "b_cut").mkdir()
    content = (tmp_path / "a_good" / "run.chk").read_bytes()
    (tmp_path / "b_cut" / "run.chk").write_bytes(content[: len(content) - 9000])
    for name, key, change in [
        ("c_nan", "mo_energy", lambda a: np.where(np.arange(len(a)) == 1, np.nan, a)),
        ("d_trace", "mo_occ", lambda a: a * 1.01),
        ("e_levels", "mo_coeff", lambda a: a * 1.1),
    ]:
        shutil.copytree(tmp_path / "a_good", tmp_path / name)
        with h5py.File(tmp_path / name / "run.chk", "r+") as file:
            file[f"scf/{key}"][...] = change(file[f"scf/{key}"][()])
    (tmp_path / "f_locked").mkdir()
    real = os.scandir

    def scandir(path="."):
        if str(path).endswith("f_locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    hydrogen(tmp_path / "z_good", 0.8)
    return good


def test_bad_inputs_are_refused_and_the_others_converted(tmp_path, monkeypatch):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    bad_folders(inputs, monkeypatch)
    code, out, err = slem("convert", inputs, "-o", tmp_path / "data.h5", "--json")
    assert (code, err) == (1, "")
    report = {Path(entry["path"]).relative_to(inputs).parts[0]: entry for entry in json.loads(out)["inputs"]}
    reasons = {name: entry["reason"] for name, entry in report.items() if entry["status"] == "refused"}
    assert set(reasons) == {"b_cut", "c_nan", "d_trace", "e_levels", "f_locked"}
    assert "is cut off" in reasons["b_cut"]
    assert "has a NaN or infinity in its orbital energies" in reasons["c_nan"]
    assert "has 2.02 electrons in its levels; expected 2" in reasons["d_trace"]
    assert "Tr(DM S) = electrons: 2.42 (expected 2" in reasons["e_levels"]
    assert reasons["f_locked"] == "cannot be searched: permission denied"
    with Dataset(tmp_path / "data.h5") as data:
        assert [Path(frame.provenance.path).parent.name for frame in data] == ["a_good", "z_good"]


def test_a_cut_checkpoint_is_named(tmp_path):
    hydrogen(tmp_path, 0.74)
    content = (tmp_path / "run.chk").read_bytes()
    (tmp_path / "run.chk").write_bytes(content[:-9000])
    code, out, _ = slem("convert", tmp_path, "-o", tmp_path / "data.h5")
    assert code == 1
    assert "run.chk" in out
    assert "is cut off" in out


def test_two_codes_in_one_folder_are_not_guessed(tmp_path):
    hydrogen(tmp_path / "both", 0.74)
    shutil.copy(next(unpacked("openmx", "h2o").glob("*.scfout")), tmp_path / "both")
    hydrogen(tmp_path / "good", 0.74)
    code, out, _ = slem("convert", tmp_path, "-o", tmp_path / "data.h5")
    assert code == 1
    assert "holds runs of openmx and pyscf; expected one code" in " ".join(out.split())
    assert "1 converted, 1 refused" in out
    assert slem("convert", tmp_path / "both", "-o", tmp_path / "data.h5", "--code", "pyscf")[0] == 0


def test_a_folder_that_breaks_the_search_stops_no_other(tmp_path, monkeypatch):
    hydrogen(tmp_path / "a", 0.74)
    hydrogen(tmp_path / "b", 0.8)

    def search_badly(folder, files):
        if folder.name == "a":
            raise RuntimeError("bad heap free list")
        return iter(())

    monkeypatch.setattr("converters.siesta.find_runs", search_badly)
    code, out, _ = slem("convert", tmp_path, "-o", tmp_path / "data.h5", "--json")
    entries = json.loads(out)["inputs"]
    assert code == 1
    assert [entry["status"] for entry in entries] == ["internal error", "converted"]
    assert "RuntimeError: bad heap free list" in entries[0]["reason"]


def test_nothing_to_read_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, _ = slem("convert", tmp_path / "empty", "-o", tmp_path / "data.h5")
    assert code == 1
    assert "holds nothing to read; expected runs of" in out
    assert not (tmp_path / "data.h5").exists()


def test_check_finds_bad_physics(tmp_path):
    frame = frame_from_scf(hydrogen(tmp_path, 0.74))
    broken = {
        "NaN": ("H", lambda x: np.where(np.arange(x.shape[1]) == 2, np.nan, x), "finite numbers"),
        "skew": ("H", lambda x: x + np.where(np.arange(x.shape[1]) == 1, 1.0, 0.0), "H Hermitian"),
        "trace": ("DM", lambda x: 1.1 * x, "Tr(DM S)"),
        "negative": ("S", lambda x: np.where(np.arange(x.shape[1]) == 5, 9.0, x), "S positive definite"),
    }
    for name, (operator, change, check) in broken.items():
        data = tmp_path / f"{name}.h5"
        values = Operator(change(frame.operators[operator].values_sx))
        with DatasetWriter(data) as writer:
            writer.append(frame)
            writer.append(replace(frame, operators={**frame.operators, operator: values}))
        code, out, _ = slem("check", data)
        assert code == 1
        assert f"{data} frame 1: {check}" in out
        assert "1 of 2 sound" in out


@pytest.mark.parametrize("place", [np.nan, 1e300])
def test_check_finds_atoms_that_are_nowhere(tmp_path, place):
    frame = frame_from_scf(hydrogen(tmp_path, 0.74))
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(replace(frame, positions_av=frame.positions_av + place))
    code, out, _ = slem("check", tmp_path / "data.h5")
    assert code == 1
    assert "frame 0: finite numbers" in out
    assert "found in positions" in out


def test_strict_refuses_what_cannot_be_known(runs, tmp_path):
    code, out, _ = slem("convert", runs / "h0", "-o", tmp_path / "data.h5", "--strict")
    assert code == 1
    assert "converged could not be checked: the files do not say whether the SCF converged" in out


def test_wrong_files_end_in_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("no dataset")
    for verb in ("info", "check"):
        code, out, err = slem(verb, tmp_path / "text.h5")
        assert code == 1
        assert "text.h5: is not an HDF5 file" in out + err
        assert "Traceback" not in out + err
    code, _, err = slem("convert", tmp_path, "-o", tmp_path / "text.h5")
    assert code == 1
    assert "text.h5: is not an HDF5 file" in err
    code, _, err = slem("convert", tmp_path, "-o", tmp_path / "no" / "data.h5")
    assert "lies in a folder that does not exist" in err


def test_wrong_usage_is_2(tmp_path):
    assert slem("convert")[0] == 2
    assert slem("convert", tmp_path / "missing", "-o", "x.h5")[0] == 2
    assert slem("nonsense")[0] == 2


def test_debug_shows_where_an_error_came_from(tmp_path):
    (tmp_path / "text.h5").write_text("no dataset")
    result = CliRunner().invoke(main, ["info", str(tmp_path / "text.h5"), "--debug"])
    assert "not an HDF5 file" in str(result.exception)


def test_a_run_of_another_code_has_not_those_of_most_refused(runs, tmp_path):
    """ABACUS comes before PySCF in all lists."""
    shutil.copytree(runs, tmp_path / "mixed" / "z")
    shutil.copytree(unpacked("abacus", "si2"), tmp_path / "mixed" / "a test")
    code, out, _ = slem("convert", tmp_path / "mixed", "-o", tmp_path / "data.h5", "--json")
    assert code == 1
    refused = [run for run in json.loads(out)["inputs"] if run["status"] == "refused"]
    assert [run["code"] for run in refused] == ["abacus"]
    assert frames_in(tmp_path / "data.h5") == 4


def end_process(run):
    if run.main.parent.name == "h1":
        os._exit(9)
    return workflows.convert.read_new(run, frozenset(), workflows.convert.Options())


def test_a_reader_that_dies_takes_no_other_along(runs):
    items = workflows.convert.find([runs], ["pyscf"])
    with Processes(2, "fork") as engine:
        results = dict(engine.run(end_process, items))
    lost = {run.main.parent.name: result for run, result in results.items() if not isinstance(result, list)}
    assert list(lost) == ["h1"]
    assert isinstance(lost["h1"], Lost)


def double_after_a_death(item, place):
    """Twice a number; the first process that is asked for 1 dies, which is seen before more is handed out."""
    if item == 1 and not place.exists():
        place.touch()
        os._exit(9)
    return 2 * item


def slowly(numbers, place):
    """Numbers, the later ones only when the process has died."""
    for number in numbers:
        if number > 1:
            until = time.monotonic() + 20
            while not place.exists() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.3)  # the pool notices
        yield number


def test_a_death_between_two_items_takes_none_along(tmp_path):
    place = tmp_path / "died"
    with Processes(2, "fork") as engine:
        results = dict(engine.run(partial(double_after_a_death, place=place), slowly(range(5), place)))
    assert results == {number: 2 * number for number in range(5)}


def frames_in(path):
    """Frames that are committed, without a lock that would disturb the writer; none while the file is being made."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return len(file["frames/ends"])
    except (OSError, KeyError, RuntimeError):
        return 0


def test_an_interrupted_conversion_goes_on(tmp_path):
    runs = tmp_path / "runs"
    for n in range(12):
        hydrogen(runs / f"h{n:02}", 0.7 + 0.02 * n)
    whole, data = tmp_path / "whole.h5", tmp_path / "data.h5"
    assert slem("convert", runs, "-o", whole)[0] == 0
    left = [0]
    for _ in range(2):
        command = [sys.executable, "-m", "workflows", "convert", str(runs), "-o", str(data)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None and frames_in(data) <= left[-1]:
            time.sleep(0.001)
        process.kill()
        process.wait()
        with Dataset(data) as stored:
            left.append(len(stored))
    assert 0 < left[1] < 12, "the first kill came while it was working"
    assert left == sorted(left)
    assert slem("convert", runs, "-o", data)[0] == 0
    with Dataset(whole) as expected, Dataset(data) as found:
        assert len(found) == 12
        for n in range(12):
            assert found[n].provenance == expected[n].provenance
            np.testing.assert_array_equal(found[n].operators["H"].values_sx, expected[n].operators["H"].values_sx)


def test_benchmark_prints_its_numbers(tmp_path):
    code, out, _ = slem("bench", "dataset", "--frames", "50", "--json", "-o", tmp_path / "dataset.json")
    rows = json.loads(out)
    assert code == 0
    record = json.loads((tmp_path / "dataset.json").read_text())
    assert record["rows"] == rows
    assert date.fromisoformat(record["date"]) <= date.today()
    assert re.search(r", \d+ cores$", record["machine"])
    assert record["command"]
    assert [set(row) for row in rows] == [{"work", "ms", "floor_ms", "ratio"}] * 5


def test_the_record_of_a_benchmark_names_many_paths_by_a_pattern():
    words = ["slem-bench", "starts", "a_00", "a_01", "my runs/b_1", "my runs/c_2", "/x/one", "--cmd", "a_00"]
    line = command_line(words, [Path(word) for word in words[2:7]])
    assert line == "slem-bench starts a_0* 'my runs/'* /x/one --cmd a_00"


def test_rows_of_many_numbers_can_be_read(capsys, monkeypatch):
    """Below each other, so that no heading is cut where a terminal has 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"the number that is called {n}" for n in range(25)]
    show_rows("starts", [dict.fromkeys(names, 1 / 3), dict.fromkeys(names, 2)])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.strip() == "starts"
    assert [line.split() for line in lines] == [[*name.split(), "0.333", "2"] for name in names]


def test_benchmark_of_starts_names_its_cases(tmp_path):
    code, _, err = slem("bench", "restart", "--cases", "gold", "--folder", str(tmp_path))
    assert code == 1
    assert "expected water, ethanol" in err


def test_the_dynamics_of_the_learning_curve_follows_its_potential():
    def energy(x_av):
        arms = x_av[1:] - x_av[0]
        lengths = np.linalg.norm(arms, axis=1)
        angle = np.arccos(arms[0] @ arms[1] / lengths.prod())
        falls = 1 - np.exp(-curve.STEEPNESS * (lengths - curve.LENGTH))
        return curve.DEPTH * (falls**2).sum() + curve.STIFFNESS * (angle - curve.ANGLE) ** 2 / 2

    x_av = np.array([[0.0, 0.1, 0.0], [1.8, -0.1, 0.2], [-0.4, 1.8, 0.1]])
    for a, v in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[a, v] = 1e-5
        slope = (energy(x_av + step) - energy(x_av - step)) / 2e-5
        assert curve.water().gradient_at(x_av)[a, v] == pytest.approx(slope, abs=1e-8)


@pytest.mark.slow
def test_demo_runs(tmp_path, monkeypatch):
    """Its commands in this process, but for the runs of PySCF that slem-scf starts."""
    said = []

    def run_here(words):
        code, out, _ = slem(*words)
        said.append(out)
        return code

    monkeypatch.setattr("workflows.demo.run_command", run_here)
    assert run_demo(tmp_path / "demo", frames=3, steps=10, unseen_frames=2, restarted=1, more=1) == 0
    out = "".join(said)
    assert "3 of 3 sound" in out
    assert "mean error by shells" in out
    assert "1 runs compared" in out
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "SCF runs from predictions" in report
    assert "another state" not in report
    assert "1 of 1" in out
    assert "model 1" in (tmp_path / "demo" / "campaign" / "report.html").read_text()


def test_the_demonstration_removes_nothing_but_its_own(tmp_path):
    (tmp_path / "thesis.tex").touch()
    code, _, err = slem("demo", "--folder", tmp_path)
    assert code == 1
    assert "holds something else" in err
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("verb", main.commands)
def test_help_has_examples(verb):
    code, out, _ = slem(verb, "--help")
    assert code == 0
    assert f"Examples:\n    slem{' ' if verb == 'demo' else '-'}{verb}" in out


def test_every_command_is_listed_in_one_whole_line():
    listed = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    lines = listed[listed.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(main.commands)
    assert all(line.endswith(".") and "..." not in line and len(line) <= 80 for line in lines), listed


def test_bench_model_names_its_columns(monkeypatch):
    monkeypatch.setattr(bench_model, "CASES", bench_model.CASES[-1:])
    monkeypatch.setattr(bench_model, "in_process", bench_model.measure)  # both rows in this process
    code, out, _ = slem("bench", "model", "--json")
    assert code == 0
    for row in json.loads(out):
        assert list(row) == ["name", "cpu_seconds", "floor_seconds", "peak_mib", "edges", "parameters"]
        assert row["edges"] == 72
        assert 0 < row["floor_seconds"] < row["cpu_seconds"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_bench_model_on_a_missing_gpu_says_so():
    code, _, err = slem("bench", "model", "--device", "cuda")
    assert code != 0
    assert "finds no GPU" in err
