"""SIESTA: the contract, its versions, sisl as a second reader, and what only SIESTA has."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import FortranFile

from basis.spin import Spin
from basis.units import BOHR
from converters import siesta
from converters.errors import Refused
from converters.frames.origin import Step
from converters.physics.checks import check_frame
from converters.physics.kspace import count_electrons
from converters.physics.matrix_digits import electron_rounding
from converters.runs import search
from converters.siesta.constants import LEGACY
from converters.siesta.fdf import read_fdf
from converters.siesta.restart import read_progress
from converters.siesta.sparse import read_density_file
from slem_plugin.testing.codes import Expected, assert_same_frame
from tests.fixtures import ContractOfFixtures, frames_of, unpacked


class TestSiesta(ContractOfFixtures):
    code = "siesta"
    good = {  # noqa: RUF012 - the contract reads it
        "h2o": Expected(("O 2s2p1d", "H 2s1p"), 8, energy=-466.220361, iterations=22, not_done=()),
        "h2o_outside": Expected(("O 2s2p1d", "H 2s1p"), 8, energy=-466.233518, iterations=20),
        "h2o_siesta5": Expected(("O 2s2p1d", "H 2s1p"), 8, energy=-466.112924, iterations=19),
        "si2": Expected(("Si 2s2p1d",), 8, energy=-213.251975, iterations=10),
        "si8_outside": Expected(
            ("Si 1s1p1d",), 32, energy=-840.985518, iterations=40, not_done=("S_ii = 1", "S two-centre")
        ),
        "ptse2": Expected(("Pt 2s1p2d1f", "Se 2s2p2d"), 42, energy=-9382.045939, iterations=43),
        "spin": Expected(("Fe 2s2d1p",), 8, Spin.COLLINEAR, energy=-781.910509, iterations=40),
        "nc_o2": Expected(("O 2s2p1d",), 12, Spin.SPINOR, energy=-865.403244, iterations=18),
        "smeared": Expected(("Au 1s1d1p",), 11, density=1e-6),
        "soc": Expected(("Fe 1s1d1p", "Pt 1s1d1p"), 18, Spin.SPINOR, energy=-2222.498413, iterations=17),
    }
    fuzzed = ("h2o", "nc_o2")


def read_folder(folder):
    (run,) = search(folder, ["siesta"])
    (frame,) = siesta.read_run(run)
    return frame


@pytest.mark.parametrize("name", list(TestSiesta.good))
def test_what_is_written_is_read_back_to_the_last_bit(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    label = "again"
    siesta.write(frame, tmp_path, label)
    for path in unpacked("siesta", name).iterdir():
        if path.suffix in (".KP", ".EIG", ".out"):
            shutil.copy(path, tmp_path / f"{label}{path.suffix}")
    again = read_folder(tmp_path)
    assert_same_frame(replace(again, provenance=frame.provenance), frame)


@pytest.mark.parametrize("name", [*TestSiesta.good, "hsx_gamma"])
def test_the_restart_file_is_siestas_own(name, tmp_path):
    """Same header, same pattern, and the same numbers up to the 1e-14 by which SIESTA's own halves differ."""
    (frame,) = frames_of("siesta", name)
    (original,) = unpacked("siesta", name).glob("*.DM")
    siesta.write(frame, tmp_path, "x")
    assert (tmp_path / "x.DM").stat().st_size == original.stat().st_size
    mine, theirs = (read_density_file(path, "DM") for path in (tmp_path / "x.DM", original))
    assert mine.cells_c.tolist() == theirs.cells_c.tolist()
    assert mine.counts_M.tolist() == theirs.counts_M.tolist()
    order = np.lexsort((theirs.column_e, np.repeat(np.arange(theirs.norb), theirs.counts_M)))
    np.testing.assert_array_equal(mine.column_e, theirs.column_e[order])
    np.testing.assert_allclose(mine.values["DM"], theirs.values["DM"][:, order], rtol=0, atol=1e-14)


def without(name, tmp_path, *suffixes):
    """A copy of a fixture without some of its files."""
    folder = shutil.copytree(unpacked("siesta", name), tmp_path / "run")
    for path in list(folder.iterdir()):
        if path.name.endswith(suffixes):
            path.unlink()
    return folder


