"""DeepH: its record; a format of files, which no code starts from."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code


def load() -> "Code":
    from converters import deeph

    return deeph


ABOUT = About(
    name="deeph",
    title="DeepH",
    load=load,
    versions="older and 2026",
    reads="both folder layouts",
    writes="both",
    spins="none, spinor",
    layouts=("none", "spinor"),
    kpoints="real space alone",
    files=("*.h5", "*.json", "*.dat", "POSCAR"),
    for_models=True,
)
