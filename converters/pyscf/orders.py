"""Orders and signs of orbitals in the matrices that programs of quantum chemistry print or that people keep of them."""

from collections.abc import Sequence

from basis.conventions import Convention, standard
from converters.errors import Kind, Refused
from converters.pyscf.molecule import convention as pyscf


def psi4(l: int) -> Sequence[str]:
    """0, +1, -1, +2, -2 ..., all positive; p = z, x, y."""
    return ["c0", *(label for m in range(1, l + 1) for label in (f"c{m}", f"s{m}"))]


def orca(l: int) -> Sequence[str]:
    """The order of Psi4; functions with |m| = 3 and 4 are the negative ones."""
    return [f"-{label}" if label[1:] in ("3", "4") else label for label in psi4(l)]


def gaussian(l: int) -> Sequence[str]:
    """p = x, y, z, and the order of Psi4 from d on."""
    return pyscf(l) if l == 1 else psi4(l)


# Inside a shell; the shells of an atom are in the order of its basis, the atoms in that of the structure.
ORDERS: dict[str, Convention] = {"slem": standard, "pyscf": pyscf, "psi4": psi4, "orca": orca, "gaussian": gaussian}


def order_named(name: str) -> Convention:
    if name not in ORDERS:
        raise Refused(Kind.NO_SUCH_CHOICE, "order of orbitals", f'is "{name}"', " or ".join(ORDERS))
    return ORDERS[name]
