"""Integrals of two centres: closed forms, Gaunt's integrals, PySCF, rotations and derivatives."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import gto
from scipy.integrate import trapezoid
from scipy.special import spherical_jn

from basis.bessel import spherical_bessels
from basis.conventions import to_standard
from basis.radial import GaussianFunction, TabulatedFunction, reach, table_of_points
from basis.rotations import wigner
from basis.shells import Shell, cell_shells, parse_shells
from basis.twocentre import KINETIC, TwoCentre, gaunt
from basis.units import BOHR, HARTREE
from converters.pyscf.molecule import convention, make_basis, make_functions
from slem_plugin.testing.frames import random_rotation
from tests import radial_files
from tests.oracles import real_harmonics, sphere_grid


def test_bessel_functions_are_those_of_scipy():
    x = np.concatenate([np.linspace(0, 30, 3001), np.geomspace(1e-8, 1e4, 2001)])
    for l, values in enumerate(spherical_bessels(12, x)):
        assert np.abs(values - spherical_jn(l, x)).max() < 3e-15


# Integrals
def slater(n, exponent, points=1000):
    """Normalised r^(n-1) exp(-z r), lengths and exponent in Angstrom."""
    from math import factorial

    norm = (2 * exponent) ** (n + 0.5) / np.sqrt(factorial(2 * n))
    r = np.linspace(0, 35 / exponent, points)
    values = norm * r ** (n - 1) * np.exp(-exponent * r)
    slopes = norm * np.exp(-exponent * r) * ((n - 1) * r ** max(n - 2, 0) - exponent * r ** (n - 1))
    return TabulatedFunction(r, values, slopes, float(r[-1]), 60.0 * exponent)


@pytest.mark.parametrize("exponent", [0.9, 2.5])
def test_slater_functions_have_their_closed_forms(exponent):
    shells = (Shell(0), Shell(1))
    functions = (slater(1, exponent), slater(2, exponent))
    r = np.array([0.0, 0.3, 0.77, 1.9, 4.2])
    p = exponent * r
    along_z = np.outer(r, [0, 0, 1.0])
    S = TwoCentre([shells], [functions]).blocks(0, 0, along_z)
    np.testing.assert_allclose(S[:, 0, 0], np.exp(-p) * (1 + p + p**2 / 3), atol=1e-9)
    pi_pi = np.exp(-p) * (1 + p + 2 * p**2 / 5 + p**3 / 15)
    np.testing.assert_allclose(S[:, 1, 1], pi_pi, atol=1e-9)  # y
    np.testing.assert_allclose(S[:, 3, 3], pi_pi, atol=1e-9)  # x
    sigma = np.exp(-p) * (1 + p + p**2 / 5 - 2 * p**3 / 15 - p**4 / 15)
    np.testing.assert_allclose(S[:, 2, 2], sigma, atol=1e-9)  # z, both pointing the same way
    T = TwoCentre([shells], [functions], KINETIC).blocks(0, 0, along_z)
    # Its waves fall off slowly where the function has a cusp.
    exact = HARTREE * (exponent * BOHR) ** 2 / 2 * np.exp(-p) * (1 + p - p**2 / 3)
    np.testing.assert_allclose(T[:, 0, 0], exact, rtol=1e-4, atol=1e-5)


def test_gaunt_coefficients_are_integrals():
    points, weights = sphere_grid(12)
    for l1, l2, L in [(0, 0, 0), (1, 1, 0), (1, 1, 2), (2, 1, 1), (3, 2, 5), (4, 4, 4), (2, 4, 2)]:
        Y = [real_harmonics(l, points) for l in (l1, l2, L)]
        exact = np.einsum("g,ga,gb,gc->abc", weights, *Y)
        np.testing.assert_allclose(gaunt(l1, l2, L), exact, atol=1e-12)


H_SHELL = {"O": [[0, (0.9, 1.0)], [5, (1.3, 1.0)]], "H": [[1, (0.8, 1.0)]], "C": [[4, (0.5, 1.0)]]}


@pytest.mark.parametrize("basis", ["def2-svp", "cc-pvqz", H_SHELL], ids=str)
def test_gaussians_are_those_of_pyscf(basis):
    """Up to h functions, atoms in touch, near each other, and a pair that is far."""
    mol = gto.M(
        atom="O 0 0 0; H 0.3 0.9 0.1; H -.7 .1 .5; C 2.5 1 -3; O 0.1 0.2 0.05; H 9 9 0",
        basis=basis,
        verbose=0,
        spin=None,
    )
    species, species_a = make_basis(mol)
    functions = make_functions(mol)
    shells = [one.shells for one in species]
    order, signs = to_standard(cell_shells(species, species_a), convention)
    positions_av = mol.atom_coords() * BOHR

    def dense(make, components=()):
        size_a = [species[s].size for s in species_a]
        ends = np.cumsum([0, *size_a])
        matrix = np.zeros((*components, ends[-1], ends[-1]))
        for i, a in enumerate(species_a):
            for j, b in enumerate(species_a):
                block = make(a, b, (positions_av[j] - positions_av[i])[None])[0]
                matrix[..., ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
        return matrix

    def ours(matrix):
        return matrix[..., order, :][..., order] * signs[:, None] * signs

    overlap, kinetic = TwoCentre(shells, functions), TwoCentre(shells, functions, KINETIC)
    np.testing.assert_allclose(dense(overlap.blocks), ours(mol.intor("int1e_ovlp")), atol=1e-10)
    np.testing.assert_allclose(dense(kinetic.blocks), ours(mol.intor("int1e_kin")) * HARTREE, atol=1e-8)
    # PySCF differentiates the electron's coordinate of the first function.
    np.testing.assert_allclose(dense(overlap.gradients, (3,)), ours(mol.intor("int1e_ipovlp")) / BOHR, atol=2e-9)


def some_tables(seed=0):
    """Two species with s to g, whose functions end smoothly or with a kink at different radii (Angstrom)."""
    random = np.random.default_rng(seed)
    shells, functions = (parse_shells("2s1p1d1f1g"), parse_shells("1s2p1d")), []
    for species in shells:
        mine = []
        for shell in species:
            cutoff = random.uniform(2.5, 4.0)
            r = np.linspace(0, cutoff, 400)
            values = r**shell.l * np.exp(-random.uniform(0.5, 1.5) * r**2) * (1 - r / cutoff) ** random.integers(1, 4)
            values /= np.sqrt(trapezoid(values**2 * r**2, r))
            mine.append(table_of_points(r, values, cutoff, 150.0, 0.0))
        functions.append(tuple(mine))
    return shells, functions


def vectors(count, seed=0):
    random = np.random.default_rng(seed)
    found = random.normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True) * random.uniform(0.2, 7.5, (count, 1))


@pytest.mark.parametrize("kind", [(0, 0), (0, 1), (1, 0)])
def test_blocks_turn_with_their_vectors(kind):
    """Turned and mirrored, from s to g."""
    shells, functions = some_tables()
    integrals = TwoCentre(shells, functions)
    there = vectors(30)
    for improper in (False, True):
        Q = random_rotation(3, improper)
        D = [np.zeros((sum(s.size for s in shells[k]),) * 2) for k in kind]
        for matrix, k in zip(D, kind, strict=True):
            at = 0
            for shell in shells[k]:
                matrix[at : at + shell.size, at : at + shell.size] = wigner(shell.l, Q)
                at += shell.size
        turned = np.einsum("ab,pbc,dc->pad", D[0], integrals.blocks(*kind, there), D[1])
        np.testing.assert_allclose(integrals.blocks(*kind, there @ Q.T), turned, atol=1e-12)


def test_blocks_and_gradients_of_both_directions_agree():
    shells, functions = some_tables()
    integrals = TwoCentre(shells, functions)
    there = np.concatenate([vectors(20), np.zeros((1, 3)), [[0, 0, 8.1]]])
    for a, b in ((0, 0), (0, 1), (1, 1)):
        np.testing.assert_allclose(
            integrals.blocks(a, b, there), integrals.blocks(b, a, -there).swapaxes(1, 2), atol=1e-13
        )
        step = 1e-4
        for v, direction in enumerate(np.eye(3) * step):
            numbers = (integrals.blocks(a, b, there + direction) - integrals.blocks(a, b, there - direction)) / (
                2 * step
            )
            np.testing.assert_allclose(integrals.gradients(a, b, there)[:, v], numbers, atol=2e-7)


def test_tables_of_gaussians_have_the_closed_form():
    """Sums over waves against formulas, s to g, from touching atoms to far ones."""
    shells = parse_shells("1s1p1d1f1g")
    exact, tables = [], []
    for shell, exponent in zip(shells, (2.0, 1.5, 1.1, 2.5, 1.7), strict=True):
        R = radial_files.gaussian(shell.l, exponent)
        exact.append(
            GaussianFunction(shell.l, np.array([exponent]), np.array([R(np.array([1.0]))[0] * np.exp(exponent)]))
        )
        r = np.linspace(0, 6, 3000)
        tables.append(table_of_points(r, R(r), 6.0, 60.0, 0.0))
    for operator, atol in (((0, 1.0), 1e-10), (KINETIC, 1e-7)):
        one, two = (TwoCentre([shells], [tuple(f)], operator) for f in (exact, tables))
        np.testing.assert_allclose(two.blocks(0, 0, vectors(50)), one.blocks(0, 0, vectors(50)), atol=atol)


def test_sampling_is_the_sum_over_the_sampled_points():
    """S_ii of a sampled function is the sum over its points, as its code would find it."""
    shells, functions = some_tables()
    step = 0.03
    sampled = tuple(replace(f, step=step, largest_wave=np.pi / step) for f in functions[0])
    S = TwoCentre([shells[0]], [sampled]).blocks(0, 0, np.zeros((1, 3)))[0]
    for n, function in enumerate(sampled[:2]):
        r = np.arange(0, function.cutoff, step)
        assert S[n, n] == pytest.approx((function(r) ** 2 * r**2).sum() * step, abs=1e-9)


def test_nothing_overlaps_beyond_the_cutoffs():
    shells, functions = some_tables()
    integrals = TwoCentre(shells, functions)
    farthest = integrals.reach_ss[0, 1]
    assert farthest == max(reach(f, g) for f in functions[0] for g in functions[1])
    assert not integrals.blocks(0, 1, np.array([[0, 0, farthest + 1e-9]])).any()
    assert np.abs(integrals.blocks(0, 1, np.array([[0, 0, farthest - 0.05]]))).max() < 1e-3
