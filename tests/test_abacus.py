"""ABACUS: the contract, both generations of its text, spinors, STRU in full, and what must be refused."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from basis.spin import Spin, to_pauli
from converters import abacus
from converters.abacus import csr, text
from converters.abacus.convention import BOHR
from converters.abacus.dense import read_dense
from converters.abacus.log import read_levels
from converters.abacus.write import stored
from converters.errors import Refused
from converters.frames.origin import Made
from converters.physics import kspace
from converters.physics.checks import Tolerances, check_frame, check_moment
from converters.runs import search
from slem_plugin.testing.codes import Expected
from tests.fixtures import ContractOfFixtures, frames_of, unpacked
from workflows.convert import Options, read_checked


class TestAbacus(ContractOfFixtures):
    code = "abacus"
    good = {  # noqa: RUF012 - the contract reads it
        "h2o": Expected(("O 2s2p1d", "H 2s1p"), 8, iterations=16, density=1e-8),
        "h2o_gamma_only": Expected(
            ("O 2s2p1d", "H 2s1p"),
            8,
            energy=-466.0517002707,
            iterations=16,
            density=1e-8,
            not_done=("S_ii = 1", "S two-centre"),
        ),
        "h2o_arrays": Expected(
            ("O 2s2p1d", "H 2s1p"), 8, energy=-466.0455901734, iterations=17, levels=1e-11, density=1e-11
        ),
        "si2": Expected(("Si 2s2p1d",), 8, iterations=8, density=1e-8),
        "fcc_h_mp": Expected(("H 2s1p",), 1, levels=1e-8, density=1e-9),
        "fcc_h_cold": Expected(("H 2s1p",), 1, levels=1e-8, density=1e-9),
        "spin_fe_f": Expected(("Fe 4s2p2d1f",), 16, Spin.COLLINEAR, density=1e-7, moment=1.75879),
        "soc_gaas": Expected(("As 2s2p1d", "Ga 2s2p2d1f"), 18, Spin.SPINOR, iterations=16, density=1e-7),
    }
    fuzzed = ("h2o", "h2o_arrays")
    not_written = ("h2o_gamma_only", "h2o_arrays")


def read_folder(folder):
    (run,) = search(folder, ["abacus"])
    return list(abacus.read_run(run))


def copy_of(name, tmp_path):
    return shutil.copytree(unpacked("abacus", name), tmp_path / "run")


def edit(path, *changes):
    content = path.read_text()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path.write_text(content)


@pytest.mark.parametrize("name", ["h2o", "si2", "spin_fe_f", "soc_gaas"])
@pytest.mark.parametrize("generation", ["3.11", "3.8"])
def test_what_is_written_is_read_back(name, generation, tmp_path):
    if name == "soc_gaas" and generation == "3.8":
        pytest.skip("the same code as for the other spin layouts, and 17 MB of text")
    (frame,) = frames_of("abacus", name)
    folder = copy_of(name, tmp_path)
    for path in folder.glob("OUT.*/*.csr"):
        path.unlink()
    abacus.write(frame, folder / "OUT.ABACUS", generation=generation, digits=16)
    (again,) = read_folder(folder)
    for key in ("H", "S", "DM"):
        np.testing.assert_array_equal(again.pairs.R_pc, frame.pairs.R_pc)
        np.testing.assert_allclose(
            again.operators[key].values_sx, frame.operators[key].values_sx, rtol=1e-14, atol=1e-15
        )
    assert again.basis == frame.basis


def test_our_text_has_abacus_numbers():
    """Block by block the numbers of ABACUS's own files, at their own number of digits."""
    (frame,) = frames_of("abacus", "h2o")
    original = unpacked("abacus", "h2o") / "OUT.ABACUS"
    for key, name in (("S", "srs1_nao.csr"), ("H", "hrs1_nao.csr"), ("DM", "dmrs1_nao.csr")):
        (mine,) = stored(frame, key)
        (theirs,) = csr.read_steps(original / name)
        ours, code = dense(mine, theirs.norb), dense(theirs.matrix, theirs.norb)
        assert set(ours) == set(code)
        for R in code:
            np.testing.assert_allclose(ours[R], code[R], rtol=0, atol=1e-12)


