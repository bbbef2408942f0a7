"""PySCF: its record."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code, Script


def load() -> "Code":
    from converters import pyscf

    return pyscf


def load_script() -> "Script":
    from converters.pyscf import restart

    return restart


ABOUT = About(
    name="pyscf",
    title="PySCF",
    load=load,
    versions="1 and 2",
    reads="SCF objects, checkpoint files (with the log beside them); molecules and crystals",
    writes="checkpoint file, `dm0`",
    spins="RHF RKS ROHF UHF UKS GHF GKS",
    layouts=("none", "collinear", "spinor"),
    kpoints="k mesh, Gamma, molecules",
    files=("*.chk", "*.log"),
    results=("*.chk",),
    inputs=("*.py",),
    functions=("a Gaussian basis",),
    routes=("dm", "h"),
    load_script=load_script,
)
