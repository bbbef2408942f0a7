"""Sparse matrices and spectra of stored frames, against dense matrices, PySCF's levels and closed forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from pyscf import gto, scf
from scipy import linalg, sparse
from scipy.integrate import trapezoid

from basis.spin import Spin
from converters.errors import Refused
from converters.physics import kspace, spectral
from converters.physics.factors import engines
from converters.physics.inverse import LocalInverse
from converters.physics.levels import Levels
from converters.physics.sparse import Source, count_electrons, matrices_at
from converters.physics.spectral import Pencil, fermi_level, inverse_root
from converters.pyscf import frame_from_scf
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from tests.conftest import make_random_frame
from workflows.cli import main
from workflows.spectrum import Wanted, describe_spectrum, orbitals_of

HARTREE = 27.211386245988


@pytest.fixture(scope="module")
def waters(tmp_path_factory):
    """Three water molecules with their levels (eV) as PySCF found them, in a dataset."""
    atoms = "; ".join(f"O 0 0 {3 * n}; H 0 0.76 {3 * n + 0.59}; H 0 -0.76 {3 * n + 0.59}" for n in range(3))
    mf = scf.RHF(gto.M(atom=atoms, basis="6-31g", verbose=0))
    mf.kernel()
    path = tmp_path_factory.mktemp("waters") / "waters.h5"
    with DatasetWriter(path) as writer:
        writer.append(frame_from_scf(mf))
    return path, mf.mo_energy * HARTREE


@pytest.mark.parametrize("spin", list(Spin), ids=str)
@pytest.mark.parametrize("kpoint", [(0, 0, 0), (0.5, 0, 0), (0.1, 0.2, 0.3)])
def test_matrices_are_read_in_stretches(spin, kpoint, tmp_path):
    frame = make_random_frame(1, spin, natoms=7)
    with DatasetWriter(tmp_path / "d.h5") as writer:
        writer.append(make_random_frame(2, spin))
        writer.append(frame)
    k_c = np.array(kpoint, dtype=float)
    with Dataset(tmp_path / "d.h5") as data:
        for source in (Source.of_frame(frame), Source.of_dataset(data, 1, at_once=300)):
            for name, found in matrices_at(source, ("H", "S", "DM"), k_c).items():
                expected = kspace.dense_at(frame, name, k_c)
                assert max(abs(a.toarray() - b).max() for a, b in zip(found, expected, strict=True)) < 1e-14
                assert np.isrealobj(found[0].data) == (spin is not Spin.SPINOR and not np.any(np.mod(2 * k_c, 1)))
            assert np.abs(count_electrons(source) - kspace.count_electrons(frame)).max() < 1e-12
        assert len(list(data.stretches(1, ("S",), 300))) > 3


@pytest.mark.parametrize("solver", [*engines(), "dense"])
def test_levels_are_those_that_the_code_found(waters, solver):
    path, expected = waters
    with Dataset(path) as data:
        source = Source.of_dataset(data, 0)
        matrices = matrices_at(source, ("H", "S"), np.zeros(3))
        assert count_electrons(source).sum() == pytest.approx(30, abs=1e-6)
    H, S = matrices["H"][0], matrices["S"][0]
    for energy in (-15.0, 3.0):
        nearest = np.sort(expected[np.argsort(np.abs(expected - energy))[:5]])
        assert np.abs(Levels(H, S, solver).near(energy, 5) - nearest).max() < 1e-6


def test_moments_of_atoms_are_exact(waters):
    path, expected = waters
    with Dataset(path) as data:
        source = Source.of_dataset(data, 0)
        H, S = (parts[0] for parts in matrices_at(source, ("H", "S"), np.zeros(3)).values())
        norb_a = source.outline.pairs.norb_a
    pencil = Pencil.of(H, S, norb_a)
    assert pencil.middle - pencil.half < expected.min()
    assert pencil.middle + pencil.half > expected.max()
    angle_n = np.arccos((expected - pencil.middle) / pencil.half)
    shares = 0
    ends = np.cumsum(norb_a)
    for end, size in zip(ends.tolist(), norb_a.tolist(), strict=True):
        shares += pencil.atom_moments(np.arange(end - size, end), 120)
    exact = np.array([np.cos(n * angle_n).sum() for n in range(120)])
    assert np.abs(shares - exact).max() < 1e-6  # all atoms together are all states
    below = pencil.states_below(shares, np.array([pencil.middle - pencil.half, -5.0, pencil.middle + pencil.half]))
    assert below[[0, 2]] == pytest.approx([0, len(expected)], abs=1e-6)
    assert expected[14] < fermi_level([(pencil, exact)], 30, 2.0) < expected[15]
    grid = pencil.middle + pencil.half * np.sin(np.linspace(-1.57, 1.57, 4001))  # dense at the edges, as the series is
    assert trapezoid(pencil.density(exact, grid), grid) == pytest.approx(len(expected), rel=1e-3)
    assert pencil.density(exact, np.array([1e4])) == 0


def test_random_vectors_see_all_states(waters):
    path, expected = waters
    with Dataset(path) as data:
        H, S = (parts[0] for parts in matrices_at(Source.of_dataset(data, 0), ("H", "S"), np.zeros(3)).values())
        norb_a = data.outline(0).pairs.norb_a
    by_factors = Pencil.of(H, S, norb_a)
    found, error = by_factors.total_moments(40, 400, seed=1)
    exact = np.array([np.cos(n * np.arccos((expected - by_factors.middle) / by_factors.half)).sum() for n in range(40)])
    assert np.abs(found[0] - len(expected)) < 1e-4
    assert (np.abs(found - exact) < 5 * error + 1e-3).all()
    by_local = Pencil.of(H, S, norb_a, 1e-9, largest_factor=0)
    ends = spectral.ENDED * np.abs(expected).max()
    for pencil in (by_factors, by_local):
        assert pencil.middle == pytest.approx((expected[0] + expected[-1]) / 2, abs=ends)
        assert np.abs(expected - pencil.middle).max() < pencil.half
    one, other = (
        p.moments(np.eye(len(expected))[:, :2], np.eye(len(expected))[:, :2], 20)
        for p in (by_factors, replaced(by_local, by_factors))
    )
    assert np.abs(one - other).max() < 1e-5


def test_levels_and_moments_of_the_local_inverse_are_as_exact_as_its_accuracy(waters):
    """Ostrowski: S^-1 of a relative error moves each level by at most this share of it."""
    path, expected = waters
    with Dataset(path) as data:
        H, S = (parts[0] for parts in matrices_at(Source.of_dataset(data, 0), ("H", "S"), np.zeros(3)).values())
        norb_a = data.outline(0).pairs.norb_a
    pencil = Pencil.of(H, S, norb_a, largest_factor=0)
    assert pencil.error == spectral.SOLVED
    size = len(expected)
    x_n = np.sort(np.linalg.eigvals(pencil.apply(np.eye(size))).real)
    apart = np.abs(pencil.middle + pencil.half * x_n - expected)
    assert (apart <= spectral.SOLVED * np.abs(expected) + 1e-5).all()
    assert apart.max() > 1e-5  # the local inverse is at work
    found, error = pencil.total_moments(40, 100, seed=1)
    angle_n = np.arccos((expected - pencil.middle) / pencil.half)
    orders = np.arange(40)
    exact = np.cos(np.outer(orders, angle_n)).sum(axis=1)
    # dT_n = n sin(n angle) / sin(angle) dx; the vectors and the metric are as exact as S^-1.
    moved = orders * np.sum(np.abs(expected) / pencil.half / np.sin(angle_n))
    assert (np.abs(found - exact) < 5 * error + spectral.SOLVED * (moved + 3 * size)).all()


def test_the_local_inverse_is_as_exact_as_it_says():
    source = Source.of_frame(make_random_frame(5, natoms=7))
    for kpoint in ((0, 0, 0), (0.1, 0.2, 0.3)):
        S = matrices_at(source, ("S",), np.array(kpoint, dtype=float))["S"][0]
        S = sparse.csr_array(S + 20 * sparse.eye_array(S.shape[0]))
        exact = np.linalg.inv(S.toarray())
        for accuracy in (1e-2, 1e-4, 1e-8):
            local = LocalInverse.of(S, source.outline.pairs.norb_a, accuracy)
            found = local.solve(np.eye(S.shape[0], dtype=S.dtype))
            assert np.abs(found - found.conj().T).max() < 1e-12
            # The relative error of the eigenvalues of S^-1 in the metric of S, as promised.
            assert np.abs(np.linalg.eigvals(found @ S.toarray()) - 1).max() <= accuracy
            root = local.root(np.eye(S.shape[0], dtype=S.dtype))
            assert np.abs(root @ root.conj().T - exact).max() < accuracy * np.abs(exact).max()
    with pytest.raises(Refused, match="not positive definite"):
        LocalInverse.of(sparse.csr_array(S - 60 * sparse.eye_array(S.shape[0])), source.outline.pairs.norb_a, 1e-4)


def replaced(pencil, like):
    """A pencil with the interval of another one."""
    return replace(pencil, middle=like.middle, half=like.half)


def test_shares_of_all_atoms_are_all_levels(waters):
    path, expected = waters
    everywhere = (-650.0, 200.0, 20001)
    found = describe_spectrum(path, 0, Wanted(dos=everywhere, atoms=range(9), moments=60, vectors=1))
    energies = np.array(found["density of states"]["energies"])
    shares = sum(np.array(curves[0]) for curves in found["atoms"].values())
    inside = np.abs(energies - (expected[0] + expected[-1]) / 2) < 0.505 * np.ptp(expected)
    assert trapezoid(shares[inside], energies[inside]) == pytest.approx(2 * len(expected), rel=0.05)


def test_spinor_atoms_have_orbitals_of_both_spins():
    assert [places.tolist() for places in orbitals_of(np.array([2, 1, 2, 1]), 2, [0, 1])] == [[0, 1, 3, 4], [2, 5]]


def test_roots_of_s_are_found():
    random = np.random.default_rng(0)
    A = random.normal(size=(60, 60))
    S = A @ A.T / 60 + 0.05 * np.eye(60)
    v = random.normal(size=60)
    assert np.abs(inverse_root(sparse.csr_array(S), v) - np.linalg.inv(linalg.sqrtm(S)) @ v).max() < 1e-4
    with pytest.raises(Refused, match="not positive definite"):
        inverse_root(sparse.csr_array(S - 0.5 * np.eye(60)), v)


def test_what_cannot_be_asked_is_refused(waters):
    path, _ = waters
    with Dataset(path) as data:
        source = Source.of_dataset(data, 0)
        H, S = (parts[0] for parts in matrices_at(source, ("H", "S"), np.zeros(3)).values())
        for count in (0, H.shape[0] + 1):
            with pytest.raises(Refused, match="expected 1 to"):
                Levels(H, S).near(0.0, count)
        with pytest.raises(Refused, match="no frame 7"):
            data.outline(7)
    frame = make_random_frame(1)
    without = Source.of_frame(
        type(frame)(**{**{n: getattr(frame, n) for n in frame.__dataclass_fields__}, "operators": {}})
    )
    with pytest.raises(Refused, match="holds no H"):
        matrices_at(without, ("H", "S"), np.zeros(3))


def test_slem_spectrum(waters, tmp_path):
    path, expected = waters
    words = [
        "spectrum",
        path,
        "--levels",
        4,
        "--near",
        -15,
        "--dos=-30:10:9",
        "--moments",
        50,
        "--atoms",
        "0,8",
        "--json",
    ]
    result = CliRunner().invoke(main, [*map(str, words), "--matrices", str(tmp_path / "m")])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["electrons"]["Tr(DM S)"] == pytest.approx(30, abs=1e-6)
    assert np.abs(np.array(found["levels"][0]) - np.sort(expected[np.argsort(abs(expected + 15))[:4]])).max() < 1e-6
    assert len(found["density of states"]["energies"]) == 9
    assert {"0", "8"} == set(found["atoms"])
    H, S = (sparse.load_npz(tmp_path / "m" / f"{name}.npz") for name in "HS")
    assert np.abs(linalg.eigh(H.toarray(), S.toarray(), eigvals_only=True) - expected).max() < 1e-6
    assert CliRunner().invoke(main, ["spectrum", str(path)]).exit_code == 0
    assert "states/eV" in CliRunner().invoke(main, ["spectrum", str(path), "--dos=-30:10:9", "--moments", "50"]).stdout
    assert CliRunner().invoke(main, ["spectrum", str(path), "-k", "0,0"]).exit_code == 2
    result = CliRunner().invoke(main, ["spectrum", str(path), "--atoms", "90"])
    assert (result.exit_code, "atoms 0 to 8" in result.stderr) == (1, True)
