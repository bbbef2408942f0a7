"""Real spherical harmonics of any degree, in our order m = -l..l and without the Condon-Shortley phase."""

import numpy as np

from basis import Array
from basis.couplings import coupling
from basis.rotations import CYCLE


def solid_harmonics(most: int, xyz: Array) -> list[Array]:
    """r^l Y_lm of vectors (..., 3), one array (..., 2l+1) for each l up to `most`.

    Each degree is the coupling of the one below with the vector itself, so poles and the origin need no care.
    """
    vectors = np.asarray(xyz, dtype=float)
    first = np.sqrt(3 / (4 * np.pi)) * vectors[..., CYCLE]
    harmonics = [np.full((*vectors.shape[:-1], 1), np.sqrt(1 / (4 * np.pi))), first]
    for l in range(2, most + 1):
        C = coupling(l - 1, 1, l)
        # At the pole only m = 0 is left, which says how long the coupled vector is.
        length = C[l - 1, 1, l] * np.sqrt((2 * l - 1) * 3) / (4 * np.pi)
        coupled = np.einsum("...a,...b,abc->...c", harmonics[-1], first, C, optimize=True)
        harmonics.append(coupled * (np.sqrt((2 * l + 1) / (4 * np.pi)) / length))
    return harmonics[: most + 1]
