"""OpenMX: its record."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code, Restart


def load() -> "Code":
    from converters import openmx

    return openmx


def load_restart() -> "Restart":
    from converters.openmx import restart

    return restart


ABOUT = About(
    name="openmx",
    title="OpenMX",
    load=load,
    versions="3.8, 3.9",
    reads="`.scfout`",
    writes="`.scfout`, restart folder with H (rst) or density (crst)",
    spins="off, on, nc, SOC",
    layouts=("none", "collinear", "spinor"),
    kpoints="k mesh, cluster",
    files=("*.scfout", "*.out"),
    matrices_from="HS.fileout on",
    results=("*_rst", "*.scfout"),
    inputs=("*.dat",),
    structures=r".*\.dat",
    functions=("PAO/Si7.0-s2p2d1",),
    basis_files=(".pao",),
    routes=("charge", "h2dm", "h"),
    stop_at={"scf.criterion": "{hartree:.3g}"},
    at_most={"scf.maxIter": "{n}"},
    load_restart=load_restart,
)
