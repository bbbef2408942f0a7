"""Starts of ABACUS and SIESTA: files that the codes accepted, or that they wrote themselves."""

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from converters.abacus import csr
from converters.abacus import restart as abacus
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.folding import image_weights
from converters.frames.frame import Provenance
from converters.physics.kspace import places_of, supercell_of_points
from converters.siesta import restart as siesta
from converters.siesta.sparse import read_density_file
from converters.starts.agreement import levels_of
from converters.starts.fit import fit_to_target, sampling_of
from converters.starts.start import Options
from converters.starts.symmetry import has_turns
from converters.starts.targets import find_target
from tests.distributions import distributed
from tests.fixtures import frames_of, unpacked
from tests.test_export import accepted, exported
from workflows.export import Request
from workflows.scf.queues import Here
from workflows.scf.run_folders import Job, run_folders


# ABACUS
@pytest.mark.parametrize(
    ("name", "made_from"),
    [("si2_dm", "si2"), ("soc_gaas_dm", "soc_gaas"), ("h2o_gamma_only_dm", "h2o_gamma_only")],
)
def test_abacus_gets_the_matrix_that_it_accepted(name, made_from, tmp_path):
    (frame,), target = frames_of("abacus", made_from), find_target(accepted(name))
    exported(frame, tmp_path / "start", target, route="dm")
    mine, theirs = (
        csr.read_steps(folder / "dmrs1_nao.csr")[0].matrix
        for folder in (tmp_path / "start/guess", accepted(name) / "in")
    )
    dense = []
    for matrix in (mine, theirs):
        table = {
            (*R, int(i), int(j)): value
            for R, i, j, value in zip(
                matrix.R_tc[matrix.t_e].tolist(), matrix.row_e, matrix.column_e, matrix.values_se[0], strict=True
            )
        }
        dense.append(table)
    keys = set(dense[0]) | set(dense[1])
    assert max(abs(dense[0].get(key, 0) - dense[1].get(key, 0)) for key in keys) < 1e-7
    progress = abacus.read_progress(accepted(name))
    assert (progress.iterations, progress.converged, progress.took_guess) == (1, True, True)


def test_dft_plus_u_does_not_start_from_a_density_alone(tmp_path):
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    with_u = replace(target, settings={**target.settings, "dft_plus_u": "1"})
    with pytest.raises(Refused, match="reads occupations too"):
        exported(frame, tmp_path / "start", with_u, route="charge")


def test_abacus_input_keeps_all_other_lines(tmp_path):
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    before = target.path.read_text()
    done = exported(frame, tmp_path / "start", target, route="dm")
    after = done.patched.read_text()
    assert target.path.read_text() == before
    assert set(before.splitlines()) <= set(after.splitlines())
    assert dict(line.split() for line in after.splitlines()[-2:]) == {"init_chg": "dm", "read_file_dir": "./guess/"}
    _, changed = abacus.patch(target, {"suffix": "x", "init_chg": "hr"})
    assert re.findall(r"^suffix.*", changed, re.M) == ["suffix             x"]


def test_abacus_with_two_spins_is_not_started_from_h(tmp_path):
    (frame,), target = frames_of("abacus", "spin_fe_f"), find_target(unpacked("abacus", "spin_fe_f"))
    with pytest.raises(Refused, match=r"nspin 2 from H.*h2dm"):
        exported(frame, tmp_path / "a", target, route="h")
    done = exported(frame, tmp_path / "b", target, route="h2dm")
    assert [path.name for path in done.files] == ["dmrs1_nao.csr", "dmrs2_nao.csr"]


def test_abacus_before_dm_files_is_started_from_cubes_only(tmp_path):
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    assert abacus.choose_route(frame, target, Options(version="3.8.1")).name == "charge"
    assert abacus.choose_route(frame, target, Options(version="3.9.0.25")).name == "h"
    with pytest.raises(Refused, match="cube files only"):
        exported(frame, tmp_path, target, route="dm", version="3.10")


