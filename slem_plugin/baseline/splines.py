"""Smooth functions of distance, fitted to scattered values by penalised least squares.

A function is a quintic B-spline on uniform knots, with a penalty on the differences of its coefficients, so that it
continues smoothly where there is no data. How strong the penalty is follows from leaving one value out at a time.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.interpolate import BSpline, PPoly
from scipy.linalg import solve_triangular

from basis import Array

DEGREE = 5
WEIGHTS = 10.0 ** np.arange(4, -15, -2)
# A weaker penalty must predict better by this factor.
WORTH_IT = 0.9
# Values beyond these add time to a fit of one variable, and nothing else.
MOST_VALUES = 20_000


@cache
def pieces() -> Array:
    """M[power, k]: in each interval of the knots, the k-th of the splines that live there is sum_power t^power M[power, k]."""
    one = BSpline.basis_element(np.arange(DEGREE + 2), extrapolate=False)
    polynomial = PPoly.from_spline(one)  # type: ignore[arg-type]
    whole = (polynomial.x[:-1] >= 0) & (polynomial.x[:-1] < DEGREE + 1) & (np.diff(polynomial.x) > 0)
    return polynomial.c[::-1, whole][:, ::-1]


def spline_design(r_p: Array, start: float, end: float, count: int) -> Array:
    """B-splines [points, count] on uniform knots over [start, end]; outside, the value at the end."""
    place_p, value_pk = nonzero_splines(r_p, start, end, count)
    B = np.zeros((len(r_p), count))
    np.put_along_axis(B, place_p[:, None] + np.arange(DEGREE + 1), value_pk, axis=1)
    return B


def spline_values(r_p: Array, start: float, end: float, coefficients_bn: Array) -> Array:
    """Functions [points, n] of their coefficients."""
    place_p, value_pk = nonzero_splines(r_p, start, end, len(coefficients_bn))
    return np.einsum("pk,pkn->pn", value_pk, coefficients_bn[place_p[:, None] + np.arange(DEGREE + 1)])


def nonzero_splines(r_p: Array, start: float, end: float, count: int) -> tuple[Array, Array]:
    """First of the splines that are not zero at each point, and the values of them all."""
    x_p = (np.clip(r_p, start, end) - start) * ((count - DEGREE) / (end - start))
    place_p = np.clip(x_p.astype(int), 0, count - DEGREE - 1)
    return place_p, np.vander(x_p - place_p, DEGREE + 1, increasing=True) @ pieces()


def roughness(count: int) -> Array:
    """The matrix whose product with coefficients is small for smooth functions.

    Third differences, and a trace of first ones: a function goes on smoothly where there is no data, and levels out after
    a few knots instead of running away.
    """
    return np.concatenate([np.diff(np.eye(count), 3, axis=0), 0.03 * np.diff(np.eye(count), axis=0)])


def flatness(count: int) -> Array:
    """The matrix whose product with coefficients is small for functions that hardly change."""
    return np.diff(np.eye(count), axis=0)


def switch_off(r_p: Array, start: float, end: float) -> Array:
    """1 up to `start`, 0 from `end`, with two continuous derivatives in between."""
    x = np.clip((r_p - start) / (end - start), 0, 1)
    return 1 - x**3 * (10 + x * (6 * x - 15))


def fit_penalised(A: Array, values_pn: Array, penalty: Array, group_p: Array | None = None) -> Array:
    """Coefficients c that minimise |A c - values|^2 + w |penalty c|^2.

    The weight w is lowered as long as that foretells each value clearly better from all others. Values of one group would
    foretell each other and are left out together; the error of few groups is uneven in w, so there all weights are tried.
    """
    if len(A) > MOST_VALUES:
        chosen = np.random.default_rng(0).choice(len(A), MOST_VALUES, replace=False)
        A, values_pn = A[chosen], values_pn[chosen]
        group_p = None if group_p is None else group_p[chosen]
    groups = groups_by_size(np.arange(len(A)) if group_p is None else group_p)
    # Many values are first reduced to as many rows as there are unknowns.
    Q_data, R_data = np.linalg.qr(A)
    projected = Q_data.T @ values_pn
    best, coefficients = np.inf, np.zeros((A.shape[1], values_pn.shape[1]))
    for weight in WEIGHTS * max(len(A), 1):
        # A trace of the identity holds at zero what nothing determines.
        rows = [R_data, np.sqrt(weight) * penalty, np.sqrt(weight * 1e-9) * np.eye(A.shape[1])]
        Q, R = np.linalg.qr(np.concatenate(rows))
        Q = Q[: len(R_data)]
        smooth = Q_data @ Q
        fitted = Q.T @ projected
        squares = squares_foretold(smooth, values_pn - smooth @ fitted, groups)
        if squares is None:
            break
        error = squares / values_pn.size
        if error > best and group_p is None:
            break
        if error < WORTH_IT * best:
            best, coefficients = error, solve_triangular(R, fitted)
    return coefficients


def groups_by_size(group_p: Array) -> list[Array]:
    """The values of each group, rows[group, value], in one array for all groups of a size."""
    _, size_g = np.unique(group_p, return_counts=True)
    parts = np.split(np.argsort(group_p, kind="stable"), np.cumsum(size_g)[:-1])
    return [np.array([part for part in parts if len(part) == size]) for size in np.unique(size_g)]


def squares_foretold(smooth: Array, rest_pn: Array, groups: Sequence[Array]) -> float | None:
    """The sum of the squared errors of values foretold from those of other groups; None where a group alone decides its own fit.

    `smooth` is a root of the matrix that takes values to their fit, `rest_pn` what the fit of all values leaves over.
    """
    total = 0.0
    for rows in groups:
        S, rest = smooth[rows], rest_pn[rows]
        T = S.swapaxes(1, 2)
        wide = S.shape[1] <= S.shape[2]
        freedom = np.eye(min(S.shape[1:])) - (S @ T if wide else T @ S)
        if np.linalg.eigvalsh(freedom).min(initial=1) < 1e-8:
            return None
        foretold = np.linalg.solve(freedom, rest) if wide else rest + S @ np.linalg.solve(freedom, T @ rest)
        total += float((foretold**2).sum())
    return total
