"""Levels at k-points that were printed with few digits: what those move is allowed, and nothing more."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest

from converters import siesta
from converters.codes.digits import rounding_of
from converters.openmx.text import place_kpoints
from converters.physics import kspace
from converters.physics.checks import check_frame
from converters.physics.kpoint_digits import level_moves
from converters.runs import search
from tests.fixtures import frames_of, unpacked

NAME = "eigenvalues against the printed ones"
RUNS = (("siesta", "spin"), ("siesta", "soc"), ("openmx", "si2_v38"))


def with_kpoints(frame, kpoints_kc, error=0.0):
    return replace(frame, spectrum=replace(frame.spectrum, kpoints_kc=kpoints_kc, kpoint_error=error))


def result_of(frame):
    return {result.name: result for result in check_frame(frame)}[NAME]


@pytest.mark.parametrize(("code", "name"), RUNS)
def test_levels_at_rounded_kpoints_pass_and_wrong_ones_are_found(code, name):
    """The same run with k-points of 4 digits: levels move by up to 1e-3 eV, as far as is allowed; a level that is off by more is found."""
    frame = few_kpoints(frames_of(code, name)[0])
    error = 5e-5
    off_kc = np.random.default_rng(0).uniform(-error, error, (4, 3))
    rounded = with_kpoints(frame, frame.spectrum.kpoints_kc + off_kc, error)
    assert result_of(frame).ok
    assert not result_of(with_kpoints(frame, rounded.spectrum.kpoints_kc)).ok
    passed = result_of(rounded)
    assert passed.ok, str(passed)
    assert "since the printed k-points may be off by 5e-05" in passed.expected
    moves_skn = level_moves(frame, rounded.spectrum.kpoints_kc, error)
    levels_skn = frame.spectrum.energies_skn.copy()
    for at in ((0, 1, 0), (0, 2, 3)):
        wrong_skn = levels_skn.copy()
        wrong_skn[at] += 2.1 * moves_skn[at] + 3 * frame.spectrum.tolerance
        wrong = result_of(replace(rounded, spectrum=replace(rounded.spectrum, energies_skn=wrong_skn)))
        assert not wrong.ok
        assert wrong.found < 0.05


def few_kpoints(frame):
    """A frame with four of the k-points of its run, and no DM."""
    spectrum = frame.spectrum
    chosen = np.linspace(0, len(spectrum.weights_k) - 1, 6).astype(int)[1:5]
    short = replace(
        spectrum,
        kpoints_kc=spectrum.kpoints_kc[chosen],
        weights_k=spectrum.weights_k[chosen],
        energies_skn=spectrum.energies_skn[:, chosen],
    )
    return replace(frame, spectrum=short, operators={name: frame.operators[name] for name in ("H", "S")})


@pytest.mark.parametrize(("code", "name"), RUNS)
def test_no_level_moves_further_than_is_said_and_many_move_so_far(code, name):
    """Against the levels at k-points that are moved to the corners of what the digits leave open."""
    (frame,) = frames_of(code, name)
    kpoints_kc = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.21, 0.13, -0.37]])
    for error in (1e-6, 1e-4):
        moves_skn = level_moves(frame, kpoints_kc, error)
        at_skn = kspace.eigenvalues(frame, kpoints_kc)
        farthest_skn = np.zeros_like(at_skn)
        for corner in itertools.product((-error, 0.3 * error, error), repeat=3):
            farthest_skn = np.maximum(farthest_skn, np.abs(kspace.eigenvalues(frame, kpoints_kc + corner) - at_skn))
        assert (farthest_skn <= 1.02 * moves_skn + 1e-9).all()
        at_general_k = farthest_skn[:, 2] / moves_skn[:, 2]
        assert np.median(at_general_k) > 0.95


def test_the_digits_of_a_number_say_how_far_it_may_be_off():
    for word, off in (("0.204108E+00", 5e-7), ("-0.33333", 5e-6), ("1.5d-03", 5e-5), ("0", 0.5)):
        assert rounding_of(word) == pytest.approx(off)


def test_kpoints_of_siesta_are_those_of_the_mesh_or_as_good_as_their_digits(tmp_path):
    """HSX files have no mesh; the output has."""
    folder = tmp_path / "run"
    folder.mkdir()
    for suffix in ("HSX", "XV", "KP", "EIG", "ORB_INDX", "out"):
        shutil.copy(unpacked("siesta", "si2") / f"si2.{suffix}", folder)
    exact = read_folder(folder)
    assert exact.spectrum.kpoint_error == 0
    (folder / "si2.out").unlink()
    printed = read_folder(folder)
    assert printed.spectrum.kpoint_error == pytest.approx(8.17e-7, rel=1e-3)
    off_kc = printed.spectrum.kpoints_kc - exact.spectrum.kpoints_kc
    assert 1e-8 < np.abs(off_kc).max() <= printed.spectrum.kpoint_error
    assert result_of(printed).ok


def read_folder(folder):
    (run,) = search(folder, ["siesta"])
    (frame,) = siesta.read_run(run)
    return frame


def test_kpoints_of_openmx_that_are_not_of_the_mesh_stay_as_they_are():
    assert place_kpoints(np.array([[-0.33333, 0, 0], [0.0, 0, 0]]), np.array([4, 1, 1])) is None
