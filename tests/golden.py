"""Files of earlier versions that every later version reads: each function made its own, once.

A new version of the dataset or of the model gets golden files of its own beside these, which are never made again.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from basis.spin import Spin
from converters.frames.origin import FOLDED, FileForm, Made, Origin, Parts, Step, Treatment, scaled
from converters.storage.dataset import Dataset
from converters.storage.record import plain_origin
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import load_model, save_checkpoint
from slem_plugin.prediction import predict
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


def said(about):
    """What a frame says of where it is from."""
    form = {name: value for name, value in vars(about.form).items() if value is not None}
    return {
        "origins": {name: plain_origin(origin) for name, origin in about.origins.items()},
        "form": json.loads(json.dumps(form)),
        "predicted": about.predicted,
        "settings": dict(about.settings),
        "notes": list(about.notes),
    }


def make_dataset_2():
    """Version 2 says of each matrix where it is from."""
    treated = (FOLDED, scaled(13.6, "eV per Ry"), Treatment(Step.CONJUGATED, reason="the levels say so"))
    origins = {
        "H": Origin(Made.READ, ("H.csr",), treated[:2]),
        "S": Origin(Made.INTEGRATED, error=0.03),
        "DM": Origin(Made.READ, ("DM1.csr", "DM2.csr"), treated[2:], Parts.REAL_PAULI, doubt="symmetry 1"),
    }
    form = FileForm(13.6, 0.529, 8, (3, 3, 1), (2, 0, 0, 0, 2, 0, 0, 0, 1), (0.0, 0.0, 0.5), True)
    with DatasetWriter(GOLDEN / "dataset-2.h5") as writer:
        for n, frame in enumerate(golden_frames()):
            about = replace(frame.provenance, origins=origins, form=form, predicted=bool(n % 2))
            writer.append(replace(frame, provenance=about))
    with Dataset(GOLDEN / "dataset-2.h5") as data:
        facts = {"dataset": [facts_of(frame) for frame in data]}
        told = [said(frame.provenance) for frame in data]
    (GOLDEN / "facts-2.json").write_text(json.dumps(facts, indent=1) + "\n")
    (GOLDEN / "said-2.json").write_text(json.dumps(told, indent=1) + "\n")
    signs = {"dataset": [signed_elements_of(frame) for frame in golden_frames()]}
    (GOLDEN / "signs-2.json").write_text(json.dumps(signs) + "\n")


def make_version_1():
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
    facts["prediction"] = facts_of(predict(load_model(GOLDEN / "model-1.safetensors"), ATOMS))
    (GOLDEN / "facts-1.json").write_text(json.dumps(facts, indent=1) + "\n")
    make_signs()


def make_signs():
    """signs-1.json: of the dataset what went into it, not what is read from it; of the model what it predicts."""
    signs = {"dataset": [signed_elements_of(frame) for frame in golden_frames()]}
    signs["prediction"] = signed_elements_of(predict(load_model(GOLDEN / "model-1.safetensors"), ATOMS))
    (GOLDEN / "signs-1.json").write_text(json.dumps(signs) + "\n")