@pytest.mark.parametrize(
    ("dropped", "source", "exact"),
    [
        ((".TSHS",), "si2.nc", 1e-12),
        ((".TSHS", ".DM", ".TSDE"), "si2.nc", 1e-12),
        ((".TSHS", ".nc"), "si2.HSX", 5e-6),
    ],
)
def test_the_best_file_is_taken_and_recorded(dropped, source, exact, tmp_path):
    (frame,) = frames_of("siesta", "si2")
    other = read_folder(without("si2", tmp_path, *dropped))
    assert frame.origin("H").files == ("si2.TSHS",)
    assert other.origin("H").files == (source,)
    for name in ("H", "S", "DM"):
        assert np.abs(other.operators[name].values_sx - frame.operators[name].values_sx).max() < exact
    assert all(result.ok is not False for result in check_frame(other))


def test_h_dmgen_completes_an_overlap(tmp_path):
    (frame,) = frames_of("siesta", "si2")
    folder = without("si2", tmp_path, ".nc", ".HSX", ".TSHS")
    siesta.write(replace(frame, operators={"S": frame.operators["S"]}), folder, "si2")
    assert (folder / "si2.onlyS").exists()
    shutil.copy(unpacked("siesta", "si2") / "si2.XV", folder)
    order = np.lexsort(sparse_order(unpacked("siesta", "si2") / "H_DMGEN"))
    rewrite_sorted(folder / "H_DMGEN", order)
    other = read_folder(folder)
    assert other.origin("H").files == ("H_DMGEN",)
    assert np.abs(other.operators["H"].values_sx - frame.operators["H"].values_sx).max() < 1e-12


def sparse_order(path):
    stored = read_density_file(path, "H")
    return stored.column_e, np.repeat(np.arange(stored.norb), stored.counts_M)


def rewrite_sorted(path, order):
    """The file with sorted columns, as a run with our onlyS would have it."""
    from converters.codes.binary import FortranWriter

    stored = read_density_file(path, "H")
    file = FortranWriter()
    file.record(np.array([stored.norb, 1], dtype="<i4"))
    file.record(stored.counts_M.astype("<i4"))
    file.rows(stored.counts_M, stored.column_e[order].astype("<i4"))
    file.rows(stored.counts_M, stored.values["H"][0][order])
    file.save(path)


def test_sums_over_images_in_a_single_precision_file():
    """A run at Gamma whose images overlap writes an HSX that says it is not at Gamma; its levels and electrons are the printed ones."""
    (frame,) = frames_of("siesta", "hsx_gamma")
    assert frame.folded
    results = {result.name: result for result in check_frame(frame)}
    assert all(result.ok is not False for result in results.values())
    assert results["eigenvalues against the printed ones"].found < 1e-5
    assert results["Tr(DM S) = electrons"].found == pytest.approx(16, abs=1e-6)


def test_the_digits_of_single_precision_bound_the_electrons():
    """S that is rounded to 24 bits moves Tr(DM S) by no more than is said, and by more than one part in a hundred of it."""
    (frame,) = frames_of("siesta", "si2")
    S = frame.operators["S"]
    rounded = replace(
        frame, operators={**frame.operators, "S": replace(S, values_sx=S.values_sx.astype("f4").astype(float))}
    )
    most = electron_rounding(replace(rounded, spectrum=replace(frame.spectrum, matrix_rounding=2.0**-24)))
    off = abs(count_electrons(rounded).sum() - count_electrons(frame).sum())
    assert 0.01 * most < off < most
    assert electron_rounding(rounded) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_hsx_of_siesta_5_as_sisl_writes_it(version, tmp_path):
    """sisl shifts H by the Fermi level and does not keep it: H + E_F S is the H of the TSHS, in CODATA units."""
    (frame,) = frames_of("siesta", "si2")
    shutil.copy(unpacked("siesta", "hsx") / f"si2_v{version}.HSX", tmp_path / "si2.HSX")
    shutil.copy(unpacked("siesta", "si2") / "si2.XV", tmp_path)
    other = read_folder(tmp_path)
    assert [shell.l for shell in other.basis[0].shells] == [0, 0, 1, 1, 2]
    place = other.pairs.find(frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc)
    assert (place >= 0).all()
    for p in range(0, len(place), 7):
        S = frame.block_of_pair("S", p)
        np.testing.assert_allclose(other.block_of_pair("S", place[p]), S, atol=1e-8)
        np.testing.assert_allclose(
            other.block_of_pair("H", place[p]) + frame.outcome.fermi * S, frame.block_of_pair("H", p), atol=2e-3
        )