def dense(matrix, norb):
    blocks = {}
    for t, R in enumerate(matrix.R_tc):
        mine = matrix.t_e == t
        block = np.zeros((norb, norb))
        block[matrix.row_e[mine], matrix.column_e[mine]] = matrix.values_se[0, mine]
        blocks[tuple(R.tolist())] = block
    return blocks


def test_old_text_gives_the_same_matrices(tmp_path):
    """Matrices of a 3.8 run (8 digits, other threshold) in the folder of the run."""
    folder = tmp_path / "run"
    (folder / "OUT.ABACUS").mkdir(parents=True)
    for path in unpacked("abacus", "old_spin_o2").glob("*.csr"):
        shutil.copy(path, folder / "OUT.ABACUS")
    (folder / "INPUT").write_text("INPUT_PARAMETERS\nnspin 2\nsymmetry -1\n")
    shutil.copy(unpacked("abacus", "bad_spinor_o2") / "STRU", folder)
    (frame,) = read_folder(folder)
    np.testing.assert_allclose(kspace.count_electrons(frame), [7, 5], atol=1e-6)
    assert frame.basis[0].shells == frames_of("abacus", "h2o")[0].basis[0].shells
    results = {result.name: result for result in check_frame(frame)}
    assert all(result.ok is not False for result in results.values())
    assert results["S two-centre"].found < 1e-5  # the STRU is of a sister run
    assert "are from the names of the orbital files" in frame.provenance.notes[0]


def old_spinor_folder(tmp_path, version):
    folder = tmp_path / "run"
    (folder / "OUT.ABACUS").mkdir(parents=True)
    for path in unpacked("abacus", "old_soc_o2").glob("*.csr"):
        shutil.copy(path, folder / "OUT.ABACUS")
    for name in ("INPUT", "STRU", "KPT"):
        shutil.copy(unpacked("abacus", "bad_spinor_o2") / name, folder)
    (folder / "OUT.ABACUS" / "running_scf.log").write_text(f" ABACUS v{version}\n")
    return folder


def test_a_magnetic_spinor_run_has_its_printed_moment(tmp_path):
    (frame,) = read_folder(old_spinor_folder(tmp_path, "3.11.0-beta6"))
    assert frame.spin is Spin.SPINOR
    assert kspace.count_electrons(frame).sum() == pytest.approx(12, abs=1e-6)
    weight = np.where(frame.pairs.onsite_p, 1.0, 2.0)[frame.pairs.pair_x]
    parts = to_pauli(frame.operators["DM"].values_sx).real * frame.operators["S"].values_sx[0] * weight
    np.testing.assert_allclose(2 * parts.sum(axis=1)[1:], [0.59971, 1.00015, 1.62481], atol=1e-5)
    assert frame.provenance.measured["asymmetry of H"] < 1e-6


def test_a_moment_is_as_exact_as_the_grid_on_which_the_code_integrates_it():
    """In bcc iron at 60 Ry the printed moments were off by up to 1.7e-4 from those of DM and of the printed occupations, which agreed."""
    (frame,) = frames_of("abacus", "spin_fe_f")

    def agrees(off):
        moved = replace(frame, outcome=replace(frame.outcome, moment=frame.outcome.moment + off))
        (result,) = check_moment(moved, Tolerances())
        return result.ok

    assert agrees(2e-4)
    assert not agrees(1e-3)


def test_an_older_sign_of_sigma_y_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"spin density along y .* whose sign of sigma_y is the opposite"):
        read_folder(old_spinor_folder(tmp_path, "3.10.1"))


