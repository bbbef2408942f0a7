"""The tools that are known, by the names of their formats on the command line, readable without importing what writes them."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.frames.frame import Frame
    from converters.starts.start import Options, Written

    Writer = Callable[[Frame, Path, Options], Written]


@dataclass(frozen=True)
class Tool:
    """A format, in words for people; `module` has the function `write`, `orthogonal` says that it holds no overlap."""

    name: str
    opened_by: str
    files: str
    module: str
    orthogonal: bool = False

    def load(self) -> "Writer":
        found: Any = import_module(f"converters.tools.{self.module}")
        writer: Writer = found.write
        return writer


ALL = (
    Tool(
        "wannier90",
        "what reads Wannier90's tight-binding files opens it: WannierTools, TB2J, pythtb, sisl",
        "`slem_hr.dat`, `slem_centres.xyz`, `slem.win`; `slem.up_hr.dat` and `slem.dn_hr.dat` with collinear spin",
        "wannier90",
        orthogonal=True,
    ),
    Tool("pythtb", "pythtb 1.8 and 2 open it", "`slem_pythtb.py`, `slem_pythtb.npz`", "pythtb", orthogonal=True),
    Tool("sisl", "sisl opens it", "`slem.nc`", "sisl_file"),
    Tool("npz", "numpy opens it", "`slem.npz`", "arrays"),
    Tool("petsc", "PETSc, SLEPc and petsc4py open it", "`H_complex.petsc`, `S_complex.petsc`", "petsc"),
)
TOOLS = {tool.name: tool for tool in ALL}
