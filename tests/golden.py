"""Files of version 1 that every later version reads: `python -m tests.golden` made them, once.

A new version of the dataset or of the model gets golden files of its own beside these, which are never made again.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from basis.spin import Spin
from converters.storage.dataset import Dataset, DatasetWriter
from slem_plugin.checkpoint import load_model, save_checkpoint
from tests.conftest import make_random_frame

GOLDEN = Path(__file__).parent / "data" / "golden"
ATOMS = Atoms("SiOSi", [[0, 0, 0], [0, 0.3, 1.6], [1.9, 0, 0.4]], cell=[5, 5, 6], pbc=[True, True, False])


def facts_of(frame):
    """Numbers that say whether a frame is the same: of each operator its size, its norm, and some elements."""
    facts = {"formula": frame.formula, "spin": str(frame.spin), "pairs": len(frame.pairs), "folded": frame.folded}
    facts |= {"positions": frame.positions_av.tolist(), "species": [str(species) for species in frame.basis]}
    for name, operator in sorted(frame.operators.items()):
        values = np.abs(operator.values_sx.ravel())
        some = values[:: max(1, values.size // 20)]
        known = None if operator.known_x is None else int(operator.known_x.sum())
        facts[name] = {
            "size": values.size,
            "norm": float(np.sqrt((values**2).sum())),
            "some": some.tolist(),
            "known": known,
        }
    return facts


def signed_elements_of(frame):
    """Real and imaginary parts of some elements of each operator, which say what norms do not: signs, phases and places."""
    elements = {}
    for name, operator in sorted(frame.operators.items()):
        values = operator.values_sx.ravel()
        some = values[:: max(1, values.size // 20)]
        elements[name] = np.column_stack([some.real, some.imag]).tolist()
    return elements


def golden_frames():
    """The frames of the dataset, as they were before they were written."""
    from tests.test_overlap import frame_with_functions

    yield frame_with_functions(1)
    for n, spin in enumerate(Spin):
        yield replace(make_random_frame(n + 2, spin, masked=True), folded=bool(n % 2))


def make_golden():
    from tests.test_exact_overlap import model_that_knows

    GOLDEN.mkdir(parents=True)
    with DatasetWriter(GOLDEN / "dataset-1.h5") as writer:
        for frame in golden_frames():
            writer.append(frame)
    model_path, _ = model_that_knows(GOLDEN, 1.0, channels="4x0e+2x1o+2x2e", latent=8, waves=4, layers=1)
    save_checkpoint(GOLDEN / "model-1.safetensors", load_model(model_path))
    for path in GOLDEN.glob("[kl]*.safetensors"):
        path.unlink()
    with Dataset(GOLDEN / "dataset-1.h5") as data:
        facts = {"dataset": [facts_of(frame) for frame in data]}
    facts["prediction"] = facts_of(load_model(GOLDEN / "model-1.safetensors").predict(ATOMS))
    (GOLDEN / "facts-1.json").write_text(json.dumps(facts, indent=1) + "\n")
    make_signs()


def make_signs():
    """signs-1.json: of the dataset what went into it, not what is read from it; of the model what it predicts."""
    signs = {"dataset": [signed_elements_of(frame) for frame in golden_frames()]}
    signs["prediction"] = signed_elements_of(load_model(GOLDEN / "model-1.safetensors").predict(ATOMS))
    (GOLDEN / "signs-1.json").write_text(json.dumps(signs) + "\n")


if __name__ == "__main__":
    make_golden()