def test_the_wrong_density_of_symmetry_1_is_left_out_and_can_be_rebuilt():
    (run,) = search(unpacked("abacus", "bad_symmetry_si2"), ["abacus"])
    with pytest.raises(Refused, match=r"symmetry 1 sums DM over a part of the k-points; .* or rebuild it from H and S"):
        read_checked(run, Options(strict=True))
    (left,) = read_checked(run, Options())
    assert set(left.operators) == {"H", "S"}
    assert "DM is left out: DM is whole" in left.provenance.notes[-1]
    assert set(read_checked(run, Options(drop_density=True))[0].operators) == {"H", "S"}
    (rebuilt,) = read_checked(run, Options(rebuild_density=True))
    (right,) = frames_of("abacus", "si2")
    np.testing.assert_array_equal(rebuilt.pairs.R_pc, right.pairs.R_pc)
    assert np.abs(rebuilt.operators["DM"].values_sx - right.operators["DM"].values_sx).max() < 1e-5
    assert right.origin("DM").is_whole
    assert rebuilt.origin("DM").made is Made.FILLED
    assert "symmetry 1 sums DM" in str(rebuilt.origin("DM"))


@pytest.mark.parametrize("lines", ["symmetry 1\n", ""])
def test_a_whole_density_under_symmetry_1_is_taken_only_when_that_can_be_seen(lines, tmp_path):
    """INPUT may not say it: 1 is the default. Without symmetric k-points to leave out, DM is right and found to be so."""
    folder = copy_of("si2", tmp_path)
    edit(folder / "INPUT", ("symmetry           -1\n", lines))
    (run,) = search(folder, ["abacus"])
    assert len(read_checked(run, Options())) == 1
    (folder / "KPT").unlink()
    (folder / "OUT.ABACUS" / "eig_occ.txt").unlink()
    (run,) = search(folder, ["abacus"])
    (left,) = read_checked(run, Options())
    assert "DM" not in left.operators
    assert re.search("DM is whole: .* symmetry 1 sums DM over a part", left.provenance.notes[-1])


def test_a_missing_spin_is_named(tmp_path):
    folder = copy_of("spin_fe_f", tmp_path)
    (folder / "OUT.ABACUS" / "hrs2_nao.csr").unlink()
    with pytest.raises(Refused, match=r"hrs1_nao.csr: is alone; expected hrs1_nao.csr and hrs2_nao.csr"):
        read_folder(folder)


def test_a_spinor_h_that_is_not_hermitian_is_refused():
    (run,) = search(unpacked("abacus", "bad_spinor_o2"), ["abacus"])
    with pytest.raises(Refused, match=r"not Hermitian by 0\.0\d* Ry.*conjugate the spin-flip blocks"):
        list(abacus.read_run(run))


def test_a_hamiltonian_of_zeros_is_refused(tmp_path):
    folder = copy_of("h2o", tmp_path)
    path = folder / "OUT.ABACUS" / "hrs1_nao.csr"
    path.write_text(re.sub(r"-?\d\.\d{12}e[+-]\d\d", "0.000000000000e+00", path.read_text()))
    with pytest.raises(Refused, match="holds H = 0: ABACUS"):
        read_folder(folder)


def test_the_out_folder_is_as_good_as_its_run(tmp_path):
    folder = copy_of("h2o", tmp_path)
    (frame,) = read_folder(folder / "OUT.ABACUS")
    (expected,) = frames_of("abacus", "h2o")
    np.testing.assert_array_equal(frame.operators["H"].values_sx, expected.operators["H"].values_sx)
    for path in list((folder / "OUT.ABACUS").iterdir()):
        shutil.move(path, folder)
    (folder / "OUT.ABACUS").rmdir()
    (flat,) = read_folder(folder)
    np.testing.assert_array_equal(flat.operators["DM"].values_sx, expected.operators["DM"].values_sx)


@pytest.mark.parametrize("name", ["OUT.ABACUS", "OUT.first"])
def test_an_out_folder_with_its_copy_of_input_finds_the_structure_above(name, tmp_path):
    """Versions before 3.11 leave such a copy; before a second run the folder may have been renamed."""
    folder = copy_of("h2o", tmp_path)
    shutil.copy(folder / "INPUT", folder / "OUT.ABACUS")
    (folder / "OUT.ABACUS").rename(folder / name)
    (frame,) = read_folder(folder / name)
    (expected,) = frames_of("abacus", "h2o")
    np.testing.assert_array_equal(frame.operators["H"].values_sx, expected.operators["H"].values_sx)
    assert frame.outcome == expected.outcome


