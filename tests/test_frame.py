"""Pairs, packing, frames and their views in k-space against loops that spell the definitions out."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg

from basis.spin import Spin
from converters.frames.blocks import (
    Elements,
    Operator,
    canonical,
    join_packed,
    make_pairs,
    pack_elements,
    unpack_elements,
)
from converters.frames.frame import OPERATORS
from converters.physics import kspace
from converters.physics.checks import check_frame
from slem_plugin.testing.codes import assert_same_frame
from tests.conftest import make_random_frame

ALL_SPINS = list(Spin)
K = np.array([0.13, -0.27, 0.41])


def full_blocks(frame, name):
    """Both Hermitian halves as a dictionary (i, j, R) -> block, one pair after the other."""
    blocks = {}
    for p in range(len(frame.pairs)):
        i, j, R = int(frame.pairs.i_p[p]), int(frame.pairs.j_p[p]), tuple(frame.pairs.R_pc[p].tolist())
        block = frame.block_of_pair(name, p)
        blocks[i, j, R] = block
        partner = block.conj().swapaxes(1, 2)
        blocks[j, i, tuple(-r for r in R)] = partner[[0, 2, 1, 3]] if len(block) == 4 else partner
    return blocks


def slow_matrix_at(frame, name, k):
    start = np.concatenate([[0], np.cumsum(frame.pairs.norb_a)])
    components = frame.layout(name).components
    M = np.zeros((components, frame.norb, frame.norb), dtype=complex)
    for (i, j, R), block in full_blocks(frame, name).items():
        M[:, start[i] : start[i + 1], start[j] : start[j + 1]] += np.exp(2j * np.pi * np.dot(k, R)) * block
    return M


@pytest.mark.parametrize("spin", ALL_SPINS)
@pytest.mark.parametrize("name", OPERATORS)
def test_bloch_sum_is_the_definition(spin, name):
    frame = make_random_frame(1, spin)
    slow = slow_matrix_at(frame, name, K)
    alone = kspace.dense_at(frame, name, K)
    together, _ = kspace.dense_at_each(frame, name, np.array([K, -K]))
    if frame.layout(name) is Spin.SPINOR:
        slow = [np.block([[slow[0], slow[1]], [slow[2], slow[3]]])]
    elif spin is Spin.SPINOR:
        slow = [np.kron(np.eye(2), slow[0])]
    for fast in (alone, together):
        for mine, theirs in zip(fast, slow, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-13)
            np.testing.assert_allclose(mine, mine.conj().T, atol=1e-13)


@pytest.mark.parametrize("spin", ALL_SPINS)
def test_packing_elements_restores_the_frame(spin):
    frame = make_random_frame(2, spin)
    start = np.concatenate([[0], np.cumsum(frame.pairs.norb_a)])
    rows, columns, cells, values = [], [], [], []
    for (i, j, R), block in full_blocks(frame, "H").items():
        for a in range(block.shape[1]):
            for b in range(block.shape[2]):
                rows.append(start[i] + a)
                columns.append(start[j] + b)
                cells.append(R)
                values.append(block[:, a, b])
    R_tc, t_e = np.unique(cells, axis=0, return_inverse=True)
    shuffle = np.random.default_rng(0).permutation(len(rows))
    arrays = (
        np.array(rows)[shuffle],
        np.array(columns)[shuffle],
        t_e.ravel()[shuffle],
        R_tc,
        np.array(values)[shuffle].T,
    )
    matrix = Elements(*arrays)
    for upper_triangle in (False, True):
        packed = pack_elements(matrix, frame.pairs.norb_a, spin, upper_triangle=upper_triangle)
        np.testing.assert_array_equal(packed.pairs.R_pc, frame.pairs.R_pc)
        np.testing.assert_array_equal(packed.operator.values_sx, frame.operators["H"].values_sx)
        assert (packed.asymmetry, packed.unpaired, packed.operator.known_x) == (0.0, 0, None)


def test_packing_reports_what_the_halves_disagree_in():
    R_tc = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0]])
    arrays = [np.array(a) for a in ([0, 0, 0, 1], [0, 1, 0, 0], [0, 1, 2, 2])]
    matrix = Elements(*arrays, R_tc, np.array([[1.0, 2.0, 5.0, 2.5]]))
    packed = pack_elements(matrix, np.array([2]), Spin.NONE, whole_blocks=False)
    assert packed.asymmetry == 5.0  # (0, 0, -R) has no partner at all
    assert packed.unpaired == 1
    np.testing.assert_array_equal(packed.operator.values_sx, [[1, 0, 0, 0, 2.5, 2.25, 0, 0]])
    np.testing.assert_array_equal(packed.operator.known_x, [True, False, False, False, True, True, False, False])
    taken = pack_elements(matrix, np.array([2]), Spin.NONE, whole_blocks=False, upper_triangle=True)
    np.testing.assert_array_equal(taken.operator.values_sx[0, 4:6], [0.0, 2.0])


@pytest.mark.parametrize("spin", ALL_SPINS)
def test_matrices_of_different_reach_share_one_list(spin):
    """H and S of their own pairs, joined: every block at its place, unknown where a matrix has none."""
    frame = make_random_frame(6, spin)
    near = np.abs(frame.pairs.R_pc).max(axis=1) <= 1
    known_x = near[frame.pairs.pair_x]
    S = Operator(np.where(known_x, frame.operators["S"].values_sx, 0), known_x)
    packed = {
        "H": pack_elements(unpack_elements(frame.pairs, frame.operators["H"], spin), frame.pairs.norb_a, spin),
        "S": pack_elements(unpack_elements(frame.pairs, S, Spin.NONE), frame.pairs.norb_a, Spin.NONE),
    }
    assert len(packed["S"].pairs) == near.sum()
    pairs, operators = join_packed(packed)
    np.testing.assert_array_equal(pairs.R_pc, frame.pairs.R_pc)
    np.testing.assert_array_equal(operators["H"].values_sx, frame.operators["H"].values_sx)
    np.testing.assert_array_equal(operators["S"].values_sx, S.values_sx)
    np.testing.assert_array_equal(operators["S"].known_x, known_x)


def test_pairs_are_found_and_partners_are_not_kept_twice():
    random = np.random.default_rng(5)
    i, j, R = random.integers(0, 4, 200), random.integers(0, 4, 200), random.integers(-3, 4, (200, 3))
    pairs = make_pairs(i, j, R, np.ones(4, dtype=int))
    kept = {(int(a), int(b), *c) for a, b, c in zip(pairs.i_p, pairs.j_p, pairs.R_pc.tolist(), strict=True)}
    assert len(kept) == len(pairs)
    for a, b, c in zip(i.tolist(), j.tolist(), R.tolist(), strict=True):
        partner = (b, a, *(-x for x in c))
        assert ((a, b, *c) in kept) + (partner in kept) == (1 if partner != (a, b, *c) else 2)
    ci, cj, cR, _ = canonical(i, j, R)
    assert (pairs.find(ci, cj, cR) >= 0).all()
    assert pairs.find(np.array([0]), np.array([0]), np.array([[9, 0, 0]])).tolist() == [-1]


def test_density_matrix_holds_the_electrons_and_their_energy():
    for spin in ALL_SPINS:
        frame = physical_frame(spin)
        kpoints, weights = kspace.uniform_mesh((3, 3, 2))
        for smearing in ("fermi", "gauss", "mp1", "mp2", "cold", "fixed"):
            filling = kspace.Filling(5.0, smearing, 0.05)
            DM = kspace.density_matrix(frame, kpoints, weights, filling)
            filled = replace(frame, operators={**frame.operators, "DM": DM})
            assert abs(kspace.count_electrons(filled).sum() - 5.0) < 1e-9
            energies = kspace.eigenvalues(frame, kpoints)
            f, _ = kspace.occupations(energies, weights, filling, spin)
            both = np.where(frame.pairs.onsite_p, 1.0, 2.0)[frame.pairs.pair_x]
            band_energy = (DM.values_sx * frame.operators["H"].values_sx.conj() * both).real.sum()
            assert abs(band_energy - np.einsum("skn,skn,k->", energies, f, weights)) < 1e-8


def test_collinear_filling_keeps_a_fixed_moment():
    frame = physical_frame(Spin.COLLINEAR)
    kpoints, weights = kspace.uniform_mesh((2, 2, 2))
    DM = kspace.density_matrix(frame, kpoints, weights, kspace.Filling(5.0, "fermi", 0.05, moment=1.0))
    counts = kspace.count_electrons(replace(frame, operators={**frame.operators, "DM": DM}))
    np.testing.assert_allclose(counts, [3, 2], atol=1e-9)


def test_levels_beside_a_gap_are_filled_from_the_middle_of_it():
    """Methfessel and Paxton's functions hold the same electrons at other Fermi levels too, next to the edge, with occupations above 1."""
    for smearing in ("mp1", "mp2", "cold"):
        f, (fermi,) = kspace.occupations(
            np.array([[[-1.0, -0.3, 2.0, 3.0]]]), np.ones(1), kspace.Filling(4.0, smearing, 0.1), Spin.NONE
        )
        np.testing.assert_allclose(f.ravel(), [2, 2, 0, 0], atol=1e-9)
        assert 0 < fermi < 1.7


