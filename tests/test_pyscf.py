"""PySCF: its own eigenvalues, electrons, Fock matrices, rotated runs and restarts are the truth here."""

import functools
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from pyscf import dft, gto, scf
from pyscf.pbc import dft as pbcdft
from pyscf.pbc import gto as pbcgto
from pyscf.pbc import scf as pbcscf
from scipy import linalg

from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters import pyscf as converter
from converters.errors import Refused
from converters.physics import kspace
from converters.physics.checks import check_frame
from converters.physics.overlap import Overlap
from converters.pyscf.write import join_spins, to_pyscf
from converters.runs import search
from slem_plugin.testing.frames import random_rotation, rotate_block

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.1, -0.763, -0.45]])


def water(basis, positions=WATER, **options):
    return gto.M(atom=list(zip("OHH", positions.tolist(), strict=True)), basis=basis, verbose=0, **options)


def oxygen(**options):
    return gto.M(atom="O 0 0 0; O 0.3 0.4 1.1", basis="def2-svp", spin=2, verbose=0, **options)


def spinor_water(positions=WATER):
    """GHF with a complex Fock matrix that mixes the spins: a magnetic field and random complex orbitals to start from."""
    mf = scf.GHF(water("6-31g", positions))
    n = mf.mol.nao
    with mf.mol.with_common_origin((0, 0, 0)):
        angular = mf.mol.intor("int1e_cg_irxp") * -0.5j  # orbital moment, imaginary and Hermitian
    field = np.array([0.03, -0.02, 0.05])
    S = mf.mol.intor("int1e_ovlp")
    pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    extra = np.kron(np.eye(2), np.einsum("v,vab->ab", field, angular)) + np.einsum(
        "v,vst,ab->satb", field, pauli, S
    ).reshape(2 * n, 2 * n)
    core = mf.get_hcore() + extra
    mf.get_hcore = lambda *_: core
    return mf, field


# Functions that end soon: GTH's own of lithium reach so far that lattice sums take twenty times as long, and prove no more.
COMPACT = {"Li": [[0, (1.2, -0.1), (0.3, 1.0)], [1, (0.3, 1.0)]], "H": [[0, (1.3, 0.4), (0.35, 0.6)]]}


def lithium_hydride(mesh=(2, 2, 2), basis=COMPACT, **options):
    cell = pbcgto.M(
        atom="Li 0 0 0; H 1.9 2.1 2.04", a=np.array([[0.1, 2, 2], [2, 0, 2.1], [2, 2, 0]]), basis=basis,
        pseudo="gth-pade", mesh=[15] * 3, verbose=0, **options,
    )  # fmt: skip
    return cell, cell.make_kpts(list(mesh))


def tight(mf):
    mf.conv_tol = 1e-12
    mf.kernel()
    assert mf.converged
    return mf


@functools.cache
def make(kind):
    """A converged SCF object of each kind that the converter announces."""
    if kind.startswith("water "):
        return tight(dft.RKS(water(kind.split()[1]), xc="pbe"))
    if kind == "h shells":
        return tight(scf.RHF(gto.M(atom="Ne", basis={"Ne": gto.basis.load("cc-pv5z", "Ne")}, verbose=0)))
    if kind == "GHF":
        return tight(spinor_water()[0])
    if kind == "ECP":
        return tight(scf.RHF(gto.M(atom="H 0 0 0; I 0 0.2 1.6", basis="def2-svp", ecp="def2-svp", verbose=0)))
    if kind == "ghost":
        atoms = "O 0 0 0; H 0 0.7 0.6; GHOST-H 0 -0.7 0.6; H@2 0 -0.75 0.6"
        return tight(scf.RHF(gto.M(atom=atoms, basis={"default": "def2-svp", "H@2": "6-31g"}, verbose=0)))
    if kind == "smeared":
        return tight(scf.addons.smearing_(dft.RKS(water("6-31g"), xc="lda"), sigma=0.01, method="fermi"))
    molecular = {"RHF": scf.RHF, "UHF": scf.UHF, "ROHF": scf.ROHF, "UKS": dft.UKS, "GKS": dft.GKS}
    if kind in molecular:
        return tight(molecular[kind](water("def2-svp") if kind in ("RHF", "GKS") else oxygen()))
    cell, kpts = lithium_hydride()
    few = cell.make_kpts([2, 1, 1])
    periodic = {
        "KRHF": lambda: pbcscf.KRHF(cell, few),
        "KRKS": lambda: pbcdft.KRKS(cell, kpts, xc="lda"),
        "KUHF": lambda: pbcscf.KUHF(cell, few),
        "KGHF": lambda: pbcscf.KGHF(cell, kpts[:1]),
        "shifted": lambda: pbcdft.KRKS(cell, cell.make_kpts([2, 1, 2], scaled_center=[0.25, 0, 0.25]), xc="lda"),
        "Gamma": lambda: pbcscf.RHF(cell),
        "smeared mesh": lambda: pbcscf.addons.smearing_(pbcdft.KUKS(cell, few, xc="lda"), sigma=0.05, method="fermi"),
    }
    return tight(periodic[kind]())


