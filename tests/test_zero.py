"""The zero of a cell's potential: levels that move with the volume of a cell are foretold, and nothing else is moved."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from ase import Atoms
from ase.io import write

from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, Provenance, operator_on
from converters.frames.neighbours import Structure, find_pairs, structure_of
from converters.storage.dataset import Dataset
from slem_plugin.baseline.zero import fit_zero
from slem_plugin.checkpoint import load_model, read_file, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.samples import make_lesson, make_model
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import random_rotation
from workflows.predict import Cutting, predict_files

BASIS = (Species("Si", 14, parse_shells("1s"), "a"), Species("C", 6, parse_shells("1s"), "b"))
CUTOFF = 4.0


def cluster(seed, repeats=1, pbc=True):
    """Eight atoms, rattled, in a cell of some size."""
    random = np.random.default_rng(seed)
    cell_cv = random.uniform(10, 15) * (np.eye(3) + 0.03 * random.normal(size=(3, 3)))
    places = 1.1 * np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]])
    positions_av = np.concatenate([places, places + 1.1]) + 0.05 * random.normal(size=(8, 3))
    positions_av = np.concatenate([positions_av + n * cell_cv[0] for n in range(repeats)])
    cells_cv = cell_cv * np.array([[repeats], [1], [1]])
    return Structure(cells_cv, np.full(3, pbc), positions_av, np.tile(np.repeat([0, 1], 4), repeats))


def shift_of_cell(structure):
    """A made-up zero: each silicon and each pair of unlike atoms adds its part, over the volume."""
    pairs = find_pairs(structure, np.full((2, 2), 7.0), np.ones(len(structure.species_a), dtype=int))
    r_p = np.linalg.norm(pairs.vectors(structure.positions_av, structure.cell_cv), axis=1)
    unlike_p = structure.species_a[pairs.i_p] != structure.species_a[pairs.j_p]
    added = 30.0 * (structure.species_a == 0).sum() + 8.0 * np.exp(-((r_p[unlike_p] - 2) ** 2)).sum()
    return added / abs(np.linalg.det(structure.cell_cv))


def made(structure, spin=Spin.NONE, moved=True):
    """Two-centre matrices, H moved by the zero times S."""
    pairs = find_pairs(structure, np.full((2, 2), CUTOFF), np.ones(len(structure.species_a), dtype=int))
    r_p = np.linalg.norm(pairs.vectors(structure.positions_av, structure.cell_cv), axis=1)
    end_p = np.cos(np.pi * r_p / CUTOFF / 2) ** 4
    S_x = np.where(pairs.onsite_p, 1.0, 0.6 * np.exp(-r_p / 2) * end_p)
    H_x = np.where(pairs.onsite_p, -3.0 - structure.species_a[pairs.i_p], -2.0 * np.exp(-r_p / 1.5) * end_p)
    H_x = H_x + moved * shift_of_cell(structure) * S_x
    zero_x = 0j * H_x
    H_sx = {Spin.NONE: H_x[None], Spin.COLLINEAR: np.array([H_x, H_x])}.get(spin, np.array([H_x, zero_x, zero_x, H_x]))
    provenance = Provenance("made", "1", "made", "0" * 64)
    operators = {"H": Operator(H_sx), "S": Operator(S_x[None])}
    fields = structure.cell_cv, structure.pbc_c, structure.positions_av, structure.species_a
    return Frame(*fields, BASIS, pairs, spin, operators, provenance=provenance)


@cache
def model_of(spin=Spin.NONE, moved=True):
    """A model of 16 cells, whose network says nothing yet."""
    frames = [made(cluster(seed), spin, moved) for seed in range(16)]
    config = Config(operators="H,S", channels="4x0e+2x1o", latent=8, waves=4, precision="float64")
    return make_model(frames, config)


def onsite_errors(model, spin=Spin.NONE):
    """Mean error of the onsite elements of cells that were not learned."""
    errors = []
    for seed in range(100, 106):
        frame = made(cluster(seed), spin)
        found_sx = operator_on(predict(model, structure_of(frame)), "H", frame.pairs).values_sx
        errors.append(np.abs(found_sx - frame.operators["H"].values_sx)[:, frame.pairs.onsite_p].mean())
    return float(np.mean(errors))


def test_levels_that_move_with_the_volume_are_foretold():
    for spin in Spin:
        model = model_of(spin)
        assert model.zero is not None
        assert onsite_errors(model, spin) < 0.2 * onsite_errors(replace(model, zero=None), spin)


def test_cells_whose_levels_do_not_move_and_molecules_have_none():
    assert model_of(moved=False).zero is None
    molecules = [cluster(seed, pbc=False) for seed in range(8)]
    assert fit_zero(molecules, 2, np.array([shift_of_cell(one) for one in molecules])) is None
    assert model_of().shift(molecules[0]) == 0
    noise = np.random.default_rng(0).normal(size=16)
    assert fit_zero([cluster(seed) for seed in range(16)], 2, noise) is None


def test_a_cell_has_one_zero_however_it_is_written():
    model, structure = model_of(), cluster(50)
    shift = model.shift(structure)
    assert abs(shift) > 1e-3
    Q = random_rotation(1, improper=True)
    turned = replace(structure, cell_cv=structure.cell_cv @ Q.T, positions_av=structure.positions_av @ Q.T)
    order = np.random.default_rng(0).permutation(8)
    sorted_anew = replace(structure, positions_av=structure.positions_av[order], species_a=structure.species_a[order])
    for other in (turned, sorted_anew, cluster(50, repeats=2)):
        assert abs(model.shift(other) - shift) < 1e-10


def test_lessons_and_predictions_agree_about_the_zero():
    model, frame = model_of(), made(cluster(60))
    rest = make_lesson(predict(model, structure_of(frame)), model).targets["H"].rest
    assert max(float(one.abs().max()) for one in rest if one.numel()) < 1e-5


def test_pieces_have_the_zero_of_the_whole(tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", model_of())
    structure = cluster(70, repeats=2)
    atoms = Atoms(np.array([14, 6])[structure.species_a], structure.positions_av, cell=structure.cell_cv, pbc=True)
    write(tmp_path / "s.xyz", atoms)
    outputs = [tmp_path / f"{count}.h5" for count in (1, 3)]
    for count, output in zip((1, 3), outputs, strict=True):
        list(predict_files(tmp_path / "m.safetensors", [tmp_path / "s.xyz"], output, cutting=Cutting(count)))
    with Dataset(outputs[0]) as one, Dataset(outputs[1]) as other:
        whole, pieces = one[0].operators["H"].values_sx, other[0].operators["H"].values_sx
        assert np.abs(whole - pieces).max() < 1e-10


def test_checkpoints_keep_the_zero_and_are_of_the_old_version_without_it(tmp_path):
    path, structure = tmp_path / "m.safetensors", cluster(80)
    for moved, version in ((True, 2), (False, 1)):
        model = model_of(moved=moved)
        save_checkpoint(path, model)
        assert read_file(path)[0]["version"] == version
        again = load_model(path, torch.float64)
        assert again.shift(structure) == model.shift(structure)
