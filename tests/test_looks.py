"""A frame that one can look at: blocks in both directions, matrices at k, the names of orbitals."""

import re
from dataclasses import replace

import numpy as np
import pytest

from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.origin import FileForm
from converters.physics import kspace
from tests.conftest import make_random_frame
from tests.fixtures import frames_of, unpacked


@pytest.mark.parametrize("spin", list(Spin))
def test_a_block_is_there_in_both_directions(spin):
    frame = make_random_frame(3, spin)
    for p in range(len(frame.pairs)):
        i, j, R = frame.pairs.i_p[p], frame.pairs.j_p[p], frame.pairs.R_pc[p]
        for name in frame:
            block, back = frame.block(name, i, j, R), frame.block(name, j, i, -R)
            np.testing.assert_array_equal(block, frame.block_of_pair(name, p))
            adjoint = back.conj().swapaxes(1, 2)
            if frame.layout(name) is Spin.SPINOR:
                adjoint = adjoint[[0, 2, 1, 3]]
            np.testing.assert_array_equal(block, adjoint)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("H", -1, 0), "has 3 atoms and no atom -1; expected a number from 0 to 2"),
        (("H", 0, 3), "has 3 atoms and no atom 3"),
        (("H", 0, 0, (9, 9, 9)), r"holds no block between atoms 0 and 0 in cell \(9, 9, 9\); expected a pair up to"),
        (("H", 0, 0, (0.5, 0, 0)), "expected three whole numbers"),
        (("H", 0, 0, (0, 0)), "expected three whole numbers"),
        (("T", 0, 0), "holds no T; expected one of H, S, DM"),
    ],
)
def test_a_block_that_is_not_there_is_said_to_be_so(arguments, found):
    frame = make_random_frame(3, Spin.NONE)
    assert frame.natoms == 3
    with pytest.raises(Refused, match=found):
        frame.block(*arguments)


@pytest.mark.parametrize("p", [-1, 10_000])
def test_a_pair_that_is_not_there_is_said_to_be_so(p):
    with pytest.raises(Refused, match="pairs and no pair") as refusal:
        make_random_frame(3, Spin.NONE).block_of_pair("H", p)
    assert refusal.value.kind is Kind.NO_SUCH_CHOICE


@pytest.mark.parametrize("spin", list(Spin))
def test_matrices_at_k_are_sums_over_dense_cells(spin):
    frame, k = make_random_frame(5, spin), [0.1, -0.3, 0.4]
    for name, matrix in (("H", frame.H), ("S", frame.S), ("DM", frame.DM)):
        R_tc, M_tsMM = frame.to_dense(name)
        slow = sum(np.exp(2j * np.pi * np.dot(k, R)) * M_sMM for R, M_sMM in zip(R_tc, M_tsMM, strict=True))
        expected = np.squeeze(kspace.dense_at(frame, name, np.array(k)))
        np.testing.assert_allclose(matrix(k), expected, atol=1e-13)
        if frame.layout(name) is not Spin.SPINOR:
            np.testing.assert_allclose(
                np.squeeze(slow), np.squeeze(matrix(k))[..., : frame.norb, : frame.norb], atol=1e-13
            )


def test_what_is_seen_first():
    frame = make_random_frame(3, Spin.NONE)
    assert re.fullmatch(r"<\w+ frame: \w+, \d+ orbitals, \d+ pairs, H\+S\+DM, spin none>", repr(frame))
    assert repr(replace(frame, provenance=replace(frame.provenance, predicted=True))).startswith("<predicted ")
    named = replace(frame, provenance=replace(frame.provenance, path="<script>"))
    assert "<script>" not in named._repr_html_()
    assert "H" in frame
    assert "T" not in frame
    assert frame["S"] is frame.operators["S"]


def test_siesta_names_rows_as_its_own_index_does():
    """ORB_INDX is SIESTA's own list of its orbitals."""
    (frame,) = frames_of("siesta", "si2")
    lines = (unpacked("siesta", "si2") / "si2.ORB_INDX").read_text().splitlines()[3:]
    rows = [line.split() for line in lines[: frame.norb]]
    own = {int(row[0]): (int(row[1]) - 1, int(row[6]), int(row[7]), int(row[8])) for row in rows}
    for orbital in frame.orbitals:
        assert own[orbital.code_row] == (orbital.atom, orbital.shell.l, orbital.m, orbital.shell.zeta)
        assert orbital.code_sign == (-1) ** orbital.m
    assert str(frame.orbitals[2]).startswith("Si1 3")


def test_pyscf_names_its_rows_alike():
    from pyscf import gto, scf

    from converters.pyscf import frame_from_scf

    mf = scf.RHF(gto.M(atom="O 0 0 0; H 0 -0.76 0.59; H 0 0.76 0.59", basis="def2-tzvp", verbose=0)).run(max_cycle=1)
    frame = frame_from_scf(mf)
    theirs = mf.mol.ao_labels(fmt=False)
    assert {orbital.code_sign for orbital in frame.orbitals} == {1}
    assert sorted(orbital.code_row for orbital in frame.orbitals) == list(range(1, frame.norb + 1))
    for orbital in frame.orbitals:
        atom, symbol, shell, harmonic = theirs[orbital.code_row - 1]
        assert (atom, symbol) == (orbital.atom, orbital.symbol)
        if orbital.shell.l in (1, 2):
            assert f"_{harmonic.replace('^', '')} " in f"{orbital} ", (str(orbital), shell, harmonic)


def test_without_a_convention_rows_are_not_guessed():
    frame = make_random_frame(3, Spin.NONE)
    assert frame.provenance.form == FileForm()
    assert all(orbital.code_row is None for orbital in frame.orbitals)


@pytest.mark.parametrize("name", ["si2", "spin"])
def test_sisl_sees_the_same_bands(name):
    pytest.importorskip("sisl")
    (frame,) = frames_of("siesta", name)
    theirs, k = frame.to_sisl(), [0.1, 0.2, -0.3]
    expected = np.atleast_2d(kspace.eigenvalues(frame, np.array([k]))[:, 0])
    for s, levels in enumerate(expected):
        found = theirs.eigh(k=k, spin=s) if len(expected) > 1 else theirs.eigh(k=k)
        np.testing.assert_allclose(found, levels, atol=1e-8)
