"""The model: what symmetry and locality demand, saving and loading, and what is refused."""

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from basis.spin import Spin
from converters.errors import Refused
from converters.starts.start import Target
from slem_plugin.checkpoint import load_model, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.samples import make_model
from slem_plugin.network import surroundings
from slem_plugin.network.kinds import KINDS
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from slem_plugin.testing.networks import NetworkContract
from tests.linear_network import LinearNetwork

KINDS["linear"] = LinearNetwork


class TestSlem(NetworkContract):
    kind = "slem"

    def config(self, basis, layers):
        channels = "6x0e+2x0o+4x1o+2x1e+3x2e+1x2o+2x3o+1x3e+2x4e+1x4o+1x5o+1x6e+1x7o+1x8e"
        return replace(super().config(basis, layers), channels=channels if basis[0].size >= 14 else "")


class TestSlemByTables(TestSlem):
    """The way of atoms with many bonds, for those few."""

    @pytest.fixture(autouse=True)
    def few_are_many(self, monkeypatch):
        monkeypatch.setattr(surroundings, "MANY_BONDS", 0)


class TestApart(NetworkContract):
    """A network for each operator."""

    kind = "apart"


class TestLinear(NetworkContract):
    """Another family proves that nothing asks for more than the three methods."""

    kind = "linear"


def small_model():
    frames = [made_frame(random_structure(seed), two_species("1s1p"), Spin.NONE, seed=seed) for seed in range(2)]
    return make_model(frames, Config(channels="8x0e+4x1o+4x2e", layers=1, latent=16, waves=6))


def test_lonely_atoms_have_their_onsite_block():
    model = small_model()
    for atoms in (Atoms("Si"), Atoms("SiO", [[0, 0, 0], [0, 0, 50.0]]), Atoms("O", cell=[40, 40, 40], pbc=True)):
        frame = predict(model, atoms)
        assert len(frame.pairs) == len(atoms)
        assert np.isfinite(frame.operators["H"].values_sx).all()


def test_one_species_of_two_is_enough():
    frame = predict(small_model(), Atoms("O3", [[0, 0, 0], [0, 0, 1.9], [0, 1.8, 0.3]]))
    assert len(frame.pairs) == 6


def test_sublattices_with_opposite_moments_are_told_apart_by_their_names():
    """Names come with the atoms, as those of a run's input do; without them, or with others, nothing is guessed."""
    model, atoms = small_model(), Atoms("Si2", [[0, 0, 0], [0, 0, 2.0]])
    up, down = (replace(model.blueprint.basis[0], name=name) for name in ("Si1", "Si2"))
    model.blueprint = replace(model.blueprint, basis=(up, down))
    with pytest.raises(Refused, match='has no "labels"'):
        model.structure(atoms)
    for labels, words in ((["Si2", "Si1"], ""), (["Si1", "Si3"], "has Si3; this model knows Si1, Si2")):
        run = Target("", Path(), np.eye(3), atoms.positions, tuple(labels), atoms.numbers, {}, Spin.NONE)
        if words:
            with pytest.raises(Refused, match=words):
                model.structure(run.atoms)
        else:
            assert model.structure(run.atoms).species_a.tolist() == [1, 0]
    atoms.numbers[0] = 8
    atoms.set_array("labels", np.array(["Si1", "Si2"]))
    with pytest.raises(Refused, match="other elements"):
        model.structure(atoms)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms("SiO", [[0, 0, 1], [0, 0, 1]]), "atoms 0 and 1"),
        (Atoms("Si", [[np.nan, 0, 0]]), "not finite"),
        (Atoms("Si", [[1e300, 0, 0]]), "not finite"),
        (Atoms("Si", pbc=True), "no cell vector"),
        (Atoms(), "no atoms"),
        (Atoms("HeSi", [[0, 0, 0], [0, 0, 2]]), "has He; this model knows Si, O"),
    ],
)
def test_senseless_structures_are_refused(atoms, words):
    with pytest.raises(Refused, match=words):
        predict(small_model(), atoms)


def test_a_model_is_as_readable_as_other_files(tmp_path):
    (tmp_path / "other").touch()
    save_checkpoint(tmp_path / "model.safetensors", small_model())
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_one_changed_bit_of_a_model_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, small_model())
    raw = bytearray(path.read_bytes())
    for place in (len(raw) - 5, len(raw) // 2):
        raw[place] ^= 8
        path.write_bytes(raw)
        with pytest.raises(Refused, match="its numbers are not those that were written"):
            load_model(path)
        raw[place] ^= 8
    path.write_bytes(raw)
    load_model(path)


# Asks for 60 MB and gives them back, ten times; prints how many pages the kernel had to clear after the first time.
AGAIN_AND_AGAIN = """
import resource, sys
import numpy as np
from slem_plugin.kept_memory import keep_memory
keep_memory()
def cleared():
    sum(float(x.sum()) for x in [np.ones(2_500_000) for _ in range(3)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = cleared()
for _ in range(9):
    last = cleared()
print(last - first)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_memory_is_kept_for_what_comes_next():
    def cleared(**environment):
        done = subprocess.run(
            [sys.executable, "-c", AGAIN_AND_AGAIN], env=os.environ | environment, capture_output=True, check=True
        )
        return int(done.stdout)

    assert cleared() < 500
    assert cleared(MALLOC_TRIM_THRESHOLD_="131072") > 5000  # what a user sets stays
