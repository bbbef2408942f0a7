"""A few damaged files of each kind; `python -m tests.fuzz` damages many."""

import pytest
import torch

from tests.fuzz import GOOD, corpus, outcome_of, try_one

KINDS = (
    ".orb",
    ".pao",
    ".ion.xml",
    ".ion.nc",
    "dataset",
    "model",
    "configuration",
    "input of a run of abacus",
    "input of a run of siesta",
    "input of a run of openmx",
    "STRU as a structure",
    "xyz",
    "cif",
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    threads = torch.get_num_threads()
    yield corpus(tmp_path_factory.mktemp("corpus"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kinds, kind):
    assert set(kinds) == set(KINDS)
    source, read = kinds[kind]
    assert outcome_of(source, read) == ("read", "")
    for seed in range(8):
        outcome, detail, what = try_one(source, read, seed)
        assert outcome in GOOD, f"seed {seed}, {what}: {outcome}: {detail}"
