"""Commands as they are typed, without -o: what they make is named after their input, and nothing is written over."""

import json

import pytest
from click.testing import CliRunner

from converters.storage.dataset import Dataset
from tests.pyscf_runs import hydrogen_runs
from workflows.cli import main


def slem(*words):
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return hydrogen_runs(tmp_path_factory.mktemp("runs") / "dft_output", 3, basis="6-31g")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_commands_find_names(runs, here):
    code, out, err = slem("convert", f"{runs}/")
    assert code == 0
    assert "3 new frames in dft_output.h5" in out
    assert err == "writing into dft_output.h5; -o gives another name\n"
    code, out, err = slem("train", "dft_output.h5", "--steps", 2, "--validate", "0", "--json")
    assert (code, json.loads(out)["model"]) == (0, "dft_output.model")
    with Dataset("dft_output.h5") as data:
        data[1].atoms.write("new.xyz")
    for words, made in (
        (("predict", "dft_output.model", "new.xyz"), "new.predicted.h5"),
        (("overlap", "new.xyz", "--basis", "dft_output.h5"), "new.overlap.h5"),
        (("report", "dft_output.model", "dft_output.h5"), "dft_output.report.html"),
        (("export", "dft_output.h5", "--into", runs / "h0"), "dft_output.start"),
    ):
        code, out, err = slem(*words)
        assert code == 0, err
        assert made in out
        assert f"writing into {made}" in err
    made = {path.name for path in here.iterdir()}
    assert made == {
        "dft_output.h5", "dft_output.model", "dft_output.report.html",
        "new.xyz", "new.predicted.h5", "new.overlap.h5", "dft_output.start",
    }  # fmt: skip


def test_the_same_conversion_goes_on_and_another_is_not_mixed_in(runs, here):
    assert slem("convert", runs)[0] == 0
    assert "3 there already" in slem("convert", runs)[1]
    other = hydrogen_runs(here / "elsewhere" / "dft_output", 1, basis="6-31g")
    before = (here / "dft_output.h5").read_bytes()
    code, _, err = slem("convert", other)
    assert code == 1
    assert "which is none of these runs; say with -o that they are to be added" in err
    assert (here / "dft_output.h5").read_bytes() == before
    code, out, _ = slem("convert", runs / "h0", runs / "h2")
    assert (code, "2 new frames in data.h5" in out) == (0, True)


@pytest.mark.parametrize("name", ["data.report.html", "data.start"])
def test_nothing_is_written_over(name, here):
    (here / "data.h5").touch()
    (here / name).write_text("mine")
    words = ("report", here, here / "data.h5") if name.endswith("html") else ("export", here / "data.h5")
    code, _, err = slem(*words)
    assert code == 1
    assert f"{name}: exists already; give another name with -o" in err
    assert (here / name).read_text() == "mine"


def test_a_training_is_not_written_over(runs, here):
    assert slem("convert", runs)[0] == 0
    assert slem("train", "dft_output.h5", "--steps", 1, "--validate", "0")[0] == 0
    before = (here / "dft_output.model" / "best.safetensors").read_bytes()
    code, _, err = slem("train", "dft_output.h5", "--steps", 1)
    assert code == 1
    assert "--resume" in err
    assert (here / "dft_output.model" / "best.safetensors").read_bytes() == before