MOLECULES = [
    "water def2-svp",
    "water cc-pvtz",
    "water cc-pvqz",
    "RHF",
    "UHF",
    "ROHF",
    "UKS",
    "GHF",
    "GKS",
    "ECP",
    "ghost",
]
CRYSTALS = ["KRHF", "KRKS", "KUHF", "KGHF", "shifted", "Gamma"]


@pytest.mark.parametrize("kind", [*MOLECULES, *CRYSTALS, "smeared", "smeared mesh", "h shells"])
def test_frame_has_pyscf_levels_and_electrons(kind):
    mf = make(kind)
    frame = converter.frame_from_scf(mf)
    for result in check_frame(frame):
        assert result.ok is not False, str(result)
    found = kspace.eigenvalues(frame, frame.spectrum.kpoints_kc)
    expected = np.sort(np.array(mf.mo_energy), axis=-1) * HARTREE
    assert np.abs(found - expected.reshape(-1, *found.shape[1:])).max() < 1e-9 * frame.norb
    counts = kspace.count_electrons(frame)
    assert abs(counts.sum() - mf.mol.tot_electrons()) < 1e-10
    assert frame.spectrum.smearing == ("fermi" if "smeared" in kind else "fixed")


@pytest.mark.parametrize("kind", ["water cc-pvqz", "UKS", "GHF", "KRKS"])
def test_hamiltonian_is_the_fock_matrix_of_the_density(kind):
    mf = make(kind)
    frame = converter.frame_from_scf(mf)
    fock = np.array(mf.get_fock(dm=mf.make_rdm1(), level_shift_factor=0)) * HARTREE
    mine = to_pyscf(frame, "H")
    mine = join_spins(mine) if frame.spin is Spin.SPINOR else mine
    assert np.abs(mine.reshape(fock.shape) - fock).max() < 2e-4  # the last density step of an SCF converged to 1e-12


def test_k_mesh_matrices_are_exact_at_the_mesh():
    mf = make("KRKS")
    frame = converter.frame_from_scf(mf)
    S = np.array(mf.get_ovlp())
    assert np.abs(to_pyscf(frame, "S")[0] - S).max() < 1e-10
    assert np.abs(to_pyscf(frame, "DM")[0] - np.array(mf.make_rdm1())).max() < 1e-12
    assert (
        np.abs(frame.atoms.get_scaled_positions(wrap=False) @ mf.cell.lattice_vectors() - mf.cell.atom_coords()).max()
        < 1e-8
    )