@pytest.mark.parametrize("name", ["h2o", "si2", "spin"])
@pytest.mark.filterwarnings("ignore")
def test_sisl_reads_the_same_hamiltonian(name):
    """An independent reader of the same bytes: sisl, with its Fermi shift undone and its units taken out."""
    sisl = pytest.importorskip("sisl")
    (frame,) = frames_of("siesta", name)
    (path,) = unpacked("siesta", name).glob("*.TSHS")
    theirs = sisl.get_sile(str(path)).read_hamiltonian()
    fermi_ry = frame.outcome.fermi / LEGACY.rydberg
    scale = LEGACY.rydberg / sisl.unit.siesta.unit_convert("Ry", "eV")
    from converters.physics import kspace

    k = [0.21, -0.13, 0.32]
    signs = np.concatenate([(-1.0) ** np.arange(-s.l, s.l + 1) for a in frame.species_a for s in frame.basis[a].shells])
    S = kspace.dense_at(frame, "S", k)[0] * np.outer(signs, signs)
    np.testing.assert_allclose(theirs.Sk(k, format="array"), S, atol=1e-8)
    for spin, H in enumerate(kspace.dense_at(frame, "H", k)):
        options = {"spin": spin} if frame.spin is Spin.COLLINEAR else {}
        Hk = theirs.Hk(k, format="array", **options) * scale + fermi_ry * LEGACY.rydberg * S
        np.testing.assert_allclose(Hk, H * np.outer(signs, signs), atol=2e-5)


def test_a_conjugated_density_is_recognised(tmp_path):
    """A version that stores the density of a spin-orbit run as it stores H gives the same frame."""
    (frame,) = frames_of("siesta", "soc")
    folder = without("soc", tmp_path, ".TSDE", ".nc")
    turned = replace(frame.operators["DM"], values_sx=frame.operators["DM"].values_sx[[0, 2, 1, 3]].conj())
    siesta.write(replace(frame, operators={"DM": turned}), folder, "fept")
    other = read_folder(folder)
    assert Step.CONJUGATED in [treatment.step for treatment in other.origin("DM").treatments]
    assert Step.CONJUGATED not in [treatment.step for treatment in frame.origin("DM").treatments]
    np.testing.assert_allclose(other.operators["DM"].values_sx, frame.operators["DM"].values_sx, atol=1e-14)


def test_a_hamiltonian_of_zeros_is_refused(tmp_path):
    (frame,) = frames_of("siesta", "h2o")
    zero = replace(frame.operators["H"], values_sx=np.zeros_like(frame.operators["H"].values_sx))
    siesta.write(replace(frame, operators={**frame.operators, "H": zero}), tmp_path, "x")
    with pytest.raises(Refused, match="holds H = 0, as a run with MaxSCFIterations 0 leaves it"):
        read_folder(tmp_path)


def test_missing_companions_are_named(tmp_path):
    with pytest.raises(Refused, match="does not say which orbitals its atoms have; expected ORB_INDX, HSX or nc"):
        read_folder(without("h2o", tmp_path, ".ORB_INDX", ".HSX", ".ion.xml"))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(Refused, match=r"has no geometry beside it; expected an XV or STRUCT_OUT"):
        read_folder(without("h2o", tmp_path, ".XV", ".TSHS", ".STRUCT_OUT", ".fdf"))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(Refused, match="has no H or S beside it"):
        read_folder(without("h2o", tmp_path, ".HSX", ".TSHS"))


