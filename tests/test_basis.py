"""Shells, conventions, rotations, couplings and spin against integrals, explicit rotations and sympy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from basis.conventions import permutation_and_signs, standard, to_standard
from basis.couplings import Irrep, block_to_irreps, clebsch_gordan, coupling, spinor_block_to_irreps
from basis.rotations import spin_rotation, wigner
from basis.shells import LETTERS, Shell, Species, format_shells, parse_shells
from basis.spin import from_pauli, to_pauli
from slem_plugin.testing.frames import random_rotation
from tests.oracles import real_harmonics, sphere_grid

PAULI = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 7)), min_size=1, max_size=8))
def test_shells_print_what_was_parsed(runs):
    merged = "".join(f"{count}{LETTERS[l]}" for count, l in runs)
    shells = parse_shells(merged)
    assert parse_shells(format_shells(shells)) == shells
    assert sum(shell.size for shell in shells) == sum(count * (2 * l + 1) for count, l in runs)


def test_shells_keep_the_order_of_the_atom():
    iron = (Shell(0, 4, 1), Shell(0, 4, 2), Shell(2, 3, 1), Shell(2, 3, 2), Shell(1, 4, 1, polarisation=True))
    assert format_shells(iron) == "2s2d1p"
    assert [str(shell) for shell in iron] == ["4s1", "4s2", "3d1", "3d2", "4p1P"]
    assert Species("Fe", 26, iron).size == 15
    assert [shell.zeta for shell in parse_shells("1s1p1s")] == [1, 1, 2]


@pytest.mark.parametrize("text", ["", "s", "2", "2j", "2s 2p", "-1s", "2s2"])
def test_shells_refuse_other_texts(text):
    with pytest.raises(ValueError, match="is no list of shells"):
        parse_shells(text)


@pytest.mark.parametrize(("l", "n", "zeta"), [(-1, 0, 1), (30, 0, 1), (2, 2, 1), (0, 0, 0)])
def test_shells_refuse_impossible_numbers(l, n, zeta):
    with pytest.raises(ValueError, match="a shell has"):
        Shell(l, n, zeta)


def test_signed_labels_move_values_to_the_right_place():
    points = np.random.default_rng(1).normal(size=(5, 3))
    x, y, z = points.T
    code = ["c0", "-c1", "-s1"]  # z, -x, -y
    values = np.stack([z, -x, -y])
    order, signs = permutation_and_signs(code, standard(1))
    np.testing.assert_array_equal(signs[:, None] * values[order], np.stack([y, z, x]))
    back, back_signs = permutation_and_signs(standard(1), code)
    np.testing.assert_array_equal(back_signs[:, None] * np.stack([y, z, x])[back], values)


@pytest.mark.parametrize("labels", [["c0"], ["c0", "c1", "c1"], ["c0", "c1", "s2"]])
def test_labels_must_name_the_same_functions(labels):
    with pytest.raises(ValueError, match="do not name the same functions"):
        permutation_and_signs(labels, standard(1))


def test_shells_of_an_atom_keep_their_places():
    order, signs = to_standard(parse_shells("1s1d1p"), lambda l: [f"-{label}" for label in standard(l)][::-1])
    assert order.tolist() == [0, 5, 4, 3, 2, 1, 8, 7, 6]
    assert (signs == -1).all()


@pytest.mark.parametrize("l", range(9))
@pytest.mark.parametrize("improper", [False, True])
def test_wigner_rotates_harmonics(l, improper):
    Q = random_rotation(l, improper)
    points = np.random.default_rng(l).normal(size=(40, 3))
    np.testing.assert_allclose(real_harmonics(l, points @ Q.T), real_harmonics(l, points) @ wigner(l, Q).T, atol=2e-13)


@pytest.mark.parametrize("l", range(9))
def test_wigner_is_a_representation_at_special_directions(l):
    quarter_z = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    quarter_x = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    flip = np.diag([1.0, -1, -1])
    inversion = -np.eye(3)
    for A in (quarter_z, quarter_x, flip, inversion):
        for B in (quarter_z, quarter_x, flip):
            np.testing.assert_allclose(wigner(l, A) @ wigner(l, B), wigner(l, A @ B), atol=1e-13)
        np.testing.assert_allclose(wigner(l, A) @ wigner(l, A).T, np.eye(2 * l + 1), atol=1e-13)
    np.testing.assert_allclose(wigner(l, inversion), (-1) ** l * np.eye(2 * l + 1), atol=1e-14)


def test_wigner_takes_many_rotations_at_once():
    Q = np.stack([[random_rotation(3 * a + b) for b in range(3)] for a in range(2)])
    D = wigner(4, Q)
    assert D.shape == (2, 3, 9, 9)
    np.testing.assert_allclose(D[1, 2], wigner(4, Q[1, 2]), atol=1e-15)


@pytest.mark.parametrize("matrix", [np.eye(2), 2 * np.eye(3), np.array([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])])
def test_wigner_refuses_what_is_no_rotation(matrix):
    with pytest.raises(ValueError, match="orthogonal"):
        wigner(1, matrix)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.7, np.pi - 1e-9, np.pi, 3.5])
def test_spin_rotation_is_the_exponential(angle):
    axis = np.array([0.6, -0.48, 0.64])
    K = np.cross(np.eye(3), axis)  # K v = axis x v
    U = expm(-0.5j * angle * np.einsum("v,vst->st", axis, PAULI[1:]))
    mine = spin_rotation(expm(angle * K))
    assert min(np.abs(mine - U).max(), np.abs(mine + U).max()) < 1e-8
    np.testing.assert_allclose(mine @ mine.conj().T, np.eye(2), atol=1e-14)


def test_spin_rotation_turns_pauli_matrices_as_axial_vector():
    for seed in range(5):
        for improper in (False, True):
            Q = random_rotation(seed, improper)
            U = spin_rotation(Q)
            axial = Q * np.linalg.det(Q)
            turned = np.einsum("st,vtu,wu->vsw", U, PAULI[1:], U.conj())
            np.testing.assert_allclose(turned, np.einsum("wv,wst->vst", axial, PAULI[1:]), atol=1e-13)


@pytest.mark.parametrize(
    ("l1", "l2", "L"), [(0, 3, 3), (1, 1, 2), (2, 1, 3), (2, 2, 4), (4, 4, 8), (3, 5, 4), (5, 5, 10)]
)
def test_even_couplings_are_gaunt_integrals(l1, l2, L):
    points, weights = sphere_grid(l1 + l2 + L)
    gaunt = np.einsum("pa,pb,pc,p->abc", *(real_harmonics(l, points) for l in (l1, l2, L)), weights)
    C = coupling(l1, l2, L)
    factor = (C * gaunt).sum() / (C * C).sum()
    assert factor > 0
    np.testing.assert_allclose(factor * C, gaunt, atol=1e-13)


def test_odd_coupling_of_vectors_is_the_cross_product():
    a, b = np.random.default_rng(0).normal(size=(2, 3))
    yzx = [1, 2, 0]
    product = np.einsum("a,b,abc->c", a[yzx], b[yzx], coupling(1, 1, 1))
    cross = np.cross(a, b)[yzx]
    assert abs(abs(product @ cross) - np.linalg.norm(product) * np.linalg.norm(cross)) < 1e-14


def test_clebsch_gordan_agrees_with_sympy():
    from sympy.physics.quantum.cg import CG

    for j1, m1, j2, m2, j, m in [(1, 1, 1, -1, 2, 0), (2, -1, 1, 1, 2, 0), (4, 3, 4, -2, 7, 1), (5, 0, 5, 0, 10, 0)]:
        assert abs(clebsch_gordan(j1, m1, j2, m2, j, m) - float(CG(j1, m1, j2, m2, j, m).doit())) < 1e-14


@pytest.mark.parametrize("l1", range(6))
@pytest.mark.parametrize("l2", range(6))
def test_block_and_irreps_are_the_same_numbers(l1, l2):
    irreps, Q = block_to_irreps(l1, l2)
    np.testing.assert_allclose(Q @ Q.T, np.eye(len(Q)), atol=1e-13)
    for improper in (False, True):
        R = random_rotation(7 * l1 + l2, improper)
        block = np.random.default_rng(l1).normal(size=(2 * l1 + 1, 2 * l2 + 1))
        turned = wigner(l1, R) @ block @ wigner(l2, R).T
        np.testing.assert_allclose(Q @ turned.ravel(), rotate_irreps(irreps, Q @ block.ravel(), R), atol=1e-12)


@pytest.mark.parametrize(("l1", "l2"), [(0, 0), (0, 1), (1, 1), (2, 1), (3, 2), (4, 4), (5, 5)])
def test_spinor_block_and_irreps_are_the_same_numbers(l1, l2):
    irreps, Q = spinor_block_to_irreps(l1, l2)
    size = (2 * l1 + 1) * (2 * l2 + 1)
    assert sum(2 * l + 1 for l, _ in irreps) == 4 * size
    np.testing.assert_allclose(Q @ Q.T, np.eye(4 * size), atol=1e-13)
    random = np.random.default_rng(l1)
    block = random.normal(size=(2, 2, 2 * l1 + 1, 2 * l2 + 1)) + 1j * random.normal(size=(2, 2, 2 * l1 + 1, 2 * l2 + 1))
    for improper in (False, True):
        R = random_rotation(l1 + 3 * l2, improper)
        U = spin_rotation(R)
        turned = np.einsum("st,ma,tuab,nb,vu->svmn", U, wigner(l1, R), block, wigner(l2, R), U.conj())
        before, after = (to_pauli(b.reshape(4, -1)).ravel() for b in (block, turned))
        np.testing.assert_allclose(Q @ after, rotate_irreps(irreps, Q @ before, R), atol=1e-12)


def rotate_irreps(irreps, values, R):
    """Each irrep by its own matrix; an irrep of unnatural parity has an extra sign under inversion."""
    parts, at = [], 0
    for l, parity in irreps:
        extra = 1.0 if parity == (-1) ** l else np.sign(np.linalg.det(R))
        parts.append(extra * wigner(l, R) @ values[at : at + 2 * l + 1])
        at += 2 * l + 1
    return np.concatenate(parts)


def test_irreps_print():
    assert [str(irrep) for irrep in block_to_irreps(1, 2)[0]] == ["1o", "2o", "3o"]
    assert str(Irrep(2, 1)) == "2e"


def test_pauli_parts_rebuild_the_matrix():
    random = np.random.default_rng(2)
    M_s = random.normal(size=(4, 5)) + 1j * random.normal(size=(4, 5))
    parts = to_pauli(M_s)
    np.testing.assert_allclose(np.einsum("px,pst->stx", parts, PAULI).reshape(4, 5), M_s, atol=1e-15)
    np.testing.assert_allclose(from_pauli(parts), M_s, atol=1e-15)


def test_time_reversal_decides_which_pauli_parts_are_real():
    random = np.random.default_rng(3)
    M = random.normal(size=(2, 2)) + 1j * random.normal(size=(2, 2))
    reverse = 1j * PAULI[2]
    symmetric = M + reverse @ M.conj() @ np.linalg.inv(reverse)
    parts = to_pauli(symmetric.reshape(4, 1))
    assert np.abs(parts[0].imag).max() < 1e-15
    assert np.abs(parts[1:].real).max() < 1e-15