def test_matrices_without_their_run_are_named(tmp_path):
    with pytest.raises(Refused, match="has no INPUT beside or above it"):
        read_folder(unpacked("abacus", "old_spin_o2"))
    folder = copy_of("h2o", tmp_path)
    for path in folder.glob("OUT.*/*.csr"):
        path.unlink()
    with pytest.raises(Refused, match=r"holds no matrices; switch on out_mat_hs2 1"):
        read_folder(folder)


def test_steps_of_one_file_are_frames(tmp_path):
    """An MD run with all steps in one file: the second step has moved atoms and other numbers."""
    folder = copy_of("h2o", tmp_path)
    edit(folder / "INPUT", ("calculation        scf", "calculation md"))
    for path in folder.glob("OUT.*/*.csr"):
        first = path.read_text()
        second = first.replace("Ionic Step 1", "Ionic Step 2").replace("0.5 0.5 0.516757142857386", "0.5 0.5 0.52")
        path.write_text(first + second)
    one, two = read_folder(folder)
    assert (one.provenance.step, two.provenance.step) == (0, 1)
    np.testing.assert_array_equal(one.operators["H"].values_sx, two.operators["H"].values_sx)
    moved = two.positions_av - one.positions_av
    np.testing.assert_allclose(moved[0], [0, 0, (0.52 - 0.516757142857386) * one.cell_cv[2, 2]], atol=1e-12)
    assert np.abs(moved[1:]).max() < 1e-12
    edit(folder / "INPUT", ("calculation md", "calculation cell-relax"))
    for path in folder.glob("OUT.*/*.csr"):
        before, step, after = path.read_text().partition(" --- Ionic Step 2")
        path.write_text(before + step + after.replace("13.2281", "13.3"))
    (kept,) = read_folder(folder)  # the cell of the second step is nowhere to all digits
    np.testing.assert_array_equal(kept.positions_av, one.positions_av)
    assert kept.provenance.notes[-1] == "ionic steps whose structure is in no file are not read: 2"


def test_steps_of_many_files_are_frames(tmp_path):
    folder = copy_of("h2o", tmp_path)
    edit(folder / "INPUT", ("calculation        scf", "calculation md"))
    for path in list(folder.glob("OUT.*/*.csr")):
        for step in (1, 2, 10):
            shutil.copy(path, path.with_name(path.name.replace("s1_nao", f"s1g{step}_nao")))
        path.unlink()
    assert [frame.origin("H").files for frame in read_folder(folder)] == [
        (f"hrs1g{step}_nao.csr",) for step in (1, 2, 10)
    ]


def test_a_repeated_old_run_counts_once(tmp_path):
    (frame,) = frames_of("abacus", "h2o")
    abacus.write(frame, tmp_path, generation="3.8")
    path = tmp_path / "data-DMR-sparse_SPIN0.csr"
    (once,) = csr.read_steps(path)
    path.write_text(path.read_text() + path.read_text())
    (twice,) = csr.read_steps(path)
    np.testing.assert_array_equal(once.matrix.values_se, twice.matrix.values_se)


@pytest.mark.parametrize("first_line", ["STEP: 0\n", "IONIC_STEP: 1\n", ""])
def test_headers_and_wrapping_of_old_text(first_line, tmp_path):
    (frame,) = frames_of("abacus", "h2o")
    abacus.write(frame, tmp_path, generation="3.8")
    path = tmp_path / "data-HR-sparse_SPIN0.csr"
    (expected,) = csr.read_steps(path)
    head, body = path.read_text().replace("STEP: 0\n", first_line).split("Matrix number", 1)
    count, body = body.split("\n", 1)
    words = body.split()
    wrapped = "\n".join(" ".join(words[at : at + 3]) for at in range(0, len(words), 3))
    path.write_text(f"{head}Matrix number{count}\n{wrapped}\n")
    (found,) = csr.read_steps(path)
    np.testing.assert_array_equal(found.matrix.values_se, expected.matrix.values_se)
    np.testing.assert_array_equal(found.matrix.column_e, expected.matrix.column_e)