GEOMETRIES = (".XV", ".STRUCT_OUT", ".TSHS", ".nc")
IN_BOHR = {"AtomicCoordinatesFormat Ang": "AtomicCoordinatesFormat Bohr"} | {
    word: f"{float(word) / BOHR:.9f}" for word in ("4.000", "4.757", "4.586", "4.050", "3.243", "3.970")
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("h2o", {}),
        ("si2", {}),
        ("h2o", {"LatticeConstant 9.0 Ang\n": ""}),  # the cell is that of the output
        ("h2o", IN_BOHR),
    ],
)
def test_the_input_of_a_single_point_says_where_its_atoms_are(name, changes, tmp_path):
    """HSX of version 0 has no places."""
    if changes is IN_BOHR:
        pytest.importorskip("sisl")
    (frame,) = frames_of("siesta", name)
    folder = without(name, tmp_path, *GEOMETRIES)
    (path,) = folder.glob("*.fdf")
    change(path, changes)
    other = read_folder(folder)
    np.testing.assert_allclose(other.cell_cv, frame.cell_cv, atol=1e-6)
    np.testing.assert_allclose(other.positions_av, frame.positions_av, atol=1e-6)
    np.testing.assert_array_equal(other.pairs.R_pc, frame.pairs.R_pc)
    for operator in ("H", "S"):
        assert np.abs(other.operators[operator].values_sx - frame.operators[operator].values_sx).max() < 5e-6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SolutionMethod diagon": "MD.Steps 3"}, "but that of its input, whose atoms moved"),
        ({"SolutionMethod diagon": "MD.TypeOfRun FC"}, "but that of its input, whose atoms moved"),
        (
            {"LatticeConstant 9.0 Ang\n": ""},
            "but that of its input, which leaves the cell to SIESTA; its output would say it",
        ),
        ({"SolutionMethod diagon": "%include steps.fdf"}, "but that of its input, which takes parts from other files"),
    ],
)
def test_the_input_is_not_asked_where_it_cannot_know(changes, reason, tmp_path):
    folder = without("h2o", tmp_path, *GEOMETRIES, ".out")
    change(folder / "h2o.fdf", changes)
    with pytest.raises(Refused, match=f"has no geometry beside it {reason}; expected an XV or STRUCT_OUT"):
        read_folder(folder)


def change(path, changes):
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_struct_out_stands_in_for_xv(tmp_path):
    (frame,) = frames_of("siesta", "h2o")
    other = read_folder(without("h2o", tmp_path, ".XV", ".TSHS"))
    np.testing.assert_allclose(other.positions_av, frame.positions_av, atol=1e-5)
    assert other.basis == frame.basis


def test_fdf_stands_in_for_missing_outputs(tmp_path):
    (frame,) = frames_of("siesta", "h2o")
    folder = without("h2o", tmp_path, ".XV", ".STRUCT_OUT", ".out")
    other = read_folder(folder)
    assert other.numbers_a.tolist() == frame.numbers_a.tolist()
    assert other.spectrum.smearing == "fermi"
    assert not other.provenance.notes
    fdf = folder / "h2o.fdf"
    fdf.write_text("Occupation.Function MP # Methfessel-Paxton\n" + fdf.read_text())
    assert read_folder(folder).spectrum.smearing == "mp1"
    fdf.write_text("Occupation.Function unheard\n" + fdf.read_text())
    assert read_folder(folder).spectrum.smearing == ""
    fdf.unlink()
    alone = read_folder(folder)
    assert alone.spectrum.smearing == ""
    assert "no file has the atomic numbers; the labels O, H were taken as elements" in alone.provenance.notes


def test_fdf_keywords_ignore_case_and_punctuation(tmp_path):
    (tmp_path / "x.fdf").write_text(
        "%block Chemical_Species_Label\n 1 -14 Si_ghost\n 2 8 O\n%endblock\nSave.H-s\nspin_POLARIZED true\nSpinPolarized false\n"
    )
    fdf = read_fdf(tmp_path / "x.fdf")
    assert (fdf.number_of("Si_ghost"), fdf.number_of("O"), fdf.number_of("H")) == (-14, 8, None)
    assert fdf.words == {"savehs": ["true"], "spinpolarized": ["true"]}


def test_both_spins_of_a_fixed_moment_have_their_own_levels(tmp_path):
    """SIESTA moves spin down in TSHS to the Fermi level of spin up, half an eV away, and says both levels in its output alone."""
    (frame,) = frames_of("siesta", "fixed_spin")
    results = {result.name: result for result in check_frame(frame)}
    assert results["eigenvalues against the printed ones"].found < 1e-6
    assert results["DM against f(H, S)"].found < 1e-6
    assert any("H of spin down in TSHS was moved back by -0.497743 eV" in note for note in frame.provenance.notes)
    with pytest.raises(Refused, match="which no file says; expected the main output of the run"):
        read_folder(without("fixed_spin", tmp_path, ".out"))


