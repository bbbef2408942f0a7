"""Data sets of pickled Python objects: HamGNN's graph_data.npz, LMDB folders of QH9, DeePTB and HamGNN. They are never read.

Reading a pickle runs whatever program its author put there.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters.codes.readonly import find_functions, read_functions, refuse_to_write
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame

__all__ = ["find_functions", "find_runs", "read_functions", "read_run", "write_matrices"]

NAME = "hamgnn"
write_matrices = refuse_to_write("HamGNN")


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """A run for each file of this kind, so that somebody hears why it is not read."""
    for path in files:
        if path.name == "data.mdb" or (path.suffix == ".npz" and is_pickled_graph(path)):
            yield Run(NAME, folder, (path,))


def is_pickled_graph(path: Path) -> bool:
    """Whether an npz file has an array "graph" of Python objects."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("graph.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return bool(read(stream)[2].hasobject)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False


def read_run(run: Run) -> Iterator[Frame]:
    """Refuses it, with the way around."""
    reason = "holds pickled Python objects, which can run any program when they are read"
    ways = {
        ".npz": "the run folders of OpenMX, SIESTA or ABACUS that the graphs were made of",
        ".mdb": "run folders, QH9's .db, or dftio's folders (-f dat)",
    }
    raise Refused(Kind.UNSUPPORTED, run.main, reason, ways[run.main.suffix])
