"""Against e3nn: the algebra of `basis/` to l = 8, and blocks that are handed to it and come back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from e3nn import o3

from basis.couplings import block_to_irreps, coupling
from basis.harmonics import solid_harmonics
from basis.rotations import wigner
from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.frames.blocks import Operator
from slem_plugin import from_e3nn, to_e3nn
from slem_plugin.e3nn_blocks import axes, e3nn_matrix
from slem_plugin.network.channels import Channels
from slem_plugin.testing.frames import made_frame, random_rotation, random_structure, rotate_block, two_species

HIGHEST = 8


@pytest.fixture(autouse=True)
def in_double_precision():
    """The generators of e3nn's rotations have the default precision of torch."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(usual)


def test_harmonics_are_e3nns_with_its_axes():
    xyz = np.random.default_rng(0).normal(size=(20, 3))
    xyz /= np.linalg.norm(xyz, axis=1)[:, None]
    for l, mine in enumerate(solid_harmonics(HIGHEST, xyz)):
        theirs = o3.spherical_harmonics(l, torch.from_numpy(xyz), normalize=False, normalization="integral").numpy()
        np.testing.assert_allclose(mine @ axes(l).T, theirs, atol=1e-12)


@pytest.mark.parametrize("l", range(HIGHEST + 1))
def test_rotations_are_e3nns_with_its_axes(l):
    Q = random_rotation(l)
    theirs = o3.wigner_D(l, *o3.matrix_to_angles(torch.from_numpy(Q))).numpy()
    np.testing.assert_allclose(axes(l) @ wigner(l, Q) @ axes(l).T, theirs, atol=1e-9)


def test_couplings_are_e3nns_but_for_their_signs():
    for l1 in range(HIGHEST + 1):
        for l2 in range(l1 + 1):
            for L in range(l1 - l2, min(l1 + l2, HIGHEST) + 1):
                turned = np.einsum("abc,ia,jb,kc->ijk", coupling(l1, l2, L), axes(l1), axes(l2), axes(L), optimize=True)
                theirs = np.sqrt(2 * L + 1) * o3.wigner_3j(l1, l2, L, dtype=torch.float64).numpy()
                sign = np.sign(np.sum(turned * theirs))
                np.testing.assert_allclose(turned, sign * theirs, atol=1e-12)


@pytest.mark.parametrize(("l1", "l2"), [(0, 0), (1, 0), (1, 2), (3, 2), (4, 4)])
def test_blocks_have_the_irreps_of_the_algebra_without_torch(l1, l2):
    irreps, Q = block_to_irreps(l1, l2)
    start, theirs = 0, e3nn_matrix(l1, l2, 1)
    for irrep in irreps:
        here = slice(start, start + 2 * irrep.l + 1)
        turned = axes(irrep.l) @ Q[here]
        np.testing.assert_allclose(np.sign(np.sum(turned * theirs[here])) * turned, theirs[here], atol=1e-12)
        start = here.stop


CASES = [("2s1p", Spin.NONE), ("2s2p1d", Spin.COLLINEAR), ("1s1p1d1f1g", Spin.NONE), ("1s1p1d1f1g", Spin.SPINOR)]


@pytest.mark.parametrize(("shells", "spin"), CASES)
def test_blocks_come_back(shells, spin):
    frame = made_frame(random_structure(), two_species(shells), spin)
    if spin is Spin.SPINOR:  # also what time reversal forbids
        values_sx = frame.operators["H"].values_sx
        frame = replace(frame, operators={**frame.operators, "H": Operator(values_sx * np.exp(0.3j))})
    for name in ("H", "S", "DM"):
        blocks = to_e3nn(frame, name)
        assert all(one.values_pf.shape == (len(one.pairs_p), one.irreps.dim) for one in blocks.values())
        back = from_e3nn(frame, name, blocks)
        np.testing.assert_allclose(back.values_sx, frame.operators[name].values_sx, atol=1e-12)


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "inversion"])
@pytest.mark.parametrize(("shells", "spin"), CASES)
def test_blocks_turn_by_e3nns_matrices(shells, spin, improper):
    frame = made_frame(random_structure(), two_species(shells), spin)
    Q = random_rotation(7, improper)
    turned = turned_frame(frame, "H", Q)
    for kind, (irreps, values_pf, _) in to_e3nn(frame, "H").items():
        D = irreps.D_from_matrix(torch.from_numpy(Q))
        np.testing.assert_allclose(values_pf @ D.T, to_e3nn(turned, "H")[kind].values_pf, atol=1e-9)


def turned_frame(frame, name, Q):
    """A frame of the turned structure, each block turned by the definition."""
    values_sx, pairs, shells_a = (
        frame.operators[name].values_sx.copy(),
        frame.pairs,
        [frame.basis[s].shells for s in frame.species_a],
    )
    for p, (i, j) in enumerate(zip(pairs.i_p, pairs.j_p, strict=True)):
        block = rotate_block(pairs.block(values_sx, p), shells_a[i], shells_a[j], Q, frame.layout(name))
        values_sx[:, pairs.start_p[p] : pairs.start_p[p + 1]] = block.reshape(len(block), -1)
    return replace(
        frame, cell_cv=frame.cell_cv @ Q.T, positions_av=frame.positions_av @ Q.T,
        operators={**frame.operators, name: Operator(values_sx)},
    )  # fmt: skip


def test_the_block_of_an_s_and_a_p_shell_is_a_vector_of_e3nn():
    basis = (Species("Si", 14, parse_shells("1s")), Species("O", 8, parse_shells("1p")))
    frame = made_frame(random_structure(natoms=2, pbc=(False, False, False), size=2.0), basis, Spin.NONE)
    vectors_pv = frame.vectors_pv
    onto = np.zeros_like(frame.operators["H"].values_sx)
    for p in np.flatnonzero(~frame.pairs.onsite_p):
        onto[0, frame.pairs.start_p[p] : frame.pairs.start_p[p + 1]] = vectors_pv[p][
            [1, 2, 0]
        ]  # <s|p> along the bond: y, z, x
    blocks = to_e3nn(replace(frame, operators={"H": Operator(onto)}), "H")[0, 1]
    assert blocks.irreps == o3.Irreps("1x1o")
    np.testing.assert_allclose(blocks.values_pf, vectors_pv[blocks.pairs_p], atol=1e-12)


def test_channels_are_irreps():
    for text in ("32x0e+24x1o+8x1e", "2x0o + 3x0e+1x2e+4x2e", "8x1e+32x0e"):
        assert Channels.parse(text) == Channels.of(o3.Irreps(text)) == Channels.parse(str(Channels.parse(text)))
        assert o3.Irreps(str(Channels.parse(text))).dim == o3.Irreps(text).dim
