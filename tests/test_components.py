"""Blocks taken apart about their bonds and put together again, graphs, rotations and baselines, against slow truths."""

import numpy as np
import pytest
import torch
from pyscf import gto, scf
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation

from basis.rotations import wigner
from basis.shells import parse_shells
from basis.spin import Spin
from converters.frames.frame import operator_on
from converters.frames.neighbours import Structure, find_pairs, structure_of
from converters.pyscf import frame_from_scf
from slem_plugin.baseline.baseline import Neighbours
from slem_plugin.baseline.fitting import equivalent_atoms
from slem_plugin.baseline.sharing import share_onsite
from slem_plugin.baseline.splines import fit_penalised, roughness, spline_design, spline_values
from slem_plugin.blocks.axial import axial_basis, exchange
from slem_plugin.blocks.components import BlockForm, bond_frames
from slem_plugin.blocks.fields import breaks_time_reversal, fields_of, from_fields, to_fields
from slem_plugin.blocks.onsite import onsite_basis
from slem_plugin.config import Config
from slem_plugin.graphs.graph import join_graphs, make_graph
from slem_plugin.graphs.rotations import bond_rotations
from slem_plugin.learning.samples import make_model
from slem_plugin.network.channels import Channels
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import random_rotation
from tests.conftest import make_random_frame

LAYOUTS = [fields_of(Spin.NONE, True), fields_of(Spin.SPINOR, True), fields_of(Spin.SPINOR, False)]
A, B = parse_shells("2s1p1d"), parse_shells("1s1p1f")


def representation(Q, fields, shells_i, shells_j):
    """How the flat block of all fields turns under Q; a spin vector is axial."""
    D_i, D_j = (block_diag(*(wigner(shell.l, Q) for shell in shells)) for shells in (shells_i, shells_j))
    vector = np.linalg.det(Q) * wigner(1, Q)
    return block_diag(*(np.kron(np.kron(vector if f.width == 3 else np.eye(1), D_i), D_j) for f in fields))


@pytest.mark.parametrize("fields", LAYOUTS, ids=["scalar", "spinor", "magnetic"])
class TestAxial:
    def test_components_are_irreps_about_the_bond(self, fields):
        axial = axial_basis(A, B, fields)
        U = axial.to_components.toarray()
        assert np.abs(U @ U.T - np.eye(len(U))).max() < 1e-12
        angle = 0.7
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        turned, mirrored = (U @ representation(Q, fields, A, B) @ U.T for Q in (turn, np.diag([1.0, -1.0, 1.0])))
        expected = [np.eye(axial.counts[0]), np.eye(axial.odd)]
        mirror = [np.eye(axial.counts[0]), -np.eye(axial.odd)]
        for m, count in enumerate(axial.counts[1:], 1):
            c, s = np.cos(m * angle), np.sin(m * angle)
            expected.append(np.kron([[c, -s], [s, c]], np.eye(count)))
            mirror.append(np.kron(np.diag([1, -1]), np.eye(count)))
        assert np.abs(turned - block_diag(*expected)).max() < 1e-12
        assert np.abs(mirrored - block_diag(*mirror)).max() < 1e-12

    def test_exchange_is_its_own_inverse_and_keeps_irreps(self, fields):
        (place, sign), (back, sign_back) = exchange(A, B, fields), exchange(B, A, fields)
        assert np.array_equal(back[place], np.arange(len(place)))
        assert np.array_equal(sign_back[place] * sign, np.ones(len(place)))
        here, there = axial_basis(A, B, fields), axial_basis(B, A, fields)
        for k, (own, other) in enumerate(zip(here.slices, there.slices, strict=True)):
            inside = place[own] - other.start
            assert sorted(inside) == list(range(len(inside)))
            if k > 1:  # c and s go together, with opposite signs
                half = len(inside) // 2
                assert np.array_equal(inside[:half] + half, inside[half:])
                assert np.array_equal(sign[own][:half], -sign[own][half:])

    def test_onsite_components_are_irreps(self, fields):
        onsite = onsite_basis(A, fields)
        U = onsite.to_components.toarray()
        assert np.abs(U @ U.T - np.eye(len(U))).max() < 1e-12
        random = np.random.default_rng(0)
        block = np.concatenate([(x + f.hermitian * x.swapaxes(1, 2)).ravel() for f in fields for x in [random.normal(size=(f.width, 10, 10))]])  # fmt: skip
        assert np.abs(U.T @ (U @ block) - block).max() < 1e-12
        Q = random_rotation(1, improper=True)
        here, there = U @ block, U @ representation(Q, fields, A, A) @ block
        for l, natural in enumerate(onsite.natural):
            a, b = (x[onsite.slice(l)].reshape(2 * l + 1, -1) for x in (here, there))
            turned = wigner(l, Q) @ a
            turned[:, natural:] *= -1
            assert np.abs(turned - b).max(initial=0) < 1e-12


