"""DM on a mesh on which it is local: the run's own comes back from it, and what is learned of it says so."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from basis.spin import Spin
from converters.frames.neighbours import Structure
from converters.frames.origin import Made
from converters.physics.checks import CHANGED, check_frame
from converters.physics.kspace import Filling, mesh_of_points, mesh_points, places_of, uniform_mesh
from converters.physics.locality import (
    LEFT,
    density_on,
    heights,
    how_filled,
    local_density,
    mean_difference,
    mesh_of_length,
    mesh_of_run,
    repeated_onsite,
)
from converters.starts import meshes
from converters.starts.density import Sampling
from converters.starts.fit import sampling_of
from converters.starts.meshes import density_on_mesh
from converters.storage.dataset import Dataset
from slem_plugin.checkpoint import load_model
from slem_plugin.learning.survey import Survey
from tests.fixtures import DATA, frames_of, unpacked
from workflows.commands.data import convert_command
from workflows.convert import mesh_named
from workflows.terminal.show_training import notes_of


@pytest.fixture(scope="module")
def run():
    """PtSe2 of SIESTA on 3x3x1 k-points, gapped."""
    return frames_of("siesta", "ptse2")[0]


@pytest.fixture(scope="module")
def local(run):
    return local_density(run)


def test_the_mesh_of_the_run_is_found_and_gives_the_density_of_the_code(run):
    mesh = mesh_of_run(run)
    assert mesh.name == "3x3x1"
    assert mean_difference(run, run["DM"], density_on(run, mesh, how_filled(run)[1])) < 1e-7


def test_far_blocks_of_the_run_are_those_of_near_images_and_vanish_on_a_dense_mesh(run, local):
    far, near = (run.block("DM", 0, 0, R) for R in ((0, 3, 0), (0, 0, 0)))
    stored = far != 0
    assert np.abs(far[stored]).max() > 0.5
    np.testing.assert_allclose(far[stored], near[stored], atol=1e-12)  # the supercell of the mesh has three cells
    assert np.abs(local.block("DM", 0, 0, (0, 3, 0))).max() < 0.02
    assert set(map(abs, repeated_onsite(run))) == {0, 3}
    assert repeated_onsite(local) == repeated_onsite(frames_of("siesta", "h2o")[0]) == ()
    notes = notes_of(
        SimpleNamespace(blueprint=SimpleNamespace(mesh=None, unreached=0), history={"DM repeated at": [0, 3, 0]})
    )
    assert "--dm-mesh auto" in notes[0]


def test_a_dense_mesh_is_chosen_and_said_to_have_been(run, local):
    origin, measured = local.origin("DM"), local.provenance.measured
    assert origin.made is Made.FILLED
    assert origin.mesh == (16, 16, 1)  # nothing reaches across the layers
    assert "on 16x16x1 k-points" in str(origin)
    assert "add 0.004 in the mean to an element of the run's own on 3x3x1 k-points" in str(origin)
    assert measured[LEFT] < 1e-5
    assert local.spectrum is run.spectrum  # the k-points of the run are kept
    checks = {result.name: result for result in check_frame(local)}
    assert all(result.ok is not False for result in checks.values())
    assert checks["DM against f(H, S)"].ok is None  # the same sum again would be no check
    assert checks["images in DM"].found == measured[LEFT]


def test_the_density_of_the_code_comes_back_on_the_mesh_of_the_run(run, local):
    """The truth is the code's own file; without H only the images among the stored pairs are known."""
    sampling = sampling_of(run, None, None)
    back, done = density_on_mesh(local, sampling)
    assert np.abs(back["DM"].values_sx - run["DM"].values_sx)[:, run["DM"].known_x].max() < 1e-6
    assert done.startswith("images add 0.004 to an element of DM in the mean on 3x3x1 k-points")
    assert back.origin("DM").mesh == ()
    assert density_on_mesh(back, sampling) == (back, "")
    rough, _ = density_on_mesh(local, sampling, roughly=True)
    assert mean_difference(run, run["DM"], rough["DM"]) < 0.15 * mean_difference(run, run["DM"], local["DM"])
    bare = replace(local, operators={name: local[name] for name in ("DM", "S")})
    folded, done = density_on_mesh(bare, sampling)
    off = mean_difference(run, run["DM"], folded["DM"])
    assert off < 0.4 * mean_difference(run, run["DM"], local["DM"])
    assert done.endswith("those farther away are left out: there is no H")
    unknown = replace(sampling, kpoints_kc=np.zeros((0, 3)), weights_k=np.zeros(0))
    kept, done = density_on_mesh(local, unknown)
    assert kept is local
    assert done.endswith("the k mesh of the run is not known")
    dense = mesh_points((16, 16, 1), Spin.NONE)
    same, done = density_on_mesh(local, replace(sampling, kpoints_kc=dense[0], weights_k=dense[1]))
    assert same["DM"] is local["DM"]
    assert not done


def test_a_frame_that_is_too_large_for_dense_matrices_keeps_its_density(run, local, monkeypatch):
    monkeypatch.setattr(meshes, "LARGEST_DENSE", run.norb - 1)
    monkeypatch.setattr(meshes.kspace, "dense_at_each", None)
    for operators in (local.operators, {name: local[name] for name in ("DM", "S")}):
        frame = replace(local, operators=operators)
        kept, done = density_on_mesh(frame, sampling_of(run, None, None))
        assert kept is frame
        assert done.endswith(f"stays so: dense matrices of {run.norb} orbitals are too large")


