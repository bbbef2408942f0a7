"""HamGNN: its record; a format of files that is recognised, and never read."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code


def load() -> "Code":
    from converters import hamgnn

    return hamgnn


ABOUT = About(
    name="hamgnn",
    title="HamGNN",
    load=load,
    versions="",
    reads="nothing: its graphs are pickles",
    writes="",
    spins="",
    layouts=(),
    operators=(),
    kpoints="",
    files=("*.npz", "data.mdb"),
    for_models=True,
)
