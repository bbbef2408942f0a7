"""Folders with less than a run: pointers of Git LFS, inputs alone, files of other programs; what is there is read, and the rest is named."""

import json

import h5py
import pytest
from click.testing import CliRunner

import slem_plugin as slem
from converters.errors import Kind, Refused
from converters.no_matrices import POINTER, left_out
from converters.runs import search
from converters.siesta.constants import LEGACY, MODERN, votes_of_version
from slem_plugin.testing.codes import frames_in
from tests.fixtures import unpacked
from workflows.cli import main
from workflows.convert import Options, read_checked

CODES = ["abacus", "deeph", "openmx", "pyscf", "siesta"]
LEVELS = "eigenvalues against the printed ones"


def copy_of(code, name, folder):
    for path in sorted(unpacked(code, name).rglob("*")):
        target = folder / path.relative_to(unpacked(code, name))
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    return folder


def make_pointer(path):
    path.write_bytes(POINTER + b".github.com/spec/v1\noid sha256:00\nsize 254314\n")


def test_a_pointer_costs_its_own_file_alone(tmp_path):
    folder = copy_of("siesta", "si2", tmp_path)
    (density,) = folder.glob("*.DM")
    make_pointer(density)
    refusal, run = search(folder, CODES)
    assert refusal.kind is Kind.MISSING_FILES
    assert density.name in refusal.reason
    assert "git lfs pull" in refusal.reason
    (frame,) = read_checked(run, Options())
    assert {"H", "S"} <= set(frame.operators)
    assert density.name not in frame.provenance.files


def test_pointers_below_a_run_are_named(tmp_path):
    folder = copy_of("abacus", "si2", tmp_path)
    matrices = [path for path in folder.rglob("*.csr") if not path.name.startswith("sr")]
    for path in matrices:
        make_pointer(path)
    refusal, run = search(folder, CODES)
    assert isinstance(refusal, Refused)
    assert matrices[0].name in refusal.reason
    (frame,) = read_checked(run, Options())
    assert set(frame.operators) == {"S"}


@pytest.mark.parametrize(
    ("code", "name", "text", "wanted"),
    [
        ("SIESTA", "run.fdf", "SystemLabel si\n", "TS.HS.Save true"),
        ("OpenMX", "si.dat", "System.Name si\n", "HS.fileout on"),
    ],
)
def test_an_input_alone_says_what_to_switch_on(code, name, text, wanted, tmp_path):
    (tmp_path / name).write_text(text)
    for path in (tmp_path, tmp_path / name):
        (refusal,) = search(path, CODES)
        assert refusal.kind is Kind.NO_RUN
        assert f"{name} is an input of {code}" in refusal.reason
        assert wanted in refusal.reason


@pytest.mark.parametrize(("code", "name"), [("siesta", "h2o"), ("openmx", "h2o"), ("abacus", "h2o"), ("abacus", "si2")])
def test_packed_matrices_are_named_and_no_rerun_is_asked_for(code, name, tmp_path):
    folder = copy_of(code, name, tmp_path)
    for path in list(folder.rglob("*")):
        if path.suffix in (".csr", ".TSHS", ".HSX", ".DM", ".scfout"):
            path.rename(f"{path}.gz")
    (refusal,) = search_and_read(folder)
    assert refusal.kind is Kind.NO_RUN
    assert "packed" in refusal.reason
    assert "unpack them" in refusal.reason
    assert "rerun" not in refusal.reason
    assert "switch on" not in refusal.reason


def test_matrices_of_kpoints_are_named(tmp_path):
    folder = copy_of("abacus", "si2", tmp_path)
    for path in folder.rglob("*.csr"):
        path.unlink()
    (folder / "OUT.ABACUS" / "hks1k2_nao.txt").write_text("26\n")
    (refusal,) = search_and_read(folder)
    assert "holds matrices of k-points (hks1k2_nao.txt), which are not read; switch on out_mat_hs2 1" in refusal.reason


def search_and_read(folder):
    """What is refused of a folder, in the search or in reading."""
    for item in search(folder, CODES):
        if isinstance(item, Refused):
            yield item
        else:
            with pytest.raises(Refused) as refused:
                read_checked(item, Options())
            yield refused.value


