"""S in predictions, conversions and commands: computed where the radial functions are known, and said so."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from click.testing import CliRunner
from pyscf import gto
from scipy.integrate import trapezoid

from basis.radial import table_of_points
from basis.spin import Spin
from converters.frames.neighbours import structure_of
from converters.frames.origin import Made
from converters.physics import kspace
from converters.physics.overlap import Overlap
from converters.pyscf import frame_from_scf
from converters.pyscf.molecule import make_functions
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import load_model, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.samples import make_model
from slem_plugin.network.network import randomise_silent
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from tests.fixtures import unpacked
from tests.pyscf_runs import finished
from tests.test_pieces import CUTOFFS, assert_same_blocks, predicted, spread_out
from workflows.benchmarks import overlap as bench_overlap
from workflows.cli import main
from workflows.predict import Cutting


def slem(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def tables_for(basis, cutoff):
    """Functions of a basis that end at a radius."""
    r = np.linspace(0, cutoff, 60)
    found = []
    for species in basis:
        tables = []
        for n, shell in enumerate(species.shells):
            values = r**shell.l * np.exp(-(0.5 + 0.3 * n) * r**2) * (1 - r / cutoff) ** 2
            values /= np.sqrt(trapezoid(values**2 * r**2, r))
            tables.append(table_of_points(r, values, cutoff, 80.0, 0.0))
        found.append(tuple(tables))
    return tuple(found)


def model_that_knows(folder, cutoff, spin=Spin.NONE, **keys):
    """A checkpoint of a model whose data had radial functions that end at a radius."""
    basis = two_species("2s1p")
    functions = tables_for(basis, cutoff)
    frames = [made_frame(random_structure(n), basis, spin, seed=n, cutoff_ss=CUTOFFS) for n in range(2)]
    config = Config(
        **{"channels": "8x0e+2x0o+4x1o+2x1e+4x2e+2x2o", "latent": 16, "waves": 6, "precision": "float64", **keys}
    )
    model = make_model([replace(frame, functions=functions) for frame in frames], config)
    if model.network is not None:
        randomise_silent(model.network, 0.3)
    save_checkpoint(folder / "knows.safetensors", model)
    save_checkpoint(folder / "learned.safetensors", replace(model, functions=()))
    return folder / "knows.safetensors", folder / "learned.safetensors"


@pytest.mark.parametrize("cutoff", [1.0, 2.7])  # shorter than the learned blocks reach, and farther
@pytest.mark.parametrize(("spin", "operators"), [(Spin.NONE, "H,S,DM"), (Spin.COLLINEAR, "H,DM"), (Spin.SPINOR, "H")])
def test_a_model_that_knows_its_functions_predicts_the_exact_overlap(tmp_path, cutoff, spin, operators):
    knows, learned = (load_model(path) for path in model_that_knows(tmp_path, cutoff, spin, operators=operators))
    atoms = spread_out(20, (9, 8, 9), (True, True, False))
    frame, other = predict(knows, atoms), predict(learned, atoms)
    overlap = Overlap(knows.blueprint.basis, knows.functions)
    assert overlap.difference(frame)[0] < 1e-13
    assert frame.functions == knows.functions
    assert frame.predicted
    assert frame.origin("S").made is Made.INTEGRATED
    assert (other.origin("S").made is Made.PREDICTED) == ("S" in operators)
    assert (len(frame.pairs) > len(other.pairs)) == (cutoff > 2.4)
    # What was learned is as it was, and nothing is said of atoms that only overlap.
    place = frame.pairs.find(other.pairs.i_p, other.pairs.j_p, other.pairs.R_pc)
    assert (place >= 0).all()
    far = np.setdiff1d(np.arange(len(frame.pairs)), place)
    for name in set(other.operators) - {"S"}:
        for p, q in enumerate(place.tolist()):
            np.testing.assert_allclose(frame.block_of_pair(name, q), other.block_of_pair(name, p), atol=1e-12)
        assert not any(frame.block_of_pair(name, int(p)).any() for p in far)


@pytest.mark.parametrize("distance", [None, 5.0, 50.0])
def test_atoms_that_meet_no_other_have_their_onsite_blocks(tmp_path, distance):
    """Alone, with an atom that only overlaps, and with one far away."""
    knows, _ = (load_model(path) for path in model_that_knows(tmp_path, 2.7))
    frame = predict(knows, Atoms("O") if distance is None else Atoms("O2", [[0, 0, 0], [0, 0, distance]]))
    assert len(frame.pairs) == {None: 1, 5.0: 3, 50.0: 2}[distance]
    assert Overlap.of_frame(frame).difference(frame)[0] < 1e-13
    for p, onsite in enumerate(frame.pairs.onsite_p):
        assert frame.block_of_pair("H", p).any() == onsite


def test_data_without_s_gives_predictions_with_it(tmp_path):
    basis = two_species("1s1p")
    frame = made_frame(random_structure(1), basis, Spin.NONE, cutoff_ss=CUTOFFS)
    bare = replace(frame, operators={"H": frame.operators["H"]}, functions=tables_for(basis, 1.5))
    model = make_model([bare], Config(channels="8x0e+4x1o+4x2e", layers=1, latent=16, waves=6, precision="float64"))
    found = predict(model, spread_out(12, (9, 8, 9), (True, True, False)))
    assert set(found.operators) == {"H", "S"}
    assert Overlap.of_frame(found).difference(found)[0] < 1e-13


@pytest.mark.parametrize("cutoff", [1.0, 2.7])
@pytest.mark.parametrize("keys", [{}, {"operators": "H"}, {"operators": "S"}])
def test_pieces_have_the_exact_overlap_too(tmp_path, cutoff, keys):
    model_path, _ = model_that_knows(tmp_path, cutoff, **keys)
    write(tmp_path / "s.xyz", spread_out(40, (12, 8, 9), (True, True, True)))
    outputs = [
        predicted(model_path, tmp_path / "s.xyz", tmp_path / f"{n}.h5", cutting=Cutting(n), double=True) for n in (1, 5)
    ]
    with Dataset(outputs[0]) as one, Dataset(outputs[1]) as other:
        assert_same_blocks(other[0], one[0])
        assert "S" in one[0].operators
        assert Overlap.of_frame(other[0]).difference(other[0])[0] < 1e-13


@pytest.mark.parametrize("pieces", [1, 3])
def test_folded_predictions_have_the_folded_overlap(tmp_path, pieces):
    """A model of a k mesh: the sum over all images, as PySCF's lattice sums have it at the points of the mesh."""
    path, _ = model_that_knows(tmp_path, 2.5)
    model = load_model(path)
    model.blueprint = replace(model.blueprint, mesh=(2, 1, 3))
    save_checkpoint(path, model)
    atoms = spread_out(5, (3.6, 5, 3.1), (True, True, True))
    write(tmp_path / "s.xyz", atoms)
    output = predicted(path, tmp_path / "s.xyz", tmp_path / "p.h5", cutting=Cutting(pieces), double=True)
    overlap = Overlap(model.blueprint.basis, model.functions)
    with Dataset(output) as data:
        frame = data[0]
    whole = overlap.frame(structure_of(frame), "test")
    # Blocks within the cutoff of what was learned are all that a folded frame has.
    farthest = overlap.reach_ss.max()
    assert frame.folded
    assert model.cutoff_ss.min() < farthest
    assert overlap.difference(frame)[0] < 1e-13
    if len(frame.pairs) == len(predict(model, atoms).pairs):
        here, there = (kspace.dense_at(one, "S", np.array([0.5, 0, 1 / 3]))[0] for one in (frame, whole))
        assert np.abs(here - there).max() < 0.2


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    """Checkpoint files of PySCF, which always know their functions."""
    folder = tmp_path_factory.mktemp("molecules")
    for n, bond in enumerate((0.74, 0.8, 0.9)):
        run = folder / f"h{n}"
        run.mkdir()
        atoms = f"H 0 0 0; H 0 0 {bond}; H 0.2 {0.9 + bond} 0; H 1.4 0 {bond}"
        finished(gto.M(atom=atoms, basis="def2-svp", verbose=0), run / "run.chk")
    return folder


