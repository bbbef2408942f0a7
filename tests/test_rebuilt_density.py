"""DM of H and S in the place of one that is missing: that of the code, in every spin layout, or the reason why it is not built."""

from dataclasses import replace

import numpy as np
import pytest

from converters import pyscf
from converters.frames.origin import Made
from converters.physics.checks import Tolerances
from converters.physics.repair import rebuilt_density, without_density
from tests.fixtures import frames_of
from tests.test_pyscf import make

RUNS = {
    ("abacus", "h2o_gamma_only"): 1e-10,
    ("openmx", "h2o"): 1e-8,
    ("openmx", "spin"): 1e-6,
    ("openmx", "soc"): 1e-8,
    ("siesta", "h2o"): 1e-5,
    ("siesta", "ptse2"): 1e-6,
    ("siesta", "spin"): 1e-4,
    ("siesta", "nc_o2"): 1e-6,
    ("siesta", "soc"): 1e-4,
}


@pytest.mark.parametrize(("code", "name"), RUNS)
def test_it_is_the_density_of_the_code_on_the_pattern_of_the_code(code, name):
    (frame,) = frames_of(code, name)
    bare = without_density(frame, "it was asked for")
    assert "DM" not in bare
    assert bare.provenance.notes[-1] == "DM is left out: it was asked for"
    assert without_density(bare, "again") is bare
    built, own = rebuilt_density(bare, Tolerances()), frame["DM"]
    assert str(built.origin("DM")) == Made.FILLED.value
    known_x = np.ones(frame.pairs.elements, dtype=bool) if own.known_x is None else own.known_x
    if own.known_x is not None:
        np.testing.assert_array_equal(built["DM"].known_x, own.known_x)
    assert np.abs(built["DM"].values_sx - own.values_sx)[:, known_x].max() < RUNS[code, name]
    assert not built["DM"].values_sx[:, ~known_x].any()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spectrum": None}, "at which k-points levels were filled, and how"),
        ({"outcome": {"electrons": None}}, "how many electrons there are"),
        ({"fixed_moment": True}, "the moment was held fixed, and the files do not say at which value"),
        ({"smearing": ""}, "at which k-points levels were filled, and how"),
    ],
)
def test_a_density_that_cannot_be_built_says_why(change, reason):
    frame = without_density(frames_of("siesta", "h2o")[0], "it was asked for")
    if "outcome" in change:
        frame = replace(frame, outcome=replace(frame.outcome, **change["outcome"]))
    elif "spectrum" in change:
        frame = replace(frame, spectrum=None)
    else:
        frame = replace(frame, spectrum=replace(frame.spectrum, **change))
    asked = rebuilt_density(frame, Tolerances())
    assert "DM" not in asked
    assert asked.provenance.notes[-1].startswith("DM is not built: ")
    assert reason in asked.provenance.notes[-1]


@pytest.mark.parametrize("kind", ["UKS", "KRHF", "KUHF", "GHF"])
def test_densities_of_pyscf_are_kept_or_built_anew(kind):
    """A crystal with two spins does not say its moment, so only its own DM is there."""
    frame = pyscf.frame_from_scf(make(kind))
    assert rebuilt_density(frame, Tolerances()) is frame
    built = rebuilt_density(without_density(frame, "it was asked for"), Tolerances())
    if kind == "KUHF":
        assert "DM is not built: the moment was held fixed" in built.provenance.notes[-1]
    else:
        assert np.abs(built["DM"].values_sx - frame["DM"].values_sx).max() < 1e-6
