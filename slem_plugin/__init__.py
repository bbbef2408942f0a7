"""SLEM: learned H, S and DM for DFT codes. This is the public face, and what it names is kept stable.

>>> import slem_plugin as slem
>>> frame = slem.predict("model", "structure.cif")
>>> slem.export(frame, "start", into="run")

Each name is imported when it is first used, so that torch is not loaded before a model is. The face alone looks over all rooms; no room
looks at it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.errors import Kind as Kind
    from converters.errors import Refused as Refused
    from converters.frames.frame import Frame as Frame
    from converters.physics.populations import populations as populations
    from converters.pyscf import frame_from_scf as frame_from_scf
    from converters.pyscf.arrays import frame_from_matrices as frame_from_matrices
    from converters.pyscf.arrays import matrices_of as matrices_of
    from converters.pyscf.calculator import PySCF as PySCF
    from converters.storage.dataset import Dataset as Dataset
    from converters.storage.writer import DatasetWriter as DatasetWriter
    from slem_plugin.checkpoint import load_model as load_model
    from slem_plugin.e3nn_blocks import from_e3nn as from_e3nn
    from slem_plugin.e3nn_blocks import to_e3nn as to_e3nn
    from slem_plugin.pyscf_start import pyscf_guess as pyscf_guess
    from slem_plugin.tensors import to_torch as to_torch
    from workflows.api import bands as bands
    from workflows.api import check as check
    from workflows.api import convert as convert
    from workflows.api import export as export
    from workflows.api import predict as predict
    from workflows.api import read as read
    from workflows.api import train as train
    from workflows.calculators.learning import Learning as Learning
    from workflows.calculators.predicted import Predicted as Predicted

# Where each name is defined; the imports above say the same to type checkers and editors.
HOMES = {
    "Dataset": "converters.storage.dataset",
    "DatasetWriter": "converters.storage.writer",
    "Frame": "converters.frames.frame",
    "Kind": "converters.errors",
    "Learning": "workflows.calculators.learning",
    "Predicted": "workflows.calculators.predicted",
    "PySCF": "converters.pyscf.calculator",
    "Refused": "converters.errors",
    "bands": "workflows.api",
    "check": "workflows.api",
    "convert": "workflows.api",
    "export": "workflows.api",
    "frame_from_matrices": "converters.pyscf.arrays",
    "frame_from_scf": "converters.pyscf",
    "from_e3nn": "slem_plugin.e3nn_blocks",
    "load_model": "slem_plugin.checkpoint",
    "matrices_of": "converters.pyscf.arrays",
    "populations": "converters.physics.populations",
    "predict": "workflows.api",
    "pyscf_guess": "slem_plugin.pyscf_start",
    "read": "workflows.api",
    "to_e3nn": "slem_plugin.e3nn_blocks",
    "to_torch": "slem_plugin.tensors",
    "train": "workflows.api",
}


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
