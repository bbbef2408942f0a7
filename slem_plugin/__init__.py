"""The model: SLEM, a strictly local network that is exact under O(3), for H, S and DM of any basis and spin.

>>> from slem_plugin import load_model, predict
>>> frame = predict(load_model("model/"), atoms)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slem_plugin.checkpoint import load_model as load_model
    from slem_plugin.prediction import predict as predict
    from slem_plugin.pyscf_start import pyscf_guess as pyscf_guess


def __getattr__(name: str) -> object:
    # Torch takes a second to import: it is asked for when a model is.
    if name == "load_model":
        from slem_plugin.checkpoint import load_model

        return load_model
    if name == "predict":
        from slem_plugin.prediction import predict

        return predict
    if name == "pyscf_guess":
        from slem_plugin.pyscf_start import pyscf_guess

        return pyscf_guess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
