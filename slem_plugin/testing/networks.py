"""What every network must keep: a family of networks inherits `NetworkContract` and brings only its name.

Every test is in float64 and compares a prediction with another one of a changed structure; the truth is the change.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from basis.shells import Species
from basis.spin import TRANSPOSED, Spin
from converters.frames.blocks import Pairs
from converters.frames.neighbours import Structure
from slem_plugin.checkpoint import load_model, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.learner import Learner, scales_of
from slem_plugin.learning.samples import make_lesson, make_model
from slem_plugin.model import Model
from slem_plugin.network.network import Network, PairStates, randomise_silent
from slem_plugin.pieces import Blocks, Piece, cut_structure, predict_between, predict_inside
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import Blocks as BlocksByPair
from slem_plugin.testing.frames import (
    blocks_of,
    largest_difference,
    made_frame,
    random_rotation,
    random_structure,
    turned_blocks,
    two_species,
)

CASES = [
    ("2s1p", Spin.NONE),
    ("2s2p1d", Spin.COLLINEAR),
    ("1s1p1d", Spin.SPINOR),
    ("1s1p1d1f", Spin.NONE),
    ("1s1p1d1f1g", Spin.NONE),
]
EXACT = 1e-10
# The models of the cases; the tests that share them leave them as they are.
MADE: dict[tuple[type, str, Spin], Model] = {}


class NetworkContract:
    """Inherit, and set `kind` to the name of the family in `slem_plugin.network.kinds.KINDS`."""

    kind: str

    def config(self, basis: tuple[Species, ...], layers: int) -> Config:
        """What a network of the tests is to be like; small and in float64."""
        return Config(network=self.kind, layers=layers, latent=16, waves=6, precision="float64")

    def make_model(self, basis: tuple[Species, ...], spin: Spin, layers: int = 2) -> Model:
        """A model of H, S and DM that is not trivial."""
        frames = [made_frame(random_structure(seed), basis, spin, seed=seed) for seed in range(2)]
        model = make_model(frames, self.config(basis, layers))
        randomise_silent(require_network(model), 0.3)
        return model

    @pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
    def model(self, request: pytest.FixtureRequest) -> Model:
        shells, spin = request.param
        key = type(self), shells, spin
        if key not in MADE:
            MADE[key] = self.make_model(two_species(shells), spin)
        return MADE[key]

    @pytest.mark.parametrize("improper", [False, True], ids=["rotation", "inversion"])
    def test_turned_structures_have_turned_matrices(self, model: Model, improper: bool) -> None:
        structure = random_structure()
        Q = random_rotation(3, improper)
        turned = Structure(structure.cell_cv @ Q.T, structure.pbc_c, structure.positions_av @ Q.T, structure.species_a)
        here, there = predict(model, structure), predict(model, turned)
        for name in ("H", "S", "DM"):
            found = blocks_of(there, name)
            assert max(np.abs(block).max() for block in found.values()) > 0.1
            assert largest_difference(turned_blocks(here, name, Q), found) < EXACT

    def test_axis_aligned_bonds_are_no_exception(self, model: Model) -> None:
        structure = Structure(np.zeros((3, 3)), np.zeros(3, bool), 1.7 * np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, -1.0], [1, 0, 0]]), np.array([0, 1, 0, 0, 1]))  # fmt: skip
        Q = random_rotation(5, True)
        turned = Structure(structure.cell_cv, structure.pbc_c, structure.positions_av @ Q.T, structure.species_a)
        here, there = predict(model, structure), predict(model, turned)
        scale = max(1.0, np.abs(here.operators["H"].values_sx).max())  # these atoms are nearer than any in the data
        assert largest_difference(turned_blocks(here, "H", Q), blocks_of(there, "H")) < EXACT * scale

    def test_moved_structures_have_the_same_matrices(self, model: Model) -> None:
        structure = random_structure()
        moved = Structure(
            structure.cell_cv,
            structure.pbc_c,
            structure.positions_av + np.array([0.3, -7.0, 11.0]),
            structure.species_a,
        )
        here, there = predict(model, structure), predict(model, moved)
        for name in ("H", "S", "DM"):
            assert largest_difference(blocks_of(here, name), blocks_of(there, name)) < EXACT

    def test_order_of_atoms_does_not_matter(self, model: Model) -> None:
        structure = random_structure()
        order = np.random.default_rng(1).permutation(len(structure.species_a))
        place = np.argsort(order)
        shuffled = Structure(
            structure.cell_cv, structure.pbc_c, structure.positions_av[order], structure.species_a[order]
        )
        here, there = predict(model, structure), predict(model, shuffled)
        for name in ("H", "S", "DM"):
            expected = {(int(place[i]), int(place[j]), R): block for (i, j, R), block in blocks_of(here, name).items()}
            assert largest_difference(expected, blocks_of(there, name)) < EXACT

    def test_onsite_blocks_are_hermitian(self, model: Model) -> None:
        frame = predict(model, random_structure())
        for name in ("H", "S", "DM"):
            onsite = [frame.block_of_pair(name, p) for p in np.flatnonzero(frame.pairs.onsite_p).tolist()]
            mirrored = [block[TRANSPOSED[frame.layout(name)]].conj().swapaxes(1, 2) for block in onsite]
            assert max(np.abs(a - b).max() for a, b in zip(onsite, mirrored, strict=True)) < EXACT

    def test_larger_cells_have_the_same_blocks(self, model: Model) -> None:
        structure = random_structure(natoms=4)
        cell_cv = structure.cell_cv * np.array([[2], [1], [1]])
        positions_av = np.concatenate([structure.positions_av, structure.positions_av + structure.cell_cv[0]])
        doubled = Structure(cell_cv, structure.pbc_c, positions_av, np.tile(structure.species_a, 2))
        here, there = (
            blocks_of(predict(model, structure), "H"),
            blocks_of(predict(model, doubled), "H"),
        )
        for (i, j, R), block in here.items():
            copy, cells = R[0] % 2, R[0] // 2
            found = there[i, j + 4 * copy, (cells, R[1], R[2])]
            assert np.abs(found - block).max() < EXACT

    @pytest.mark.parametrize("layers", [1, 4])
    def test_nothing_beyond_the_cutoff_is_seen(self, layers: int) -> None:
        # A chain whose atoms reach only their next neighbours but one: H_01 sees nothing of atom 4 and beyond.
        model = self.make_model(two_species("1s1p1d"), Spin.NONE, layers)
        cutoff = model.cutoff_ss.max()
        random = np.random.default_rng(0)
        chain_av = np.arange(8)[:, None] * [0.45 * cutoff, 0, 0] + 0.05 * random.normal(size=(8, 3))
        moved_av = chain_av.copy()
        moved_av[5:] += [0.1, 0.07, -0.05]
        here, there = (
            blocks_of(predict(model, Structure(np.zeros((3, 3)), np.zeros(3, bool), r_av, np.arange(8) % 2)), "H")
            for r_av in (chain_av, moved_av)
        )
        # The farthest neighbour of an atom is two places away, so a block of atoms 0 and 2 sees atoms 0 to 4 and no other.
        unseen = [key for key in here if max(key[:2]) <= 2]
        assert all(np.array_equal(here[key], there[key]) for key in unseen)
        assert any(not np.array_equal(here[key], there[key]) for key in here if max(key[:2]) == 3)

    def test_blocks_vanish_smoothly_at_the_cutoff(self) -> None:
        model = self.make_model(two_species("1s1p1d"), Spin.NONE)
        cutoff = model.cutoff_ss[0, 0]
        core_av = np.array([[0.0, 0, 0], [-0.9, 1.4, 0.2], [-1.1, -0.8, -1.3]])

        def at(distance: float) -> BlocksByPair:
            positions_av = np.concatenate([core_av, [[distance, 0, 0]]])
            return blocks_of(predict(model, Structure(np.zeros((3, 3)), np.zeros(3, bool), positions_av, np.array([0, 1, 1, 0]))), "H")  # fmt: skip

        inside, outside = at(cutoff - 1e-4), at(cutoff + 1e-4)
        assert (0, 3, (0, 0, 0)) in inside
        assert (0, 3, (0, 0, 0)) not in outside
        assert np.abs(inside[0, 3, (0, 0, 0)]).max() < 1e-8
        assert max(np.abs(inside[key] - outside[key]).max() for key in outside if 3 not in key[:2]) < 1e-8

    def test_time_reversal_of_spinors(self) -> None:
        model = self.make_model(two_species("1s1p1d"), Spin.SPINOR)
        if not model.blueprint.time_reversal:
            pytest.skip("this model learned data that breaks time reversal")
        uu, ud, du, dd = predict(model, random_structure()).operators["H"].values_sx
        assert np.abs(uu - dd.conj()).max() < EXACT
        assert np.abs(ud + du.conj()).max() < EXACT
        assert np.abs(ud).max() > 1e-3

    def test_whole_structures_and_their_parts_have_the_same_outputs(self) -> None:
        model = self.make_model(two_species("1s1p1d"), Spin.COLLINEAR)
        network, (_, graph) = require_network(model), model.graph(random_structure())
        with torch.no_grad():
            outputs = network(graph)
            states_ef, onsite = network.states(graph, torch.arange(len(graph.present_e)))
            there, back = torch.cat(graph.forward), torch.cat(graph.backward)
            counts = tuple(map(len, graph.forward))
            hopping = network.hopping(PairStates(states_ef[torch.cat([there, back])], graph.length_e[there], counts))
        assert states_ef.shape[1] == network.state_size
        for name, output in outputs.items():
            for whole, part in zip(output.blocks, hopping[name] + onsite[name], strict=True):
                assert whole.shape == part.shape
                assert not whole.numel() or (whole - part).abs().max() < EXACT

    def test_pieces_have_the_blocks_of_the_whole(self, tmp_path: Path) -> None:
        model = self.make_model(two_species("1s1p1d"), Spin.SPINOR)
        structure = random_structure(natoms=12, size=8.0)
        whole = predict(model, structure)
        found = {name: np.full_like(operator.values_sx, np.nan) for name, operator in whole.operators.items()}
        for blocks in predict_in_pieces(model, structure, whole.pairs, tmp_path):
            x = np.repeat(blocks.element_p - blocks.pairs.start_p[:-1], blocks.pairs.size_p) + np.arange(
                blocks.pairs.elements
            )
            for name, values_sx in blocks.values.items():
                found[name][:, x] = values_sx
        for name, operator in whole.operators.items():
            assert np.abs(found[name] - operator.values_sx).max() < EXACT

    def test_saved_models_predict_the_same(self, tmp_path: Path) -> None:
        model = self.make_model(two_species("1s1p1d"), Spin.NONE)
        save_checkpoint(tmp_path / "model.safetensors", model)
        again = load_model(tmp_path / "model.safetensors")
        assert again.blueprint == model.blueprint
        for name, operator in predict(model, random_structure()).operators.items():
            assert np.array_equal(predict(again, random_structure()).operators[name].values_sx, operator.values_sx)

    def test_steps_of_training_lower_the_loss(self) -> None:
        basis = two_species("1s1p")
        frame = made_frame(random_structure(), basis, Spin.NONE)
        config = replace(self.config(basis, 1), steps=60, time="0")
        model = make_model([frame], config)
        lesson = make_lesson(frame, model)
        learner, scales = Learner.start(model, config), scales_of([lesson])
        losses = [learner.step(lesson, scales, config) for _ in range(config.steps)]
        assert np.mean(losses[-5:]) < losses[0]


def require_network(model: Model) -> Network:
    """The network of a model that has one."""
    assert model.network is not None
    return model.network


def predict_in_pieces(
    model: Model, structure: Structure, pairs: Pairs, folder: Path, count: int = 3
) -> Iterator[Blocks]:
    """All blocks of a structure, made piece by piece and then between the pieces."""
    natoms = len(structure.species_a)
    elements_a = np.bincount(pairs.i_p, pairs.size_p, minlength=natoms).astype(int)
    first_a = np.cumsum(elements_a) - elements_a
    piece_a = cut_structure(structure, count)

    def file_of(number: int) -> Path:
        return folder / f"{number}.safetensors"

    for number in range(count):
        piece = Piece.of(model, structure, np.flatnonzero(piece_a == number))
        yield from predict_inside(model, structure, piece, piece_a, first_a, file_of(number))
    for number in range(count):
        yield from predict_between(model, structure, number, file_of)
