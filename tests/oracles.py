"""Slow and obvious truths that the tests compare with."""

import numpy as np
from scipy.special import factorial, lpmv


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