@pytest.mark.parametrize("numbers", [(64, 1, 1), (128, 1, 1), (7, 3, 5), (1, 9, 4), (6, 6, 1), (11, 13, 1)])
@pytest.mark.parametrize("moved", [0, 1e-6, 2e-6, -3e-6])
@pytest.mark.parametrize("steps", [0, 0.5])
def test_k_points_of_a_mesh_are_known_again_beside_their_partners(numbers, moved, steps):
    """Codes print meshes moved by millionths, and of k and -k one or both."""
    whole_kc, _ = uniform_mesh(numbers, moved + steps / np.array(numbers))
    own_kc, partner_kc = np.split(places_of(np.concatenate([whole_kc, -whole_kc])), 2)
    listed_k = [tuple(own_c) <= tuple(partner_c) for own_c, partner_c in zip(own_kc, partner_kc, strict=True)]
    for kpoints_kc in (whole_kc, whole_kc[listed_k]):
        weights_k = np.full(len(kpoints_kc), 1 / len(kpoints_kc))
        completed = Sampling(kpoints_kc, weights_k, Filling(1.0), Spin.NONE).with_partners()
        assert len(completed.kpoints_kc) == len(whole_kc)
        assert tuple(mesh_of_points("", completed.kpoints_kc)) == numbers
        np.testing.assert_allclose(completed.weights_k.sum(), 1)


@pytest.mark.parametrize(("code", "name", "mesh"), [("siesta", "soc", (4, 4, 2)), ("openmx", "skew", (5, 4, 4))])
def test_spinors_collinear_spins_and_meshes_beside_gamma_come_back_too(code, name, mesh):
    (frame,) = frames_of(code, name)
    made = local_density(frame, mesh)
    assert made.origin("DM").mesh == mesh
    back, _ = density_on_mesh(made, sampling_of(frame, None, None))
    known_x = slice(None) if frame["DM"].known_x is None else frame["DM"].known_x
    away, off = (np.abs(one["DM"].values_sx - frame["DM"].values_sx)[:, known_x].max() for one in (made, back))
    assert off < 1e-4 < 1e-2 < away


@pytest.mark.parametrize(("code", "name"), [("siesta", "h2o"), ("siesta", "si8_outside"), ("abacus", "h2o_gamma_only")])
def test_molecules_and_folded_blocks_stay_as_they_are(code, name):
    frame = frames_of(code, name)[0]
    assert local_density(frame)["DM"] is frame["DM"]
    if name == "si8_outside":
        note = local_density(frame, (2, 2, 2)).provenance.notes[-1]
        assert note == "DM stays that of the run: blocks are sums over the supercell of the k mesh"


def test_a_mesh_has_a_supercell_of_the_length_that_is_asked_for():
    cell_cv = np.array([[4.0, 0, 0], [3.0, 4.0, 0], [0, 0, 20.0]])
    np.testing.assert_allclose(heights(cell_cv), [3.2, 4.0, 20.0])
    assert mesh_of_length(cell_cv, np.array([True, True, False]), 16.0) == (5, 4, 1)


def test_the_command_stores_it_and_a_model_knows_it(tmp_path):
    output = tmp_path / "local.h5"
    folder = str(unpacked("siesta", "ptse2"))
    done = CliRunner().invoke(convert_command, [folder, "-o", str(output), "--dm-mesh", "4x6x1", "--no-basis"])
    assert done.exit_code == 0, done.output
    with Dataset(output) as data:
        frame, facts = data[0], Survey.of(data.outlines()).facts()
    assert frame.origin("DM").mesh == (4, 6, 1)
    assert facts == Survey.of([frame]).facts()
    (images,) = (result for result in check_frame(frame) if result.name == "images in DM")
    assert images.found == frame.provenance.measured[CHANGED] > 1e-3
    assert images.expected.startswith("a mean over its elements, between the k-points of the run and 4x6x1")
    assert facts["supercell"] == pytest.approx((heights(frame.cell_cv) * (4, 6, 1))[:2].min())
    assert "supercell" not in Survey.of([replace(frame, provenance=replace(frame.provenance, origins={}))]).facts()


def test_predictions_of_a_model_of_local_densities_are_local():
    model = load_model(DATA / "golden" / "model-1.safetensors")
    cell_cv, positions_av = np.diag([4.0, 8.0, 30.0]), np.zeros((1, 3))
    crystal = Structure(cell_cv, np.array([True, True, False]), positions_av, np.zeros(1, dtype=int))
    assert model.facts(crystal)["provenance"].origins["DM"].mesh == ()
    model.history["supercell"] = math.inf
    assert model.facts(crystal)["provenance"].origins["DM"].mesh == (15, 8, 1)
    model.history["supercell"] = 24.0
    assert model.facts(crystal)["provenance"].origins["DM"].mesh == (6, 3, 1)
    molecule = replace(crystal, pbc_c=np.zeros(3, dtype=bool))
    assert model.facts(molecule)["provenance"].origins["DM"].mesh == ()


def test_what_is_no_mesh_is_refused():
    assert mesh_named("9x9x1") == (9, 9, 1)
    for text in ("9x9", "0x1x1", "fine"):
        done = CliRunner().invoke(convert_command, [str(unpacked("siesta", "h2o")), "--dm-mesh", text])
        assert done.exit_code == 1
        assert f'is "{text}"; expected run, auto or a mesh such as 9x9x9' in done.output
