"""DeePTB: its record; a format of files, which no code starts from."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code


def load() -> "Code":
    from converters import deeptb

    return deeptb


ABOUT = About(
    name="deeptb",
    title="DeePTB",
    load=load,
    versions="(dftio)",
    reads="folders of `hamiltonians.h5`, `overlaps.h5`, `density_matrices.h5`",
    writes="the same",
    spins="none, spinor",
    layouts=("none", "spinor"),
    kpoints="real space alone",
    files=("*.h5", "*.dat", "*.traj", "info.json"),
    for_models=True,
)
