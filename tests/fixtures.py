"""Fixtures: folders of real runs, unpacked once, and their frames; and the contract of codes over them."""

import atexit
import functools
import tarfile
import tempfile
from pathlib import Path

from slem_plugin.testing.codes import CodeContract, frames_in

DATA = Path(__file__).parent / "data"


@functools.cache
def scratch():
    """A folder that lives as long as the tests."""
    holder = tempfile.TemporaryDirectory(prefix="slem-fixtures-")
    atexit.register(holder.cleanup)
    return holder, Path(holder.name)


@functools.cache
def unpacked(code, name):
    """Folder of a fixture; do not write into it."""
    folder = scratch()[1] / code
    with tarfile.open(DATA / code / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


@functools.cache
def frames_of(code, name):
    return frames_in(code, unpacked(code, name))


class ContractOfFixtures(CodeContract):
    """The contract over the fixtures tests/data/CODE/NAME.tar.xz."""

    def folder_of(self, name):
        return unpacked(self.code, name)

    def frames_of(self, name):
        return frames_of(self.code, name)
