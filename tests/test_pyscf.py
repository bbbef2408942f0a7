"""PySCF: its own eigenvalues, electrons, Fock matrices, rotated runs and restarts are the truth here."""

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
from pyscf import dft, gto, scf
from pyscf.pbc import dft as pbcdft
from pyscf.pbc import gto as pbcgto
from pyscf.pbc import scf as pbcscf
from scipy.linalg import eigh

from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters import pyscf as converter
from converters.frames.blocks import Operator
from converters.physics import kspace
from converters.physics.checks import check_frame
from converters.physics.overlap import Overlap
from converters.pyscf.write import join_spins, to_pyscf
from converters.starts.density import frame_of_levels
from converters.starts.fit import sampling_of
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
        assert result.ok is True or result.ok is None, str(result)
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


def test_a_coarse_grid_that_tells_k_from_minus_k_is_no_reason_to_refuse():
    """H(k) of k = -k is real but for what the grid of the integrals does; H(R) is real, and its levels are as far off as that makes them."""
    mf = copy.copy(make("KRKS"))
    S, F = np.array(mf.get_ovlp()), np.array(mf.get_fock(dm=mf.make_rdm1()))
    noise = np.triu(np.full(F.shape[1:], 1e-5), 1)
    solved = [eigh(F[k] + 1j * (noise - noise.T), S[k]) for k in range(len(S))]
    mf.mo_energy, mf.mo_coeff = ([one[n] for one in solved] for n in (0, 1))
    frame = converter.frame_from_scf(mf)
    assert 1e-7 < frame.spectrum.tolerance < 1e-2
    assert all(result.ok is not False for result in check_frame(frame))


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_levels_have_the_density_of_the_run_where_images_are_equally_close(shift):
    """An atom in the middle between two images of another one: each has half of the block."""
    cell = pbcgto.M(
        atom="Li 0 0 0; H 2 2 2", a="0 2 2; 2 0 2; 2 2 0", basis=COMPACT, pseudo="gth-pade", mesh=[15] * 3, verbose=0
    )
    frame = converter.frame_from_scf(
        tight(pbcdft.KRKS(cell, cell.make_kpts([2, 1, 1], scaled_center=[shift, 0, 0]), xc="lda"))
    )
    assert len(frame.pairs) > len(np.unique(np.column_stack([frame.pairs.i_p, frame.pairs.j_p]), axis=0))
    levels, _ = frame_of_levels(frame, sampling_of(frame, None, None))
    assert np.abs(levels.operators["DM"].values_sx - frame.operators["DM"].values_sx).max() < 1e-9


def test_overlaps_of_moved_atoms_are_whole_on_pairs_that_were_the_closest_before():
    """An atom in the middle between two images of another one moves: one of them is the closest now, and both pairs are still there."""
    cell = pbcgto.M(
        atom="Li 0 0 0; H 2 2 2", a="0 2 2; 2 0 2; 2 2 0", basis=COMPACT, pseudo="gth-pade", mesh=[15] * 3, verbose=0
    )
    for kpts in (cell.make_kpts([2, 1, 1]), cell.make_kpts([2, 1, 1], scaled_center=[0.25, 0, 0])):
        frame = converter.frame_from_scf(tight(pbcdft.KRKS(cell, kpts, xc="lda")))
        moved = cell.set_geom_([("Li", (0, 0, 0)), ("H", (2.03, 1.98, 2.05))], inplace=False)
        there = replace(frame, positions_av=moved.atom_coords() * BOHR, operators={})
        there = replace(there, operators={"S": Operator(Overlap.of_frame(frame).like(there)[None])})
        expected = pbcdft.KRKS(moved, kpts).get_ovlp()
        assert np.abs(to_pyscf(there, "S")[0] - np.array(expected)).max() < 1e-9


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
