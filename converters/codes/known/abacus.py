"""ABACUS: its record."""

from typing import TYPE_CHECKING

from converters.codes.about import About

if TYPE_CHECKING:
    from converters.codes.protocols import Code, Restart


def load() -> "Code":
    from converters import abacus

    return abacus


def load_restart() -> "Restart":
    from converters.abacus import restart

    return restart


ABOUT = About(
    name="abacus",
    title="ABACUS",
    load=load,
    versions="3.8 to 3.11",
    reads="`*_nao.csr`, `.dat`, `.npz`, `data-*-sparse*.csr`, gamma_only, ionic steps",
    writes="the same CSR files, 3.11 or 3.8; charge cubes",
    spins="1, 2, 4",
    layouts=("none", "collinear", "spinor"),
    kpoints="k mesh, gamma_only",
    files=("*.csr", "*.dat", "*.npz", "*.txt", "*.log", "INPUT", "STRU", "KPT", "MD_dump"),
    results=("OUT.*",),
    inputs=("INPUT",),
    # What its users call structure files: STRU, STRU_ION3_D, STRU-relaxed, si.stru; not structure.cif or STRU_NOW.cif.
    structures=r"STRU([-_\d][^.]*)?|.*\.stru",
    functions=(".orb",),
    basis_files=(".orb",),
    grid="points of the FFT grid; default: those of the run",
    routes=("dm", "h", "h2dm", "charge"),
    stop_at={"scf_thr": "1e-2", "scf_ene_thr": "{eV:.3g}"},
    at_most={"scf_nmax": "{n}"},
    load_restart=load_restart,
)
