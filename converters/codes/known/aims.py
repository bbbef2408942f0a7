"""FHI-aims: its record."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code


def load() -> "Code":
    from converters import aims

    return aims


ABOUT = About(
    name="aims",
    title="FHI-aims",
    load=load,
    versions="240920 to 260110",
    reads="`rs_*.out`, `rs_*.h5`, `hamiltonian.out`",
    writes="",
    spins="none, collinear",
    layouts=("none", "collinear"),
    operators=("H", "S"),
    kpoints="real space, molecules",
    files=("*.out", "*.log", "rs_*.h5", "geometry.in", "control.in"),
)
