"""What every model must keep: a family of models inherits `ModelContract` and brings only a way to make one.

Every test is in float64 and compares a prediction with another one of a changed structure; the truth is the change.
"""

import numpy as np
import pytest

from basis.shells import Species, parse_shells
from basis.spin import TRANSPOSED, Spin
from converters.frames.neighbours import Structure
from slem_plugin.prediction import predict
from tests.oracles import random_rotation, rotate_block

CASES = [
    ("2s1p", Spin.NONE),
    ("2s2p1d", Spin.COLLINEAR),
    ("1s1p1d", Spin.SPINOR),
    ("1s1p1d1f", Spin.NONE),
    ("1s1p1d1f1g", Spin.NONE),
]
EXACT = 1e-10


def two_species(shells):
    return (Species("Si", 14, parse_shells(shells), "a"), Species("O", 8, parse_shells("2s1p"), "b"))


def random_structure(seed=0, natoms=6, size=5.0, pbc=(True, True, False)):
    """Atoms at random places in a skew cell that is shorter than the cutoff."""
    random = np.random.default_rng(seed)
    cell_cv = size * (np.eye(3) + 0.1 * random.normal(size=(3, 3)))
    positions_av = random.random((natoms, 3)) @ cell_cv
    return Structure(cell_cv, np.array(pbc), positions_av, np.arange(natoms) % 2)


def blocks_of(frame, name):
    """Both halves: {(i, j, R): block}."""
    layout = frame.layout(name)
    blocks = {}
    for p in range(len(frame.pairs)):
        i, j, R = int(frame.pairs.i_p[p]), int(frame.pairs.j_p[p]), tuple(frame.pairs.R_pc[p].tolist())
        block = frame.block_of_pair(name, p)
        blocks[i, j, R] = block
        blocks[j, i, tuple(-x for x in R)] = block[TRANSPOSED[layout]].conj().swapaxes(1, 2)
    return blocks


def largest_difference(here, there):
    assert here.keys() == there.keys()
    return max(np.abs(here[key] - there[key]).max() for key in here)


class ModelContract:
    """Inherit, and define `make_model(basis, spin, layers=2)`: a model of H, S and DM in float64 that is not trivial."""

    def make_model(self, basis, spin, layers=2):
        raise NotImplementedError

    @pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
    def model(self, request):
        shells, spin = request.param
        return self.make_model(two_species(shells), spin)

    @pytest.mark.parametrize("improper", [False, True], ids=["rotation", "inversion"])
    def test_turned_structures_have_turned_matrices(self, model, improper):
        structure = random_structure()
        Q = random_rotation(3, improper)
        turned = Structure(structure.cell_cv @ Q.T, structure.pbc_c, structure.positions_av @ Q.T, structure.species_a)
        here, there = predict(model, structure), predict(model, turned)
        for name in ("H", "S", "DM"):
            expected = {
                (i, j, R): rotate_block(
                    block, *(here.basis[structure.species_a[a]].shells for a in (i, j)), Q, here.layout(name)
                )
                for (i, j, R), block in blocks_of(here, name).items()
            }
            found = blocks_of(there, name)
            assert max(np.abs(block).max() for block in found.values()) > 0.1
            assert largest_difference(expected, found) < EXACT

    def test_axis_aligned_bonds_are_no_exception(self, model):
        structure = Structure(np.zeros((3, 3)), np.zeros(3, bool), 1.7 * np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, -1.0], [1, 0, 0]]), np.array([0, 1, 0, 0, 1]))  # fmt: skip
        Q = random_rotation(5, True)
        turned = Structure(structure.cell_cv, structure.pbc_c, structure.positions_av @ Q.T, structure.species_a)
        here, there = predict(model, structure), predict(model, turned)
        expected = {
            (i, j, R): rotate_block(block, *(here.basis[structure.species_a[a]].shells for a in (i, j)), Q, here.spin)
            for (i, j, R), block in blocks_of(here, "H").items()
        }
        scale = max(1.0, np.abs(here.operators["H"].values_sx).max())  # these atoms are nearer than any in the data
        assert largest_difference(expected, blocks_of(there, "H")) < EXACT * scale

    def test_moved_structures_have_the_same_matrices(self, model):
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

    def test_order_of_atoms_does_not_matter(self, model):
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

    def test_onsite_blocks_are_hermitian(self, model):
        frame = predict(model, random_structure())
        for name in ("H", "S", "DM"):
            onsite = [frame.block_of_pair(name, p) for p in np.flatnonzero(frame.pairs.onsite_p)]
            mirrored = [block[TRANSPOSED[frame.layout(name)]].conj().swapaxes(1, 2) for block in onsite]
            assert max(np.abs(a - b).max() for a, b in zip(onsite, mirrored, strict=True)) < EXACT

    def test_larger_cells_have_the_same_blocks(self, model):
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
    def test_nothing_beyond_the_cutoff_is_seen(self, layers):
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

    def test_blocks_vanish_smoothly_at_the_cutoff(self):
        model = self.make_model(two_species("1s1p1d"), Spin.NONE)
        cutoff = model.cutoff_ss[0, 0]
        core_av = np.array([[0.0, 0, 0], [-0.9, 1.4, 0.2], [-1.1, -0.8, -1.3]])

        def at(distance):
            positions_av = np.concatenate([core_av, [[distance, 0, 0]]])
            return blocks_of(predict(model, Structure(np.zeros((3, 3)), np.zeros(3, bool), positions_av, np.array([0, 1, 1, 0]))), "H")  # fmt: skip

        inside, outside = at(cutoff - 1e-4), at(cutoff + 1e-4)
        assert (0, 3, (0, 0, 0)) in inside
        assert (0, 3, (0, 0, 0)) not in outside
        assert np.abs(inside[0, 3, (0, 0, 0)]).max() < 1e-8
        assert max(np.abs(inside[key] - outside[key]).max() for key in outside if 3 not in key[:2]) < 1e-8

    def test_time_reversal_of_spinors(self):
        model = self.make_model(two_species("1s1p1d"), Spin.SPINOR)
        if not model.blueprint.time_reversal:
            pytest.skip("this model learned data that breaks time reversal")
        uu, ud, du, dd = predict(model, random_structure()).operators["H"].values_sx
        assert np.abs(uu - dd.conj()).max() < EXACT
        assert np.abs(ud + du.conj()).max() < EXACT
        assert np.abs(ud).max() > 1e-3
