"""Whole runs with the radial functions of the codes' own distributions, which are not ours to keep.

SLEM_DISTRIBUTIONS names a folder with <code>/fixtures.tar.xz of `abacus`, `openmx` and `siesta`: run folders, and beside them `orb/`
and `pao/`. Without it the proofs that need them are skipped, and the end of the test run says so.
"""

import functools
import os
import tarfile
from pathlib import Path

import pytest

from tests.fixtures import scratch


@functools.cache
def distributed(code):
    """The folder of such runs of a code; do not write into it."""
    archive = Path(os.environ.get("SLEM_DISTRIBUTIONS", ""), code, "fixtures.tar.xz")
    if not archive.is_file():
        pytest.skip(f"SLEM_DISTRIBUTIONS names no folder with runs of {code} and their radial functions")
    folder = scratch()[1] / "distributed" / code
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder
