"""Rotation matrices that bring bonds to the z axis, for many bonds at once.

The frame of the bond d = r (sin t cos p, sin t sin p, cos t) is Q = Ry(-t) Rz(-p); the frame of -d is then Q after half a
turn about x. The matrix of Ry(-t) is a trigonometric polynomial of t, so one product with a constant table gives it for all bonds.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from basis.rotations import wigner


@cache
def tilt_table(l: int) -> Tensor:
    """T[f, m n] with D(Ry(-t))[m, m'] = sum_f trig_f(t) T[f], trig = (sin lt, ..., sin t, 1, cos t, ..., cos lt).

    A mirror in xz keeps apart what is even (m >= 0) and what is odd, so D has nothing between them. The columns n are m' = -l..-1, 0, -1..-l of odd
    rows m, and l..1, 0, 1..l of even ones: those that an azimuth brings to the places -l..l.
    """
    angles = 2 * np.pi * np.arange(2 * l + 1) / (2 * l + 1)
    c, s, zero, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    tilts = np.stack([np.stack([c, zero, -s], -1), np.stack([zero, one, zero], -1), np.stack([s, zero, c], -1)], -2)
    orders = np.arange(1, l + 1)[:, None]
    trig = np.concatenate([np.sin(orders[::-1] * angles), one[None], np.cos(orders * angles)])
    D, away = wigner(l, tilts), np.abs(np.arange(-l, l + 1))
    D[:, :l] = D[:, :l, l - away]
    D[:, l:] = D[:, l:, l + away]
    return torch.from_numpy(trig @ D.reshape(len(angles), -1) / (trig**2).sum(axis=1, keepdims=True))


def waves(c: Tensor, s: Tensor, l: int) -> Tensor:
    """(sin lx, ..., sin x, 1, cos x, ..., cos lx) from cos x and sin x, as a last dimension; those of a lower l are in its middle."""
    cosines, sines = [torch.ones_like(c)], [torch.zeros_like(s)]
    for _ in range(l):
        cosines.append(cosines[-1] * c - sines[-1] * s)
        sines.append(sines[-1] * c + cosines[-2] * s)
    return torch.stack([*sines[:0:-1], *cosines], -1)


def bond_angles(vectors_ev: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(cos t, sin t, cos p, sin p) of each bond; along z the azimuth is 0 upwards and half a turn downwards."""
    x, y, z = vectors_ev.unbind(-1)
    across = torch.hypot(x, y)
    length = torch.hypot(across, z)
    upright = across == 0
    safe = torch.where(upright, torch.ones_like(across), across)
    cos_p = torch.where(upright, torch.where(z < 0, -1.0, 1.0).to(z), x / safe)
    sin_p = torch.where(upright, torch.zeros_like(y), y / safe)
    return z / length, across / length, cos_p, sin_p


def bond_rotations(vectors_ev: Tensor, highest: int) -> list[Tensor]:
    """D_l[e, m, m'] for l = 0..highest that take coefficients into the frame of each bond."""
    cos_t, sin_t, cos_p, sin_p = bond_angles(vectors_ev)
    tilt, even = waves(cos_t, sin_t, highest), waves(cos_p, sin_p, highest)
    odd = even.flip(1) * torch.arange(highest, -highest - 1, -1).sign().to(even)
    D = []
    for l in range(highest + 1):
        middle = slice(highest - l, highest + l + 1)
        turned = (tilt[:, middle] @ tilt_table(l).to(tilt)).view(-1, 2 * l + 1, 2 * l + 1)
        turned[:, :l] *= odd[:, None, middle]
        turned[:, l:] *= even[:, None, middle]
        D.append(turned)
    return D