def test_abacus_nonmagnetic_spinors_have_no_spin_density(tmp_path):
    (frame,), target = frames_of("abacus", "soc_gaas"), find_target(unpacked("abacus", "soc_gaas"))
    noise = np.random.default_rng(0).normal(0, 1e-3, frame.operators["DM"].values_sx.shape)
    noisy = replace(frame, operators={**frame.operators, "DM": Operator(frame.operators["DM"].values_sx + noise)})
    magnetic = replace(target, nonmagnetic=False)
    sizes = {}
    for key, run in (("magnetic", magnetic), ("nonmagnetic", target)):
        exported(noisy, tmp_path / key, run, route="dm")
        matrix = csr.read_steps(tmp_path / key / "guess" / "dmrs1_nao.csr")[0].matrix
        vector = (matrix.row_e % 2 == 1) | (matrix.column_e % 2 == 1)
        sizes[key] = np.abs(matrix.values_se[0][vector]).max(initial=0)
    assert target.nonmagnetic
    assert sizes["magnetic"] > 1e-4
    assert sizes["nonmagnetic"] < 1e-12


ORBITAL = """Element                     Si
Radius Cutoff(a.u.)         6
SUMMARY  END

Mesh                        601
dr                          0.01
"""


def made_orbitals(folder, species):
    """An .orb file of Gaussians, with the shells of a species."""
    folder.mkdir()
    r, text = np.arange(601) * 0.01, ORBITAL
    for shell in species.shells:
        text += f"                Type                   L                   N\n 0 {shell.l} {shell.zeta - 1}\n"
        values = r**shell.l * np.exp(-(0.5 + 0.3 * shell.zeta) * r**2) - 0.0
        text += "\n".join(" ".join(f"{x:.14e}" for x in values[at : at + 4]) for at in range(0, 601, 4)) + "\n"
    (folder / species.radial).write_text(text)
    return folder


def read_cube(path):
    lines = path.read_text().split("\n")
    atoms, sides = int(lines[2].split()[0]), [int(line.split()[0]) for line in lines[3:6]]
    return lines[:6], np.array(" ".join(lines[6 + atoms :]).split(), dtype=float).reshape(sides)


@pytest.mark.parametrize(("version", "name"), [("3.11", "chg.cube"), ("3.8.1", "SPIN1_CHG.cube")])
def test_abacus_cubes_have_the_header_and_grid_of_their_version(version, name, tmp_path):
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    orbitals = made_orbitals(tmp_path / "orb", frame.basis[0])
    done = exported(frame, tmp_path / "start", target, route="charge", version=version, basis_dir=orbitals)
    (path,) = done.files
    head, density = read_cube(path)
    assert path.name == name
    assert density.shape == (36, 36, 36)
    if version == "3.8.1":
        assert re.fullmatch(r"1 \(nspin\) [\d.]+ \(fermi energy, in Ry\)", head[1])
    assert done.keywords["init_chg"] == "file"
    # The cell and its inversion centre: the density of silicon is the same at both atoms.
    assert density[0, 0, 0] == pytest.approx(density[9, 9, 9], rel=1e-9)


def test_abacus_cube_is_the_one_that_the_code_wrote(tmp_path):
    files = distributed("abacus")
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    exported(frame, tmp_path / "start", target, route="charge", basis_dir=files / "orb")
    _, mine = read_cube(tmp_path / "start/guess/chg.cube")
    _, own = read_cube(files / "si2_with_cube/OUT.ABACUS/chg.cube")
    assert np.abs(mine - own).max() < 1e-7  # of 0.085
    _, started = read_cube(files / "restart/si2_cube_from_dm/in/chg.cube")  # which ABACUS started from in 3 iterations
    assert np.abs(mine - started).max() < 1e-11


