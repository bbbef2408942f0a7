"""Counts, windows and gaps of sparse levels, against dense eigenvalues and PySCF's levels, for each solver that is installed."""

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from pyscf import gto, scf
from scipy import linalg, sparse

from basis.spin import Spin
from converters.errors import Refused
from converters.physics import levels as rooms
from converters.physics.factors import choose_engine, engines
from converters.physics.levels import Levels, atomic_fermi, find_gap
from converters.physics.sparse import Source, matrices_at
from converters.pyscf import frame_from_scf
from converters.storage.writer import DatasetWriter
from tests.conftest import make_random_frame
from workflows.benchmarks.spectrum import measure_levels, row_of
from workflows.cli import main
from workflows.spectrum import Wanted, describe_spectrum

HARTREE = 27.211386245988
COUNTING = ["pardiso", "mumps", "dense"]


def installed(solver):
    if solver != "dense" and solver not in engines():
        pytest.skip(f"{solver} is not installed: its counts are not compared here")
    return solver


@pytest.fixture(params=COUNTING)
def solver(request):
    return installed(request.param)


def dense_levels(H, S):
    return linalg.eigh(H.toarray(), S.toarray(), eigvals_only=True)


def ring(size, gap):
    """A chain of two alternating bonds with overlaps, closed to a ring, its matrices sparse."""
    hops = np.where(np.arange(size) % 2, -2 - gap / 2, -2.0)
    rows = np.arange(size)
    S = sparse.eye_array(size) + sparse.coo_array((np.full(size, 0.1), (rows, (rows + 1) % size)), (size, size))
    H = sparse.coo_array((hops, (rows, (rows + 1) % size)), (size, size)) + sparse.diags_array(0.3 * np.sin(rows))
    return sparse.csr_array(H + H.T), sparse.csr_array(S + S.T - sparse.eye_array(size))