def test_conversion_stores_functions_and_says_how_good_they_are(molecules, tmp_path):
    code, out, _ = slem("convert", molecules, "-o", tmp_path / "data.h5")
    assert code == 0
    said = " ".join(out.split())
    assert "radial functions of H from" in said
    assert "run.chk: their S is that of the run to" in said
    with Dataset(tmp_path / "data.h5") as data:
        assert Overlap.of_frame(data[1]).difference(data[1])[0] < 1e-10
    code, out, _ = slem("info", tmp_path / "data.h5")
    assert "known of all species: S can be computed" in " ".join(out.split())
    code, out, _ = slem("check", tmp_path / "data.h5", "--json")
    checks = {check["name"]: check for check in json.loads(out)["frames"][0]["checks"]}
    assert checks["S of the radial functions"]["ok"]
    assert slem("convert", molecules, "-o", tmp_path / "bare.h5", "--no-basis")[0] == 0
    with Dataset(tmp_path / "bare.h5") as data:
        assert data.functions == (None,)


def test_functions_of_another_basis_are_left_out(tmp_path):
    """A file of the right shells and the wrong functions."""
    folder = tmp_path / "run"
    shutil.copytree(unpacked("siesta", "h2o"), folder)
    path = folder / "O.ion.xml"
    text = path.read_text()
    cutoff = re.search(r"<cutoff>\s*(\S+)", text)
    path.write_text(text.replace(cutoff[0], cutoff[0].replace(cutoff[1], f"{1.05 * float(cutoff[1]):.9f}"), 1))
    code, out, _ = slem("convert", folder, "-o", tmp_path / "data.h5")
    assert code == 0
    said = " ".join(out.split())
    assert "O.ion.xml" in said
    assert "are left out: S of the run is not theirs" in said
    assert "most for O 0 and" in said
    with Dataset(tmp_path / "data.h5") as data:
        assert not any(data.functions)