def test_an_overlap_alone_is_a_frame(tmp_path):
    folder = copy_of("h2o", tmp_path)
    (frame,) = frames_of("abacus", "h2o")
    abacus.write(replace(frame, operators={"S": frame.operators["S"]}), tmp_path, generation="3.8")
    for path in folder.glob("OUT.*/*.csr"):
        path.unlink()
    shutil.move(tmp_path / "data-SR-sparse_SPIN0.csr", folder / "OUT.ABACUS" / "sr_nao.csr")
    (alone,) = read_folder(folder)
    assert set(alone.operators) == {"S"}
    assert all(result.ok is not False for result in check_frame(alone))


def test_gamma_matrices_of_all_generations_are_one(tmp_path):
    """The same numbers in the grammars before 3.9 (one triangle after each iteration), and of several ionic steps."""
    (frame,) = frames_of("abacus", "h2o_gamma_only")
    folder = shutil.copytree(unpacked("abacus", "h2o_gamma_only"), tmp_path / "run")
    output = folder / "OUT.ABACUS"
    (output / "dmg1_nao.txt").unlink()
    for old, new in (("hk_nao.txt", "data-0-H"), ("sk_nao.txt", "data-0-S")):
        M_MM = read_dense(output / old)[0].M_MM
        triangle = (
            f"{len(M_MM)} " + "\n".join(" ".join(map(repr, row[n:].tolist())) for n, row in enumerate(M_MM)) + "\n"
        )
        (output / new).write_text(
            (triangle.replace(repr(float(M_MM[0, 0])), "7.5") if new == "data-0-H" else triangle) + triangle
        )
        (output / old).unlink()
    (again,) = read_folder(folder)
    assert set(again.operators) == {"H", "S"}
    for name in again.operators:
        np.testing.assert_array_equal(again.operators[name].values_sx, frame.operators[name].values_sx)


def test_levels_of_older_versions(tmp_path):
    """istate.info holds what eig_occ.txt holds, with fractional k-points."""
    (frame,) = frames_of("abacus", "si2")
    folder = shutil.copytree(unpacked("abacus", "si2"), tmp_path / "run")
    output = folder / "OUT.ABACUS"
    levels = read_levels(output / "eig_occ.txt")
    kpoints_kv, energies_skn, occupations_skn = levels.kpoints_k, levels.energies_skn, levels.occupations_skn
    lattice = text.read_stru(folder / "STRU").lattice_constant * BOHR
    blocks = []
    for k, kpoint in enumerate(kpoints_kv @ frame.cell_cv.T / lattice):
        where = " ".join(map(repr, kpoint.tolist()))
        rows = zip(energies_skn[0, k], occupations_skn[0, k], strict=True)
        lines = [
            f"{n + 1} {e!r} {f!r}".replace("np.float64", "").replace("(", "").replace(")", "")
            for n, (e, f) in enumerate(rows)
        ]
        blocks.append(f"BAND   Energy(ev)   Occupation   Kpoint = {k + 1}      ({where})\n" + "\n".join(lines) + "\n\n")
    (output / "istate.info").write_text("\n".join(blocks))
    (output / "eig_occ.txt").unlink()
    (again,) = read_folder(folder)
    np.testing.assert_allclose(
        again.spectrum.energies_skn, frame.spectrum.energies_skn, equal_nan=True, rtol=0, atol=1e-12
    )


# What ABACUS 3.11.0-beta6 wrote when it computed bands of si2 at two k-points (nscf), in the folder of its SCF.
BANDS_INPUT = """INPUT_PARAMETERS
calculation  nscf
init_chg     file
basis_type   lcao
symmetry     -1
ecutwfc      50
scf_thr      1e-8
nbands       5
"""
BANDS_LOG = """
                              ABACUS v3.11.0-beta6
          Autoset the number of electrons = 8
                                    nspin = 1
                                   nkstot = 2
 --> #ION MOVE#         1  #ELEC ITER#         1
  E_KohnSham     -15.2207976636       -207.0895763304
  E_Fermi        0.4904192722         6.6724965105
 #SCF IS CONVERGED#
 !FINAL_ETOT_IS -207.0895763304434 eV
"""
BANDS_LEVELS = """
1     # ionic step
 Electronic state energy (eV) and occupations
 Spin number 1
 spin=1 k-point=1/2 Cartesian=0.0000000 0.097436384 0.0000000 (1604 plane wave)
 1 -1.509857891790946 1.000000000000000
 2 -1.509857891790938 1.000000000000000
 3 3.744095825085612 1.000000000000000
 4 3.744095825085613 1.000000000000000
 5 7.280215093232780 1.270112591433836e-05

 spin=1 k-point=2/2 Cartesian=0.000000000000000 0.01948727674461525 0.000000000000000 (1599 plane wave)
 1 -5.527102884374226 1.000000000000000
 2 5.577881926564445 0.9999999999999833
 3 6.042554950081196 0.9999936493909397
 4 6.042554950081205 0.9999936493909397
 5 9.096457974637794 0.000000000000000

"""


