"""Slow and obvious truths that the tests compare with."""

import numpy as np
from scipy.special import factorial, lpmv

from basis.rotations import spin_rotation, wigner
from basis.spin import Spin


def real_harmonics(l, xyz):
    """Y_lm, m = -l..l, of directions (n, 3), from associated Legendre functions; no Condon-Shortley phase."""
    x, y, z = np.asarray(xyz, dtype=float).T
    r = np.sqrt(x**2 + y**2 + z**2)
    phi = np.arctan2(y, x)
    columns = []
    for m in range(-l, l + 1):
        a = abs(m)
        norm = np.sqrt((2 * l + 1) / (4 * np.pi) * factorial(l - a) / factorial(l + a))
        legendre = (-1) ** a * lpmv(a, l, z / r)  # scipy's function has the phase, this takes it out
        angular = 1.0 if m == 0 else np.sqrt(2) * (np.cos(a * phi) if m > 0 else np.sin(a * phi))
        columns.append(norm * legendre * angular)
    return np.stack(columns, axis=-1)


def sphere_grid(degree):
    """Points and weights that integrate spherical polynomials up to the degree exactly."""
    z, weight_z = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    Z, PHI = np.meshgrid(z, phi, indexing="ij")
    rho = np.sqrt(1 - Z**2)
    points = np.stack([rho * np.cos(PHI), rho * np.sin(PHI), Z], axis=-1).reshape(-1, 3)
    return points, np.repeat(weight_z, len(phi)) * 2 * np.pi / len(phi)


def random_rotation(seed, improper=False):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    Q *= np.sign(np.linalg.det(Q))
    return -Q if improper else Q


def rotate_block(block_sMM, shells_i, shells_j, Q, spin):
    """A block of a structure that was turned by Q, element for element from the definition."""
    D_i, D_j = (block_diagonal([wigner(shell.l, Q) for shell in shells]) for shells in (shells_i, shells_j))
    turned = np.einsum("ab,sbc,dc->sad", D_i, block_sMM, D_j)
    if spin is Spin.SPINOR and len(block_sMM) == 4:
        U = spin_rotation(Q)
        matrix = turned.reshape(2, 2, *turned.shape[1:])
        turned = np.einsum("st,tuac,vu->svac", U, matrix, U.conj()).reshape(turned.shape)
    return turned


def block_diagonal(blocks):
    size = sum(len(block) for block in blocks)
    matrix, at = np.zeros((size, size)), 0
    for block in blocks:
        matrix[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return matrix