def test_degenerate_levels_share_the_last_electrons():
    f, top = kspace.fill_lowest(np.array([[[-1.0, 0.0, 0.0, 1.0]]]), np.ones(1), 4.0, 2.0)
    np.testing.assert_allclose(f.ravel(), [2, 1, 1, 0])
    assert top == 0.0
    f, top = kspace.fill_lowest(np.array([[[-1.0, 0.0, 1.0]]]), np.ones(1), 4.0, 2.0)
    assert (f.ravel().tolist(), top) == ([2, 2, 0], 0.5)
    with pytest.raises(ValueError, match="do not fit"):
        kspace.occupations(np.zeros((1, 1, 2)), np.ones(1), kspace.Filling(5.0), Spin.NONE)


def physical_frame(spin):
    """A frame whose DM has the full pattern of a dense k mesh (2 x 2 x 2 cells) and whose S is positive."""
    frame = make_random_frame(3, spin, natoms=2)
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    i, j = np.divmod(np.arange(4), 2)
    pairs = make_pairs(np.repeat(i, len(grid)), np.repeat(j, len(grid)), np.tile(grid, (4, 1)), frame.pairs.norb_a)
    place = pairs.find(frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc)
    operators = {}
    for name, scale in (("H", 1.0), ("S", 0.005)):
        layout = frame.layout(name)
        values = np.zeros((layout.components, pairs.elements), dtype=layout.dtype)
        for p, q in enumerate(place):
            block = scale * frame.block_of_pair(name, p)
            if name == "S" and frame.pairs.onsite_p[p]:
                block = np.eye(block.shape[1])[None]
            values[:, pairs.start_p[q] : pairs.start_p[q + 1]] = block.reshape(layout.components, -1)
        operators[name] = Operator(values)
    return replace(frame, pairs=pairs, operators=operators, spectrum=None)


