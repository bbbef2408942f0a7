"""Files of PySCF: checkpoints and logs, written, read, damaged and refused."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from pyscf import dft, gto, scf
from pyscf.pbc import dft as pbcdft
from pyscf.pbc import scf as pbcscf
from scipy import linalg

from basis.units import BOHR, HARTREE
from converters import pyscf as converter
from converters.errors import Refused
from converters.physics.checks import check_frame
from converters.physics.overlap import Overlap
from converters.pyscf.write import to_pyscf
from converters.runs import search
from tests.test_pyscf import lithium_hydride, make, tight, water


@pytest.mark.parametrize("kind", ["water cc-pvtz", "UKS", "ROHF", "GHF", "KRHF", "KUHF", "Gamma"])
def test_checkpoint_and_dm0_restart_at_once(kind, tmp_path):
    mf = make(kind)
    frame = converter.frame_from_scf(mf)
    converter.write(frame, tmp_path / "restart.chk", mf.mol)
    starts = {"chkfile": lambda again: again.init_guess_by_chkfile(str(tmp_path / "restart.chk"))}
    starts["dm0"] = lambda _: converter.starting_density(frame)
    for name, start in starts.items():
        again = mf.copy()
        again.conv_tol = 1e-9
        again.mo_coeff, again.chkfile = None, None
        energy = again.kernel(dm0=start(again))
        assert abs(energy - mf.e_tot) < 1e-9, name
        assert again.cycles <= 2, name


@pytest.mark.parametrize("kind", ["water def2-svp", "UKS", "GHF", "KRHF", "KUHF", "Gamma", "KGHF"])
def test_what_was_written_is_read_back(kind, tmp_path):
    mf = make(kind)
    frame = converter.frame_from_scf(mf)
    converter.write(frame, tmp_path / "a.chk", mf.mol)
    (run,) = search(tmp_path, ["pyscf"])
    (again,) = converter.read_run(run)
    for name, tolerance in (("H", 1e-8), ("S", 1e-13), ("DM", 1e-10)):
        assert np.abs(again.operators[name].values_sx - frame.operators[name].values_sx).max() < tolerance
    assert again.basis == frame.basis
    assert again.spin is frame.spin


@pytest.mark.parametrize("kind", ["UKS", "ROHF", "GHF", "smeared", "KRHF", "KUHF", "smeared mesh", "shifted", "Gamma"])
def test_checkpoints_of_pyscf_itself_hold_the_frame_of_the_object(kind, tmp_path):
    mf = make(kind).copy()
    mf.chkfile = str(tmp_path / "a.chk")
    mf.dump_chk(vars(mf))
    (run,) = search(tmp_path, ["pyscf"])
    (read,) = converter.read_run(run)
    frame = converter.frame_from_scf(mf)
    for name, tolerance in (("H", 1e-8), ("S", 1e-13), ("DM", 1e-10)):
        assert np.abs(read.operators[name].values_sx - frame.operators[name].values_sx).max() < tolerance
    assert read.spin is frame.spin
    assert Overlap.of_frame(frame).difference(frame)[0] < 1e-9


def test_a_density_that_is_not_of_h_goes_through_natural_orbitals(tmp_path):
    mf = make("water def2-svp")
    frame = converter.frame_from_scf(mf)
    noise = np.random.default_rng(0).normal(size=frame.operators["DM"].values_sx.shape) * 1e-3
    onsite = frame.pairs.onsite_p[frame.pairs.pair_x]
    noisy = replace(frame.operators["DM"], values_sx=frame.operators["DM"].values_sx + np.where(onsite, 0, noise))
    guess = replace(frame, operators={**frame.operators, "DM": noisy})
    converter.write(guess, tmp_path / "a.chk", mf.mol)
    loaded = mf.init_guess_by_chkfile(str(tmp_path / "a.chk"))
    f, C = linalg.eigh(converter.starting_density(guess), np.linalg.inv(mf.get_ovlp()))  # DM C = S^-1 C f
    kept = np.maximum(f, 0) * f.sum() / np.maximum(f, 0).sum()
    expected = np.linalg.inv(mf.get_ovlp()) @ (C * kept) @ C.T @ np.linalg.inv(mf.get_ovlp())
    assert f.min() < -1e-4
    assert np.abs(loaded - expected).max() < 1e-10


def checkpoint_folder(tmp_path, log=True, **options):
    mol = water("def2-svp", **options)
    mf = dft.RKS(mol, xc="pbe")
    if log:
        mol.verbose, mol.output = 4, None
        mol.stdout = (tmp_path / "water.log").open("w")
        mf.stdout, mf.verbose = mol.stdout, 4
    mf.chkfile = str(tmp_path / "water.chk")
    mf.kernel()
    if log:
        mol.stdout.close()
    return mf


def test_a_run_folder_tells_what_its_log_says(tmp_path):
    mf = checkpoint_folder(tmp_path)
    (tmp_path / "other.log").write_text("converged SCF energy = -1.0\n")
    (run,) = search(tmp_path, ["pyscf"])
    (frame,) = converter.read_run(run)
    assert frame.outcome.converged is True
    assert frame.outcome.iterations == mf.cycles
    assert frame.outcome.energy == pytest.approx(mf.e_tot * HARTREE, abs=1e-12)
    assert set(frame.provenance.files) == {"water.chk", "water.log"}
    log = tmp_path / "water.log"
    log.write_text(log.read_text().replace("delta_E= ", "delta_E= S"))
    (frame,) = converter.read_run(run)
    assert frame.outcome.iterations == mf.cycles
    with h5py.File(tmp_path / "water.chk", "r+") as file:
        del file["scf/e_tot"]
        file["scf/e_tot"] = [1.0, 2.0]
    with pytest.raises(Refused, match=r"water.chk: has 2 energies; expected one"):
        list(converter.read_run(run))
    assert frame.provenance.source == run.source

    direct = converter.frame_from_scf(mf)
    for name in ("H", "S", "DM"):
        assert np.abs(frame.operators[name].values_sx - direct.operators[name].values_sx).max() < 1e-9
    np.testing.assert_allclose(frame.positions_av, mf.mol.atom_coords() * BOHR, atol=1e-12)


def test_a_log_says_how_levels_were_smeared_and_may_hold_several_runs(tmp_path):
    cell, kpts = lithium_hydride(mesh=(2, 1, 1))
    with (tmp_path / "run.log").open("w") as cell.stdout:
        for smeared in (True, False):
            cell.verbose = 4
            mf = pbcdft.KRKS(cell, kpts, xc="lda")
            mf = pbcscf.addons.smearing_(mf, sigma=0.05, method="gauss") if smeared else mf
            mf.chkfile = str(tmp_path / "run.chk")
            mf.kernel()
            cell.stdout.flush()
            (run,) = search(tmp_path, ["pyscf"])
            (frame,) = converter.read_run(run)
            assert frame.spectrum.smearing == ("gauss" if smeared else "fixed")
            assert frame.spectrum.width == pytest.approx(0.05 * HARTREE if smeared else 0)
            assert frame.outcome.iterations == mf.cycles
            assert {result.name: result for result in check_frame(frame)}["DM against f(H, S)"].ok


def test_an_unconverged_run_is_seen(tmp_path):
    mf = dft.RKS(water("def2-svp"), xc="pbe")
    mf.max_cycle = 2
    mf.kernel()
    results = {result.name: result for result in check_frame(converter.frame_from_scf(mf))}
    assert results["converged"].ok is False
    with pytest.raises(Refused, match="has no orbitals"):
        converter.frame_from_scf(dft.RKS(water("def2-svp")))


def test_what_cannot_be_read_is_refused_with_the_cure(tmp_path):
    with pytest.raises(Refused, match=r"Cartesian d functions .* cart=False"):
        converter.frame_from_scf(tight(scf.RHF(water("def2-svp", cart=True))))
    cell, _ = lithium_hydride()
    odd = pbcscf.KRHF(cell, cell.make_kpts([2, 1, 1], scaled_center=[0.1, 0, 0]))
    odd.kernel()
    with pytest.raises(Refused, match="expected a mesh with -k for each k"):
        converter.frame_from_scf(odd)
    line = pbcscf.KRHF(cell, cell.get_abs_kpts([[0, 0, 0], [0.3, 0, 0], [0.7, 0, 0]]))
    line.kernel()
    with pytest.raises(Refused, match="no uniform mesh"):
        converter.frame_from_scf(line)


def test_dropped_orbitals_rebuild_the_fock_matrix(tmp_path, monkeypatch):
    near = gto.M(atom="H 0 0 0; H 0 0 0.9; GHOST-H 0 0 0.0003", basis="def2-svp", verbose=0)
    if not hasattr(scf.hf, "remove_overlap_zero_eigenvalue"):
        pytest.skip("this PySCF drops no orbitals by itself")
    monkeypatch.setattr(scf.hf, "remove_overlap_zero_eigenvalue", True)
    mf = scf.RHF(near)
    mf.chkfile = str(tmp_path / "a.chk")
    mf.kernel()
    frame = converter.frame_from_scf(mf)
    fock = mf.get_fock(dm=mf.make_rdm1()) * HARTREE
    assert np.abs(to_pyscf(frame, "H")[0, 0] - fock).max() < 1e-10
    (run,) = search(tmp_path, ["pyscf"])
    with pytest.raises(Refused, match="linearly dependent orbitals"):
        list(converter.read_run(run))


def test_a_checkpoint_cannot_run_code(tmp_path):
    checkpoint_folder(tmp_path, log=False)
    marker = tmp_path / "executed"
    with h5py.File(tmp_path / "water.chk", "r+") as file:
        stored = json.loads(file["mol"][()])
        for key in ("atom", "basis", "ecp"):
            stored[key] = f"__import__('pathlib').Path({str(marker)!r}).touch()"
        del file["mol"]
        file["mol"] = json.dumps(stored)
    (run,) = search(tmp_path, ["pyscf"])
    list(converter.read_run(run))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_bas": "[[0, 0, 5, 1, 0, 44, 9999, 0]]"}, "integral tables"),
        ({"_atm": [[8, 20000, 1, 23, 0, 0]]}, "integral tables"),
        ({"_env": "__import__('os').getcwd()"}, "no readable molecule"),
        ({"_atom": "[]"}, "do not fit its atoms"),
    ],
)
def test_a_damaged_molecule_is_refused(tmp_path, change, message):
    checkpoint_folder(tmp_path, log=False)
    with h5py.File(tmp_path / "water.chk", "r+") as file:
        stored = json.loads(file["mol"][()]) | change
        del file["mol"]
        file["mol"] = json.dumps(stored)
    (run,) = search(tmp_path, ["pyscf"])
    with pytest.raises(Refused, match=message):
        list(converter.read_run(run))


def test_a_checkpoint_without_results_is_refused(tmp_path):
    checkpoint_folder(tmp_path, log=False)
    shutil.copy(tmp_path / "water.chk", tmp_path / "b.chk")
    with h5py.File(tmp_path / "b.chk", "r+") as file:
        del file["scf/mo_occ"]
    first, second = sorted(search(tmp_path, ["pyscf"]), key=lambda run: run.main)
    with pytest.raises(Refused, match="has no scf/mo_occ"):
        list(converter.read_run(first))
    (frame,) = converter.read_run(second)
    assert frame.outcome.converged is None
