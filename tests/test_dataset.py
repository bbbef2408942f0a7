"""The dataset file: exact round trips, damage, locks, and kills at any moment."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.errors import Refused
from converters.frames.blocks import make_pairs
from converters.storage.dataset import Dataset
from converters.storage.journal import JournaledFile, journal_path
from converters.storage.writer import DatasetWriter
from slem_plugin.testing.codes import assert_same_frame
from tests.conftest import make_random_frame
from workflows.info import mixture

ROOT = Path(__file__).parent.parent


def write(folder, frames):
    path = folder / "data.h5"
    with DatasetWriter(path) as writer:
        for frame in frames:
            writer.append(frame)
    return path


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("commit_every", [1, 3])
def test_frames_come_back_to_the_last_bit(tmp_path, spin, commit_every):
    frames = [make_random_frame(n, spin, natoms=2 + n % 3, masked=n % 2 == 0) for n in range(7)]
    frames[2] = replace(frames[2], operators={"H": frames[2].operators["H"]}, spectrum=None)
    path = tmp_path / "data.h5"
    with DatasetWriter(path, commit_every=commit_every) as writer:
        for frame in frames[:4]:
            writer.append(frame)
    with DatasetWriter(path) as writer:
        for frame in frames[4:]:
            writer.append(frame)
    with Dataset(path) as data:
        assert (len(data), data.code) == (7, "test")
        for n in (6, 0, 3, 1, 5, 2, 4, -1):
            assert_same_frame(data[n], frames[n])
        assert data.sources() == {frame.provenance.source for frame in frames}
        with pytest.raises(IndexError, match="there is no frame 7"):
            data[7]


@pytest.mark.parametrize("spin", list(Spin))
def test_any_h5py_reads_the_file(tmp_path, spin):
    """The 15-line reader of the specification, run as it stands there."""
    frame = make_random_frame(4, spin)
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(make_random_frame(1, Spin.COLLINEAR))
        writer.append(frame)
    text = (ROOT / "docs" / "dataset.md").read_text()
    code = re.search(r"```python\n(# reader.*?)```", text, re.S)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    space: dict = {}
    exec(code, space)  # the page is ours
    for name in ("H", "S"):
        positions, pairs, blocks = space["read_frame"](str(tmp_path / "data.h5"), 1, name)
        np.testing.assert_array_equal(positions, frame.positions_av)
        np.testing.assert_array_equal(pairs[:, 2:], frame.pairs.R_pc)
        for p, block in enumerate(blocks):
            np.testing.assert_array_equal(block, frame.block_of_pair(name, p))


def test_matrices_are_compressed_where_that_makes_the_file_much_smaller(tmp_path):
    frame = make_random_frame(3, Spin.NONE)
    empty = frame.operators["S"].values_sx.copy()
    empty[:, empty.shape[1] // 3 :] = 0
    frame = replace(frame, operators={**frame.operators, "S": replace(frame.operators["S"], values_sx=empty)})
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(frame)
    with h5py.File(tmp_path / "data.h5") as file:
        kinds = {name: file[f"{name}/values"].compression for name in ("H", "S", "DM")}
    assert kinds == {"H": None, "S": "gzip", "DM": None}
    with Dataset(tmp_path / "data.h5") as data:
        assert_same_frame(data[0], frame)


def test_spins_and_bases_may_differ_and_codes_may_not(tmp_path):
    path = tmp_path / "data.h5"
    frames = [make_random_frame(n, spin) for n, spin in enumerate(Spin)]
    other_basis = tuple(replace(species, radial="other") for species in frames[0].basis)
    frames.append(replace(frames[0], basis=other_basis))
    carbon = Species("C", 6, parse_shells("2s1p"), "r3")
    pairs = make_pairs([0], [0], [[0, 0, 0]], np.array([carbon.size]))
    single = {"species_a": np.array([0]), "positions_av": np.zeros((1, 3)), "pairs": pairs, "operators": {}}
    frames.append(replace(frames[0], basis=(carbon,), **single))
    with DatasetWriter(path) as writer:
        for frame in frames:
            writer.append(frame)
        with pytest.raises(Refused, match=r"is of abacus; .* holds test"):
            writer.append(make_random_frame(1, code="abacus"))
    with Dataset(path) as data:
        for n, frame in enumerate(frames):
            assert_same_frame(data[n], frame)
        assert [species.name for species in data.basis] == ["Si", "O", "Si", "O", "C"]
    assert mixture(path) == ["3 spin layouts (collinear, none, spinor)", "2 bases of Si", "2 bases of O"]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        for n in range(3):
            writer.append(make_random_frame(n))
    whole = path.read_bytes()
    cases = {
        "cut.h5": (whole[: len(whole) // 2], "is cut off"),
        "text.h5": (b"hello" * 100, "is not an HDF5 file"),
        "empty.h5": (b"", "is not an HDF5 file"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        for opener in (Dataset, DatasetWriter):
            with pytest.raises(Refused, match=message):
                opener(tmp_path / name)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(Refused, match='format "None"; expected "slem-dataset"'):
        Dataset(tmp_path / "foreign.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(Refused, match="has version 99 of slem-dataset; this program reads versions 1 to 2"):
        Dataset(path)
    with pytest.raises(Refused, match="no such file"):
        Dataset(tmp_path / "missing.h5")


def test_elements_that_do_not_exist_are_refused(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(1))
    with h5py.File(path, "r+") as file:
        file["basis/number"][0] += 1 << 20
    for opener in (Dataset, DatasetWriter):
        with pytest.raises(Refused, match="atomic number 10485"):
            opener(path)


def test_lying_offsets_are_refused(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        for n in range(3):
            writer.append(make_random_frame(n))
    with h5py.File(path, "r+") as file:
        ends = file["frames/ends"][:]
        ends[1, 2] = 1 << 60
        file["frames/ends"][:] = ends
    with Dataset(path) as data:
        assert_same_frame(data[0], make_random_frame(0))
        with pytest.raises(Refused, match="frame 1: cannot be read: pairs ends at"):
            data[1]


def test_a_second_writer_is_told_so(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
        with pytest.raises(Refused, match="is in use by another process"):
            DatasetWriter(path)


def test_an_error_while_writing_leaves_the_last_commit(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
    before = path.read_bytes()
    writer = DatasetWriter(path, commit_every=9)
    writer.append(make_random_frame(1))
    writer.__exit__(RuntimeError, RuntimeError("stop"), None)
    assert path.read_bytes() == before


class Killed(Exception):
    pass


@pytest.mark.parametrize("survived", ["journal", "half applied"])
def test_a_commit_interrupted_at_any_step_is_finished_by_the_next_reader(tmp_path, monkeypatch, survived):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))

    def stop(journaled):
        if survived == "half applied":
            number = next(iter(journaled.pages))
            os.pwrite(journaled.descriptor, bytes(journaled.pages[number]), number * 4096)
        raise Killed

    writer = DatasetWriter(path)
    monkeypatch.setattr(JournaledFile, "_apply", stop)
    with pytest.raises(Killed):
        writer.append(make_random_frame(1))
    monkeypatch.undo()
    os.close(writer._journaled.descriptor)  # what a kill does: nothing is flushed, the lock is gone
    assert journal_path(path).exists()
    with Dataset(path) as data:  # reading lays the journal over the file and leaves both alone
        assert_same_frame(data[1], make_random_frame(1))
    assert journal_path(path).exists()
    with DatasetWriter(path) as again:
        again.append(make_random_frame(2))
    assert not journal_path(path).exists()
    with Dataset(path) as data:
        for n in range(3):
            assert_same_frame(data[n], make_random_frame(n))


def test_a_damaged_journal_is_refused(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
    journal_path(path).write_bytes(b"SLEMJRN1" + b"\0" * 40)
    with pytest.raises(Refused, match="journal: is damaged"):
        Dataset(path)


WRITE_FOREVER = """
import sys
from tests.conftest import make_random_frame
from converters.storage.writer import DatasetWriter
frames = [make_random_frame(n) for n in range(5)]
with DatasetWriter(sys.argv[1]) as writer:
    n = 0
    while True:
        writer.append(frames[n % 5])
        n += 1
        print(n, flush=True)
