"""The public face: what `import slem_plugin as slem` gives, and that it is good to call."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from click.testing import CliRunner
from pyscf import gto, scf

import slem_plugin as slem
from slem_plugin.accuracy import Errors
from tests.fixtures import unpacked
from workflows.terminal.show_training import notes_of

ROOT = Path(__file__).parent.parent


def test_torch_waits_for_a_model():
    code = (
        "import sys, slem_plugin as slem\n"
        "assert 'numpy' not in sys.modules\n"
        "slem.Dataset, slem.Frame, slem.Refused, slem.read, slem.convert, slem.check, slem.export, slem.bands, slem.train, slem.predict\n"
        "assert 'torch' not in sys.modules\n"
        "slem.load_model\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_checkers_see_the_names_that_python_finds():
    tree = ast.parse((ROOT / "slem_plugin" / "__init__.py").read_text())
    typed = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in ("typing", "importlib")
        for alias in node.names
    }
    assert typed == slem.HOMES
    for name, home in slem.HOMES.items():
        assert getattr(slem, name) is getattr(importlib.import_module(home), name)
        assert name in dir(slem)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        slem.nothing  # noqa: B018


def test_all_packages_are_typed():
    assert all(
        (ROOT / package / "py.typed").exists() for package in ("basis", "converters", "slem_plugin", "workflows")
    )


@pytest.fixture(scope="module")
def silicon(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "si.h5"
    outcomes = slem.convert(str(unpacked("siesta", "si2")), path)
    assert [outcome.status for outcome in outcomes] == ["converted"]
    return path


def test_runs_folders_and_datasets_are_read_alike(silicon):
    (from_run,), (from_data,) = slem.read(unpacked("siesta", "si2")), slem.read(str(silicon))
    assert repr(from_run) == repr(from_data)
    np.testing.assert_array_equal(from_run["H"].values_sx, from_data["H"].values_sx)
    with pytest.raises(slem.Refused, match="does not exist"):
        slem.read("nowhere")
    with pytest.raises(slem.Refused, match="holds nothing to read"):
        slem.read(unpacked("siesta", "si2"), code="pyscf")
    with pytest.raises(slem.Refused, match="expected one of"):
        slem.read(silicon, code="vasp")


def test_checks_of_frames_and_of_paths(silicon):
    (frame,) = slem.read(silicon)
    assert all(result.ok is not False for result in slem.check(frame))
    (report,) = slem.check(silicon)
    assert report.ok
    assert set(report.origins) == {"H", "S", "DM"}


def test_bands_are_drawn_on_axes_of_the_user(silicon):
    from matplotlib.figure import Figure

    (frame,) = slem.read(silicon)
    axes = slem.bands(frame, "GX", points=5).plot(Figure().subplots(), "Si", color="red")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Γ", "X"]
    assert len(axes.lines) == frame.norb


def test_from_runs_to_a_start(tmp_path):
    pandas = pytest.importorskip("pandas")
    with slem.DatasetWriter(tmp_path / "water.h5") as writer:
        for n in (0, 1, 2, 3, 3):  # one twice, as where a cell of a notebook is run again
            atoms = molecule("H2O")
            atoms.rattle(0.05, seed=n)
            mol = gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g", verbose=0)
            writer.append(slem.frame_from_scf(scf.RHF(mol).run()))
    model = slem.train(tmp_path / "water.h5", str(tmp_path / "model"), steps=2, validate="2-3")
    assert model.history["validated and learned"] == [3]
    assert "1 of the validation frames are also among those that are learned" in notes_of(model)[-1]
    predicted = slem.predict(model, atoms)
    again = slem.predict(tmp_path / "model", tmp_path / "water.h5", number=3)
    assert predicted.predicted
    assert predicted.formula == again.formula == "H2O"
    errors = Errors()
    errors.add_frame(slem.read(tmp_path / "water.h5")[3], again)
    rows = pandas.DataFrame(errors.table()).set_index(["operator", "part", "label"])
    assert rows.loc[("H", "all", ""), "mae"] == errors.operators["H"].whole.mae
    assert ("H", "elements", "O-H") in rows.index or ("H", "elements", "H-O") in rows.index
    tensors = slem.to_torch(predicted)
    assert tuple(tensors["H"].shape) == predicted["H"].values_sx.shape
    mf = scf.RHF(mol)
    assert mf.kernel(dm0=slem.pyscf_guess(mf, model, guard=False)) < -74
    mf.chkfile = str(tmp_path / "water.chk")
    mf.run()
    done = slem.export(predicted, tmp_path / "start", into=tmp_path / "water.chk")
    assert done.files
    assert all(path.exists() for path in done.files)
    with pytest.raises(slem.Refused, match='has no key "stepz"; did you mean "steps"'):
        slem.train(tmp_path / "water.h5", tmp_path / "other", stepz=2)


def test_a_block_is_shown_with_its_orbitals_and_its_origin(silicon):
    from workflows.cli import main

    words = ["info", str(silicon), "--frame", "0", "--pair", "1", "0", "--R", "0", "0", "0", "--matrix", "S"]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0, shown.output
    for word in ("Si1 3", "p_y", "from si2.TSHS", "order and signs of this program", "code's own matrices"):
        assert word in shown.output
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    (frame,) = slem.read(silicon)
    np.testing.assert_array_equal(found["block"]["components"]["value"], frame.block("S", 1, 0)[0])
    wrong = CliRunner().invoke(main, ["info", str(silicon), "--frame", "0", "--pair", "0", "7"])
    assert wrong.exit_code == 1
    assert "has 2 atoms and no atom 7" in wrong.output


def test_what_a_magnetic_run_printed_is_shown_and_has_its_moment_on_its_atoms():
    """Iron of SIESTA: the moment and the Fermi level that it printed."""
    from workflows.frame_info import Look

    (frame,) = slem.read(unpacked("siesta", "spin"))
    assert Look("iron", frame, None).facts["moment"] == pytest.approx(2.27291, abs=1e-4)
    up, down = slem.populations(frame)
    assert (up - down).sum() == pytest.approx(2.27291, abs=1e-4)
    bands = slem.bands(frame, "GH", points=2)
    assert repr(bands).startswith("<bands: 15 levels at 2 k-points, 2 spins, ")