def folder_with_bands(tmp_path):
    """The folder of si2 as an nscf run leaves it."""
    folder = copy_of("si2", tmp_path)
    (folder / "OUT.ABACUS" / "running_nscf.log").write_text(BANDS_LOG)
    with (folder / "OUT.ABACUS" / "eig_occ.txt").open("a") as levels:
        levels.write(BANDS_LEVELS)
    return folder


def ask_for_bands(folder):
    (folder / "INPUT").write_text(BANDS_INPUT)
    (folder / "KPT").write_text("K_POINTS\n2\nDirect\n0.5 0.0 0.5 1.0\n0.1 0.0 0.1 1.0\n")


def checked(folder):
    (run,) = search(folder, ["abacus"])
    (frame,) = read_checked(run, Options())
    return frame, {result.name: result for result in check_frame(frame)}


@pytest.mark.parametrize("input_is_of_bands", [True, False])
def test_bands_in_the_folder_of_an_scf_change_nothing_of_it(input_is_of_bands, tmp_path):
    folder = folder_with_bands(tmp_path)
    if input_is_of_bands:
        ask_for_bands(folder)
    frame, results = checked(folder)
    assert frame.outcome.energy == pytest.approx(-211.940752999004)
    assert (frame.outcome.converged, frame.outcome.iterations) == (True, 8)
    assert set(frame.operators) == {"H", "S", "DM"}
    assert results["eigenvalues against the printed ones"].found < 1e-7
    comparison = results["DM against f(H, S)"]
    if input_is_of_bands:  # its smearing is not that of the SCF
        assert comparison.ok is None
        assert "run for bands" in " ".join(frame.provenance.notes)
    else:
        assert comparison.found < 1e-8


def test_after_bands_the_log_of_the_scf_says_whether_symmetry_left_out_kpoints(tmp_path):
    folder = folder_with_bands(tmp_path)
    ask_for_bands(folder)
    kpoints = "                                   nkstot = 27\n"
    edit(folder / "OUT.ABACUS" / "running_scf.log", (kpoints, f"{kpoints} nkstot now = 14\n"))
    assert "DM" in checked(folder)[0].operators  # time reversal alone
    edit(folder / "OUT.ABACUS" / "running_scf.log", ("nkstot now = 14", "nkstot now = 4"))
    frame, _ = checked(folder)
    assert set(frame.operators) == {"H", "S"}
    assert "no log of the SCF says that DM is summed over all k-points" in frame.provenance.notes[-1]


def test_bands_alone_have_no_energy_of_an_scf(tmp_path):
    """Their levels are those of a density that was written with four digits."""
    folder = folder_with_bands(tmp_path)
    ask_for_bands(folder)
    (folder / "OUT.ABACUS" / "running_scf.log").unlink()
    frame, results = checked(folder)
    assert (frame.outcome.energy, frame.outcome.converged, frame.outcome.iterations) == (None, None, None)
    assert set(frame.operators) == {"H", "S"}
    assert frame.spectrum.energies_skn.shape == (1, 2, 5)
    assert 1e-7 < results["eigenvalues against the printed ones"].found < 1e-4


def test_the_log_is_that_of_the_calculation(tmp_path):
    folder = copy_of("si2", tmp_path)
    (folder / "OUT.ABACUS" / "running_relax.log").write_text(BANDS_LOG)
    assert checked(folder)[0].outcome.energy == pytest.approx(-211.940752999004)
