"""One line for a script: the density from which an SCF object of PySCF should start."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basis import Array
from converters.errors import Refused
from converters.frames.frame import Frame
from converters.pyscf.dm0 import announce, atoms_of, guess_density, refuse_guess, structure_of, with_orbitals
from converters.pyscf.molecule import make_basis
from converters.starts.asking import ask_for_frame
from converters.starts.start import EARLIER_RUNS, MODEL_VARIABLE

if TYPE_CHECKING:
    from slem_plugin.model import Model


def pyscf_guess(
    mf: Any, model: "Model | str | Path | None" = None, route: str = "auto", *, guard: bool = True
) -> Array | None:
    """`dm0` for `mf.kernel(dm0)`: what the model predicts for the atoms of an SCF object, as a proper density matrix.

    Without a model it is the one that the environment variable SLEM_MODEL names. None, which is PySCF's own start, where
    there is none, and with `guard` where the prediction is no density: then the atoms are unlike those that were learned.

    >>> mf.kernel(dm0=pyscf_guess(mf, "model"))
    """
    source = model if model is not None else os.environ.get(MODEL_VARIABLE)
    if source is None:
        return None
    frame = None
    if model is None:
        try:
            frame = ask_for_frame(*atoms_of(mf), *make_basis(mf.mol))
        except Refused as refusal:
            refuse_guess(mf, str(refusal))
            return None
    if frame is None and source == EARLIER_RUNS:  # whoever knew them has ended
        return None
    if frame is None:
        frame = predicted(mf, source)
    dm0, density, reason = guess_density(mf, frame, route)
    if guard and reason:
        refuse_guess(mf, reason)
        return None
    announce(mf, density)
    return with_orbitals(mf, dm0)


def predicted(mf: Any, source: "Model | str | Path") -> Frame:
    """What a model in this process says; its import takes seconds and is left to those who need it."""
    from converters.frames.neighbours import Structure
    from slem_plugin.checkpoint import cached_model
    from slem_plugin.prediction import predict

    known = cached_model(source) if isinstance(source, str | Path) else source
    return predict(known, Structure(*structure_of(mf, known.blueprint.basis)))
