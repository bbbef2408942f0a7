"""What happens on a full disk, in a folder that may not be written, and when a command is interrupted: nothing is lost, and it says how to go on."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from converters.dataset import Dataset, DatasetWriter
from converters.errors import Refused
from converters.interrupts import uninterrupted
from tests.conftest import assert_same_frame, make_random_frame
from tests.interrupts import COMMANDS, interrupt, prepare
from tests.pyscf_runs import hydrogen_runs

ROOT = Path(__file__).parent.parent


def slem(*words, largest=None, **options):
    """A command in a process of its own; no file may grow beyond so many bytes, as on a full disk."""

    def limit():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    command = [sys.executable, "-m", "workflows", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit, check=False, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return hydrogen_runs(tmp_path_factory.mktemp("runs"), 6)


@pytest.mark.parametrize("room", [0.3, 0.6, 0.95])
def test_a_full_disk_costs_only_what_was_not_there_yet(runs, tmp_path, room):
    data, whole = tmp_path / "data.h5", tmp_path / "whole.h5"
    assert slem("convert", runs, "-o", whole).returncode == 0
    assert slem("convert", runs / "h0", "-o", data).returncode == 0
    with Dataset(data) as stored:
        (before,) = list(stored)
    small, large = data.stat().st_size, whole.stat().st_size
    done = slem("convert", runs, "-o", data, largest=int(small + room * (large - small)))
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in said
    assert "file too large; all that it held is there, make room and run the same command again" in said
    with Dataset(data) as stored:
        assert_same_frame(stored[0], before)
    assert slem("convert", runs, "-o", data).returncode == 0
    with Dataset(data) as stored, Dataset(whole) as expected:
        assert len(stored) == len(expected) == 6
        for mine, theirs in zip(stored, expected, strict=True):
            assert_same_frame(mine, theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.h5", "whole.h5"]


def test_a_journal_that_does_not_fit_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(1))
    real = Path.write_bytes

    def full(self, content):
        if "journal" in self.name:
            real(self, content[:100])
            raise OSError(28, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with (
        pytest.raises(Refused, match="no space left on device; all that it held is there"),
        DatasetWriter(path) as writer,
    ):
        writer.append(make_random_frame(2))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["data.h5"]
    with Dataset(path) as data:
        assert_same_frame(data[0], make_random_frame(1))


@pytest.fixture(scope="module")
def prepared(runs, tmp_path_factory):
    """A dataset and a model."""
    folder = tmp_path_factory.mktemp("prepared")
    assert slem("convert", runs, "-o", folder / "data.h5").returncode == 0
    options = ("--steps", 2, "--validate", 1)
    assert slem("train", folder / "data.h5", "-o", folder / "model", *options).returncode == 0
    return folder / "data.h5", folder / "model"


@pytest.mark.parametrize("command", ["overlap", "predict", "train", "report", "bands"])
def test_a_full_disk_is_one_line_in_every_command(prepared, tmp_path, command):
    data, model = prepared
    made = tmp_path / "made"
    words = {
        "overlap": ("overlap", data, "--basis", "def2-tzvp", "-o", made),
        "predict": ("predict", model, data, "-o", made),
        "train": ("train", data, "-o", made, "--steps", 2, "--validate", 1),
        "report": ("report", model, data, "-o", made),
        "bands": ("bands", data, "-o", tmp_path / "made.png"),
    }[command]
    done = slem(*words, largest=3000)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
    assert "too large" in done.stderr.lower() or "cannot be written" in done.stderr
    if made.is_dir():
        shutil.rmtree(made)
    assert slem(*words).returncode == 0, "the same command goes on"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(runs, tmp_path):
    tmp_path.chmod(0o500)
    done = slem("convert", runs, "-o", tmp_path / "data.h5")
    tmp_path.chmod(0o700)
    assert done.returncode == 1
    assert "permission denied" in done.stderr.lower()


def test_two_processes_do_not_write_one_file(runs, tmp_path):
    data = tmp_path / "data.h5"
    assert slem("convert", runs / "h0", "-o", data).returncode == 0
    with DatasetWriter(data):
        done = slem("convert", runs, "-o", data)
    assert done.returncode == 1
    assert "is in use by another process; wait for it to end, or write elsewhere" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads do not survive a fork
    yield prepare(tmp_path_factory.mktemp("places"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_goes_on_after_an_interrupt(places, tmp_path, command):
    assert interrupt(command, places, tmp_path / "made", moments=(0.4, 0.8)) == []


def test_an_interrupt_waits_for_the_end_of_a_write():
    done = []

    @uninterrupted()
    def write():
        signal.raise_signal(signal.SIGINT)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
