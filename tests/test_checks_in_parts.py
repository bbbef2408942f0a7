"""Checks of large predictions stretch by stretch find what the checks of the whole frame find."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from pyscf import gto, scf

from converters.frames.blocks import Operator
from converters.frames.frame import with_matrix
from converters.physics.checks import Tolerances, check_frame
from converters.physics.checks_in_parts import check_source, in_parts
from converters.physics.sparse import Source
from converters.pyscf import frame_from_scf
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from workflows import check
from workflows.cli import main

LIMITS = Tolerances(largest_dense=10)


@pytest.fixture(scope="module")
def water():
    """Two water molecules as a prediction would have them."""
    atoms = "; ".join(f"O 0 0 {3 * n}; H 0 0.76 {3 * n + 0.59}; H 0 -0.76 {3 * n + 0.59}" for n in range(2))
    mf = scf.RHF(gto.M(atom=atoms, basis="6-31g", verbose=0))
    mf.kernel()
    frame = frame_from_scf(mf)
    return replace(frame, spectrum=None, provenance=replace(frame.provenance, predicted=True))


def changed(frame, name, places, factor):
    values_sx = frame.operators[name].values_sx.copy()
    values_sx[:, places] *= factor
    return with_matrix(frame, name, Operator(values_sx), frame.origin(name))


def fewer_pairs(frame):
    """The frame without the pair whose overlap is largest but for the onsite ones."""
    S_x = np.abs(frame.operators["S"].values_sx[0])
    largest_p = np.maximum.reduceat(S_x, frame.pairs.start_p[:-1]) * ~frame.pairs.onsite_p
    kept_p = np.arange(len(frame.pairs)) != largest_p.argmax()
    kept_x = kept_p[frame.pairs.pair_x]
    operators = {name: Operator(operator.values_sx[:, kept_x]) for name, operator in frame.operators.items()}
    return replace(frame, pairs=frame.pairs.take(np.flatnonzero(kept_p)), operators=operators)


CHANGES = {
    "sound": lambda frame: frame,
    "electrons": lambda frame: changed(frame, "DM", slice(None), 1.1),
    "diagonal": lambda frame: changed(frame, "S", 0, 1.01),
    "asymmetric": lambda frame: changed(frame, "H", 1, 1.5),
    "two-centre": lambda frame: changed(frame, "S", slice(120, 140), -1),
    "not finite": lambda frame: changed(changed(frame, "H", 5, np.nan), "DM", slice(200, 210), np.inf),
    "pair left out": fewer_pairs,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_parts_find_what_the_whole_finds(water, change, tmp_path):
    frame = CHANGES[change](water)
    with DatasetWriter(tmp_path / "d.h5") as writer:
        writer.append(frame)
    with Dataset(tmp_path / "d.h5") as data:
        whole = check_frame(data[0], LIMITS)
        source = Source.of_dataset(data, 0, at_once=200)
        assert in_parts(source.outline, LIMITS)
        parts = check_source(source, LIMITS)
    assert {result.name for result in parts} == {result.name for result in whole}
    assert all(result.ok is not False for result in parts) == (change == "sound")
    for one, other in zip(parts, whole, strict=True):
        assert (one.name, one.ok, one.kind, one.wanted) == (other.name, other.ok, other.kind, other.wanted)
        if one.name != "finite numbers":  # the whole counts other matrices' places too
            assert one.found == pytest.approx(other.found, abs=1e-12)


def test_slem_check_reads_large_predictions_in_parts(water, tmp_path, monkeypatch):
    with DatasetWriter(tmp_path / "d.h5") as writer:
        writer.append(water)
    monkeypatch.setattr(check, "in_parts", lambda outline: True)
    monkeypatch.setattr(check, "check_source", lambda source: check_source(source, LIMITS))
    monkeypatch.setattr(Dataset, "__getitem__", None)  # the whole is not read
    found = CliRunner().invoke(main, ["check", str(tmp_path / "d.h5")])
    assert (found.exit_code, "1 of 1 sound" in found.stdout) == (0, True), found.output