def test_check_finds_an_overlap_that_is_not_that_of_the_functions(molecules, tmp_path):
    mf = finished(gto.M(atom="H 0 0 0; F 0 0 0.9", basis="def2-svp", verbose=0))
    frame = frame_from_scf(mf)
    good = replace(frame, functions=make_functions(mf.mol))
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(good)
    assert slem("check", tmp_path / "data.h5")[0] == 0
    moved = replace(good, positions_av=good.positions_av + np.array([[0, 0, 0], [0, 0, 0.01]]))
    with DatasetWriter(tmp_path / "moved.h5") as writer:
        writer.append(moved)
    code, out, _ = slem("check", tmp_path / "moved.h5")
    assert code == 1
    assert "S of the radial functions" in out


def test_overlap_of_every_kind_of_basis(molecules, tmp_path):
    """Gaussians by name, a run, a dataset and a model: the same S, which is that of PySCF."""
    mol = gto.M(atom="H 0 0 0; H 0 0 0.7; H 0.1 1.6 0; H 1.5 0.1 0.2", basis="def2-svp", verbose=0)
    write(tmp_path / "h4.xyz", read_mol(mol))
    slem("convert", molecules, "-o", tmp_path / "data.h5")
    train = slem("train", tmp_path / "data.h5", "-o", tmp_path / "model", "--operators", "S", "--validate", "1")
    assert train[0] == 0
    expected = frame_from_scf(finished(mol)).operators["S"].values_sx
    for n, source in enumerate(("def2-svp", molecules / "h0", tmp_path / "data.h5", tmp_path / "model")):
        code, out, err = slem("overlap", tmp_path / "h4.xyz", "--basis", source, "-o", tmp_path / f"{n}.h5", "--json")
        assert code == 0, err
        assert json.loads(out)["structures"][0]["lowest"] > 0.01
        with Dataset(tmp_path / f"{n}.h5") as data:
            np.testing.assert_allclose(data[0].operators["S"].values_sx, expected, atol=1e-10)
    code, out, _ = slem("overlap", tmp_path / "data.h5", "--basis", "def2-svp", "-o", tmp_path / "again.h5", "--json")
    assert all(row["difference"] < 1e-10 for row in json.loads(out)["structures"])


