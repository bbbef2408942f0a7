"""No file and no line is missed in silence; `python -m tests.deletions` deletes all of them, of all fixtures."""

import shutil

import numpy as np
import pytest

from converters.errors import Refused
from converters.runs import search
from tests.deletions import GOOD, cases, converted, sources, try_one
from tests.fixtures import unpacked
from workflows.convert import Options, read_checked

SMALL = (
    *("abacus h2o", "abacus h2o_gamma_only", "openmx h2o", "siesta h2o", "siesta nc_o2"),
    *("deeph legacy", "deeph 2026", "deeptb h2o", "pyscf water"),
)


def run_named(name):
    """Code, folder and frames of a small run."""
    code, folder = next((code, folder) for code, own, folder in sources(name) if f"{code} {own}" == name)
    return code, folder, converted(folder, code)


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_file_is_never_silent(name):
    code, folder, whole = run_named(name)
    done = [try_one((code, folder, whole, *case)) for case in cases(folder, "files")]
    assert {one.outcome for one in done} <= set(GOOD), "\n".join(map(str, done))


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_line_is_never_silent(name):
    """A few lines of each run, most of them keywords of its input."""
    code, folder, whole = run_named(name)
    keywords = [case for pattern in ("INPUT", "*.fdf", "*.scfout") for case in cases(folder, "lines", pattern)]
    others = list(cases(folder, "lines"))
    random = np.random.default_rng(0)
    for among, count in ((keywords, 6), (others, 4)):
        for n in random.choice(len(among), min(len(among), count), replace=False) if among else ():
            done = try_one((code, folder, whole, *among[n]))
            assert done.outcome in GOOD, str(done)


def test_the_kpoints_that_symmetry_keeps_are_no_mesh(tmp_path):
    """Without KPT, as with kspacing, only the four printed k-points are known: a DM that was summed over them is not that of H."""
    folder = shutil.copytree(unpacked("abacus", "bad_symmetry_si2"), tmp_path / "run")
    whole = [read_only_frame(folder, rebuild_density=rebuilt) for rebuilt in (False, True)]
    assert ["DM" in frame for frame in whole] == [False, True]
    (folder / "KPT").rename(tmp_path / "KPT")
    for rebuilt in (False, True):
        frame = read_only_frame(folder, rebuild_density=rebuilt)
        assert "DM" not in frame
        assert frame.spectrum.smearing == ""
        notes = " ".join(frame.provenance.notes)
        assert "symmetry left out some k-points" in notes
        assert "DM is left out" in notes
        assert ("DM is not built" in notes) is rebuilt
    (tmp_path / "KPT").rename(folder / "KPT")
    (folder / "INPUT").write_text((folder / "INPUT").read_text() + "kspacing 0.3\n")
    again = read_only_frame(folder, rebuild_density=True)
    np.testing.assert_array_equal(again["DM"].values_sx, whole[1]["DM"].values_sx)
    (folder / "KPT").write_text("K_POINTS\n0\nGamma\n6 6 6 0 0 0\n")
    assert "DM" not in read_only_frame(folder, rebuild_density=True)


def read_only_frame(folder, **options):
    (run,) = search(folder, ["abacus"])
    (frame,) = read_checked(run, Options(**options))
    return frame


def test_an_input_of_another_spin_is_refused(tmp_path):
    folder = shutil.copytree(unpacked("abacus", "spin_fe_f"), tmp_path / "run")
    for name in ("INPUT", "OUT.ABACUS/running_scf.log"):
        path = folder / name
        path.write_text("".join(line for line in path.read_text().splitlines(True) if line.split()[:1] != ["nspin"]))
        with pytest.raises(Refused, match=r"has nspin 1; .* is of nspin 2"):
            read_only_frame(folder)
