"""One line for a script: the density from which an SCF object of PySCF should start."""

import os
from pathlib import Path
from typing import Any

from basis import Array
from converters.frames.neighbours import Structure
from converters.pyscf.start import announce, guess_density, refuse_guess, structure_of
from converters.starts.start import MODEL_VARIABLE
from slem_plugin.checkpoint import cached_model
from slem_plugin.model import Model
from slem_plugin.prediction import predict


def pyscf_guess(
    mf: Any, model: Model | str | Path | None = None, route: str = "auto", *, guard: bool = True
) -> Array | None:
    """`dm0` for `mf.kernel(dm0)`: what the model predicts for the atoms of an SCF object, as a proper density matrix.

    Without a model it is the one that the environment variable SLEM_MODEL names. None, which is PySCF's own start, where
    there is none, and with `guard` where the prediction is no density: then the atoms are unlike those that were learned.

    >>> mf.kernel(dm0=pyscf_guess(mf, "model"))
    """
    source = model if model is not None else os.environ.get(MODEL_VARIABLE)
    if source is None:
        return None
    known = source if isinstance(source, Model) else cached_model(source)
    frame = predict(known, Structure(*structure_of(mf, known.blueprint.basis)))
    dm0, density, reason = guess_density(mf, frame, route)
    if guard and reason:
        refuse_guess(mf, reason)
        return None
    announce(mf, density)
    return dm0
