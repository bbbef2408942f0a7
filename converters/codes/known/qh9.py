"""QH9: its record; a format of files that is only read."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code


def load() -> "Code":
    from converters import qh9

    return qh9


ABOUT = About(
    name="qh9",
    title="QH9",
    load=load,
    versions="stable, dynamic",
    reads="`.db`: H, and S is integrated",
    writes="",
    spins="none",
    layouts=("none",),
    operators=("H", "S"),
    kpoints="molecules",
    files=("*.db",),
    for_models=True,
)