def test_crystals_with_turns_start_abacus_from_a_density_where_it_leaves_out_k_points():
    """Measured on fcc silicon with 3x3x3 k-points and symmetry 1: 11 iterations from its own H, 8 from atoms, 6 from the DM of this H."""
    crystal = bulk("Si").repeat((2, 1, 1))
    places = crystal.cell.array, crystal.positions, crystal.numbers
    assert has_turns(*places)
    moved = crystal.copy()
    moved.rattle(0.01)
    assert not has_turns(moved.cell.array, moved.positions, moved.numbers)
    inverted = Atoms("H2C", [(0.3, 0.5, 0.7), (-0.3, -0.5, -0.7), (0, 0, 0)], cell=[4, 4, 4], pbc=True)
    assert not has_turns(inverted.cell.array, inverted.positions, inverted.numbers)  # the inversion is time reversal's
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    routes = []
    for one in (moved, crystal):
        placed = replace(target, cell_cv=one.cell.array, positions_av=one.positions, numbers_a=one.numbers)
        for flag in ("0", "1"):
            asked = replace(placed, settings={**target.settings, "symmetry": flag})
            routes.append(abacus.choose_route(frame, asked, Options()).name)
    assert routes == ["h", "h", "h", "h2dm"]
    gamma = replace(asked, kpoints_kc=np.zeros((1, 3)), weights_k=np.ones(1))  # one k-point is never left out
    assert abacus.choose_route(frame, gamma, Options()).name == "h"


# SIESTA
@pytest.mark.parametrize("name", ["si2", "h2o", "ptse2", "spin", "soc", "nc_o2"])
def test_siesta_gets_its_own_density_matrix_back(name, tmp_path):
    (frame,), target = frames_of("siesta", name), find_target(unpacked("siesta", name))
    done = exported(frame, tmp_path / "start", target, route="dm")
    (path,) = done.files
    own = unpacked("siesta", name) / path.name
    tables = []
    for file in (path, own):
        stored = read_density_file(file, "DM")
        row_e = np.repeat(np.arange(stored.norb), stored.counts_M)
        order = np.lexsort((stored.column_e, row_e))
        tables.append((stored.cells_c, row_e[order], stored.column_e[order], stored.values["DM"][:, order]))
    for mine, theirs in zip(*tables, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-7)
    assert done.patched.read_text().splitlines()[0] == "DM.UseSaveDM true"


def test_siesta_names_ghosts_of_an_input_as_those_of_its_files(tmp_path):
    (tmp_path / "run.fdf").write_text(GHOST)
    assert find_target(tmp_path).numbers_a.tolist() == [14, 0, 0]


GHOST = """
NumberOfAtoms 3
%block ChemicalSpeciesLabel
  1 14 Si
  2 -14 Si_ghost
  3 201 mixture
%endblock
LatticeConstant 10.0 Ang
%block LatticeVectors
  1 0 0
  0 1 0
  0 0 1
%endblock
AtomicCoordinatesFormat Ang
%block AtomicCoordinatesAndAtomicSpecies
  0 0 0 1
  2 0 0 2
  4 0 0 3
%endblock
"""


def test_siesta_predictions_start_non_collinear_runs_with_four_components(tmp_path):
    (frame,), target = frames_of("siesta", "nc_o2"), find_target(unpacked("siesta", "nc_o2"))
    foreign = replace(frame, provenance=Provenance("siesta", predicted=True))
    exported(foreign, tmp_path, target, route="dm")
    stored = read_density_file(tmp_path / "o2nc.DM", "DM")
    assert len(stored.values["DM"]) == 4


def test_siesta_progress_tells_whether_the_density_was_read(tmp_path):
    output = (unpacked("siesta", "si2") / "si2.out").read_text()
    (tmp_path / "si2.out").write_text(output)
    assert siesta.read_progress(tmp_path).took_guess is None
    assert siesta.read_progress(tmp_path).iterations == 10
    residuals = siesta.read_progress(tmp_path).residuals
    assert len(residuals) == 10
    assert residuals[0] == pytest.approx(1.880553)
    assert residuals[-1] < 1e-4
    for word, took in (("Succeeded", True), ("Failed", False)):
        (tmp_path / "si2.out").write_text(output + f"\nAttempting to read DM from file... {word}...\n")
        assert siesta.read_progress(tmp_path).took_guess is took