def read_mol(mol):
    return Atoms([mol.atom_symbol(a) for a in range(mol.natm)], mol.atom_coords(unit="Ang"))


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["no-such-basis"], "not a file of radial functions, and not a basis that PySCF knows for"),
        (["def2-svp", "def2-tzvp"], "expected one species"),
        (["bare.h5"], "holds no radial functions"),
        (["empty"], "holds nothing to read"),
        (["oxygen.h5"], "has H, for which the basis has nothing"),
    ],
)
def test_what_is_no_basis_is_refused(molecules, tmp_path, sources, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write("h.xyz", read_mol(gto.M(atom="H 0 0 0; H 0 0 0.7", verbose=0)))
    slem("convert", molecules, "-o", "bare.h5", "--no-basis")
    with DatasetWriter("oxygen.h5") as writer:
        mf = finished(gto.M(atom="O 0 0 0", basis="def2-svp", verbose=0))
        writer.append(frame_from_scf(mf))
    chosen = [word for source in sources for word in ("--basis", source)]
    code, _, err = slem("overlap", "h.xyz", *chosen, "-o", "s.h5")
    assert code == 1
    assert words in " ".join(err.split())


def test_an_overlap_without_inverse_is_refused_by_predictions_too(molecules, tmp_path, monkeypatch):
    monkeypatch.setattr("converters.physics.overlap.SMALLEST_EIGENVALUE", 1e-5)
    slem("convert", molecules, "-o", tmp_path / "data.h5")
    assert slem("train", tmp_path / "data.h5", "-o", tmp_path / "model", "--operators", "S", "--validate", "1")[0] == 0
    near = gto.M(atom="H 0 0 0; H 0 0 0.8; H 0 0.0011 0.8; H 1.4 0 0.8", verbose=0)
    write(tmp_path / "near.xyz", read_mol(near))
    code, _, err = slem("predict", tmp_path / "model", tmp_path / "near.xyz", "-o", tmp_path / "p.h5")
    assert code == 1
    assert "not positive definite" in err
    assert "H 1 and H 2 (counted from 0), 0.001 Angstrom apart" in err


def test_the_benchmark_measures_tables_and_gaussians(monkeypatch):
    monkeypatch.setattr(bench_overlap, "SIZES", (8,))
    monkeypatch.setattr(bench_overlap, "MOLECULE", 8)
    code, out, _ = slem("bench", "overlap", "--json")
    assert code == 0
    rows = {row["work"]: row for row in json.loads(out)}
    assert rows["S"]["pairs"] == 352
    assert [float(work.split("(")[1].split()[0]) < 1e-9 for work in rows if "PySCF" in work] == [True]


def test_the_overlap_is_not_written_over_other_data(molecules, tmp_path):
    slem("convert", molecules, "-o", tmp_path / "data.h5")
    code, _, err = slem("overlap", tmp_path / "data.h5", "--basis", "def2-svp", "-o", tmp_path / "data.h5")
    assert code == 1
    assert "holds another overlap for" in err


def test_new_molecules_have_levels_with_no_run_in_reach(molecules, tmp_path):
    """Train on H alone, predict, and solve with the computed S: levels come out, and S is PySCF's."""
    slem("convert", molecules, "-o", tmp_path / "data.h5")
    options = ("--operators", "H", "--steps", "30", "--validate", "1")
    assert slem("train", tmp_path / "data.h5", "-o", tmp_path / "model", *options)[0] == 0
    mol = gto.M(atom="H 0 0 0; H 0 0 0.77; H 0.2 1.7 0; H 1.4 0 0.8", basis="def2-svp", verbose=0)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copytree(tmp_path / "model", alone / "model")
    write(alone / "new.xyz", read_mol(mol))
    code, out, err = slem("predict", alone / "model", alone / "new.xyz", "-o", alone / "p.h5")
    assert code == 0, err
    assert "S is computed from the radial functions" in " ".join(out.split())
    with Dataset(alone / "p.h5") as data:
        frame = data[0]
    exact = frame_from_scf(finished(mol))
    np.testing.assert_allclose(frame.operators["S"].values_sx, exact.operators["S"].values_sx, atol=1e-10)
    here, there = (kspace.eigenvalues(one, np.zeros((1, 3)))[0, 0, :2] for one in (frame, exact))
    np.testing.assert_allclose(here, there, atol=1.0)
    assert read(alone / "new.xyz").get_chemical_formula() == frame.formula