@pytest.mark.parametrize("spin", list(Spin), ids=str)
def test_blocks_come_back_exactly(spin):
    frame = make_random_frame(3, spin, natoms=5)
    time_reversal = spin is not Spin.SPINOR
    form = BlockForm(frame.basis, fields_of(spin, time_reversal))
    values_sx = frame.operators["H"].values_sx
    rows_fx = to_fields(values_sx, spin, time_reversal)
    assert np.abs(from_fields(rows_fx, spin, time_reversal) - values_sx).max() < 1e-14
    bonds = bond_frames(structure_of(frame), frame.pairs, frame.basis)
    components = form.take_apart(bonds, rows_fx)
    assert np.abs(form.put_together(bonds, components) - rows_fx).max() < 1e-12
    assert spin is not Spin.SPINOR or breaks_time_reversal(values_sx, 1e-5)


def frames_of_bonds(vectors):
    """Ry(-t) Rz(-p) of each bond; a bond along z has the azimuth 0 upwards and half a turn downwards."""
    x, y, z = vectors.T
    azimuth = np.where(np.hypot(x, y) == 0, np.where(z < 0, np.pi, 0), np.arctan2(y, x))
    return Rotation.from_euler("zy", np.stack([-azimuth, -np.arctan2(np.hypot(x, y), z)], axis=1)).as_matrix()


def test_bond_rotations_are_those_of_the_frames():
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    vectors[:6] = np.concatenate([np.eye(3), -np.eye(3)]) * 1.3
    Q = frames_of_bonds(vectors)
    assert np.abs(np.einsum("evw,ew->ev", Q, vectors)[:, :2]).max() < 1e-14
    for l, D in enumerate(bond_rotations(torch.from_numpy(vectors), 9)):
        assert np.abs(D.numpy() - wigner(l, Q)).max() < 1e-13
    reverse = frames_of_bonds(-vectors)
    assert np.abs(reverse - np.diag([1.0, -1.0, -1.0]) @ Q).max() < 1e-14


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True), (False, False, False)])
def test_pairs_are_those_within_the_cutoff(pbc):
    random = np.random.default_rng(1)
    cell_cv = 2.5 * np.eye(3) + 0.3 * random.normal(size=(3, 3))
    structure = Structure(cell_cv, np.array(pbc), random.random((4, 3)) @ cell_cv, np.array([0, 1, 1, 0]))
    cutoff_ss = np.array([[4.0, 3.0], [3.0, 5.0]])
    pairs = find_pairs(structure, cutoff_ss, np.array([1, 2, 2, 1]))
    found = {(int(i), int(j), *R.tolist()) for i, j, R in zip(pairs.i_p, pairs.j_p, pairs.R_pc, strict=True)}
    reach = [range(-5, 6) if periodic else range(1) for periodic in pbc]
    expected = set()
    for i in range(4):
        for j in range(4):
            for R in np.stack(np.meshgrid(*reach), -1).reshape(-1, 3):
                d = np.linalg.norm(structure.positions_av[j] - structure.positions_av[i] + R @ cell_cv)
                if d < cutoff_ss[structure.species_a[i], structure.species_a[j]]:
                    expected.add((i, j, *R.tolist()))
    assert found <= expected
    assert found | {(j, i, -x, -y, -z) for i, j, x, y, z in found} == expected
    graph = make_graph(structure, pairs, 2, 2)
    assert graph.bonds == len(expected) - 4
    both = join_graphs([graph, graph])
    assert both.bonds == 2 * graph.bonds
    assert torch.equal(both.reverse_e[both.reverse_e], torch.arange(len(both.reverse_e)))
    assert torch.equal(both.length_e[both.reverse_e], both.length_e)


def test_channels_are_read_as_they_are_written():
    text = "32x0e+24x1o+8x1e+12x2e+4x2o"
    assert str(Channels.parse(text)) == text
    assert Channels.parse("4x0 + 2x1").about_bond == (6, 0, 2)
    assert Channels.parse(text).about_bond == (68, 12, 48, 16)