def test_siesta_runs_with_a_forgetful_mixer_are_told(tmp_path):
    folder = tmp_path / "fe"
    shutil.copytree(unpacked("siesta", "spin"), folder)
    plain = (folder / "fe.fdf").read_text()
    assert not re.search("history|pulay", plain, re.I)
    for line, told in (("", True), ("SCF.Mixer.History 6", False), ("DM.NumberPulay 2", True), ("Spin none", True)):
        (folder / "fe.fdf").write_text(f"{line}\n{plain}")
        assert any("remembers 2 steps" in note for note in siesta.advice(find_target(folder))) == told, line


def test_abacus_is_told_what_its_damping_costs(tmp_path):
    """Unless the input says what it wants."""
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    for value, told in ((None, True), ("1.0", False)):
        settings = {**target.settings, **({"mixing_gg0": value} if value else {})}
        done = exported(frame, tmp_path / str(value), replace(target, settings=settings))
        assert any("leaves mixing_gg0 at 1" in note for note in done.notes) == told


def test_a_run_of_an_older_abacus_is_told_that_it_reads_no_matrices(tmp_path):
    """Unless the version that will read is named; what 3.9.0.2 was given so, it could not begin."""
    (frame,) = frames_of("abacus", "si2")
    folder = shutil.copytree(unpacked("abacus", "si2"), tmp_path / "run")
    log = folder / "OUT.ABACUS" / "running_scf.log"
    for version, named, told in (("3.11.0-beta6", "", False), ("3.9.0.2", "", True), ("3.9.0.2", "3.11", False)):
        log.write_text(re.sub("v3.[0-9.a-z-]+", f"v{version}", log.read_text(), count=1))
        done = exported(frame, tmp_path / f"{version}{named}", find_target(folder), version=named)
        assert any(f"was of ABACUS {version}, which cannot read this start" in note for note in done.notes) == told


def test_h_and_dm_that_are_far_apart_start_nothing_unless_a_route_is_named(tmp_path, monkeypatch):
    """Iron with a DM that lost half of its moment; with its own DM it starts."""
    (frame,) = frames_of("siesta", "spin")
    DM_sx = frame.operators["DM"].values_sx
    weak = replace(frame, operators={**frame.operators, "DM": Operator(DM_sx + (DM_sx[::-1] - DM_sx) / 4)})
    (tmp_path / "fe").mkdir()
    shutil.copy(unpacked("siesta", "spin") / "fe.fdf", tmp_path / "fe")
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: SimpleNamespace(history={}))
    for predicted, route, started in ((weak, "auto", False), (weak, "dm", True), (frame, "auto", True)):
        monkeypatch.setattr("slem_plugin.prediction.predict", lambda *_, found=predicted: found)
        job = Job(Here("true"), "true", tmp_path / "model", overwrite=True, request=Request(route=route))
        (outcome,) = run_folders([tmp_path / "fe"], job)
        assert (outcome.guess is not None) == started
        assert ("electrons apart" in outcome.verdict) != started


def test_a_skew_mesh_of_siesta_has_its_k_points_and_its_density():
    """kgrid_Monkhorst_Pack names a supercell: its k-points are those that SIESTA lists, and DM of its H is its own."""
    (frame,), target = frames_of("siesta", "skew_mesh"), find_target(unpacked("siesta", "skew_mesh"))
    listed = sampling_of(frame, None, None).with_partners().kpoints_kc
    place_qc = places_of(np.concatenate([listed, target.kpoints_kc]))
    assert sorted(place_qc[: len(listed)].tolist()) == sorted(place_qc[len(listed) :].tolist())
    supercell_cc = supercell_of_points("", target.kpoints_kc)
    assert round(abs(np.linalg.det(supercell_cc))) == len(listed) == 20
    rows = np.array([[-2, 2, 2], [2, -1, 1], [1, 2, -2]])
    np.testing.assert_allclose(np.mod(rows @ np.linalg.inv(supercell_cc) + 1e-9, 1), 0, atol=1e-6)
    assert image_weights(frame.pairs, frame.vectors_pv, supercell_cc).min() == 0  # images are among the stored pairs
    levels = levels_of(frame, sampling_of(fit_to_target(frame, target), target, None))
    assert levels.agreement.apart < 1e-7
    np.testing.assert_allclose(levels.frame["DM"].values_sx, frame["DM"].values_sx, rtol=0, atol=1e-7)