def test_an_unconverged_output_is_seen(tmp_path):
    folder = without("h2o", tmp_path)
    output = folder / "h2o.out"
    output.write_text(output.read_text().replace("SCF cycle converged", "SCF_NOT_CONV: SCF cycle"))
    results = {result.name: result for result in check_frame(read_folder(folder))}
    assert results["converged"].ok is False


FAILED_RUN = """Siesta Version  : master-post-4.1-268
reinit: System Label: h2o
siesta: Etot    =      -460.000000
SCF_NOT_CONV: SCF did not converge in maximum number of steps (required).
siesta:         Fermi =      -1.000000
siesta:         Total =    -460.000000
"""


def test_the_last_run_of_an_output_counts(tmp_path):
    """SIESTA's output was appended to that of a run that had failed (>>)."""
    folder = without("h2o", tmp_path)
    output = folder / "h2o.out"
    output.write_text(FAILED_RUN + output.read_text())
    frame = read_folder(folder)
    assert (frame.outcome.converged, frame.outcome.iterations, frame.outcome.energy) == (True, 22, -466.220361)


def test_an_scf_that_failed_before_the_last_one_does_not_count(tmp_path):
    """Of a relaxation the last step is read."""
    folder = without("h2o", tmp_path)
    output = folder / "h2o.out"
    step = "SCF cycle converged"
    output.write_text(output.read_text().replace(step, f"SCF_NOT_CONV: SCF did not converge\n{step}"))
    assert read_folder(folder).outcome.converged is True


@pytest.mark.parametrize("name", ["a_first_try.out", "z_later.out"])
def test_of_several_outputs_the_one_with_the_fermi_level_of_the_matrices_counts(name, tmp_path):
    folder = without("h2o", tmp_path)
    (folder / name).write_text(FAILED_RUN)
    frame = read_folder(folder)
    assert (frame.outcome.converged, frame.outcome.energy) == (True, -466.220361)


def test_a_density_of_other_orbitals_is_left_out(tmp_path):
    folder = without("h2o", tmp_path, ".DM")
    shutil.copy(unpacked("siesta", "si2") / "si2.DM", folder / "h2o.DM")
    frame = read_folder(folder)
    assert set(frame.operators) == {"H", "S"}
    note = "DM of h2o.DM is left out: it has 26 orbitals in place of the 23 of h2o.TSHS"
    assert note in frame.provenance.notes


def test_a_density_of_another_spin_is_left_out(tmp_path):
    """A run with spin-orbit coupling may begin with a DM without, and end before it writes its own."""
    folder = without("spin", tmp_path)
    keep_one_spin(folder / "fe.DM")
    frame = read_folder(folder)
    assert set(frame.operators) == {"H", "S"}
    note = "DM of fe.DM is left out: it has 1 spin components in place of the 2 of fe.TSHS"
    assert note in frame.provenance.notes


def keep_one_spin(path):
    """A DM file with the first of its spins alone."""
    with FortranFile(path) as file:
        norb, _, *cells = file.read_ints()
        counts = file.read_ints()
        columns = [file.read_ints() for _ in range(norb)]
        rows = [file.read_reals() for _ in range(norb)]
    with FortranFile(path, "w") as file:
        file.write_record(np.array([norb, 1, *cells], dtype="i4"))
        for record in (counts, *columns, *rows):
            file.write_record(record)


def test_a_level_that_is_no_number_is_damage(tmp_path):
    folder = without("h2o", tmp_path, ".TSHS")
    (path,) = folder.glob("*.EIG")
    path.write_text(path.read_text().replace("E+01", "E/01", 2).replace("E+01", "E/01"))
    with pytest.raises(Refused, match=r"EIG: expected only numbers"):
        read_folder(folder)


def test_a_shell_that_none_has_is_damage(tmp_path):
    folder = without("h2o", tmp_path, ".HSX")
    (path,) = folder.glob("*.ORB_INDX")
    lines = path.read_text().splitlines(keepends=True)
    words = lines[3].split()
    lines[3] = " ".join([*words[:5], "2", "6", *words[7:]]) + "\n"
    path.write_text("".join(lines))
    with pytest.raises(Refused, match=r"ORB_INDX: has a shell that none has: a shell has n = 2 and l = 6"):
        read_folder(folder)


