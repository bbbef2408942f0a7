"""The record of a code: what it can do, readable without importing what does it.

The search, the command line, `slem-scf` and the tables of the documentation are fed from these records alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converters.tools.tool import Tool

if TYPE_CHECKING:
    from converters.codes.protocols import Code, Restart, Script


@dataclass(frozen=True)
class About:
    """What a code can do, in names of files (patterns such as "*.fdf") and in words for people.

    `load` gives the modules that do it. A code whose runs can be started has `load_restart`, one whose runs are scripts of the user
    `load_script`; a format without a code has neither.
    """

    name: str  # on the command line
    title: str
    load: "Callable[[], Code]"
    versions: str  # of which files are read
    reads: str
    writes: str
    spins: str  # in the code's own words
    layouts: tuple[str, ...]  # the values of basis.spin.Spin
    operators: tuple[str, ...] = ("H", "S", "DM")
    kpoints: str = "k mesh"
    for_models: bool = False  # data from which models learn, and not the files of a code
    files: tuple[str, ...] = ()  # that are read of a run
    matrices_from: str = ""  # what an input needs so that its run leaves them
    results: tuple[str, ...] = ()  # that a run leaves and a copy of it must not start from, besides its logs
    inputs: tuple[str, ...] = ()  # of runs that are to start
    structures: str = ""  # regular expression of the names of structure files that this code alone writes
    functions: tuple[str, ...] = ()  # radial functions, as --basis is given them
    basis_files: tuple[str, ...] = ()  # of radial functions, that are looked for in --basis-dir
    grid: str = ""  # points in space that can be asked for
    routes: tuple[str, ...] = ()  # what its runs can start from
    # Lines of the input with which an SCF ends once its energy changes by less than {eV} or {hartree}.
    stop_at: "Mapping[str, str]" = field(default_factory=dict)
    at_most: "Mapping[str, str]" = field(default_factory=dict)  # the same, after {n} iterations at the latest
    tools: tuple[Tool, ...] = ()  # formats of its own tools, which do no SCF
    load_restart: "Callable[[], Restart] | None" = None
    load_script: "Callable[[], Script] | None" = None
