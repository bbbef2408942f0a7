"""The vocabulary: units, orbital shells, conventions, rotations, couplings and spin.

Index letters carry shapes in every layer:

    a  atom                 i, j  the two atoms of a pair
    p  pair (i, j, R)       x     matrix element of a frame (all blocks, row-major, one after the other)
    c  lattice axis         v     Cartesian axis
    k  k-point              n     band
    s  spin component       M     orbital of the cell (SM: spin-orbital)
    m  orbital of a shell   u     orbital of an atom

so `R_pc` holds the lattice vector of each pair and `H_sx` the elements of H of each spin component.
"""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