def test_ion_files_stand_in_for_the_orbital_index(tmp_path):
    """TSHS alone does not say which orbitals its atoms have; the ion files of the labels in the fdf file do."""
    (frame,) = frames_of("siesta", "h2o")
    folder = without("h2o", tmp_path, ".ORB_INDX", ".HSX")
    other = read_folder(folder)
    assert other.basis == frame.basis
    assert_same_frame(replace(other, provenance=frame.provenance), frame)
    (folder / "H.ion.xml").unlink()
    with pytest.raises(Refused, match="does not say which orbitals its atoms have; expected ORB_INDX, HSX or nc"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["h2o", "si2", "spin"])
def test_the_numbers_of_a_run_tell_its_constants(name, tmp_path):
    """Without any output the cell in STRUCT_OUT and the Fermi level in EIG do; files of two kinds of versions are refused."""
    (frame,) = frames_of("siesta", name)
    folder = without(name, tmp_path, ".out", ".nc")
    assert read_folder(folder).provenance.form == replace(
        frame.provenance.form, constants_from=read_folder(folder).provenance.form.constants_from
    )
    (levels,) = folder.glob("*.EIG")
    first, rest = levels.read_text().split("\n", 1)
    modern = float(first) * 13.605693122994 / LEGACY.rydberg
    levels.write_text(f"{modern:20.9E}\n{rest}")
    with pytest.raises(Refused, match=r"eV in a Rydberg .* and .* eV in a Rydberg"):
        read_folder(folder)


def test_the_output_of_tbtrans_is_not_that_of_the_run(tmp_path):
    (frame,) = frames_of("siesta", "h2o")
    folder = without("h2o", tmp_path)
    (output,) = folder.glob("*.out")
    (folder / "TBT.out").write_text("Version : 5.1\nreinit: System Label: h2o\ntbt: [memory] LHS inversion\n")
    assert read_folder(folder).outcome == frame.outcome
    said = output.read_text()
    for words in ("System Label: ", "SystemLabel "):
        said = said.replace(f"{words}h2o", f"{words}other")
    output.unlink()
    (folder / "RUN.out").write_text(said)
    assert read_folder(folder).outcome.converged is None


def test_runs_that_moved_atoms_have_the_structure_and_the_energy_of_their_matrices(tmp_path):
    """After a step of MD XV has the next positions, and Total the kinetic energy of the nuclei: numbers of SIESTA 4.1 for hydrogen on graphene."""
    folder = shutil.copytree(unpacked("siesta", "h2o"), tmp_path / "run")
    (folder / "h2o.TSHS").unlink()  # HSX of 4.1 has no structure
    expected = read_folder(folder)
    lines = (folder / "h2o.XV").read_text().splitlines()
    words = lines[-1].split()
    lines[-1] = " ".join([*words[:2], str(float(words[2]) + 0.01), *words[3:]])
    (folder / "h2o.XV").write_text("\n".join(lines) + "\n")
    output = (folder / "h2o.out").read_text()
    (folder / "h2o.out").write_text(
        f"{output}\nsiesta:       Ekinion =       3.007418\nsiesta:         Total =   -1264.243747\n"
    )
    frame = read_folder(folder)
    np.testing.assert_allclose(frame.positions_av, expected.positions_av, atol=1e-7)
    assert frame.outcome.energy == pytest.approx(-1267.2512, abs=5e-5)  # E_KS of that step


def test_echoes_of_inputs_which_each_step_of_a_relaxation_leaves_are_no_outputs(tmp_path):
    folder = shutil.copytree(unpacked("siesta", "si2"), tmp_path / "run")
    other = (folder / "si2.out").read_text().replace("after 10 iterations", "after 99 iterations")
    for n in range(3):
        (folder / f"fdf-{n:05d}.log").write_text(other)
    (run,) = search(folder, ["siesta"])
    assert not any(path.name.startswith("fdf-") for path in run.others)
    assert read_folder(folder).outcome.iterations == 10
    assert read_progress(folder).iterations == 10