"""


def kill_a_writer(path, delay):
    """Frames that a writer reported as appended before it was killed, and that a reader finds."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    reported = max([1, *map(int, re.findall(r"(\d+)\n", process.stdout.read()))])
    process.wait()
    process.stdout.close()
    with h5py.File(path, "r") as file:  # a stranger's reader, without our journal
        assert file["frames/ends"].shape[0] >= reported - 1
    with Dataset(path) as data:
        assert len(data) in (reported, reported + 1)
        for n in range(len(data)):
            assert_same_frame(data[n], make_random_frame(n % 5))
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(7))
    with Dataset(path) as data:
        assert_same_frame(data[len(data) - 1], make_random_frame(7))
    return reported


def test_a_killed_writer_leaves_every_complete_frame(tmp_path):
    random = np.random.default_rng(0)
    for n in range(3):
        assert kill_a_writer(tmp_path / f"{n}.h5", random.uniform(0.0, 0.3)) >= 1


if __name__ == "__main__":  # all 50 tries: python -m tests.test_dataset SCRATCH_FOLDER
    chosen = np.random.default_rng(int(time.time()))
    counts = [kill_a_writer(Path(sys.argv[1]) / f"{n}.h5", chosen.uniform(0.0, 1.0)) for n in range(50)]
    print(f"50 kills, all files whole; frames before the kill: {min(counts)} to {max(counts)}")


def test_slices_and_negative_numbers_as_python_has_them(tmp_path):
    frames = [make_random_frame(seed, Spin.NONE) for seed in range(4)]
    path = write(tmp_path, frames)
    with Dataset(path) as data:
        for part in (slice(1, 3), slice(None, None, -1), slice(10, 20), slice(-2, None)):
            found, expected = data[part], frames[part]
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                assert_same_frame(a, b)
        assert_same_frame(data[np.int64(-1)], frames[-1])
        with pytest.raises(IndexError, match="no frame 4"):
            data[4]


@pytest.mark.parametrize("installed", [True, False])
def test_a_table_of_what_the_runs_said(installed, tmp_path, monkeypatch):
    if not installed:
        monkeypatch.setattr("converters.storage.pandas_table.find_spec", lambda name: None)
    elif not find_spec("pandas"):
        pytest.skip("pandas is not installed")
    frames = [make_random_frame(seed, Spin.NONE) for seed in (1, 2)]
    path = write(tmp_path, frames)
    with Dataset(path) as data:
        table = data.table()
    energies = list(table["energy"]) if installed else [row["energy"] for row in table]
    assert energies == [frame.outcome.energy for frame in frames]
