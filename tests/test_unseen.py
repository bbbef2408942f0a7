"""What a prediction says of pairs and elements that its model has not learned; PySCF has the overlaps that are meant."""

import re

import numpy as np
import pytest
from ase.build import molecule
from pyscf import gto, scf

from converters.errors import Refused
from converters.pyscf import frame_from_scf
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin import predict
from slem_plugin.config import Config
from slem_plugin.learning.samples import make_model

BASIS = "6-31g"


def mole(atoms):
    atom = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    return gto.M(atom=atom, basis=BASIS, verbose=0)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Two of water and one of ammonia, in one dataset, and so with one basis."""
    path = tmp_path_factory.mktemp("unseen") / "data.h5"
    found = []
    for name, seed in (("H2O", 0), ("H2O", 1), ("NH3", 2)):
        atoms = molecule(name)
        atoms.rattle(0.03, seed=seed)
        mf = scf.RHF(mole(atoms))
        mf.kernel()
        found.append(frame_from_scf(mf))
    with DatasetWriter(path) as writer:
        for frame in found:
            writer.append(frame)
    return list(Dataset(path))


@pytest.fixture(scope="module")
def model(frames):
    """Baselines alone: what was learned of which pairs does not depend on a training."""
    return make_model(frames, Config(layers=1, channels="4x0e+2x1o"))


def test_pairs_that_overlap_and_were_not_learned_are_told_with_their_overlap(model):
    far = molecule("NH3")
    far.positions += [0, 0, 2.6]
    atoms = molecule("H2O") + far
    notes = predict(model, atoms).provenance.notes
    mol = mole(atoms)
    start_a = [*mol.aoslice_by_atom()[:, 2], mol.nao]
    S = np.abs(mol.intor("int1e_ovlp"))
    between = max(
        S[start_a[i] : start_a[i + 1], start_a[j] : start_a[j + 1]].max()
        for i in range(3)
        for j in range(3, 7)
        if {atoms.symbols[i], atoms.symbols[j]} == {"O", "N"}
    )
    (said,) = (note for note in notes if note.startswith(("O-N", "N-O")))
    assert float(re.search(r"up to ([\d.e-]+)", said)[1]) == pytest.approx(between, rel=0.05)
    assert "no such pair was learned" in said
    assert any("H-H" in note or "O-H" in note or "H-O" in note for note in notes)


def test_structures_like_those_that_were_learned_need_no_words(model):
    atoms = molecule("H2O")
    atoms.rattle(0.02, seed=5)
    assert predict(model, atoms).provenance.notes == ()


def test_atoms_nearer_than_all_that_were_learned_are_told(model):
    atoms = molecule("H2O")
    atoms.set_distance(0, 1, 0.7, fix=0)
    told = predict(model, atoms).provenance.notes
    assert any("0.70 Angstrom apart: the nearest such pair that was learned" in note for note in told)


def test_an_element_that_only_the_data_names_is_refused(frames):
    """The dataset has nitrogen, and the model learned the frames without it."""
    model = make_model(frames[:2], Config(layers=1, channels="4x0e+2x1o"))
    with pytest.raises(Refused, match="has N, which no structure had that this model learned"):
        predict(model, molecule("NH3"))
