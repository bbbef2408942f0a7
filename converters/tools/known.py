"""The tools that are known, by the names of their formats on the command line: those of everybody, and those that belong to a code."""

from converters.codes.known import KNOWN
from converters.tools.tool import Tool

ALL = (
    Tool(
        "wannier90",
        "what reads Wannier90's tight-binding files opens it: WannierTools, TB2J, pythtb, sisl",
        "`slem_hr.dat`, `slem_centres.xyz`, `slem.win`; `slem.up_hr.dat` and `slem.dn_hr.dat` with collinear spin",
        "converters.tools.wannier90",
        orthogonal=True,
    ),
    Tool(
        "pythtb",
        "pythtb 1.8 and 2 open it",
        "`slem_pythtb.py`, `slem_pythtb.npz`",
        "converters.tools.pythtb",
        orthogonal=True,
    ),
    Tool("sisl", "sisl opens it", "`slem.nc`", "converters.tools.sisl_file"),
    Tool("npz", "numpy opens it", "`slem.npz`", "converters.tools.arrays"),
    Tool(
        "petsc", "PETSc, SLEPc and petsc4py open it", "`H_complex.petsc`, `S_complex.petsc`", "converters.tools.petsc"
    ),
)
TOOLS = {tool.name: tool for tool in (*ALL, *(tool for about in KNOWN.values() for tool in about.tools))}
