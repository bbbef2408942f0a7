"""Commands for models as a user meets them: train, predict, eval; and the files of structures that they read."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from scipy import linalg

from basis.spin import Spin
from converters.errors import Refused
from converters.frames.neighbours import structure_of
from converters.physics import kspace
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import load_model
from slem_plugin.prediction import predict
from tests.fixtures import unpacked
from tests.test_commands import hydrogen, slem
from workflows.structures import read_structures


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for n in range(4):
        hydrogen(folder / f"h{n}", 0.7 + 0.05 * n)
    return folder


@pytest.fixture(scope="module")
def dataset(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    assert slem("convert", runs, "-o", path)[0] == 0
    return path


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    options = ["--steps", 30, "--validate", "3", "--seed", 1]
    code, out, err = slem("train", dataset, "-o", folder, *options)
    assert (code, err) == (0, "")
    assert "learning H, DM from 3 frames, checked on 1" in out
    assert "meV" in out
    return folder


def error_of_lowest_level(model_path, path):
    """How far the one occupied level of each H2 moves, on average, when the predicted H replaces the run's; eV."""
    model, errors = load_model(model_path), []
    with Dataset(path) as data:
        for frame in data:
            H, S = (kspace.dense_at(frame, name, np.zeros(3))[0].real for name in "HS")
            predicted = kspace.dense_at(predict(model, structure_of(frame)), "H", np.zeros(3))[0].real
            levels = [linalg.eigh(one, S, eigvals_only=True)[0] for one in (H, predicted)]
            errors.append(abs(levels[0] - levels[1]))
    return np.mean(errors)


def test_train_predict_eval(model, dataset, tmp_path):
    assert {path.name for path in model.iterdir()} >= {"best.safetensors", "last.safetensors", "log.csv"}
    structure = tmp_path / "h2.xyz"
    write(structure, [Atoms("H2", [[0, 0, 0], [0.1, 0, d]]) for d in (0.74, 0.8)])
    pred = tmp_path / "pred.h5"
    code, out, _ = slem("predict", model, structure, "-o", pred)
    assert code == 0
    assert "H, S, DM of 2 structures" in out
    assert "H - DM" in out
    with Dataset(pred) as data:
        assert [len(data), data.code, data[1].spin] == [2, "pyscf", Spin.NONE]
    code, out, _ = slem("info", model)
    assert code == 0
    assert "2 layers of 32x0e" in out
    code, out, _ = slem("eval", model, dataset, "--json")
    errors = json.loads(out)
    assert code == 0
    for name in ("H", "S", "DM"):
        assert {"mae", "mae_onsite", "mae_hopping", "rmse", "max"} <= set(errors[name])
    assert errors["S"]["mae"] < 1e-3
    assert errors["bands"]["occupied"] == pytest.approx(error_of_lowest_level(model, dataset), rel=1e-6)
    code, out, _ = slem("eval", model, dataset, "--frames", "3")
    assert code == 0
    assert "mean error by shells" in out
    assert "levels of the predicted H" in out
    assert "electrons apart" in out


def test_a_training_goes_on(dataset, tmp_path):
    folder = tmp_path / "model"
    assert slem("train", dataset, "-o", folder, "--steps", 4, "--json")[0] == 0
    code, _, err = slem("train", dataset, "-o", folder, "--steps", 4)
    assert code == 1
    assert "--resume" in err
    code, out, _ = slem("train", dataset, "-o", folder, "--resume", "--steps", 8, "--json")
    assert code == 0
    assert json.loads(out)["evaluations"][-1]["step"] == 8
    other = tmp_path / "other.h5"
    frame = Dataset(dataset)[0]
    with DatasetWriter(other) as writer:
        writer.append(frame)
    code, _, err = slem("train", other, "-o", folder, "--resume", "--steps", 9)
    assert code == 1
    assert "is not the data" in err