class TestSplines:
    def test_values_are_those_of_the_design(self):
        r = np.linspace(0.5, 9, 50)
        c = np.random.default_rng(0).normal(size=(23, 2))
        assert np.abs(spline_design(r, 1.0, 8.0, 23).sum(axis=1) - 1).max() < 1e-12
        assert np.abs(spline_design(r, 1.0, 8.0, 23) @ c - spline_values(r, 1.0, 8.0, c)).max() < 1e-12

    def test_smooth_functions_are_found_exactly_and_noise_is_not_followed(self):
        random = np.random.default_rng(0)
        r, new = random.uniform(1, 8, 3000), np.linspace(1, 8, 200)
        B, B_new = (spline_design(x, 1.0, 8.0, 63) for x in (r, new))
        smooth = fit_penalised(B, np.exp(-r)[:, None], roughness(63))
        assert np.abs(B_new @ smooth - np.exp(-new)[:, None]).max() < 1e-7
        few = slice(70)
        noisy = fit_penalised(B[few], (np.exp(-r) + random.normal(0, 0.1, len(r)))[few, None], roughness(63))
        assert np.abs(B_new @ noisy - np.exp(-new)[:, None]).max() < 0.2

    def test_values_of_a_group_do_not_foretell_each_other(self):
        """Noise that stands twice is not followed, in groups smaller and larger than the number of functions."""
        random = np.random.default_rng(0)
        r, new = random.uniform(1, 8, 70), np.linspace(1, 8, 200)
        B, B_new = (spline_design(x, 1.0, 8.0, 63) for x in (r, new))
        values, numbers = (np.exp(-r) + random.normal(0, 0.1, len(r)))[:, None], np.arange(len(r))
        once = B_new @ fit_penalised(B, values, roughness(63))
        for times in (2, 64):
            doubled = [np.repeat(rows, times, axis=0) for rows in (B, values)]
            assert np.abs(B_new @ fit_penalised(*doubled, roughness(63)) - once).max() > 0.3
            grouped = fit_penalised(*doubled, roughness(63), np.repeat(numbers, times))
            assert np.abs(B_new @ grouped - once).max() < 1e-6


def test_atoms_with_the_same_neighbours_are_known():
    """The two atoms of a body-centred cell with any displacement are one another's inversion; three are not, nor those of another structure."""
    kinds = []
    for positions in (
        [[0, 0, 0], [1.5, 1.4, 1.45]],
        [[0, 0, 0], [1.5, 1.4, 1.4]],
        [[0, 0, 0], [1.5, 1.4, 1.4], [0.8, 2, 0]],
    ):
        structure = Structure(
            2.87 * np.eye(3), np.ones(3, dtype=bool), np.array(positions), np.zeros(len(positions), int)
        )
        pairs = find_pairs(structure, np.array([[5.0]]), np.ones(len(positions), int))
        kinds.append(Neighbours.of(make_graph(structure, pairs, 1, 2), 0, [1.0], np.array([5.0])))
    numbers = equivalent_atoms(kinds)
    assert numbers[0] == numbers[1]
    assert numbers[2] == numbers[3]
    assert len(set(numbers.tolist())) == 5


@pytest.fixture(scope="module")
def waters():
    frames = []
    for n in range(24):
        random = np.random.default_rng(n)
        positions = np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]) + random.normal(0, 0.05, (3, 3))
        positions = positions @ random_rotation(n).T
        mf = scf.RHF(gto.M(atom=list(zip("OHH", positions.tolist(), strict=True)), basis="6-31g*", verbose=0))
        mf.kernel()
        frames.append(frame_from_scf(mf))
    return frames


class TestBaseline:
    def test_overlaps_are_exact_and_positive(self, waters):
        model = make_model(waters[:20], Config(operators="S"))
        for frame in waters[20:]:
            predicted = predict(model, structure_of(frame))
            S_x = operator_on(predicted, "S", frame.pairs).values_sx[0]
            assert np.abs(S_x - frame.operators["S"].values_sx[0]).max() < 1e-4  # twenty molecules tell no more
            assert np.abs(S_x - frame.operators["S"].values_sx[0]).mean() < 1e-6

    def test_the_baseline_alone_explains_most(self, waters):
        model = make_model(waters[:20], Config(operators="H", channels="1x0e"))
        for frame in waters[20:]:
            predicted = operator_on(predict(model, structure_of(frame)), "H", frame.pairs).values_sx
            exact = frame.operators["H"].values_sx
            assert np.abs(predicted - exact).mean() < 0.03 * np.abs(exact).mean()

    def test_a_shift_of_the_potential_is_a_multiple_of_the_overlap(self, waters):
        model = make_model(waters[:20], Config(operators="H", channels="1x0e"))
        pairs, _ = model.graph(structure_of(waters[0]))
        bonds = bond_frames(structure_of(waters[0]), pairs, model.blueprint.basis)
        S_fx = operator_on(waters[0], "S", pairs).values_sx
        form = model.blueprint.form("H")
        whole = tuple(map(np.ones_like, model.baselines["H"].share_tg))
        shared_fx = share_onsite(form, bonds, S_fx, form.take_apart(bonds, 2.5 * S_fx).onsite_s, whole)
        hopping_x = ~pairs.onsite_p[pairs.pair_x]
        assert np.abs(shared_fx - 2.5 * S_fx)[:, hopping_x].max() < 1e-12
