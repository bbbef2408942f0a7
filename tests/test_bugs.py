"""A bug of ours, planted in a reader: it is called one, it costs its own run alone, and its traceback is there for who asks."""

import json
import shutil

import pytest
from click.testing import CliRunner

import converters.pyscf
from converters.storage.dataset import Dataset
from tests.pyscf_runs import hydrogen_runs
from workflows.cli import main


def slem(*words):
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return hydrogen_runs(tmp_path_factory.mktemp("runs"), 3, basis="6-31g")


@pytest.fixture
def planted(monkeypatch):
    """The reader of PySCF's runs takes a word for a number in the second of three runs."""
    real = converters.pyscf.read_run

    def read_run(run):
        if run.main.parent.name == "h1":
            sum(["a word"])
        yield from real(run)

    monkeypatch.setattr(converters.pyscf, "read_run", read_run)


@pytest.mark.usefixtures("planted")
class TestPlanted:
    @pytest.mark.parametrize("debug", [False, True])
    @pytest.mark.parametrize("jobs", [1, 2])
    def test_a_conversion_reports_it_and_goes_on(self, runs, tmp_path, jobs, debug):
        code, out, err = slem("convert", runs, "-o", tmp_path / "data.h5", "-j", jobs, *["--debug"] * debug)
        said = " ".join(out.split())
        assert (code, err) == (1, "")
        assert "2 converted, 1 internal error; 2 new frames" in said
        assert "TypeError" in said
        assert "is a bug of slem" in said
        assert ("Traceback" in out) is debug
        assert ("in read_run" in out) is debug
        with Dataset(tmp_path / "data.h5") as data:
            assert len(data) == 2

    def test_programs_hear_of_it(self, runs, tmp_path):
        code, out, _ = slem("convert", runs, "-o", tmp_path / "data.h5", "--json")
        assert code == 1
        assert [entry["status"] for entry in json.loads(out)["inputs"]] == ["converted", "internal error", "converted"]

    @pytest.mark.parametrize("debug", [False, True])
    def test_a_check_reports_it_and_goes_on(self, runs, debug):
        code, out, err = slem("check", runs, *["--debug"] * debug)
        assert (code, err) == (1, "")
        assert "2 of 3 sound" in out
        assert "h1/run.chk: made this program fail (TypeError" in out
        assert "This is a bug of slem, not a fault of your files" in out
        assert ("Traceback" in out) is debug
        assert ("in read_run" in out) is debug


def test_cures_stand_under_their_lines(runs, tmp_path):
    """One that two neighbours share stands under the second."""
    folder = shutil.copytree(runs, tmp_path / "runs")
    for name in ("h0", "h1"):
        (folder / name / "run.chk").write_bytes((folder / name / "run.chk").read_bytes()[:-3000])
    _, out, _ = slem("check", folder)
    lines = [line for line in out.splitlines() if "runs/h" in line or line.startswith("  ")]
    assert ["runs/h0" in lines[0], "runs/h1" in lines[1], lines[2].startswith("  Copy the file again")] == [True] * 3