def test_structures_are_read_from_the_files_people_have(tmp_path):
    (stru,) = read_structures(unpacked("abacus", "si2") / "STRU")
    shutil.copy(unpacked("abacus", "si2") / "STRU", tmp_path / "STRU_ION2_D")
    assert list(read_structures(tmp_path / "STRU_ION2_D")) == [stru]
    for name, form in (("a.cif", "cif"), ("POSCAR", "vasp"), ("structure.xyz", "extxyz"), ("STRU_NOW.cif", "cif")):
        write(tmp_path / name, stru, format=form)
        (atoms,) = read_structures(tmp_path / name)
        assert str(atoms.symbols) == str(stru.symbols) == "Si2"
        assert np.abs(atoms.get_all_distances(mic=True) - stru.get_all_distances(mic=True)).max() < 1e-6


def test_an_xyz_file_has_the_atoms_that_it_claims(tmp_path):
    from ase.build import bulk

    path = tmp_path / "two.xyz"
    write(path, [bulk("Si"), bulk("Si") * 2])
    assert [len(atoms) for atoms in read_structures(path)] == [2, 16]
    path.write_text(path.read_text() + "999999999\nnothing\n")
    with pytest.raises(Refused, match="claims 999999999 atoms and ends before the last of them"):
        list(read_structures(path))


def test_a_space_group_that_is_none_is_refused(tmp_path):
    from ase.build import bulk

    path = tmp_path / "si.cif"
    write(path, bulk("Si"))
    path.write_text(path.read_text().replace("_space_group_IT_number       1", "_space_group_IT_number       0"))
    assert "IT_number       0" in path.read_text()
    with pytest.raises(Refused, match="not a structure that ASE can read: SpacegroupNotFoundError"):
        list(read_structures(path))


def test_a_missing_library_is_named(dataset, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "slem_plugin.config", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = slem("train", dataset, "-o", tmp_path / "model")
    assert code == 1
    assert "pip install 'slem-plugin[model]'" in err


def test_an_interrupted_training_says_how_to_go_on(dataset, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("workflows.train.train_folder", interrupt)
    code, _, err = slem("train", dataset, "-o", tmp_path / "model")
    assert code == 130
    assert "--resume" in err


def test_an_overlap_needs_no_training(dataset, tmp_path):
    code, out, _ = slem("train", dataset, "-o", tmp_path / "model", "--operators", "S")
    assert code == 0
    assert "fitted in closed form" in out
    code, out, _ = slem("eval", tmp_path / "model", dataset, "--json")
    assert code == 0
    assert list(json.loads(out)) == ["S"]


def test_what_a_model_refuses(model, dataset, tmp_path):
    write(tmp_path / "he.xyz", Atoms("He"))
    code, _, err = slem("predict", model, tmp_path / "he.xyz", "-o", tmp_path / "p.h5")
    assert (code, err.count("\n")) == (1, 2)
    assert "has He; this model knows H" in err
    (tmp_path / "bad.cif").write_text("nothing")
    code, _, err = slem("predict", model, tmp_path / "bad.cif", "-o", tmp_path / "q.h5")
    assert (code, err.count("\n")) == (1, 2)
    frame = Dataset(dataset)[0]
    for change, words in (
        ({"provenance": replace(frame.provenance, code="siesta")}, "is of siesta; this model was trained on pyscf"),
        ({"basis": (replace(frame.basis[0], radial="other"),)}, "has the basis"),
    ):
        path = tmp_path / f"{len(words)}.h5"
        with DatasetWriter(path) as writer:
            writer.append(replace(frame, **change))
        code, _, err = slem("eval", model, path)
        assert (code, err.count("\n")) == (1, 2)
        assert words in err
    code, _, err = slem("eval", dataset, dataset)
    assert (code, err.count("\n")) == (1, 2)
    code, _, err = slem("info", tmp_path)
    assert (code, err.count("\n")) == (1, 2)
    assert "is a folder without a model" in err
    (tmp_path / "c.toml").write_text("layer = 3")
    code, _, err = slem("train", dataset, "-o", tmp_path / "m", "--config", tmp_path / "c.toml")
    assert (code, err.count("\n")) == (1, 2)
    assert 'did you mean "layers"' in err
