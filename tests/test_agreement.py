"""The distance of predicted H and DM: nothing for the matrices of one run, a known number for known errors, the SCF's own gradient."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import gto, scf
from scipy import linalg

from converters.frames.blocks import Operator
from converters.physics import kspace
from converters.pyscf import frame_from_scf
from converters.starts.agreement import levels_of, measure_agreement
from converters.starts.fit import sampling_of
from tests.fixtures import frames_of


def with_matrix(frame, name, values_sx):
    return replace(frame, operators={**frame.operators, name: Operator(values_sx)})


@pytest.fixture(scope="module")
def water():
    mf = scf.RHF(gto.M(atom="O 0 0 0; H 0 0.76 0.59; H 0 -0.76 0.59", basis="6-31g", verbose=0))
    mf.conv_tol = 1e-12
    mf.kernel()
    return mf, frame_from_scf(mf)


@pytest.mark.parametrize(
    ("code", "name", "least"),
    [("siesta", "si2", 1e-5), ("siesta", "spin", 1e-4), ("openmx", "spin", 1e-5), ("abacus", "si2", 1e-7)],
)
def test_matrices_of_one_run_agree(code, name, least):
    (frame,) = frames_of(code, name)
    found = measure_agreement(frame, sampling_of(frame, None, None))
    assert found.apart < least


def test_a_density_that_lost_a_tenth_is_a_tenth_of_two_electrons_a_pair_away(water):
    _, frame = water
    lost = with_matrix(frame, "DM", 0.9 * frame.operators["DM"].values_sx)
    found = measure_agreement(lost, sampling_of(frame, None, None))
    assert found.apart == pytest.approx(0.1 * np.sqrt(2), abs=1e-6)
    assert found.gradient < 1e-3  # it still commutes with H


def test_the_gradient_is_the_commutator_of_the_predicted_matrices(water):
    """H D S - S D H of the two predictions needs no levels; for a molecule it is the gradient in which PySCF would begin."""
    mf, frame = water
    random = np.random.default_rng(0)
    moved = frame
    for name in ("H", "DM"):
        values_sx = frame.operators[name].values_sx
        moved = with_matrix(moved, name, values_sx + random.normal(0, 1e-3, values_sx.shape))
    H, D, S = (kspace.dense_at(moved, name, np.zeros(3))[0].real for name in ("H", "DM", "S"))
    root = linalg.inv(linalg.sqrtm(S).real)
    expected = np.linalg.norm(root @ (H @ D @ S - S @ D @ H) @ root) / np.sqrt(mf.mol.nelectron)
    assert measure_agreement(moved, sampling_of(moved, None, None)).gradient == pytest.approx(expected, rel=1e-6)


def test_points_that_stand_for_their_partners_are_completed():
    (frame,) = frames_of("siesta", "si2")
    listed = sampling_of(frame, None, None)
    whole = listed.with_partners()
    assert len(listed.kpoints_kc) < len(whole.kpoints_kc) == 27
    np.testing.assert_allclose(whole.weights_k, 1 / 27, atol=1e-7)
    one, other = (levels_of(frame, sampling).agreement for sampling in (listed, whole))
    assert one.apart == pytest.approx(other.apart, rel=1e-6)


def test_what_cannot_be_compared_is_not(water):
    _, frame = water
    sampling = sampling_of(frame, None, None)
    for missing in ("H", "S", "DM"):
        kept = {name: operator for name, operator in frame.operators.items() if name != missing}
        assert measure_agreement(replace(frame, operators=kept), sampling) is None
    broken = with_matrix(frame, "S", -frame.operators["S"].values_sx)
    assert measure_agreement(broken, sampling) is None