def test_runs_with_k_point_symmetry_have_the_matrices_of_the_whole_mesh_and_start_from_them():
    places = dict(atom="Li 0 0 0; H 2 2 2", a="0 2 2; 2 0 2; 2 2 0")
    cell = pbcgto.M(**places, basis=COMPACT, pseudo="gth-pade", mesh=[15] * 3, verbose=0, space_group_symmetry=True)
    runs = [
        tight(pbcdft.KRKS(cell, cell.make_kpts([3, 1, 1], **symmetry), xc="lda"))
        for symmetry in ({}, {"space_group_symmetry": True}, {"time_reversal_symmetry": True})
    ]
    whole, *symmetric = map(converter.frame_from_scf, runs)
    for run, frame in zip(runs[1:], symmetric, strict=True):
        kept = run.kpts.ibz2bz
        assert len(kept) == 2
        fock = np.array(run.get_fock(dm=run.make_rdm1())) * HARTREE
        assert np.abs(to_pyscf(frame, "H")[0][kept] - fock).max() < 1e-5
        start, *_ = converter.guess_density(run, frame)
        again = run.copy()
        again.conv_tol, again.mo_coeff = 1e-9, None
        assert abs(again.kernel(dm0=start) - run.e_tot) < 1e-9
        assert again.cycles <= 2
        for name in ("H", "S", "DM"):  # the grid of the whole run is not as symmetric as its crystal
            assert np.abs(to_pyscf(frame, name) - to_pyscf(whole, name)).max() < 1e-3


def test_shells_keep_pyscf_order():
    frame = converter.frame_from_scf(make("water cc-pvqz"))
    assert [str(species) for species in frame.basis] == ["O 5s4p3d2f1g", "H 4s3p2d1f"]
    ghost = converter.frame_from_scf(make("ghost"))
    assert [(species.name, species.number) for species in ghost.basis] == [
        ("O", 8),
        ("H", 1),
        ("GHOST-H", 0),
        ("H@2", 1),
    ]


@pytest.mark.parametrize("kind", ["RKS", "UKS"])
@pytest.mark.parametrize("improper", [False, True])
def test_a_rotated_run_gives_rotated_blocks(kind, improper):
    Q = random_rotation(11, improper)
    compare_rotated(water_turned(kind, np.eye(3).tobytes()), water_turned(kind, Q.tobytes()), Q, 1e-8)


@functools.cache
def water_turned(kind, turn):
    """The frame of a run of water, turned by the bytes of a rotation."""
    positions = WATER @ np.frombuffer(turn).reshape(3, 3).T
    mf = scf.RHF(water("cc-pvqz", positions))
    if kind == "UKS":
        mf = scf.UHF(water("cc-pvtz", positions, charge=1, spin=1))
    mf.conv_tol, mf.conv_tol_grad = 1e-13, 1e-8
    return converter.frame_from_scf(tight(mf))


def test_a_rotated_spinor_run_gives_rotated_blocks():
    Q = random_rotation(3)
    frames = []
    for turn in (np.eye(3), Q):
        mf, _ = spinor_water(WATER @ turn.T)
        n = mf.mol.nao
        core = mf.get_hcore()
        if turn is Q:  # the field turns with the molecule
            core = rotated_field_core(WATER @ turn.T, turn)
            assert core.shape == (2 * n, 2 * n)
        mf.get_hcore = lambda *_, core=core: core
        mf.conv_tol_grad = 1e-8
        frames.append(converter.frame_from_scf(tight(mf)))
    compare_rotated(*frames, Q, 1e-6)


def rotated_field_core(positions, Q):
    mol = water("6-31g", positions)
    field = Q @ np.array([0.03, -0.02, 0.05])
    with mol.with_common_origin((0, 0, 0)):
        angular = np.einsum("v,vab->ab", field, mol.intor("int1e_cg_irxp") * -0.5j)
    pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    zeeman = np.einsum("v,vst,ab->satb", field, pauli, mol.intor("int1e_ovlp"))
    n = mol.nao
    return scf.GHF(mol).get_hcore() + np.kron(np.eye(2), angular) + zeeman.reshape(2 * n, 2 * n)


def compare_rotated(frame, turned, Q, tolerance):
    for name in ("H", "S", "DM"):
        for p in range(len(frame.pairs)):
            shells = [frame.basis[frame.species_a[a]].shells for a in (frame.pairs.i_p[p], frame.pairs.j_p[p])]
            expected = rotate_block(frame.block_of_pair(name, p), *shells, Q, frame.layout(name))
            assert np.abs(turned.block_of_pair(name, p) - expected).max() < tolerance, (name, p)


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
