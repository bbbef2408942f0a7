"""Runs of other people, where SLEM_DISTRIBUTIONS names a folder with foreign/: each is right, or refused for a true reason."""

import os
from pathlib import Path

import pytest

from converters.errors import Refused
from tests.foreign_table import folders_below, outcome_of, unpacked_copy

FOREIGN = Path(os.environ.get("SLEM_DISTRIBUTIONS", "nowhere"), "foreign")
# What cannot be read, and why.
REFUSED = {
    "mgo_pyscf_folded": "blocks are sums over images",
    "pt2_soc_tshs_no_orbindx": "does not say which orbitals its atoms have",
}
# Where only DM is not that of the run: it was never written, or is that of another geometry.
NO_DENSITY = {
    "cri3_nc_dm_never_written": "was never written",
    "h2_hessian_5.1_fc": "DM is left out: Tr(DM S)",
}


@pytest.mark.skipif(not FOREIGN.is_dir(), reason="SLEM_DISTRIBUTIONS names no folder with runs of other people")
@pytest.mark.parametrize("folder", folders_below(FOREIGN) if FOREIGN.is_dir() else [], ids=lambda path: path.name)
def test_is_right_or_refused_for_a_true_reason(folder, tmp_path):
    outcome = outcome_of(unpacked_copy(folder, tmp_path))
    if folder.name in REFUSED:
        assert isinstance(outcome, Refused)
        assert REFUSED[folder.name] in outcome.reason
        return
    assert not isinstance(outcome, Refused), str(outcome)
    frame, note = outcome
    assert {"H", "S"} <= set(frame.operators)
    assert "left out" not in note
    if folder.name in NO_DENSITY:
        assert "DM" not in frame.operators
        assert NO_DENSITY[folder.name] in " ".join(frame.provenance.notes)
    else:
        assert "left out" not in " ".join(frame.provenance.notes)
