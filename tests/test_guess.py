"""Densities to start from: purified, of levels without ghosts, on meshes and grids; atoms in another order."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import dft, gto, scf
from pyscf.pbc import dft as pbc_dft
from pyscf.pbc import scf as pbc_scf
from scipy import linalg

from basis.harmonics import solid_harmonics
from basis.radial import GaussianFunction
from basis.shells import Species, parse_shells
from basis.spin import Spin
from basis.units import BOHR
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.folding import image_weights
from converters.physics import kspace
from converters.physics.density_grid import Grid, density_on_grid, superposed
from converters.physics.kspace import Filling
from converters.pyscf import frame_from_scf
from converters.pyscf.arrays import frame_from_matrices
from converters.pyscf.dm0 import guess_density, structure_of, with_orbitals
from converters.starts.density import (
    Sampling,
    electrons_of,
    frame_of_levels,
    frame_purified,
    operator_on_mesh,
    purify,
    scale_density,
)
from converters.starts.fit import hermitian_part, reorder_atoms, without_magnetism
from converters.starts.ghosts import GHOST_FILTERS, GHOST_WEIGHT, ghost_weights, may_have_ghosts, without_ghosts
from tests.conftest import make_random_frame
from tests.fixtures import frames_of
from tests.oracles import real_harmonics
from tests.test_pyscf import lithium_hydride


def sampling_of_run(frame, mesh=None):
    spectrum = frame.spectrum
    kpoints_kc, weights_k = kspace.uniform_mesh(mesh) if mesh else (spectrum.kpoints_kc, spectrum.weights_k)
    moment = float(np.subtract(*kspace.count_electrons(frame))) if spectrum.fixed_moment else None
    filling = Filling(frame.outcome.electrons, spectrum.smearing, spectrum.width, moment)
    return Sampling(kpoints_kc, weights_k, filling, frame.spin)


# Harmonics and densities on grids


@pytest.mark.parametrize("l", range(8))
def test_harmonics_are_those_of_legendre_functions(l):
    directions = np.random.default_rng(l).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(solid_harmonics(l, directions)[l], real_harmonics(l, directions), atol=1e-12)
    np.testing.assert_allclose(solid_harmonics(l, 2 * directions)[l], 2**l * real_harmonics(l, directions), atol=1e-9)


def gaussian_shell(l, exponent):
    """A normalised Gaussian shell; the exponent in Bohr."""
    from scipy.special import gamma

    exponent = exponent / BOHR**2
    norm = np.sqrt(2 * (2 * exponent) ** (l + 1.5) / gamma(l + 1.5))
    return GaussianFunction(l, np.array([exponent]), np.array([norm]))


@pytest.mark.parametrize("spin", list(Spin))
def test_density_on_a_grid_is_that_of_pyscf(spin):
    """The same Gaussians evaluated by PySCF, with a density matrix that is no density of anything."""
    exponents = {"O": [("s", 0, 1.1), ("p", 1, 0.7), ("d", 2, 0.9)], "H": [("s", 0, 0.6), ("p", 1, 0.8)]}
    text = {e: [[l, (a, 1.0)] for _, l, a in shells] for e, shells in exponents.items()}
    mol = gto.M(atom="O 0.1 0.2 0.3; H 0.9 0.4 -0.2; H -0.5 0.8 0.7", basis=text, verbose=0)
    mf = {Spin.NONE: scf.RHF, Spin.COLLINEAR: scf.UHF, Spin.SPINOR: scf.GHF}[spin](mol)
    mf.max_cycle = 1
    mf.kernel()
    frame = frame_from_scf(mf)
    random = np.random.default_rng(3)
    noise = random.normal(size=frame.operators["DM"].values_sx.shape).astype(spin.dtype)
    if spin is Spin.SPINOR:
        noise = noise + 1j * random.normal(size=noise.shape)
    frame = hermitian_part(replace(frame, operators={"DM": Operator(noise)}))
    cell = np.diag([8.0, 9.0, 10.0])
    frame = replace(frame, cell_cv=cell * 0.5, pbc_c=np.zeros(3, dtype=bool))
    grid = Grid((9, 10, 11), np.array([-1.5, -2.0, -2.5]))
    orbitals = [[gaussian_shell(l, a) for _, l, a in exponents[species.name]] for species in frame.basis]
    found = density_on_grid(frame, orbitals, grid)
    steps = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid.shape_c), indexing="ij"), axis=-1).reshape(-1, 3)
    points = (steps @ frame.cell_cv + grid.origin_v) / BOHR
    values = mol.eval_gto("GTOval_sph", points)
    from converters.pyscf.write import to_pyscf

    dense_sMM = to_pyscf(frame, "DM")[:, 0]
    if spin is Spin.SPINOR:
        uu, ud, du, dd = dense_sMM
        dense_sMM = np.array([uu + dd, ud + du, 1j * (ud - du), uu - dd])
    expected = np.einsum("gM,sMN,gN->sg", values, dense_sMM, values).real
    np.testing.assert_allclose(found.reshape(len(expected), -1), expected, atol=1e-9)


def test_density_of_a_crystal_integrates_to_its_electrons():
    """Gaussians that reach into many cells: the sum over points is Tr(DM S) with the exact overlap."""
    basis = (Species("X", 1, parse_shells("1s")),)
    cell = 3.0 * np.eye(3)
    R = np.array([[a, b, c] for a in range(-2, 3) for b in range(-2, 3) for c in range(-2, 3)])
    from converters.frames.blocks import make_pairs
    from converters.frames.frame import Frame

    pairs = make_pairs(np.zeros(len(R), int), np.zeros(len(R), int), R, np.array([1]))
    exponent, bohr = 0.8, 1.0
    distance = np.linalg.norm(pairs.R_pc @ cell, axis=1)
    values = np.exp(-0.3 * distance)[None]
    overlap = np.exp(-exponent * distance**2 / 2)
    frame = Frame(
        cell,
        np.ones(3, bool),
        np.array([[0.4, 0.1, 0.7]]),
        np.array([0]),
        basis,
        pairs,
        Spin.NONE,
        {"DM": Operator(values)},
    )
    density = density_on_grid(frame, [[gaussian_shell(0, exponent * BOHR**2)]], Grid((24, 24, 24), np.zeros(3), bohr))
    expected = (values[0] * overlap * np.where(pairs.onsite_p, 1, 2)).sum()
    assert density.mean() * 27.0 == pytest.approx(expected, rel=1e-6)
    atomic = superposed(frame, [gaussian_shell(0, exponent * BOHR**2)], Grid((24, 24, 24), np.zeros(3), bohr))
    exact = (2 * np.pi / exponent) ** 0.75 * 2**0.75 * np.sqrt(4 * np.pi) / 2**0.75  # of R(r), not of R^2
    assert atomic.mean() * 27.0 == pytest.approx(exact, rel=1e-4)


# DM on a mesh


@pytest.mark.parametrize(("name", "mesh"), [("si2", (3, 3, 3)), ("ptse2", (3, 3, 1))])
def test_repeated_images_are_counted_once(name, mesh):
    """SIESTA stores DM wherever orbitals reach, also several times; rho(k) must be that of (H, S) all the same."""
    (frame,) = frames_of("siesta", name)
    sampling = sampling_of_run(frame, mesh)
    whole = frame_of_levels(frame, sampling)[0]
    weight_p = image_weights(frame.pairs, frame.vectors_pv, np.array(mesh))
    assert weight_p.min() == 0
    S = [parts[0] for parts in kspace.dense_at_each(frame, "S", sampling.kpoints_kc)]
    for once in (frame, whole):
        rho = list(operator_on_mesh(once, "DM", sampling.kpoints_kc))
        held = sum(
            w * sum(np.vdot(overlap, part).real for part in parts)
            for parts, overlap, w in zip(rho, S, sampling.weights_k, strict=True)
        )
        assert held == pytest.approx(frame.outcome.electrons, abs=0.15)  # the far ends of DM are not stored
    twice = list(kspace.dense_at_each(frame, "DM", sampling.kpoints_kc))
    wrong = sum(
        w * sum(np.vdot(overlap, part).real for part in parts)
        for parts, overlap, w in zip(twice, S, sampling.weights_k, strict=True)
    )
    assert abs(wrong - frame.outcome.electrons) > 0.3


# From DM and from H


def molecule(kind=dft.RKS, spin=0):
    mol = gto.M(
        atom="O 0 0 0.119; H 0 0.763 -0.477; H 0 -0.763 -0.477", basis="6-31g", spin=spin, charge=spin, verbose=0
    )
    mf = kind(mol)
    mf.kernel()
    return mf


def noisy(frame, name, size, seed=0):
    operator = frame.operators[name]
    noise = np.random.default_rng(seed).normal(0, size, operator.values_sx.shape)
    changed = hermitian_part(replace(frame, operators={**frame.operators, name: Operator(operator.values_sx + noise)}))
    return changed


@pytest.mark.parametrize("how", ["scale", "clip", "fill", "auto"])
def test_purified_densities_hold_the_electrons_and_possible_occupations(how):
    frame = noisy(frame_from_scf(molecule()), "DM", 1e-2)
    sampling = Sampling(np.zeros((1, 3)), np.ones(1), Filling(10.0), Spin.NONE)
    pure, density = frame_purified(frame, sampling, how)
    assert kspace.count_electrons(pure).sum() == pytest.approx(10, abs=1e-10)
    S, DM = (kspace.dense_at(pure, name, np.zeros(3))[0] for name in ("S", "DM"))
    f = np.linalg.eigvals(S @ DM).real
    assert density.measured["electrons found"] != pytest.approx(10, abs=1e-4)
    if how == "scale":
        assert f.min() < -1e-3
    else:
        assert f.min() > -1e-9
        assert f.max() < 2 + 1e-9
    if how in ("fill", "auto"):
        np.testing.assert_allclose(DM @ S @ DM, 2 * DM, atol=1e-9)


def test_a_density_is_left_alone_where_nothing_is_wrong():
    frame = frame_from_scf(molecule())
    sampling = Sampling(np.zeros((1, 3)), np.ones(1), Filling(10.0), Spin.NONE)
    for how in ("scale", "clip", "fill", "auto"):
        pure, density = frame_purified(frame, sampling, how)
        np.testing.assert_allclose(pure.operators["DM"].values_sx, frame.operators["DM"].values_sx, atol=1e-9)
        assert density.measured.get("moved", 0) < 1e-10


def test_each_spin_keeps_its_electrons():
    frame = noisy(frame_from_scf(molecule(dft.UKS, 1)), "DM", 5e-3)
    sampling = Sampling(np.zeros((1, 3)), np.ones(1), Filling(9.0, moment=1.0), Spin.COLLINEAR)
    for how in ("scale", "clip", "fill"):
        np.testing.assert_allclose(kspace.count_electrons(frame_purified(frame, sampling, how)[0]), [5, 4], atol=1e-10)
    np.testing.assert_allclose(kspace.count_electrons(scale_density(frame, sampling.filling)), [5, 4], atol=1e-10)


def test_metals_keep_their_partial_occupations():
    """Clip moves no occupation of a metal that is possible; fill would."""
    f = np.array([[[1.0, 0.7, 0.31, -0.01], [1.01, 0.6, 0.4, 0.0]]])
    S = [np.eye(4)] * 2
    rho = [[np.diag(f[0, k])] for k in range(2)]
    sampling = Sampling(np.array([[0.0, 0, 0], [0.5, 0, 0]]), np.array([0.5, 0.5]), Filling(2.005), Spin.COLLINEAR)
    density = purify(rho, S, sampling, "auto")
    np.testing.assert_allclose(np.diag(density.rho[0][0]), [1.0, 0.7, 0.31, 0.0], atol=0.01)


def test_levels_of_h_give_the_density_of_the_run():
    for code, name, mesh in (("siesta", "si2", (3, 3, 3)), ("abacus", "spin_fe_f", None), ("siesta", "h2o", None)):
        (frame,) = frames_of(code, name)
        found, density = frame_of_levels(frame, sampling_of_run(frame, mesh))
        stored = frame.operators["DM"]
        apart = np.abs(found.operators["DM"].values_sx - stored.values_sx)
        apart = apart if stored.known_x is None else apart[:, stored.known_x]
        assert apart.max() < 2e-5, name
        assert density.measured["S filter"] == 0


def test_ghost_states_are_found_and_left_out():
    """A millirydberg of noise on H of a nearly singular basis: occupied levels far below all others."""
    (frame,) = frames_of("siesta", "si2")
    sampling = sampling_of_run(frame, (3, 3, 3))
    ruined = noisy(frame, "H", 0.0136)
    found, density = frame_of_levels(ruined, sampling)
    assert density.measured["S filter"] > 0
    assert density.measured["lowest level"] < -100
    assert "ghost" in density.note
    known = frame.operators["DM"].known_x
    apart = np.abs(found.operators["DM"].values_sx - frame.operators["DM"].values_sx)[:, known]
    assert apart.max() < 0.3
    quiet = noisy(frame, "H", 1e-6)
    assert frame_of_levels(quiet, sampling)[1].measured["S filter"] == 0


def test_no_ghost_escapes_the_bound():
    """Where a lowest orbital lies on directions of tiny overlap, however little of S there is, the bound says so; far from that it saves the work."""
    random = np.random.default_rng(0)
    seen = set()
    for tiny in (1e-4, 2e-3, 4e-2, 0.3):
        U = np.linalg.qr(random.normal(size=(6, 6)))[0]
        S = (U * [tiny, 0.8, 1.0, 1.2, 1.4, 1.6]) @ U.T
        for depth in (0.0, 1.0, 10.0, 1e3):
            H = np.diag(np.arange(6.0)) - depth * np.outer(S @ U[:, 0], S @ U[:, 0]) / tiny**2
            solved = [[linalg.eigh(H, S)]]
            found = max(ghost_weights(solved, [np.linalg.eigh(S)], t, [[1]])[0][0][0] for t in GHOST_FILTERS)
            assert may_have_ghosts(solved, [S], [[1]]) or found < GHOST_WEIGHT
            seen.add((may_have_ghosts(solved, [S], [[1]]), bool(found >= GHOST_WEIGHT)))
    assert {(True, True), (False, False)} <= seen


def test_ghosts_above_a_semicore_level_are_left_out():
    """A level at -90 as 1s of beryllium, a ghost at -28 and levels from 0 on: without the ghost those of the H that has none."""
    random = np.random.default_rng(0)
    U = np.linalg.qr(random.normal(size=(6, 6)))[0]
    S = linalg.block_diag([[1.0]], (U * [1e-4, 0.8, 1.0, 1.2, 1.4, 1.6]) @ U.T)
    wanted = np.array([-90.0, 0, 1, 2, 3, 4])
    X = linalg.block_diag([[1.0]], U[:, 1:] / np.sqrt([0.8, 1.0, 1.2, 1.4, 1.6]))
    SX, ghost = S @ X, np.append(0.0, U[:, 0]) * 1e-2
    H = SX @ np.diag(wanted) @ SX.T - 28 * np.outer(ghost, ghost)
    solved = [[linalg.eigh(H, S)]]
    np.testing.assert_allclose(solved[0][0][0][:3], [-90, -28, 0], atol=1e-8)
    cleaned, threshold, lowest = without_ghosts(solved, [[H]], [S], [[3]])
    assert threshold == GHOST_FILTERS[0]
    assert lowest == pytest.approx(-28)
    np.testing.assert_allclose(cleaned[0][0][0][:6], wanted, atol=1e-8)
    assert without_ghosts(solved, [[H]], [S], [[1]])[1] == 0  # an empty level takes no electrons


def test_electrons_come_from_the_frame_or_from_a_clear_trace():
    frame = frame_from_scf(molecule())
    assert electrons_of(frame) == 10
    unsaid = replace(frame, outcome=replace(frame.outcome, electrons=None))
    assert electrons_of(unsaid) == 10
    DM = unsaid.operators["DM"]
    vague = replace(unsaid, operators={**unsaid.operators, "DM": Operator(DM.values_sx * 1.03)})
    with pytest.raises(Refused, match="holds 10"):
        electrons_of(vague)


# Frames in another order, and without magnetism


@pytest.mark.parametrize("spin", list(Spin))
def test_atoms_in_another_order_and_cell_are_the_same_structure(spin):
    frame = make_random_frame(4, spin, masked=True)
    random = np.random.default_rng(5)
    order, shift = random.permutation(frame.natoms), random.integers(-2, 3, (frame.natoms, 3))
    moved = reorder_atoms(frame, order, shift)
    np.testing.assert_allclose(moved.positions_av, frame.positions_av[order] + shift @ frame.cell_cv)
    k = np.array([0.13, -0.41, 0.27])
    place = np.concatenate([np.arange(*frame.pairs.orbital_start_a[[a, a + 1]]) for a in order])
    phase = np.exp(2j * np.pi * shift @ k)  # our Bloch sums know cells, not positions
    phase_M = np.repeat(phase, moved.pairs.norb_a)
    for name in frame.operators:
        for old, new in zip(kspace.dense_at(frame, name, k), kspace.dense_at(moved, name, k), strict=True):
            copies = len(old) // len(place)
            index = np.concatenate([place + c * len(place) for c in range(copies)])
            turn = np.tile(phase_M, copies)
            expected = turn[:, None] * old[index[:, None], index] * turn.conj()
            np.testing.assert_allclose(new, expected, atol=1e-12)
    back = reorder_atoms(moved, np.argsort(order), -shift[np.argsort(order)])
    for name, operator in frame.operators.items():
        for k_c in (np.zeros(3), k):
            for a, b in zip(kspace.dense_at(frame, name, k_c), kspace.dense_at(back, name, k_c), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-12)
        assert operator.values_sx.dtype == back.operators[name].values_sx.dtype


def test_without_magnetism_no_spin_density_is_left():
    (frame,) = frames_of("siesta", "soc")
    assert np.ptp(kspace.count_electrons(frame)) > 1
    even = without_magnetism(frame)
    assert np.ptp(kspace.count_electrons(even)) < 1e-12
    assert kspace.count_electrons(even).sum() == pytest.approx(kspace.count_electrons(frame).sum())
    again = without_magnetism(even)
    np.testing.assert_allclose(again.operators["DM"].values_sx, even.operators["DM"].values_sx)


# PySCF


def scf_object(kind):
    if kind in ("KRKS", "KUHF", "gamma"):
        cell, _ = lithium_hydride()
        kpts = cell.make_kpts([2, 1, 1])
        return {
            "KRKS": lambda: pbc_dft.KRKS(cell, kpts, xc="lda"),
            "KUHF": lambda: pbc_scf.KUHF(cell, kpts),
            "gamma": lambda: pbc_dft.RKS(cell, xc="lda"),
        }[kind]()
    mol = gto.M(atom="O 0 0 0; O 0 0 1.2", basis="6-31g", spin=2, verbose=0)
    water = gto.M(atom="O 0 0 0.119; H 0 0.763 -0.477; H 0 -0.763 -0.477", basis="6-31g", verbose=0)
    return {
        "RKS": lambda: dft.RKS(water),
        "UKS": lambda: dft.UKS(mol),
        "ROHF": lambda: scf.ROHF(mol),
        "GHF": lambda: scf.GHF(water),
    }[kind]()


@pytest.mark.parametrize("kind", ["RKS", "UKS", "ROHF", "GHF", "KRKS", "KUHF", "gamma"])
@pytest.mark.parametrize("route", ["dm", "h"])
def test_exact_matrices_start_pyscf_at_its_end(kind, route):
    mf = scf_object(kind)
    mf.conv_tol = 1e-11
    energy = mf.kernel()
    frame = frame_from_scf(mf)
    if kind == "ROHF" and route == "h":
        pytest.skip("the effective Fock matrix of ROHF has levels of another order for each spin")
    again = scf_object(kind)
    dm0, density, reason = guess_density(again, frame, route)
    assert not reason
    assert np.shape(dm0) == np.shape(mf.make_rdm1())
    assert density.note
    again.conv_tol = 1e-9
    cycles = []
    again.callback = lambda _: cycles.append(1)
    assert again.kernel(dm0=dm0) == pytest.approx(energy, abs=1e-8)
    assert len(cycles) <= 2


def test_other_bases_meshes_and_spins_are_refused():
    water = molecule()
    frame = frame_from_scf(water)
    other = dft.RKS(gto.M(atom=water.mol.atom, basis="sto-3g", verbose=0))
    with pytest.raises(Refused, match="the model was trained with"):
        structure_of(other, frame.basis)
    with pytest.raises(Refused, match="spin layout none"):
        guess_density(scf.GHF(water.mol), frame)
    mesh = scf_object("KRKS")
    mesh.kernel()
    cell = mesh.cell
    with pytest.raises(Refused, match="k mesh"):
        guess_density(pbc_dft.KRKS(cell, cell.make_kpts([1, 2, 1])), frame_from_scf(mesh))
    open_shell = dft.UKS(gto.M(atom=water.mol.atom, basis="6-31g", charge=1, spin=1, verbose=0))
    with pytest.raises(Refused, match="unpaired"):
        guess_density(open_shell, frame)


def test_names_of_atoms_do_not_matter_to_pyscf_guesses():
    mf = molecule()
    named = gto.M(atom="O1 0 0 0.119; H7 0 0.763 -0.477; H2 0 -0.763 -0.477", basis="6-31g", verbose=0)
    *_, species_a = structure_of(dft.RKS(named), frame_from_scf(mf).basis)
    assert species_a.tolist() == [0, 1, 1]


def test_frames_in_memory_start_from_a_trace():
    from ase.build import molecule as build

    mf = molecule()
    frame = frame_from_scf(mf)
    matrices = {name: kspace.dense_at(frame, name, np.zeros(3))[0] for name in ("S", "DM")}
    bare = frame_from_matrices(build("H2O", positions=frame.positions_av), {"O": "3s2p", "H": "2s"}, matrices)
    assert electrons_of(bare) == 10


@pytest.mark.parametrize("kind", ["RHF", "RKS", "UHF", "ROHF"])
def test_starts_have_their_natural_orbitals_beside_them_where_pyscf_takes_those(kind):
    """PySCF's own densities have them, and its first Fock matrix takes less time from them than from a whole matrix."""
    open_shell = kind in ("UHF", "ROHF")
    mol = gto.M(
        atom="O 0 0 0; H 0 0.76 0.59; H 0 -0.7 0.6", basis="6-31g", charge=open_shell, spin=open_shell, verbose=0
    )
    mf = (dft.RKS(mol, xc="pbe") if kind == "RKS" else getattr(scf, kind)(mol)).density_fit()
    mf.kernel()
    rho = np.array(mf.make_rdm1())
    dm0 = with_orbitals(mf, rho)
    assert hasattr(dm0, "mo_coeff") == (kind != "ROHF")
    np.testing.assert_allclose(mf.get_veff(dm=dm0), mf.get_veff(dm=rho), atol=1e-8)
    assert not hasattr(with_orbitals(mf, -rho), "mo_coeff")
    if kind != "ROHF":
        again = np.einsum("...pi,...i,...qi->...pq", dm0.mo_coeff, dm0.mo_occ, dm0.mo_coeff)
        np.testing.assert_allclose(again, rho, atol=1e-8)
