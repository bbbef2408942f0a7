"""slem-export: files that the codes accepted, inputs that stay as they were, and what must be refused."""

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from basis.radial import GaussianFunction
from basis.spin import Spin
from converters.abacus import restart as abacus
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator
from converters.physics import kspace
from converters.runs import code_module, search
from converters.siesta.sparse import read_density_file
from converters.starts.fit import fit_to_target, reorder_atoms
from converters.starts.start import Options
from converters.starts.targets import find_target
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from tests.fixtures import frames_of, scratch, unpacked
from workflows.cli import export_command
from workflows.export import Request, describe_levels, export


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


# What all have in common
def test_matrices_with_spins_do_not_start_a_run_without_and_the_cure_speaks_of_the_model():
    (frame,), target = frames_of("openmx", "spin"), find_target(unpacked("openmx", "spin"))
    with pytest.raises(Refused, match="needs matrices with the spin layout none; these have collinear") as refused:
        fit_to_target(frame, replace(target, spin=Spin.NONE))
    assert refused.value.kind is Kind.OTHER_MODEL


def test_one_species_may_have_several_names_in_a_run_and_several_one():
    """Antiferromagnets: both sublattices have a name of their own in one of the two, and their radial functions come along."""
    (frame,), target = frames_of("siesta", "h2o"), find_target(unpacked("siesta", "h2o"))
    radial = tuple(
        tuple(GaussianFunction(shell.l, np.array([float(n)]), np.ones(1)) for shell in species.shells)
        for n, species in enumerate(frame.basis, 1)
    )
    frame = replace(frame, functions=radial)
    apart = fit_to_target(frame, replace(target, labels_a=("O", "H1", "H2")))
    assert [species.name for species in apart.basis] == ["O", "H1", "H2"]
    assert apart.functions == (radial[0], radial[1], radial[1])
    together = fit_to_target(apart, target)
    assert [species.name for species in together.basis] == ["O", "H"]
    assert together.functions == radial


def test_predictions_in_another_order_fit_the_run(tmp_path):
    """A prediction made from a file that lists the atoms in another order, some of them in other cells."""
    (frame,), target = frames_of("abacus", "soc_gaas"), find_target(unpacked("abacus", "soc_gaas"))
    moved = reorder_atoms(frame, np.array([1, 0]), np.array([[1, 0, 0], [0, -2, 1]]))
    for key, one in (("a", frame), ("b", moved)):
        exported(one, tmp_path / key, target, route="dm")
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


@pytest.mark.parametrize(("filtered", "advice"), [(1e-3, "use --route dm"), (0.0, "takes the default start")])
def test_a_doubtful_h_sends_to_the_predicted_density_for_ghost_states_alone(filtered, advice):
    """Where H and DM do not agree, DM may be the wrong one."""
    levels = SimpleNamespace(doubt="as it is", density=SimpleNamespace(measured={"S filter": filtered}))
    said = describe_levels(frames_of("siesta", "si2")[0], levels)
    assert said.startswith("WARNING: as it is")
    assert ("use --route dm" in said) is (filtered > 0)
    assert advice in said


def times_density(frame, factor):
    return replace(frame, operators={**frame.operators, "DM": Operator(frame.operators["DM"].values_sx * factor)})


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_a_start_from_h_does_not_ask_its_density_for_electrons(factor, tmp_path):
    """A DM that lost 3 % of its electrons beside SIESTA's own H: the file holds the density of H, which is SIESTA's own; from DM nothing is started."""
    (frame,), target = frames_of("siesta", "si2"), find_target(unpacked("siesta", "si2"))
    wrong = times_density(frame, factor)
    done = exported(wrong, tmp_path / "auto", target)
    assert done.route.name == "h2dm"
    assert done.agreement.apart == pytest.approx(0.03 * np.sqrt(2), rel=1e-2)
    assert_density_of_run(tmp_path / "auto", target.folder)
    for request in ({"route": "dm"}, {"purify": "scale"}):
        with pytest.raises(Refused, match="where there are 8"):
            exported(wrong, tmp_path / "dm", target, **request)


def test_a_density_that_lost_much_speaks_against_h_too(tmp_path):
    """Beside a DM without a tenth of its electrons, or one that is to stand in for an H with ghost states, the same H starts nothing."""
    (frame,), target = frames_of("siesta", "si2"), find_target(unpacked("siesta", "si2"))
    with pytest.raises(Refused, match="where there are 8"):
        exported(times_density(frame, 0.9), tmp_path, target)
    noise = np.random.default_rng(0).normal(0, 0.0136, frame.operators["H"].values_sx.shape)
    ruined = replace(frame, operators={**frame.operators, "H": Operator(frame.operators["H"].values_sx + noise)})
    for route in ("auto", "h2dm"):
        with pytest.raises(Refused, match="where there are 8"):
            exported(times_density(ruined, 0.97), tmp_path, target, route=route)
    assert not list(tmp_path.iterdir())


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
    assert_density_of_run(tmp_path / "b", unpacked("siesta", "si2"))


def assert_density_of_run(folder, run):
    """The DM file in a folder holds what the run itself wrote."""
    tables = []
    for place in (folder, run):
        stored = read_density_file(place / "si2.DM", "DM")
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
    for words in ("route h2dm", "S is that of", "electrons apart", "DM.UseSaveDM true", "si2.DM"):
        assert words in done.output
    wrong = CliRunner().invoke(export_command, [*arguments, "--frame", "7"])
    assert wrong.exit_code == 1
    assert "there is no frame 7" in wrong.output
    with Dataset(tmp_path / "data.h5") as data:
        assert len(data) == 1


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("abacus", ["scf_thr 1e-2", "scf_ene_thr 0.0002"]),
        ("siesta", ["SCF.FreeE.Tolerance 0.0002 eV", "SCF.FreeE.Converge true", "SCF.H.Converge false"]),
    ],
)
def test_an_scf_may_end_by_its_energy(code, lines, tmp_path):
    (frame,), target = frames_of(code, "si2"), find_target(unpacked(code, "si2"))
    done = exported(frame, tmp_path, target, stop_at=1e-4)
    given = [" ".join(line.split()) for line in done.patched.read_text().splitlines()]
    assert [line for line in lines if line not in given] == []


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


def test_an_fdf_file_that_another_includes_is_not_the_input(tmp_path):
    """As people use the displaced supercells of phonopy, which are only a structure."""
    run = copied_run("siesta", "si2", tmp_path / "run")
    plain = find_target(run)
    lines = (run / "si2.fdf").read_text().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if "%block AtomicCoordinates" in line)
    last = next(n for n, line in enumerate(lines) if "%endblock AtomicCoordinates" in line)
    (run / "supercell.fdf").write_text("".join(lines[first : last + 1]))
    (run / "si2.fdf").write_text("".join([*lines[:first], "%include supercell.fdf\n", *lines[last + 1 :]]))
    target = find_target(run)
    assert target.path.name == "si2.fdf"
    np.testing.assert_array_equal(target.positions_av, plain.positions_av)
    (run / "other.fdf").write_text("MeshCutoff 100 Ry\n")
    with pytest.raises(Refused, match="holds 2 fdf files"):
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
