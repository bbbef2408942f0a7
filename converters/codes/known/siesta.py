"""SIESTA: its record."""

from typing import TYPE_CHECKING

from converters.codes.about import About
from converters.tools.tool import Tool

if TYPE_CHECKING:
    from converters.codes.protocols import Code, Restart


def load() -> "Code":
    from converters import siesta

    return siesta


def load_restart() -> "Restart":
    from converters.siesta import restart

    return restart


ABOUT = About(
    name="siesta",
    title="SIESTA",
    load=load,
    versions="4.1 to 5.4",
    reads="TSHS, HSX, nc, onlyS, DM, TSDE, H_DMGEN",
    writes="TSHS, onlyS, DM",
    spins="1, 2, 4, 8",
    layouts=("none", "collinear", "spinor"),
    kpoints="k mesh, Gamma without supercell",
    files=(
        *("*.TSHS", "*.DM", "*.HSX", "*.onlyS", "*.TSDE", "*.nc", "H_DMGEN", "H_MIXED"),
        *("*.ORB_INDX", "*.XV", "*.STRUCT_OUT", "*.EIG", "*.KP", "*.fdf", "*.out", "*.log", "OUTVARS.yml"),
    ),
    matrices_from="TS.HS.Save true",
    results=("*.DM", "*.TSHS", "*.HSX", "*.TSDE"),
    inputs=("*.fdf",),
    structures=r".*\.fdf",
    functions=(".ion.xml", ".ion.nc"),
    basis_files=(".ion.xml", ".ion.nc"),
    routes=("dm", "h2dm"),
    stop_at={
        "SCF.DM.Converge": "false",
        "SCF.H.Converge": "false",
        "SCF.FreeE.Converge": "true",
        "SCF.FreeE.Tolerance": "{eV:.3g} eV",
    },
    at_most={"MaxSCFIterations": "{n}", "SCF.MustConverge": "false"},
    tools=(Tool("tbtrans", "tbtrans and sisl open it", "`slem.TSHS`", "converters.siesta.transport"),),
    load_restart=load_restart,
)
