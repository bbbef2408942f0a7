"""Charges of the density of H are brought to those of DM: potentials that were put on the atoms of a run are found again, and its own density with them."""

from dataclasses import replace

import numpy as np
import pytest

from converters.frames.blocks import Operator
from converters.physics.populations import populations
from converters.starts.agreement import levels_of
from converters.starts.charges import ENOUGH, Atoms, response, with_charges_of_density, with_potentials
from converters.starts.fit import sampling_of
from tests.fixtures import frames_of
from workflows.export import Request, export


def wrong_by(frame, v_a):
    """The frame with H as it were with potentials on its atoms, its levels, and the sampling of its run."""
    wrong = with_potentials(frame, np.array(v_a))
    sampling = sampling_of(frame, None, None)
    return wrong, levels_of(wrong, sampling), sampling


@pytest.mark.parametrize(
    ("code", "name", "v_a"), [("siesta", "ptse2", (0.03, -0.02, -0.01)), ("siesta", "soc", (0.03, -0.03))]
)
def test_potentials_on_atoms_are_found_and_taken_back(code, name, v_a):
    """The density is then the run's own, and only then."""
    (frame,) = frames_of(code, name)
    wrong, levels, sampling = wrong_by(frame, v_a)
    mended, done, note = with_charges_of_density(wrong, levels, sampling)
    assert "on the atoms give the density of H the charges of the predicted DM" in note
    anew = levels_of(mended, sampling)
    assert anew.agreement.apart < 0.05 * levels.agreement.apart
    np.testing.assert_allclose(
        done.frame.operators["DM"].values_sx, anew.frame.operators["DM"].values_sx, rtol=0, atol=1e-9
    )
    moved_sx = mended.operators["H"].values_sx - frame.operators["H"].values_sx
    assert (
        np.abs(moved_sx - moved_sx.mean()).max()
        < 0.1 * np.abs(wrong.operators["H"].values_sx - frame.operators["H"].values_sx).max()
    )


def test_small_errors_are_taken_back_without_another_solution(monkeypatch):
    """Where H alone is wanted and the response is linear; solved anew, the charges are those of DM."""
    (frame,) = frames_of("siesta", "ptse2")
    wrong, levels, sampling = wrong_by(frame, (0.006, -0.004, -0.002))
    monkeypatch.setattr("converters.starts.charges.density_with", None)
    mended, done, note = with_charges_of_density(wrong, levels, sampling, needs_density=False)
    assert note
    assert done is levels
    found_a, wanted_a = (populations(one).sum(axis=0) for one in (levels_of(mended, sampling).frame, frame))
    np.testing.assert_allclose(found_a, wanted_a, atol=ENOUGH)
    assert np.abs(populations(levels.frame).sum(axis=0) - wanted_a).max() > 10 * ENOUGH


def test_the_response_is_that_of_the_charges(capsys):
    (frame,) = frames_of("siesta", "ptse2")
    sampling, step = sampling_of(frame, None, None), 1e-3
    solved_at = sampling.with_partners().without_partners()
    found_aa = response(levels_of(frame, sampling).density.orbitals, Atoms.of(frame), solved_at).charges_aa
    charges = [
        populations(levels_of(with_potentials(frame, sign * step * np.eye(3)[0]), sampling).frame).sum(axis=0)
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(found_aa[:, 0], (charges[0] - charges[1]) / (2 * step), rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(found_aa.sum(axis=0), 0, atol=1e-9)


def test_what_speaks_against_the_density_leaves_h_as_it_is(tmp_path):
    """A DM that lost 2 % of its electrons, errors that are no small potentials, and charges that are right already."""
    (frame,) = frames_of("siesta", "ptse2")
    wrong, levels, sampling = wrong_by(frame, (0.03, -0.02, -0.01))
    DM = wrong.operators["DM"].values_sx
    lost = replace(wrong, operators={**wrong.operators, "DM": Operator(0.98 * DM)})
    assert with_charges_of_density(lost, levels, sampling)[2] == ""
    assert with_charges_of_density(*wrong_by(frame, (1.5, -1.0, -0.5)))[2] == ""
    assert with_charges_of_density(*wrong_by(frame, (0.0, 0.0, 0.0)))[2] == ""
    for purify, told in (("auto", True), ("none", False)):
        done = export(wrong, tmp_path / purify, Request(format="siesta", route="h2dm", purify=purify))
        assert any("potentials of up to" in note for note in done.notes) == told