@pytest.mark.parametrize("spin", list(Spin), ids=str)
@pytest.mark.parametrize("kpoint", [(0, 0, 0), (0.1, 0.2, 0.3)], ids=["gamma", "k"])
def test_counts_are_those_of_dense_levels(spin, kpoint, solver):
    source = Source.of_frame(make_random_frame(1, spin, natoms=7))
    matrices = matrices_at(source, ("H", "S"), np.array(kpoint, dtype=float))
    S = sparse.csr_array(matrices["S"][0] + 25 * sparse.eye_array(matrices["S"][0].shape[0]))  # positive definite
    for H in matrices["H"]:
        expected = dense_levels(H, S)
        levels = Levels(H, S, solver)
        between = (expected[1:] + expected[:-1]) / 2
        for energy in (expected[0] - 1, *between[:: len(between) // 6], expected[-1] + 1):
            assert levels.below(energy) == (expected < energy).sum()
        low, high = between[len(between) // 4], between[len(between) // 2]
        inside = expected[(expected > low) & (expected < high)]
        assert levels.within(low, high) == pytest.approx(inside, abs=1e-8)


@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_windows_miss_nothing_and_gaps_are_bracketed(gap, solver, monkeypatch):
    monkeypatch.setattr(rooms, "AT_ONCE", 12)  # windows are cut
    H, S = ring(240, gap)
    expected = dense_levels(H, S)
    levels = Levels(H, S, solver)
    assert levels.within(-1.7, 2.9) == pytest.approx(expected[(expected > -1.7) & (expected < 2.9)], abs=1e-8)
    assert len(levels.within(-100, -90)) == 0
    for guess in (-40.0, 0.0, 40.0):
        found = find_gap([levels], 240, 2.0, guess)
        assert (found.homo, found.lumo) == pytest.approx((expected[119], expected[120]), abs=1e-8)
        assert found.occupied == 120
    odd = find_gap([levels], 241, 2.0, 0.0)  # a level that is half filled
    assert odd.homo == odd.lumo == pytest.approx(expected[120], abs=1e-8)
    up, down = Levels(H, S, solver), Levels(sparse.csr_array(H + 0.4 * S), S, solver)
    both = np.sort(np.concatenate([expected, expected + 0.4]))
    found = find_gap([up, down], 213, 1.0, atomic_fermi(H, S, np.full(120, 2), 106))
    assert (found.homo, found.lumo) == pytest.approx((both[212], both[213]), abs=1e-8)


def test_levels_that_coincide_are_all_counted(solver):
    H, S = ring(60, 3.0)
    twice = (sparse.block_diag([one, one], format="csr") for one in (H, S))
    expected = np.repeat(dense_levels(H, S), 2)
    levels = Levels(*twice, solver)
    assert levels.within(-1.5, 2.5) == pytest.approx(expected[(expected > -1.5) & (expected < 2.5)], abs=1e-8)


def test_singular_matrices_are_never_counted(solver):
    H, S = ring(60, 0.0)
    level = dense_levels(H, S)[17]
    with suppress(Refused):
        assert Levels(H, S, solver).below(level) in (17, 18)  # rounding puts the level on one side
    if solver != "dense":
        singular = sparse.csr_array(np.ones((3, 3)))
        engine = choose_engine(solver, singular)
        with suppress(Refused):
            engine.factor(singular)
            assert engine.below is None


def test_solvers_that_are_not_there_are_refused():
    if "pardiso" not in engines():
        with pytest.raises(Refused, match="not installed"):
            Levels(*ring(8, 1.0), "pardiso")
    with pytest.raises(Refused, match="pardiso"):
        Levels(*ring(8, 1.0), "gauss")


def test_superlu_counts_small_matrices_alone():
    H, S = ring(60, 3.0)
    small = Levels(H, S, "superlu")
    assert small.name == "dense"
    large = Levels(H, S, "superlu", largest_dense=10)
    assert large.near(0.5, 4) == pytest.approx(small.near(0.5, 4), abs=1e-8)
    with pytest.raises(Refused, match="cannot count"):
        large.below(0.5)


@pytest.mark.parametrize(
    ("atoms", "basis"), [("H 0 0 0; H 0 0 0.74", "sto-3g"), ("He 0 0 0", "6-31g"), ("O 0 0 0; H 0 0 0.97", "6-31g")]
)
@pytest.mark.parametrize("chosen", ["auto", *engines()])
def test_all_levels_and_the_gap_of_small_systems(atoms, basis, chosen, tmp_path):
    mf = scf.UHF(gto.M(atom=atoms, basis=basis, charge=-atoms.count("O"), verbose=0))
    mf.kernel()
    with DatasetWriter(tmp_path / "small.h5") as writer:
        writer.append(frame_from_scf(mf))
    expected, size = mf.mo_energy * HARTREE, mf.mo_energy.shape[1]
    words = ["spectrum", tmp_path / "small.h5", "--gap", "--window=-2000:2000", "--levels", size - 2 * (size > 8)]
    result = CliRunner().invoke(main, [*map(str, words), "--near", "0", "--solver", chosen, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert np.array(found["window"]) == pytest.approx(expected, abs=1e-5)
    nearest = np.argsort(np.abs(expected), axis=1)[:, : len(found["levels"][0])]
    assert np.array(found["levels"]) == pytest.approx(np.sort(np.take_along_axis(expected, nearest, 1)), abs=1e-5)
    both = np.sort(expected.ravel())[mf.mol.nelectron - 1 :]
    assert (found["highest occupied (eV)"], found["lowest empty (eV)"]) == pytest.approx(tuple(both[:2]), abs=1e-5)


@pytest.mark.parametrize("size", [2, 3, 4, 6, 12, 40])
def test_windows_hold_all_levels_of_small_matrices(size, solver):
    H, S = ring(size, 3.0)
    expected = dense_levels(H, S)
    levels = Levels(H, S, solver)
    assert levels.within(-100, 100) == pytest.approx(expected, abs=1e-8)
    found = find_gap([levels], size // 2 * 2, 2.0, 0.1)
    assert (found.homo, found.lumo) == pytest.approx(tuple(expected[size // 2 - 1 :][:2]), abs=1e-8)
    with pytest.raises(Refused, match=f"expected 1 to {levels.most}"):
        levels.near(0.0, levels.most + 1)


@pytest.mark.parametrize("dos", [None, (-30.0, 10.0, 9)])
def test_without_counts_levels_are_looked_for_where_the_moments_say(dos, tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "LARGEST_DENSE", 0)
    mf = scf.RHF(gto.M(atom="O 0 0 0; H 0 0.76 0.59; H 0 -0.76 0.59", basis="6-31g", verbose=0))
    mf.kernel()
    levels = mf.mo_energy * HARTREE
    frame = frame_from_scf(mf)
    with DatasetWriter(tmp_path / "w.h5") as writer:
        writer.append(frame)
        writer.append(replace(frame, outcome=replace(frame.outcome, electrons=None)))
    assert frame.outcome.fermi is None
    wanted = Wanted(levels=2, solver="superlu", dos=dos, vectors=40, moments=200)
    found = describe_spectrum(tmp_path / "w.h5", 0, wanted)
    assert levels[4] < found["near (eV)"] == found["fermi level by moments (eV)"] < levels[5]
    nearest = np.sort(levels[np.argsort(np.abs(levels - found["near (eV)"]))[:2]])
    assert found["levels"][0] == pytest.approx(nearest, abs=1e-5)
    assert ("density of states" in found) == (dos is not None)
    with pytest.raises(Refused, match="does not say how many electrons"):
        describe_spectrum(tmp_path / "w.h5", 1, wanted)
    with pytest.raises(Refused, match="cannot count"):
        describe_spectrum(tmp_path / "w.h5", 0, replace(wanted, gap=True))
    exact = describe_spectrum(tmp_path / "w.h5", 0, replace(wanted, solver="dense"))
    assert exact["near (eV)"] == exact["fermi level by counts (eV)"] == pytest.approx(levels[4:6].mean(), abs=1e-5)


def test_solvers_are_measured(tmp_path):
    with DatasetWriter(tmp_path / "h.h5") as writer:
        atoms = "; ".join(f"H 0 0 {0.9 * n}" for n in range(12))
        mf = scf.RHF(gto.M(atom=atoms, basis="sto-3g", verbose=0))
        mf.kernel()
        writer.append(frame_from_scf(mf))
    found = {name: measure_levels(tmp_path / "h.h5", name) for name in engines()}
    rows = [row_of(name, one, found["superlu"]) for name, one in found.items()]
    assert max(row["apart (eV)"] for row in rows) < 1e-8
    assert [row["one count, CPU s"] == "none" for row in rows] == [name == "superlu" for name in found]


def test_slem_spectrum_finds_gap_and_window(tmp_path):
    mf = scf.UHF(gto.M(atom="O 0 0 0; O 0 0 1.2", basis="6-31g", spin=2, verbose=0))
    mf.kernel()
    with DatasetWriter(tmp_path / "o2.h5") as writer:
        writer.append(frame_from_scf(mf))
    up, down = mf.mo_energy * HARTREE
    words = ["spectrum", str(tmp_path / "o2.h5"), "--gap", "--window=-25:5", "--count=-25:5"]
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    both = np.sort(np.concatenate([up, down]))
    assert (found["highest occupied (eV)"], found["lowest empty (eV)"]) == pytest.approx(tuple(both[15:17]), abs=1e-5)
    for levels, count, expected in zip(found["window"], found["levels in the window"], (up, down), strict=True):
        assert levels == pytest.approx(expected[(expected > -25) & (expected < 5)], abs=1e-5)
        assert count == len(levels)
    shown = CliRunner().invoke(main, words)
    assert (shown.exit_code, "lowest empty" in shown.stdout) == (0, True), shown.output
