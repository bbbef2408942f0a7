"""Starts of magnets: what inputs say of the moments with which a run begins, and that another order is not started in silence."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pyscf import gto, scf

from converters.errors import Refused
from converters.pyscf import frame_from_scf
from converters.starts.magnetism import names_of_both_signs, other_order
from converters.starts.targets import find_target
from tests.fixtures import frames_of, unpacked
from workflows.export import Request, export, require_order
from workflows.terminal.show_training import show_training


def stretched_hydrogen(kind):
    """Two atoms of hydrogen 3 Angstrom apart, with parallel or with opposite moments of one magneton, and the moments that PySCF finds."""
    mol = gto.M(atom="H 0 0 0; H 0 0 3", basis="6-31g", spin=2 if kind == "parallel" else 0, verbose=0)
    mf = scf.UHF(mol)
    dm0 = mf.get_init_guess()
    if kind == "opposite":
        first = np.diag(np.arange(mol.nao) < mol.nao // 2).astype(float)
        dm0 = (
            np.array(
                [
                    first @ dm0[0] @ first,
                    np.roll(first, mol.nao // 2, (0, 1)) @ dm0[1] @ np.roll(first, mol.nao // 2, (0, 1)),
                ]
            )
            * 2
        )
    mf.kernel(dm0)
    S, (up, down) = mf.get_ovlp(), mf.make_rdm1()
    share_M = ((up - down) * S).sum(axis=1)
    return frame_from_scf(mf), np.add.reduceat(share_M, [0, mol.nao // 2])


@pytest.fixture(scope="module")
def run():
    return find_target(unpacked("siesta", "spin"))


@pytest.mark.parametrize(("kind", "sign"), [("parallel", 1), ("opposite", -1)])
def test_an_order_is_the_same_turned_over_and_another_where_signs_are_mixed(kind, sign, run):
    frame, moments_a = stretched_hydrogen(kind)
    np.testing.assert_allclose(np.abs(moments_a), 1, atol=0.02)
    assert moments_a[0] * moments_a[1] * sign > 0
    for asked in ((2.5, sign * 2.5), (-1, -sign), (0, 0), (3, 0), (0.1, -sign * 2.0)):
        assert other_order(frame, replace(run, moments_a=np.array(asked))) == "", asked
    wrong = replace(run, moments_a=np.array([2.5, -sign * 2.5]))
    assert f"begins with moments +2.5 {-sign * 2.5:+.1f} on the atoms 1 2; the prediction has" in other_order(
        frame, wrong
    )
    with pytest.raises(Refused, match="another magnetic order"):
        require_order(frame, wrong, Request())
    (note,) = require_order(frame, wrong, Request(route="h2dm"))
    assert note.startswith("WARNING: fe.fdf begins with moments")
    assert other_order(frame, replace(run, moments_a=None)) == other_order(frame, None) == ""


def test_opposed_moments_that_the_input_does_not_name_are_told(run):
    """SIESTA would begin with all up."""
    silent = replace(run, moments_a=None)
    for kind, told in (("opposite", True), ("parallel", False)):
        frame, _ = stretched_hydrogen(kind)
        notes = require_order(frame, silent, Request())
        assert len(notes) == told
        assert require_order(frame, replace(run, moments_a=np.zeros(2)), Request()) == []
    assert require_order(frames_of("siesta", "si2")[0], silent, Request()) == []
    (note,) = require_order(stretched_hydrogen("opposite")[0], silent, Request())
    wanted = r"fe\.fdf names no moments to begin with; the prediction has ([+-])1\.0 ([+-])1\.0 on the atoms 1 2, and the run starts from them"
    found = re.fullmatch(wanted, note)
    assert found
    assert found[1] != found[2]


def test_runs_of_magnets_start_from_their_own_matrices(run, tmp_path):
    (frame,) = frames_of("siesta", "spin")
    for moment in (2.0, -2.0):
        assert export(frame, tmp_path, Request(), replace(run, moments_a=np.array([moment]))).files


def test_names_that_do_not_tell_the_sign_of_a_moment_are_noticed(capsys):
    """In one frame, and where runs of the same structure ended turned over."""
    (opposite, _), (parallel, _) = stretched_hydrogen("opposite"), stretched_hydrogen("parallel")
    DM = parallel.operators["DM"]
    turned = replace(parallel, operators={**parallel.operators, "DM": replace(DM, values_sx=DM.values_sx[::-1])})
    assert names_of_both_signs([opposite]) == names_of_both_signs([parallel, turned]) == ["H"]
    assert names_of_both_signs([parallel, parallel]) == names_of_both_signs(frames_of("siesta", "si2")) == []
    spec = SimpleNamespace(kind="slem")
    blueprint = SimpleNamespace(learned=["H"], mesh=None, unreached=0, network=spec)
    model = SimpleNamespace(network=torch.nn.Linear(1, 1), blueprint=blueprint)
    for names, told in ((["H"], True), ([], False)):
        model.history = {"names of both signs": names}
        show_training(lambda say: say["prepared"](model, 1, 1), Path("model"), as_json=False)
        assert ("atoms named H have moments of both signs" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("lines", "moments"),
    [
        ("%block DM.InitSpin\n 1 -2.5 # down\n%endblock DM.InitSpin", [-2.5]),
        ("%block DM.InitSpin\n 1 3.d0\n%endblock DM.InitSpin", [3]),
        ("%block dm_initspin\n -1 +\n%endblock dm_initspin", [1]),
        ("%block DM.InitSpin\n 1 - 90. 0.\n%endblock DM.InitSpin", [-1]),
        ("DM.InitSpinAF true", [1]),
        ("DM.InitSpin.AF false", None),
    ],
)
def test_the_moments_of_an_fdf(lines, moments, tmp_path):
    shutil.copy(unpacked("siesta", "spin") / "fe.fdf", tmp_path)
    (tmp_path / "fe.fdf").write_text((tmp_path / "fe.fdf").read_text() + lines + "\n")
    found_a = find_target(tmp_path).moments_a
    assert (None if found_a is None else found_a.tolist()) == moments


@pytest.mark.parametrize(
    ("of_species", "behind", "moments"),
    [
        ("0.0", ("0 0 0 mag 2.5", "m 1 1 1 magmom -2.5"), [2.5, -2.5]),
        ("1.5", ("0 0 0", "mag -1"), [1.5, -1]),
        ("0.0", ("mag +2.0", "mag 2. angle1 180"), [2, -2]),
        ("0.0", ("mag 0 0 3.0", "mag 0 0 -2 0 0 0"), [3, -2]),
        ("0.0", ("0 0 0", ""), None),
    ],
)
def test_the_moments_of_a_stru(of_species, behind, moments, tmp_path):
    folder = shutil.copytree(unpacked("abacus", "spin_fe_f"), tmp_path / "run", ignore=shutil.ignore_patterns("OUT*"))
    head = (folder / "STRU").read_text().split("\nFe\n")[0]
    atoms = "\n".join(f"{place} {place} {place} {words}" for place, words in zip((0, 0.5), behind, strict=True))
    (folder / "STRU").write_text(f"{head}\nFe\n{of_species}\n2\n{atoms}\n")
    found_a = find_target(folder).moments_a
    assert (None if found_a is None else found_a.tolist()) == moments


def test_the_moments_of_a_dat_are_its_electrons():
    assert find_target(unpacked("openmx", "spin")).moments_a == pytest.approx([3.0])
    assert find_target(unpacked("openmx", "si2_v38")).moments_a is None
    assert find_target(unpacked("siesta", "soc")).moments_a is None


def test_what_else_a_row_of_a_dat_says_is_no_angle(tmp_path):
    folder = shutil.copytree(unpacked("openmx", "spin"), tmp_path / "run")
    (dat,) = folder.glob("*.dat")
    lines = dat.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.lower().startswith("<atoms.speciesandcoordinates")) + 1
    for behind in ("Fe atom", "90.0 0.0", "on 1"):
        lines[at] = " ".join([*lines[at].split()[:7], behind])
        dat.write_text("\n".join(lines) + "\n")
        assert find_target(folder).moments_a == pytest.approx([3.0]), behind
