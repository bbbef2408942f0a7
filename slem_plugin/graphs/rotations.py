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
    """T[f, m n] with D(Ry(-t))[m, m'] = sum_f trig_f(t) T[f], trig = (1, cos t, ..., cos lt, sin t, ..., sin lt).

    The columns n are m' = -l..-1, l..1, 0, 1..l and -1..-l.
    """
    angles = 2 * np.pi * np.arange(2 * l + 1) / (2 * l + 1)
    c, s, zero, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    tilts = np.stack([np.stack([c, zero, -s], -1), np.stack([zero, one, zero], -1), np.stack([s, zero, c], -1)], -2)
    orders = np.arange(1, l + 1)[:, None]
    trig = np.concatenate([one[None], np.cos(orders * angles), np.sin(orders * angles)]).T
    down = np.arange(l)
    columns = np.concatenate([down, 2 * l - down, [l], l + 1 + down, l - 1 - down])
    return torch.from_numpy(np.linalg.solve(trig, wigner(l, tilts)[:, :, columns].reshape(len(angles), -1)))


def multiples(c: Tensor, s: Tensor, l: int) -> tuple[Tensor, Tensor]:
    """cos(m x) and sin(m x) for m = 0..l from cos x and sin x, as a last dimension."""
    cosines, sines = [torch.ones_like(c)], [torch.zeros_like(s)]
    for _ in range(l):
        cosines.append(cosines[-1] * c - sines[-1] * s)
        sines.append(sines[-1] * c + cosines[-2] * s)
    return torch.stack(cosines, -1), torch.stack(sines, -1)


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
    cos_tm, sin_tm = multiples(cos_t, sin_t, highest)
    cos_pm, sin_pm = multiples(cos_p, sin_p, highest)
    D = []
    for l in range(highest + 1):
        trig = torch.cat([cos_tm[:, : l + 1], sin_tm[:, 1 : l + 1]], dim=1)
        tilt = (trig @ tilt_table(l).to(trig)).view(-1, 2 * l + 1, 4 * l + 1)
        s, c_down, middle, c, s_down = tilt.split([l, l, 1, l, l], dim=2)
        C, S = cos_pm[:, None, 1 : l + 1], sin_pm[:, None, 1 : l + 1]
        turned = tilt.new_empty(len(tilt), 2 * l + 1, 2 * l + 1)
        torch.mul(c_down, S.flip(2), out=turned[:, :, :l]).addcmul_(s, C.flip(2))
        turned[:, :, l : l + 1] = middle
        torch.mul(c, C, out=turned[:, :, l + 1 :]).addcmul_(s_down, S, value=-1)
        D.append(turned)
    return D
