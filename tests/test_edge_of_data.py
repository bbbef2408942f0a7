"""A little beyond the distances of the data a model is a little worse, and not worth nothing."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pyscf import gto, scf

from converters.frames.neighbours import structure_of
from converters.pyscf import frame_from_scf
from slem_plugin.config import Config
from slem_plugin.graphs.graph import BEYOND
from slem_plugin.learning.lessons import Lessons
from slem_plugin.learning.loop import train
from slem_plugin.learning.samples import make_model
from slem_plugin.network.layers import LEVEL, envelope, levelled
from slem_plugin.prediction import predict

FARTHEST_OH, FARTHEST_HH = 1.05, 1.70
# As in molecular dynamics; two molecules are the edge of what is learned.
random = np.random.default_rng(5)
LEARNED = [
    (FARTHEST_OH, 0.95, 1.55),
    (0.97, 0.99, FARTHEST_HH),
    *zip(random.uniform(0.91, 1.04, 14), random.uniform(0.91, 1.04, 14), random.uniform(1.4, 1.68, 14), strict=True),
]
BEYOND_DATA = [0.02, 0.06, 0.15]


def water(first, second, between):
    """A molecule of water with these three distances, solved by PySCF."""
    angle = np.arccos((first**2 + second**2 - between**2) / (2 * first * second))
    atoms = [
        ("O", (0, 0, 0)),
        ("H", (first, 0, 0)),
        ("H", (second * np.cos(angle), second * np.sin(angle), 0)),
    ]
    mf = scf.RHF(gto.M(atom=atoms, basis="sto-3g", verbose=0))
    mf.kernel()
    return frame_from_scf(mf)


def error(model, frame):
    found = predict(model, structure_of(frame)).operators["H"].values_sx
    return float(np.abs(found - frame.operators["H"].values_sx).mean())


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A small model of water."""
    keys = {"channels": "12x0e+8x1o+4x2e", "operators": "H", "rate": 0.01}
    config = Config(layers=2, time="0", steps=100, evaluations=1, seed=1, **keys)
    frames = [water(*distances) for distances in LEARNED]
    model = make_model(frames, config)
    with Lessons(frames, ["water"] * len(frames), model, memory=1e9, workers=0) as lessons:
        folder = tmp_path_factory.mktemp("edge")
        return train(model, lessons, frames[:3], folder, config, None, lambda *_: None, lambda _: None)


@pytest.mark.parametrize("which", ["O-H", "H-H"])
def test_errors_grow_smoothly_beyond_the_distances_of_the_data(learned, which):
    def frame(more):
        return water(0.96, FARTHEST_OH + more, 1.55) if which == "O-H" else water(0.97, 0.99, FARTHEST_HH + more)

    frames = [frame(more) for more in (0.0, *BEYOND_DATA)]
    errors = [error(learned, one) for one in frames]
    assert max(errors[:3]) < 10 * errors[0]
    assert all(after < 4 * before for before, after in pairwise(errors))


def test_atoms_hear_each_other_beyond_the_data_and_distances_there_are_no_surprise(learned):
    distances = learned.network.trunk.distances
    far = distances.far_ss[0, 1]
    assert abs(float(far) - FARTHEST_OH) < 1e-6
    assert float(distances.end_of_messages[0, 1]) == pytest.approx(FARTHEST_OH + BEYOND)
    # Weights at the edge of the data and 0.15 Angstrom beyond; once they were 0.0005 and 0.
    edge, beyond = envelope(torch.stack([far, far + 0.15]) / distances.end_of_messages[0, 1])
    assert 0.2 < beyond < edge < 1
    r_e = torch.linspace(0.3, 3.0, 2701, dtype=torch.float64)
    near_e, far_e = torch.full_like(r_e, 0.9), torch.full_like(r_e, 1.05)
    level_e = levelled(r_e, near_e, far_e)
    inside = (r_e > 0.9) & (r_e < 1.05)
    assert torch.equal(level_e[inside], r_e[inside])
    assert 0.9 - LEVEL <= level_e.min() < level_e.max() <= 1.05 + LEVEL
    assert level_e.diff().min() >= 0
    assert level_e.diff(n=2).abs().max() < 1e-4  # of steps of 1e-3
