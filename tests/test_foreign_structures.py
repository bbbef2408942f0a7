"""What a model says of structures unlike those it learned: other sizes, other meshes, other numbers of atoms."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import gto, scf
from pyscf.pbc import dft as pbc_dft

from converters.errors import Refused
from converters.frames.neighbours import Structure
from converters.physics import kspace
from converters.pyscf import frame_from_scf
from converters.pyscf.dm0 import structure_of
from converters.starts.density import operator_on_mesh
from slem_plugin import pyscf_guess
from slem_plugin.config import Config
from slem_plugin.learning.lessons import Lessons
from slem_plugin.learning.loop import train
from slem_plugin.learning.samples import make_model
from slem_plugin.learning.survey import Survey, require_same_kind
from slem_plugin.prediction import predict
from tests.test_pyscf import COMPACT, lithium_hydride


def trained(frames, folder, **keys):
    config = Config(**{"channels": "12x0e+8x1o+4x2e", "layers": 2, "time": "0", "steps": 150, "rate": 0.01, **keys})
    model = make_model(frames, config)
    model.history["config"] = vars(config)
    folder.mkdir(exist_ok=True)
    with Lessons(frames, ["frame"] * len(frames), model, memory=1e9, workers=0) as lessons:
        return train(model, lessons, frames[:1], folder, config, None, lambda *_: None, lambda _: None)


def water_frame(seed):
    atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(seed).normal(0, 0.05, (3, 3))
    mf = scf.RHF(gto.M(atom=list(zip("OHH", atoms.positions.tolist(), strict=True)), basis="sto-3g", verbose=0))
    mf.kernel()
    return frame_from_scf(mf)


@pytest.fixture(scope="module")
def water_model(tmp_path_factory):
    return trained([water_frame(seed) for seed in range(6)], tmp_path_factory.mktemp("water") / "model", steps=80)


def test_many_more_neighbours_do_not_make_matrices_of_any_size(water_model):
    """A block of 27 molecules, of which the model has seen one at a time."""
    one = molecule("H2O")
    places = np.stack(np.meshgrid(*[np.arange(3) * 2.9] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cluster = Atoms("OHH" * 27, np.concatenate([one.positions + place for place in places]))
    sizes = {}
    for key, atoms in (("one", one), ("many", cluster)):
        frame = predict(water_model, atoms)
        sizes[key] = {name: np.abs(operator.values_sx).max() for name, operator in frame.operators.items()}
    for name in ("H", "DM"):
        assert sizes["many"][name] < 5 * sizes["one"][name], name


def test_atoms_far_apart_do_not_hear_each_other(water_model):
    """A little beyond the farthest distance in the data nothing is known: two distant molecules are two single ones."""
    one, far = molecule("H2O"), molecule("H2O")
    far.positions += [0.0, 0.0, 2.5]
    alone, both = predict(water_model, one), predict(water_model, one + far)
    for name in ("H", "DM"):
        first = [both.block_of_pair(name, p) for p in np.flatnonzero(both.pairs.j_p < 3)]
        expected = [alone.block_of_pair(name, p) for p in range(len(alone.pairs))]
        onsite = max(np.abs(a - b).max() for a, b in zip(first, expected, strict=True))
        assert onsite < 0.2 * max(np.abs(block).max() for block in expected)


def test_electrons_are_known_where_the_data_determines_them(water_model):
    assert predict(water_model, molecule("H2O")).outcome.electrons == 10
    two = molecule("H2O")
    two.positions += [0, 0, 3]
    assert predict(water_model, molecule("H2O") + two).outcome.electrons == 20
    assert predict(water_model, Atoms("OH", [[0, 0, 0], [0, 0, 1]])).outcome.electrons is None
    assert Survey.of([]).electrons() == []


def hydride_frame(seed, mesh=(2, 1, 1)):
    # s functions alone: the few atoms that folded blocks know lie in a plane, which p functions out of it would have to break.
    cell, kpts = lithium_hydride(mesh, {"Li": COMPACT["Li"][:1], "H": COMPACT["H"]})
    moved = cell.copy()
    coordinates = cell.atom_coords("Angstrom") + np.random.default_rng(seed).normal(0, 0.025, (2, 3))
    moved = moved.set_geom_(coordinates, unit="Angstrom", inplace=False)
    mf = pbc_dft.KRKS(moved, kpts, xc="lda")
    mf.kernel()
    return mf, frame_from_scf(mf)


def test_folded_blocks_are_learned_for_their_mesh(tmp_path):
    runs = [hydride_frame(seed) for seed in range(3)]
    frames = [frame for _, frame in runs]
    assert all(frame.folded for frame in frames)
    model = trained(frames, tmp_path / "model", steps=60)
    assert model.blueprint.mesh == (2, 1, 1)
    mf, reference = runs[0]
    frame = predict(model, Structure(*structure_of(mf, model.blueprint.basis)))
    assert frame.folded
    assert kspace.count_electrons(frame).sum() == pytest.approx(4, abs=0.05)
    for name, limit in (("H", 0.5), ("DM", 0.05)):
        both = (list(operator_on_mesh(one, name, reference.spectrum.kpoints_kc)) for one in (frame, reference))
        worst = max(np.abs(a[0] - b[0]).max() for a, b in zip(*both, strict=True))
        assert worst < limit, name
    dm0 = pyscf_guess(mf, model)
    assert dm0.shape == np.shape(mf.make_rdm1())
    other = pbc_dft.KRKS(mf.cell, mf.cell.make_kpts([1, 2, 1]), xc="lda")
    with pytest.raises(Refused, match="k mesh"):
        pyscf_guess(other, model)
    with pytest.raises(Refused, match="folded over"):
        require_same_kind([frames[0], hydride_frame(0, (1, 1, 1))[1]], ["a", "b"])