@pytest.mark.parametrize("spin", ALL_SPINS)
def test_eigenvalues_are_those_of_the_definition(spin):
    frame = physical_frame(spin)
    H, S = slow_matrix_at(frame, "H", K), slow_matrix_at(frame, "S", K)[0]
    if spin is Spin.SPINOR:
        slow = [linalg.eigvalsh(np.block([[H[0], H[1]], [H[2], H[3]]]), np.kron(np.eye(2), S))]
    else:
        slow = [linalg.eigvalsh(h, S) for h in H]
    np.testing.assert_allclose(kspace.eigenvalues(frame, K)[:, 0], slow, atol=1e-10)


def test_frame_refuses_wrong_shapes(random_frame):
    frame = random_frame()
    for field, value, message in [
        ("cell_cv", np.eye(2), r"cell_cv has shape \(2, 2\); expected \(3, 3\)"),
        ("positions_av", np.zeros((2, 3)), "positions_av has shape"),
        ("species_a", np.array([0, 1, 7]), "species 0 to 1"),
        ("operators", {"H": Operator(np.zeros((1, 3)))}, "Frame H has shape"),
        ("operators", {"T": Operator(np.zeros((1, 3)))}, 'has "T"; expected only H, S, DM'),
        ("spin", Spin.SPINOR, "Frame H has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(frame, **{field: value})


def test_frames_travel_between_processes(random_frame):
    frame = random_frame(spin=Spin.SPINOR, masked=True)
    assert_same_frame(pickle.loads(pickle.dumps(frame)), frame)


def test_frame_gives_ase_atoms(random_frame):
    frame = random_frame()
    np.testing.assert_array_equal(frame.atoms.positions, frame.positions_av)
    assert frame.atoms.pbc.tolist() == [True, True, False]
    p = 4
    i, j, R = frame.pairs.i_p[p], frame.pairs.j_p[p], frame.pairs.R_pc[p]
    np.testing.assert_allclose(
        frame.vectors_pv[p], frame.positions_av[j] + R @ frame.cell_cv - frame.positions_av[i], atol=1e-14
    )


def test_checks_see_nan_and_asymmetry(random_frame):
    frame = random_frame()
    broken = frame.operators["H"].values_sx.copy()
    broken[0, 3] = np.nan
    first = check_frame(replace(frame, operators={**frame.operators, "H": Operator(broken)}))
    assert [result.ok for result in first] == [False]
    assert "found in H" in str(first[0])
    onsite = int(np.flatnonzero(frame.pairs.onsite_p)[0])
    skew = frame.operators["H"].values_sx.copy()
    skew[0, frame.pairs.start_p[onsite] + 1] += 0.5
    results = {r.name: r for r in check_frame(replace(frame, operators={**frame.operators, "H": Operator(skew)}))}
    assert results["H Hermitian"].ok is False
    assert results["H Hermitian"].found == pytest.approx(0.5)
