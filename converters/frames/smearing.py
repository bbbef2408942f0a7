"""How levels about the Fermi level are filled: occupation as a function of x = (energy - Fermi level) / width, from 1 to 0.

"fixed" fills the lowest levels and has no function. Methfessel and Paxton's (Phys. Rev. B 40, 3616) and Marzari and Vanderbilt's
(Phys. Rev. Lett. 82, 3296) leave 0 to 1, so that several Fermi levels may hold the same electrons.
"""

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from basis import Array


def is_smearing(name: str) -> bool:
    return name in ("fixed", "fermi", "gauss", "cold") or methfessel_paxton_order(name) > 0


def is_monotonic(name: str) -> bool:
    return name in ("fermi", "gauss")


def occupation_function(name: str) -> Callable[[Array], Array]:
    """The function of a smearing other than "fixed"."""
    if order := methfessel_paxton_order(name):
        return partial(methfessel_paxton, order=order)
    return {"fermi": fermi_dirac, "gauss": gaussian, "cold": marzari_vanderbilt}[name]


def methfessel_paxton_order(name: str) -> int:
    """The order in "mp1", "mp2" and so on; 0 for other names."""
    found = re.fullmatch(r"mp([1-9])", name)
    return int(found[1]) if found else 0


def methfessel_paxton_name(order: int) -> str:
    """What a frame calls it; nothing for orders that nobody uses."""
    name = "gauss" if order == 0 else f"mp{order}"
    return name if is_smearing(name) else ""


def fermi_dirac(x: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(-x))


def gaussian(x: Array) -> Array:
    from scipy.special import erfc

    return np.asarray(erfc(x) / 2)


def methfessel_paxton(x: Array, order: int) -> Array:
    from scipy.special import eval_hermite, factorial

    weights = [(-1) ** n / (factorial(n) * 4**n * np.sqrt(np.pi)) for n in range(1, order + 1)]
    falling = np.exp(-np.minimum(x**2, 300))
    return gaussian(x) + sum(A * eval_hermite(2 * n - 1, x) for n, A in enumerate(weights, 1)) * falling


def marzari_vanderbilt(x: Array) -> Array:
    shifted = x + 1 / np.sqrt(2)
    return gaussian(shifted) + np.exp(-np.minimum(shifted**2, 300)) / np.sqrt(2 * np.pi)
