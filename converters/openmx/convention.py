"""What OpenMX's files mean: its Bohr radius and its order of orbitals."""

from collections.abc import Sequence

from basis.spin import Spin

# OpenMX converts between Angstrom and Bohr with this number.
BOHR = 0.529177249

# Spin layouts, by SpinP_switch.
LAYOUT = {0: Spin.NONE, 1: Spin.COLLINEAR, 3: Spin.SPINOR}

# All functions are positive; l > 3 does not exist in the code.
ORDER = {
    0: ("c0",),
    1: ("c1", "s1", "c0"),
    2: ("c0", "c2", "s2", "c1", "s1"),
    3: ("c0", "c1", "s1", "c2", "s2", "c3", "s3"),
}


def convention(l: int) -> Sequence[str]:
    """p = x, y, z; d = z2, x2-y2, xy, xz, yz; f likewise."""
    if l not in ORDER:
        raise ValueError(f"OpenMX has no orbitals with l = {l}; at most f (l = 3)")
    return ORDER[l]