def test_what_is_no_run_among_runs_is_named(tmp_path):
    """A run that was killed, one whose files are packed, a link to a folder elsewhere; not those that were converted or refused."""
    runs = tmp_path / "runs"
    for name in ("good", "packed", "cut"):
        copy_of("siesta", "si2", runs / name)
    (matrices,) = (runs / "cut").glob("*.TSHS")
    matrices.write_bytes(matrices.read_bytes()[:1000])
    for path in (runs / "packed").iterdir():
        path.rename(f"{path}.gz")
    for name, text in (("killed/run.fdf", "SystemLabel si\n"), ("openmx/si.dat", "System.Name si\n")):
        (runs / name).parent.mkdir()
        (runs / name).write_text(text)
    (tmp_path / "elsewhere").mkdir()
    (runs / "link").symlink_to(tmp_path / "elsewhere")
    (runs / "loop").symlink_to(runs)
    result = CliRunner().invoke(main, ["convert", str(runs), "-o", str(tmp_path / "data.h5"), "--json"])
    openmx, siesta, packed, links = json.loads(result.output)["left out"]
    assert (
        siesta
        == f"input of SIESTA without matrices in {runs / 'killed'}; expected a run with TS.HS.Save true that has ended"
    )
    assert "HS.fileout on" in openmx
    assert str(runs / "packed") in packed
    assert links.endswith(f": {runs / 'link'}")
    assert "packed" in next(search(runs / "packed", CODES)).reason
    result = CliRunner().invoke(main, ["convert", str(runs / "good"), "-o", str(tmp_path / "data.h5")])
    assert "left out" not in result.output


def test_of_two_starts_of_a_run_the_default_one_is_converted(tmp_path):
    copy_of("siesta", "si2", tmp_path / "a" / "run-slem-default")
    copy_of("siesta", "h2o", tmp_path / "a" / "run-slem-guess")
    copy_of("siesta", "si2", tmp_path / "b" / "run-slem-guess")
    (tmp_path / "b" / "run").mkdir()
    (tmp_path / "b" / "run" / "si2.fdf").write_text("SystemLabel si2\n")
    assert left_out([tmp_path / "b"], CODES, search(tmp_path / "b", CODES)) == []
    both = slem.convert(tmp_path / "a", tmp_path / "a.h5")
    assert [(one.status, "no structure is to be learned twice" in one.note) for one in both] == [
        ("converted", False),
        ("there already", True),
    ]
    assert [one.status for one in slem.convert(tmp_path / "b", tmp_path / "b.h5")] == ["converted"]


def test_other_nc_files_are_no_runs_and_foreign_ones_say_what_they_lack(tmp_path):
    with h5py.File(tmp_path / "grid.nc", "w") as file:
        file["gridfunc"] = [0.0]
    (refusal,) = search(tmp_path, CODES)
    assert "holds nothing to read" in refusal.reason
    with h5py.File(tmp_path / "model.nc", "w") as file:
        file.create_group("SPARSE")
    with pytest.raises(Refused, match="not a complete SIESTA nc file: it has no SETTINGS"):
        frames_in("siesta", tmp_path)


def test_checkpoints_of_other_methods_are_refused(tmp_path):
    with h5py.File(tmp_path / "cas.chk", "w") as file:
        file["mcscf/e_tot"] = -1.0
    with pytest.raises(Refused, match=r"has no scf beside mcscf; expected the checkpoint file of the SCF"):
        frames_in("pyscf", tmp_path)


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (2e-5, False)])
def test_levels_are_as_exact_as_they_are_printed(shift, passes, tmp_path):
    """SIESTA up to 4.0 prints five decimals; a level that is off by more is found."""
    folder = copy_of("siesta", "si2", tmp_path)
    (levels,) = folder.glob("*.EIG")
    head, *rows = levels.read_text().split("\n", 2)
    words = [f"{float(word):.5f}" if "." in word else word for word in " ".join(rows).split()]
    words[5] = f"{float(words[5]) + shift:.5f}"
    levels.write_text("\n".join([head, *words]))
    (run,) = search(folder, CODES)
    if passes:
        assert read_checked(run, Options())
    else:
        with pytest.raises(Refused, match=LEVELS):
            read_checked(run, Options())


def test_a_damaged_ion_file_costs_the_radial_functions_alone(tmp_path):
    folder = copy_of("siesta", "hsx", tmp_path)
    for run in search(folder, CODES):
        (label,) = {species.name for species in read_checked(run, Options())[0].basis}
        (run.folder / f"{label}.ion.xml").write_text("version https")
        assert {"H", "S"} <= set(read_checked(run, Options())[0].operators)


@pytest.mark.parametrize(
    ("version", "constants"),
    [("#SIESTA_VERSION#", []), ("", []), ("4.1.5", [LEGACY]), ("trunk-428", [LEGACY]), ("5.2.0", [MODERN])],
)
def test_a_version_without_a_number_is_none(version, constants):
    """Builds of SIESTA 5 exist that print a placeholder."""
    assert [found for found, _ in votes_of_version(version)] == constants


def test_matrices_of_deeph_alone_say_what_they_lack(tmp_path):
    with h5py.File(tmp_path / "hamiltonian.h5", "w") as file:
        for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries"):
            file[name] = [0]
    with pytest.raises(Refused, match=r"has no info\.json beside its matrices; expected a whole folder of DeepH"):
        frames_in("deeph", tmp_path)
