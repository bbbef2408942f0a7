"""slem-export: files that the codes accepted, inputs that stay as they were, and what must be refused."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from basis.spin import Spin
from converters.abacus import csr
from converters.abacus import restart as abacus
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.frame import Provenance
from converters.openmx import restart as openmx
from converters.openmx.scfout import read_scfout
from converters.openmx.write import grid_of
from converters.physics import kspace
from converters.runs import code_module, search
from converters.siesta import restart as siesta
from converters.siesta.sparse import read_density_file
from converters.starts.restart import fit_to_target, reorder_atoms
from converters.starts.start import Options
from converters.starts.targets import find_target
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from tests.contract import frames_of, scratch, unpacked
from tests.distributions import distributed
from workflows.cli import export_command
from workflows.export import Request, export


def accepted(name):
    """A run of ABACUS that started from the file in its folder in/ and needed one iteration."""
    unpacked("abacus", "restart")
    return scratch()[1] / "abacus" / "restart" / name


def exported(frame, output, target=None, **request):
    options = Options(**{key: request.pop(key) for key in list(request) if key in Options.__dataclass_fields__})
    return export(frame, output, Request(options=options, **request), target)


# Runs that have not run yet


@pytest.mark.parametrize(
    ("code", "name"),
    [("abacus", n) for n in ("h2o", "si2", "spin_fe_f", "soc_gaas", "h2o_gamma_only")]
    + [("siesta", n) for n in ("si2", "h2o", "ptse2", "spin", "soc", "nc_o2")]
    + [("openmx", n) for n in ("h2o", "spin", "soc", "si2_v38", "f_orb_h2o")],
)
def test_the_input_of_a_run_says_what_its_matrices_say(code, name):
    target, (frame,) = find_target(unpacked(code, name)), frames_of(code, name)
    assert target.code == code
    assert target.spin is frame.spin
    np.testing.assert_allclose(target.cell_cv, frame.cell_cv, atol=2e-6)
    fitted = fit_to_target(frame, target)
    np.testing.assert_allclose(fitted.positions_av, target.positions_av, atol=1e-5)
    assert fitted.numbers_a.tolist() == target.numbers_a.tolist()
    if target.electrons is not None:
        assert target.electrons == pytest.approx(frame.outcome.electrons)
    assert target.width == pytest.approx(frame.spectrum.width, rel=1e-4)
    # The code's k-points, of which time reversal removed some, are among those of the mesh, which hold the same electrons.
    filling = kspace.Filling(frame.outcome.electrons, frame.spectrum.smearing, frame.spectrum.width)
    sums = []
    for k, w in ((target.kpoints_kc, target.weights_k), (frame.spectrum.kpoints_kc, frame.spectrum.weights_k)):
        levels = kspace.eigenvalues(frame, k)
        sums.append(np.einsum("skn,skn,k->", kspace.occupations(levels, w, filling, frame.spin)[0], levels, w))
    assert sums[0] == pytest.approx(sums[1], abs=2e-3)


@pytest.mark.parametrize("name", ["h2o", "si2", "spin_fe_f", "soc_gaas", "bad_spinor_o2", "h2o_gamma_only"])
def test_abacus_grid_is_the_one_that_it_prints(name):
    target = abacus.read_target(next(unpacked("abacus", name).rglob("INPUT")))
    assert abacus.grid_of_cutoff(target) == abacus.grid_of_log(target)


# ABACUS


@pytest.mark.parametrize(
    ("name", "made_from"),
    [("si2_dm", "si2"), ("soc_gaas_dm", "soc_gaas"), ("h2o_gamma_only_dm", "h2o_gamma_only")],
)
def test_abacus_gets_the_matrix_that_it_accepted(name, made_from, tmp_path):
    (frame,), target = frames_of("abacus", made_from), find_target(accepted(name))
    done = exported(frame, tmp_path / "start", target)
    assert done.route.name == "dm"
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


def test_abacus_input_keeps_all_other_lines(tmp_path):
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    before = target.path.read_text()
    done = exported(frame, tmp_path / "start", target)
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
    assert abacus.choose_route(frame, target, Options(version="3.9.0.25")).name == "dm"
    with pytest.raises(Refused, match="cube files only"):
        exported(frame, tmp_path, target, route="dm", version="3.10")


def test_abacus_nonmagnetic_spinors_have_no_spin_density(tmp_path):
    (frame,), target = frames_of("abacus", "soc_gaas"), find_target(unpacked("abacus", "soc_gaas"))
    noise = np.random.default_rng(0).normal(0, 1e-3, frame.operators["DM"].values_sx.shape)
    noisy = replace(frame, operators={**frame.operators, "DM": Operator(frame.operators["DM"].values_sx + noise)})
    magnetic = replace(target, nonmagnetic=False)
    sizes = {}
    for key, run in (("magnetic", magnetic), ("nonmagnetic", target)):
        exported(noisy, tmp_path / key, run)
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


# SIESTA


@pytest.mark.parametrize("name", ["si2", "h2o", "ptse2", "spin", "soc", "nc_o2"])
def test_siesta_gets_its_own_density_matrix_back(name, tmp_path):
    (frame,), target = frames_of("siesta", name), find_target(unpacked("siesta", name))
    done = exported(frame, tmp_path / "start", target)
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


def test_siesta_predictions_start_non_collinear_runs_with_four_components(tmp_path):
    (frame,), target = frames_of("siesta", "nc_o2"), find_target(unpacked("siesta", "nc_o2"))
    foreign = replace(frame, provenance=Provenance("siesta", predicted=True))
    exported(foreign, tmp_path, target)
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


# OpenMX


def restart_numbers(path, norb):
    data = path.read_bytes()
    header = np.frombuffer(data, "<i4", 10)
    rows = np.frombuffer(data, "<i4", 6 * (header[8] + 1), 40)
    return header, rows, np.frombuffer(data, "<f8", -1, 40 + rows.nbytes)


@pytest.mark.parametrize(("name", "label"), [("soc", "gaas"), ("si2_v38", "si2")])
def test_openmx_gets_its_own_restart_files_back(name, label, tmp_path):
    (frame,), folder = frames_of("openmx", name), unpacked("openmx", name)
    target = find_target(folder)
    done = exported(frame, tmp_path, target, route="h")
    stem = label if name == "si2_v38" else "guess"
    for a in range(frame.natoms):
        mine, own = (
            restart_numbers(path, frame.pairs.norb_a)
            for path in (tmp_path / f"{stem}_rst/{stem}.rst{a + 1}", folder / f"{label}_rst/{label}.rst{a + 1}")
        )
        for position in (0, 1):
            np.testing.assert_array_equal(mine[position], own[position])
        np.testing.assert_allclose(mine[2][1:], own[2][1:], atol=2e-8)  # the first number is not read
    line = (tmp_path / f"{stem}_rst/{stem}.crst_check").read_text()
    assert line == (folder / f"{label}_rst/{label}.crst_check").read_text().strip()
    if name == "si2_v38":
        text = done.patched.read_text()
        assert re.search(r"^scf.Hubbard.U +on$", text, re.M)
        assert " Si 1s 0.0 2s 0.0 1p 0.0 2p 0.0 1d 0.0" in text
        assert len(re.findall(r"^ *\d+ +Si .* off$", text, re.M)) == 2
        assert "scf.restart.filename" not in text
        assert any("keep a copy" in note for note in done.notes)


def test_openmx_starts_spin_orbit_runs_from_h_alone(tmp_path):
    (frame,), target = frames_of("openmx", "soc"), find_target(unpacked("openmx", "soc"))
    assert openmx.choose_route(frame, target, Options()).name == "h"
    with pytest.raises(Refused, match="diagonalises the H"):
        exported(frame, tmp_path, target, route="charge")


def test_openmx_warns_of_mixers_that_lose_a_guess():
    target = find_target(unpacked("openmx", "spin"))
    assert any("StartPulay 6" in note for note in openmx.advice(target))
    loose = replace(target, settings={**target.settings, "scf.criterion": "1e-6"})
    assert any("iteration 2" in note for note in openmx.advice(loose))


def test_openmx_gets_the_density_that_it_wrote(tmp_path):
    files = distributed("openmx")
    for name, label in (("si2", "si2"), ("spin", "fe"), ("mos2", "mos2"), ("si2_v38", "si2")):
        (run,) = search(files / name, ["openmx"])
        (frame,) = code_module("openmx").read_run(run)
        done = exported(frame, tmp_path / name, find_target(files / name), basis_dir=files / "pao")
        assert done.route.name == "charge"
        charges = [path for path in done.files if path.name.endswith("_0_0")]
        assert len(charges) == frame.spin.components
        for path in charges:
            own = np.fromfile(files / name / f"{label}_rst" / path.name.replace("guess", label))
            assert np.abs(np.fromfile(path) - own).max() < 2e-7, name  # of up to 0.4


def test_openmx_spinor_densities_are_those_that_it_wrote(tmp_path):
    files = distributed("openmx")
    (run,) = search(files / "soc", ["openmx"])
    (frame,) = code_module("openmx").read_run(run)
    template = read_scfout(files / "soc/gaas.scfout")
    paths = openmx.write_charge(frame, tmp_path, template, "guess", Options(basis_dir=files / "pao"))
    for path in paths:
        own = np.fromfile(files / "soc/gaas_rst" / path.name.replace("guess", "gaas"))
        assert np.abs(np.fromfile(path) - own).max() < 2e-7


def test_openmx_grid_is_centred_on_the_atoms():
    printouts = sorted(distributed("openmx").glob("*/*.std"))
    assert len(printouts) > 5
    for std in printouts:
        printed = re.search(r"Grid_Origin\s+(\S+)\s+(\S+)\s+(\S+)", std.read_text())
        template = read_scfout(std.with_suffix(".scfout"))
        origin = openmx.grid_origin(template, grid_of(template))
        np.testing.assert_allclose(origin / openmx.BOHR, np.array(printed.groups(), dtype=float), atol=1e-8)


# What all have in common


def test_predictions_in_another_order_fit_the_run(tmp_path):
    """A prediction made from a file that lists the atoms in another order, some of them in other cells."""
    (frame,), target = frames_of("abacus", "soc_gaas"), find_target(unpacked("abacus", "soc_gaas"))
    moved = reorder_atoms(frame, np.array([1, 0]), np.array([[1, 0, 0], [0, -2, 1]]))
    for key, one in (("a", frame), ("b", moved)):
        exported(one, tmp_path / key, target)
    files = [(tmp_path / key / "guess/dmrs1_nao.csr").read_text() for key in ("a", "b")]
    numbers = [np.array(re.findall(r"-?\d\.\d+e[-+]\d+", text), dtype=float) for text in files]
    np.testing.assert_allclose(*numbers, atol=1e-10)


def test_other_structures_spins_and_orbitals_are_refused(tmp_path):
    (frame,), target = frames_of("abacus", "si2"), find_target(unpacked("abacus", "si2"))
    shifted = replace(frame, positions_av=frame.positions_av + np.array([[0, 0, 0], [0, 0, 0.01]]))
    with pytest.raises(Refused, match="atom 2"):
        exported(shifted, tmp_path, target)
    with pytest.raises(Refused, match="another cell"):
        exported(replace(frame, cell_cv=frame.cell_cv * 1.01), tmp_path, target)
    with pytest.raises(Refused, match="spin layout collinear"):
        exported(frame, tmp_path, replace(target, spin=Spin.COLLINEAR))
    with pytest.raises(Refused, match=r"other\.orb"):
        exported(frame, tmp_path, replace(target, radials={"Si": "other.orb"}))
    with pytest.raises(Refused, match="never changed"):
        exported(frame, target.folder, target)
    half = replace(frame, operators={**frame.operators, "DM": Operator(frame.operators["DM"].values_sx * 0.9)})
    with pytest.raises(Refused, match="cannot be used as a start"):
        exported(half, tmp_path, target)
    with pytest.raises(Refused, match="is a run of abacus"):
        exported(frame, tmp_path, target, format="siesta")
    assert not list(tmp_path.iterdir())


def test_ghost_states_of_h_fall_back_to_the_predicted_density(tmp_path):
    (frame,), target = frames_of("siesta", "si2"), find_target(unpacked("siesta", "si2"))
    noise = np.random.default_rng(0).normal(0, 0.0136, frame.operators["H"].values_sx.shape)
    ruined = replace(frame, operators={**frame.operators, "H": Operator(frame.operators["H"].values_sx + noise)})
    done = exported(ruined, tmp_path / "a", target, route="h2dm")
    assert any("ghost states" in note and "DM is used instead" in note for note in done.notes)
    without = replace(ruined, operators={name: ruined.operators[name] for name in ("H", "S")})
    done = exported(without, tmp_path / "b", target, route="h2dm")
    assert any("left out" in note for note in done.notes)


def test_electrons_may_be_given_and_a_density_left_as_it_is(tmp_path):
    (frame,), target = frames_of("siesta", "si2"), find_target(unpacked("siesta", "si2"))
    done = exported(frame, tmp_path / "a", target, electrons=7.95)
    assert any("7.95" in str(check) and check.ok for check in done.checks)
    DM = frame.operators["DM"]
    raw = replace(frame, operators={**frame.operators, "DM": replace(DM, values_sx=DM.values_sx * 0.995)})
    done = exported(raw, tmp_path / "b", target, purify="none")
    assert any("7.96" in note and "as it is" in note for note in done.notes)


def test_an_overlap_may_come_from_a_run_of_the_code(tmp_path):
    """A prediction without S: the levels of its H need one."""
    (frame,), target = frames_of("siesta", "si2"), find_target(unpacked("siesta", "si2"))
    only = replace(frame, operators={"H": frame.operators["H"]})
    with pytest.raises(Refused, match="--overlap"):
        exported(only, tmp_path / "a", target)
    done = exported(only, tmp_path / "b", target, overlap=unpacked("siesta", "si2"))
    assert done.route.name == "h2dm"
    tables = []
    for folder in (tmp_path / "b", unpacked("siesta", "si2")):
        stored = read_density_file(folder / "si2.DM", "DM")
        row_e = np.repeat(np.arange(stored.norb), stored.counts_M)
        keys = zip(row_e.tolist(), stored.column_e.tolist(), strict=True)
        tables.append(dict(zip(keys, stored.values["DM"][0], strict=True)))
    assert max(abs(tables[0][key] - value) for key, value in tables[1].items()) < 2e-5


def test_deeph_folders_are_a_format_too(tmp_path):
    (frame,) = frames_of("abacus", "si2")
    done = exported(frame, tmp_path, format="deeph")
    (run,) = search(tmp_path, ["deeph"])
    (back,) = code_module("deeph").read_run(run)
    assert len(done.files) == 3
    np.testing.assert_allclose(
        kspace.eigenvalues(back, np.zeros((1, 3))), kspace.eigenvalues(frame, np.zeros((1, 3))), atol=1e-9
    )


def test_the_command_writes_and_explains(tmp_path):
    (frame,) = frames_of("siesta", "si2")
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(frame)
    folder = shutil.copytree(unpacked("siesta", "si2"), tmp_path / "run")
    arguments = [str(tmp_path / "data.h5"), "--into", str(folder), "-o", str(tmp_path / "start")]
    done = CliRunner().invoke(export_command, arguments)
    assert done.exit_code == 0, done.output
    for words in ("route dm", "S is that of", "8.000000 electrons", "DM.UseSaveDM true", "si2.DM"):
        assert words in done.output
    wrong = CliRunner().invoke(export_command, [*arguments, "--frame", "7"])
    assert wrong.exit_code == 1
    assert "there is no frame 7" in wrong.output
    with Dataset(tmp_path / "data.h5") as data:
        assert len(data) == 1


# Files that inputs name


def copied_run(code, name, folder):
    shutil.copytree(unpacked(code, name), folder)
    return folder


def test_a_block_that_does_not_end_is_refused(tmp_path):
    run = copied_run("siesta", "si2", tmp_path / "run")
    fdf = run / "si2.fdf"
    fdf.write_text(fdf.read_text() + "%block Zmatrix\n 1 2 3\n")
    with pytest.raises(Refused, match="begins the block Zmatrix and does not end it"):
        find_target(run)


def test_an_input_that_includes_itself_is_refused(tmp_path):
    run = copied_run("siesta", "si2", tmp_path / "run")
    (run / "more.inc").write_text("%include si2.fdf\n")
    with (run / "si2.fdf").open("a") as stream:
        stream.write("%include more.inc\n")
    with pytest.raises(Refused, match="includes itself"):
        find_target(run)


@pytest.mark.parametrize("code", ["siesta", "abacus"])
def test_files_outside_of_the_run_are_named(code, tmp_path):
    """They are read, for people keep common settings there, and it is said."""
    (frame,) = frames_of(code, "si2")
    run = copied_run(code, "si2", tmp_path / "run")
    if code == "siesta":
        (tmp_path / "common.fdf").write_text("MeshCutoff 150 Ry\n")
        with (run / "si2.fdf").open("a") as stream:
            stream.write("%include ../common.fdf\n")
    else:
        (run / "STRU").rename(tmp_path / "STRU_common")
        with (run / "INPUT").open("a") as stream:
            stream.write("stru_file ../STRU_common\n")
    done = exported(frame, tmp_path / "start", find_target(run))
    assert any("common" in note and "outside of its folder" in note for note in done.notes)
    inside = exported(frame, tmp_path / "other", find_target(unpacked(code, "si2")))
    assert not any("outside" in note for note in inside.notes)


@pytest.mark.parametrize("mesh", ["0 3 3", "3 3", "-1 1 1", "99999 99999 99999"])
def test_a_mesh_that_is_none_is_refused(mesh, tmp_path):
    run = copied_run("openmx", "h2o", tmp_path / "run")
    (path,) = run.glob("*.dat")
    path.write_text(
        re.sub(r"(?im)^scf\.Kgrid.*$", "", path.read_text()) + f"\nscf.EigenvalueSolver band\nscf.Kgrid {mesh}\n"
    )
    with pytest.raises(Refused, match="expected three numbers from 1 on"):
        find_target(run)
