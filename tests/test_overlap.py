"""Overlaps of structures, and radial functions in datasets."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from basis.radial import table_of_points
from basis.shells import Species
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.neighbours import Structure, structure_of
from converters.physics import kspace
from converters.physics.overlap import LARGEST_DENSE, Overlap, require_positive
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from tests.conftest import make_random_frame
from tests.test_integrals import some_tables


# Structures
def silicon_overlap():
    shells, functions = some_tables()
    return Overlap((Species("Si", 14, shells[1], "made"),), (functions[1],))


def structure_from(atoms, species_a=None):
    species_a = np.zeros(len(atoms), dtype=int) if species_a is None else species_a
    return Structure(np.array(atoms.cell), np.array(atoms.pbc), np.array(atoms.positions), species_a)


def test_a_supercell_has_the_overlap_of_its_cell():
    overlap = silicon_overlap()
    small = overlap.frame(structure_from(bulk("Si")), "test")
    large = overlap.frame(structure_from(bulk("Si") * (2, 1, 1)), "test")
    k = np.array([0.1, 0.3, -0.2])
    there = np.concatenate(
        [np.linalg.eigvalsh(kspace.dense_at(small, "S", k / (2, 1, 1) + (n / 2, 0, 0))[0]) for n in (0, 1)]
    )
    np.testing.assert_allclose(np.linalg.eigvalsh(kspace.dense_at(large, "S", k)[0]), np.sort(there), atol=1e-12)


def with_strong_bond(frame, p):
    """The frame with twice the overlap of one pair, as no functions can have it."""
    values_sx = frame.operators["S"].values_sx.copy()
    values_sx[:, frame.pairs.start_p[p] : frame.pairs.start_p[p + 1]] *= 2.5
    return replace(frame, operators={"S": Operator(values_sx)})


@pytest.mark.parametrize("cells", [(1, 1, 1), (3, 3, 2)])
def test_an_impossible_overlap_names_its_atoms(cells):
    """By diagonalising, and of a large matrix by Lanczos steps."""
    frame = silicon_overlap().frame(structure_from(bulk("Si", cubic=True) * cells), "test")
    assert (frame.norb > LARGEST_DENSE) == (cells != (1, 1, 1))
    lowest = require_positive(frame)
    exact = np.linalg.eigvalsh(kspace.dense_at(frame, "S", np.zeros(3))[0])[0]
    assert 0 < lowest < 2 * exact + 0.05
    bonds = np.where(frame.pairs.onsite_p, np.inf, np.linalg.norm(frame.vectors_pv, axis=1))
    p = int(np.flatnonzero(bonds < bonds.min() + 1e-3)[3])
    names = rf"Si {frame.pairs.i_p[p]} and Si {frame.pairs.j_p[p]} \(counted from 0\), 2.35"
    with pytest.raises(Refused, match=f"not positive definite .* {names}"):
        require_positive(with_strong_bond(frame, p))


def test_a_pair_that_a_frame_lacks_is_noticed():
    overlap = silicon_overlap()
    frame = overlap.frame(structure_from(bulk("Si")), "test")
    assert overlap.difference(frame)[0] < 1e-14
    nearest = int(np.where(frame.pairs.onsite_p, np.inf, np.linalg.norm(frame.vectors_pv, axis=1)).argmin())
    kept = np.delete(np.arange(len(frame.pairs)), nearest)
    pairs = frame.pairs.take(kept)
    less = replace(frame, pairs=pairs, operators={"S": Operator(overlap.values(structure_of(frame), pairs)[None])})
    found, where = overlap.difference(less)
    assert found > 0.01
    assert "leaves out" in where


# In datasets
def frame_with_functions(seed=0, scale=1.0):
    frame = make_random_frame(seed)
    functions = []
    for species in frame.basis:
        tables = []
        for shell in species.shells:
            r = np.linspace(0, 3, 50)
            values = scale * r**shell.l * (1 - r / 3) ** 2
            tables.append(table_of_points(r, values, 3.0, 50.0, 0.0))
        functions.append(tuple(tables))
    return replace(frame, functions=tuple(functions))


def test_a_dataset_keeps_radial_functions(tmp_path):
    path = tmp_path / "data.h5"
    known = frame_with_functions(1)
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
        writer.append(replace(known, functions=(known.functions[0], None)))
    with Dataset(path) as data:
        assert data.functions[1] is None
        np.testing.assert_array_equal(data.functions[0][1].values_g, known.functions[0][1].values_g)
    with DatasetWriter(path) as writer:
        writer.append(replace(known, provenance=replace(known.provenance, source="f" * 64)))
    with Dataset(path) as data:
        assert all(mine is not None for mine in data.functions)
        assert data[0].functions is data.functions


def test_a_species_has_one_set_of_functions(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(frame_with_functions(0))
        with pytest.raises(Refused, match="other radial functions for Si 2s1p1d r1"):
            writer.append(frame_with_functions(1, scale=1.1))


def test_datasets_of_older_programs_are_read_and_added_to(tmp_path):
    import h5py

    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
    with h5py.File(path, "r+") as file:
        del file["basis/functions"], file["basis/functions_about"]
    with Dataset(path) as data:
        assert data.functions == (None, None)
    with DatasetWriter(path) as writer:
        writer.append(frame_with_functions(1))
    with Dataset(path) as data:
        assert len(data) == 2
        assert all(mine is not None for mine in data[0].functions)
