"""nablaDFT: its record; a format of files that is only read."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code


def load() -> "Code":
    from converters import nabladft

    return nabladft


ABOUT = About(
    name="nabladft",
    title="nablaDFT",
    load=load,
    versions="2",
    reads="`.db`: H and S",
    writes="",
    spins="none",
    layouts=("none",),
    operators=("H", "S"),
    kpoints="molecules",
    files=("*.db",),
    for_models=True,
)
