"""ABACUS: STRU in full, meshes, versions, and the files that its input names."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from converters.abacus import text
from converters.abacus.convention import BOHR
from converters.abacus.faults import version_key
from converters.abacus.log import Log
from converters.abacus.restart import read_target
from converters.errors import Refused
from converters.physics.checks import check_frame
from converters.runs import search
from slem_plugin.testing.codes import assert_same_frame
from tests.fixtures import frames_of, unpacked
from tests.test_abacus import copy_of, edit, read_folder

CELL = "LATTICE_CONSTANT\n10.0 // Bohr\nLATTICE_VECTORS\n1 0 0 # a\n0.1 1.2 0\n0 0 1.5\n"


HEAD = f"ATOMIC_SPECIES\nSi 28 Si.upf upf201\nO1 16 O.upf\n\nNUMERICAL_ORBITAL\nSi_gga_7au_100Ry_2s2p1d.orb\nO_gga_6au_2s1p.orb\n\n{CELL}\n"


@pytest.mark.parametrize(
    ("kind", "position", "expected"),
    [
        ("Direct", "0.5 0.5 0.5", [0.55, 0.6, 0.75]),
        ("Cartesian", "0.1 0.2 0.3", [0.1, 0.2, 0.3]),
        ("Cartesian_au", "1 2 3", [0.1, 0.2, 0.3]),
        ("Cartesian_angstrom", f"{BOHR} 0 {2 * BOHR}", [0.1, 0, 0.2]),
        ("Cartesian_angstrom_center_xy", f"{BOHR} 0 0", [0.65, 0.6, 0]),
        ("Cartesian_angstrom_center_xyz", "0 0 0", [0.55, 0.6, 0.75]),
    ],
)
def test_stru_knows_every_kind_of_coordinates(kind, position, expected, tmp_path):
    (tmp_path / "STRU").write_text(
        f"{HEAD}ATOMIC_POSITIONS\n{kind}\n\nO1 # first in the file, second in ATOMIC_SPECIES\n0.0\n1\n{position} 1 1 0 mag 0.5 0 1\n"
        f"Si\n0.5\n2\n0 0 0 m 1 1 1 v 0.1 0.2 0.3 magmom 1.0 angle1 90\n0 0 0 0 0 0\n"
    )
    stru = text.read_stru(tmp_path / "STRU")
    assert stru.labels == ("Si", "O1")
    assert stru.species_a.tolist() == [0, 0, 1]
    np.testing.assert_allclose(stru.positions_av[2] / (10 * BOHR), expected, atol=1e-12)
    species = text.read_species(tmp_path / "STRU", stru, Log(), ())
    assert [(s.name, s.number, str(s)) for s in species] == [("Si", 14, "Si 2s2p1d"), ("O1", 8, "O1 2s1p")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", 'begins with "hello"'),
        (CELL, "has no ATOMIC_SPECIES"),
        (f"{HEAD}ATOMIC_POSITIONS\nDirect\nFe\n0\n1\n0 0 0\n", 'has positions of "Fe"'),
        (f"{HEAD}ATOMIC_POSITIONS\nDirect\nSi\n0\n7\n0 0 0\n", "lines for the 7 atoms"),
        (f"{HEAD}ATOMIC_POSITIONS\nPolar\nSi\n0\n1\n0 0 0\n", 'has "polar" coordinates'),
        (f"{HEAD}ATOMIC_POSITIONS\nDirect\nSi\n0\n1\n0 x 0\n", "cannot be read"),
    ],
)
def test_stru_says_what_is_wrong(content, message, tmp_path):
    (tmp_path / "STRU").write_text(content)
    with pytest.raises(Refused, match=message):
        text.read_stru(tmp_path / "STRU")


def test_a_suffix_does_not_lead_out_of_the_folder(tmp_path):
    folder = copy_of("h2o", tmp_path)
    edit(folder / "INPUT", ("suffix             ABACUS", "suffix ../../elsewhere"))
    found = next(iter(search(folder, ["abacus"])))
    assert "which leads out of the folder" in str(found)


def test_meshes(tmp_path):
    (tmp_path / "KPT").write_text("K_POINTS\n0\nGamma\n3 1 2 0 0 0\n")
    k, weights = text.read_mesh(tmp_path / "KPT")
    assert len(k) == 6
    assert [1 / 3, 0, 0.5] in k.round(12).tolist() or np.abs(k - [1 / 3, 0, 0.5]).max(axis=1).min() < 1e-12
    assert weights.sum() == pytest.approx(1)
    (tmp_path / "KPT").write_text("K_POINTS\n0\nMP\n2 2 1 0 0 0\n")
    assert sorted(text.read_mesh(tmp_path / "KPT")[0][:, 0].tolist()) == [-0.25, -0.25, 0.25, 0.25]
    (tmp_path / "KPT").write_text("K_POINTS\n2\nDirect\n0 0 0 1\n0.5 0 0 3\n")
    assert text.read_mesh(tmp_path / "KPT")[1].tolist() == [0.25, 0.75]


@pytest.mark.parametrize("content", ["", "KPT-scf", "K_POINTS\n0\nGamma\n", "K_POINTS\nmany\nGamma\n2 2 2 0 0 0\n"])
def test_what_is_no_kpt_file_is_said_in_words(content, tmp_path):
    """Git writes a link such as KPT -> KPT-scf as a file with its name, where there are no links."""
    (tmp_path / "KPT").write_text(content)
    with pytest.raises(Refused, match=r"KPT: is no KPT file that ABACUS reads; expected K_POINTS, then the number"):
        text.read_mesh(tmp_path / "KPT")


SKEW_CELL = np.array([[6.0, 0.3, -0.2], [-3.1, 5.5, 0.1], [0.4, 0.2, 9.0]]) * BOHR


@pytest.mark.parametrize(
    ("spacing", "mesh"), [("0.3", (4, 4, 3)), ("0.31 0.5 0.9", (4, 3, 1)), ("0.15", (8, 8, 5)), ("20", (1, 1, 1))]
)
def test_spacings_make_the_meshes_that_abacus_writes_into_kpt(spacing, mesh, tmp_path):
    """The meshes are those of ABACUS 3.11.0-beta6."""
    path = tmp_path / "INPUT"
    path.write_text(f"INPUT_PARAMETERS\nkspacing {spacing}\n")
    kpoints_kc, weights_k = text.mesh_of_spacing(path, SKEW_CELL)
    assert len(weights_k) == np.prod(mesh)
    assert np.abs(kpoints_kc * mesh - np.round(kpoints_kc * mesh)).max() < 1e-12


@pytest.mark.parametrize("lines", ["", "kspacing 0", "kspacing 0.3\nkmesh_type mp", "kspacing 0.2 0.3"])
def test_no_mesh_is_guessed_from_spacings(lines, tmp_path):
    path = tmp_path / "INPUT"
    path.write_text(f"INPUT_PARAMETERS\n{lines}\n")
    assert text.mesh_of_spacing(path, SKEW_CELL) is None


def test_a_spacing_that_rounding_decides_gives_no_mesh(tmp_path):
    path = tmp_path / "INPUT"
    path.write_text(f"INPUT_PARAMETERS\nkspacing {2 * np.pi / 10:.15f}\n")
    assert text.mesh_of_spacing(path, np.eye(3) * BOHR) is None


def test_spacings_stand_for_kpt_in_runs_and_in_targets(tmp_path):
    """The mesh of si2 is 3x3x3, and 0.4 / Bohr makes it: DM is compared, and a run with this INPUT can be started, without KPT."""
    folder = shutil.copytree(unpacked("abacus", "si2"), tmp_path / "run")
    (folder / "KPT").unlink()
    with (folder / "INPUT").open("a") as given:
        given.write("kspacing 0.4\n")
    (frame,) = read_folder(folder)
    results = {result.name: result for result in check_frame(frame)}
    assert results["DM against f(H, S)"].found < 1e-8
    assert len(read_target(folder).weights_k) == 27


def test_versions_are_ordered():
    versions = ["", "3.8.1", "3.9.0.6", "3.9.0.25", "3.10.1", "3.11.0-beta.1", "3.11.0-beta6", "3.11.0"]
    keys = [version_key(version) for version in versions]
    assert keys == sorted(keys)


def test_an_input_that_is_only_in_the_output_folder_is_found(tmp_path):
    (frame,) = frames_of("abacus", "si2")
    folder = shutil.copytree(unpacked("abacus", "si2"), tmp_path / "run")
    (folder / "INPUT").rename(folder / "OUT.ABACUS" / "INPUT")
    (again,) = read_folder(folder)
    assert_same_frame(replace(again, provenance=frame.provenance), frame)


def test_files_are_those_that_the_input_names(tmp_path):
    (frame,) = frames_of("abacus", "si2")
    folder = shutil.copytree(unpacked("abacus", "si2"), tmp_path / "run")
    (folder / "STRU").rename(folder / "silicon.stru")
    (folder / "KPT").rename(folder / "mesh")
    with (folder / "INPUT").open("a") as given:
        given.write("\nstru_file silicon.stru\nkpoint_file mesh\n")
    (again,) = read_folder(folder)
    assert_same_frame(replace(again, provenance=frame.provenance), frame)
    (folder / "INPUT").unlink()
    (folder / "silicon.stru").rename(folder / "STRU")
    with pytest.raises(Refused, match="has no INPUT beside or above it"):
        read_folder(folder)


def test_a_table_of_levels_without_its_head_is_not_compared(tmp_path):
    folder = copy_of("h2o", tmp_path)
    path = folder / "OUT.ABACUS" / "eig_occ.txt"
    lines = path.read_text().splitlines(keepends=True)
    assert "k-point" in lines[3]
    path.write_text("".join(lines[:3] + lines[4:]))
    (frame,) = read_folder(folder)
    assert frame.spectrum.energies_skn.size == 0


def test_gamma_only_matrices_with_a_spin_in_every_name(tmp_path):
    """3.9.0.6 to 3.9.0.13 name the spin where there is one alone."""
    folder = copy_of("h2o_gamma_only", tmp_path)
    (expected,) = read_folder(folder)
    for old, new in (("hk_nao", "hks1_nao"), ("sk_nao", "sks1_nao"), ("dmg1_nao", "dms1_nao")):
        (path,) = folder.rglob(f"{old}.txt")
        path.rename(path.with_name(f"{new}.txt"))
    (frame,) = read_folder(folder)
    for name in ("H", "S", "DM"):
        np.testing.assert_array_equal(frame.operators[name].values_sx, expected.operators[name].values_sx)


def test_gamma_only_runs_without_matrices_are_told_their_own_keywords(tmp_path):
    folder = copy_of("h2o_gamma_only", tmp_path)
    for path in folder.rglob("*_nao.txt"):
        path.unlink()
    with pytest.raises(Refused, match=r"holds no matrices; switch on out_mat_hs 1 and out_dmk 1"):
        read_folder(folder)


def test_an_input_that_is_none_gives_way_to_the_copy_of_the_run(tmp_path):
    """As where a link INPUT -> INPUT-scf was copied as a text."""
    folder = copy_of("h2o", tmp_path)
    (expected,) = read_folder(folder)
    shutil.copy(folder / "INPUT", folder / "OUT.ABACUS" / "INPUT")
    (folder / "INPUT").write_text("INPUT-scf")
    (frame,) = read_folder(folder)
    np.testing.assert_array_equal(frame.operators["H"].values_sx, expected.operators["H"].values_sx)
