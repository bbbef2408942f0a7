"""What happens on a full disk, without permission, on a slow network, when the clock jumps and when a command is interrupted: nothing is lost, and it says how to go on."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from converters.errors import Refused
from converters.interrupts import uninterrupted
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.testing.codes import assert_same_frame
from tests.conftest import make_random_frame
from tests.fixtures import unpacked
from tests.forks import in_a_fork, obey_permissions
from tests.interrupts import COMMANDS, interrupt, prepare
from tests.pyscf_runs import hydrogen_runs
from workflows.cli import main

ROOT = Path(__file__).parent.parent


def slem(*words, prefix=(), **options):
    """A command that is started as a user starts it, with all its imports."""
    command = [*prefix, sys.executable, "-m", "workflows", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


ONE_AFTER_THE_OTHER = """
import json, sys
from workflows.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise
"""


def all_of(*commands, env):
    """Commands one after the other in one process that is started anew, up to the first that fails."""
    words = json.dumps([list(map(str, words)) for words in commands])
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER, words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def on_a_full_disk(largest, *words):
    """A command whose files may not grow beyond so many bytes."""
    return in_a_fork(words, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)))


def in_this_process(*words):
    """The exit code of a command; it costs no new imports."""
    return CliRunner().invoke(main, list(map(str, words))).exit_code


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return hydrogen_runs(tmp_path_factory.mktemp("runs"), 6)


@pytest.mark.parametrize("room", [0.3, 0.6, 0.95])
def test_a_full_disk_costs_only_what_was_not_there_yet(runs, tmp_path, room):
    data, whole = tmp_path / "data.h5", tmp_path / "whole.h5"
    assert in_this_process("convert", runs, "-o", whole) == 0
    assert in_this_process("convert", runs / "h0", "-o", data) == 0
    with Dataset(data) as stored:
        (before,) = list(stored)
    small, large = data.stat().st_size, whole.stat().st_size
    done = on_a_full_disk(int(small + room * (large - small)), "convert", runs, "-o", data)
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in said
    assert "file too large; all that it held is there, make room and run the same command again" in said
    with Dataset(data) as stored:
        assert_same_frame(stored[0], before)
    assert in_this_process("convert", runs, "-o", data) == 0
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
    assert in_this_process("convert", runs, "-o", folder / "data.h5") == 0
    options = ("--steps", 2, "--validate", 1)
    assert in_this_process("train", folder / "data.h5", "-o", folder / "model", *options) == 0
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
    done = on_a_full_disk(3000, *words)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
    assert "too large" in done.stderr.lower() or "cannot be written" in done.stderr
    if made.is_dir():
        shutil.rmtree(made)
    assert in_this_process(*words) == 0, "the same command goes on"


@pytest.mark.parametrize("room", [0.3, 0.9])
def test_a_small_disk_that_is_full_loses_nothing(runs, prepared, tmp_path, room):
    """A file system of its own in the memory, with room for a part of what is to be written."""
    folder = prepared[0].parent
    data, after = folder / f"first{room}.h5", folder / f"after{room}.h5"
    assert in_this_process("convert", runs / "h0", "-o", data) == 0
    small, large = data.stat().st_size, prepared[0].stat().st_size
    mount = f"mount -t tmpfs -o size={int(small + room * (large - small))} none {tmp_path}"
    then = f'cp "$1" {tmp_path}/data.h5 && shift && ("$@"; echo "exit $?"); cp {tmp_path}/data.h5 "$0"'
    prefix = ["unshare", "-rm", "sh", "-c", f"{mount} && {then}", after, data]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    done = slem("convert", runs, "-o", tmp_path / "data.h5", prefix=prefix)
    assert "exit 1" in done.stdout, done.stderr
    assert "no space left on device; all that it held is there" in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr
    with Dataset(data) as before, Dataset(after) as left:
        assert len(left) >= 1
        assert_same_frame(left[0], before[0])
    assert in_this_process("convert", runs, "-o", after) == 0
    with Dataset(after) as stored:
        assert len(stored) == 6


def as_user(*words):
    """A command that obeys permissions, which the superuser need not."""
    return in_a_fork(words, obey_permissions if os.geteuid() == 0 else lambda: None)


@pytest.mark.parametrize("command", ["convert", "overlap", "predict", "train", "report", "bands", "export", "scf"])
def test_a_folder_that_may_not_be_written_is_named(runs, prepared, tmp_path, command):
    data, model = prepared
    closed = tmp_path / "closed"
    (closed / "run").mkdir(parents=True)
    (closed / "run" / "run.py").write_text("")
    made = closed / "made"
    words = {
        "convert": ("convert", runs, "-o", made),
        "overlap": ("overlap", data, "--basis", "def2-tzvp", "-o", made),
        "predict": ("predict", model, data, "-o", made),
        "train": ("train", data, "-o", made, "--steps", 2, "--validate", 1),
        "report": ("report", model, data, "-o", made),
        "bands": ("bands", data, "-o", closed / "made.png"),
        "export": ("export", data, "--into", runs / "h0", "-o", made),
        "scf": ("scf", closed / "run", "--model", model, "--cmd", "true"),
    }[command]
    closed.chmod(0o500)
    done = as_user(*words)
    closed.chmod(0o700)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, said
    assert "permission denied" in said.lower()
    assert "Traceback" not in said
    assert [path.name for path in closed.iterdir()] == ["run"]


def test_files_that_may_not_be_read_are_named_and_the_others_converted(tmp_path):
    runs = hydrogen_runs(tmp_path / "runs", 3)
    (runs / "h0" / "run.chk").chmod(0)
    (runs / "h1").chmod(0)
    done = as_user("convert", runs, "-o", tmp_path / "data.h5")
    (runs / "h1").chmod(0o700)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "permission denied" in said
    assert "1 converted, 2 refused" in said
    (tmp_path / "data.h5").chmod(0)
    done = as_user("check", tmp_path / "data.h5")
    assert done.returncode == 2
    assert "is not readable" in done.stderr


@pytest.fixture(scope="module")
def on_network(tmp_path_factory):
    """The environment of a program whose files are slow, whose reads are short, and which can lock nothing."""
    if shutil.which("cc") is None:
        pytest.skip("a network is played by a library that a C compiler makes")
    library = tmp_path_factory.mktemp("network") / "network.so"
    source = Path(__file__).parent / "network_files.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def test_a_slow_network_without_locks_changes_nothing(runs, prepared, tmp_path, on_network):
    """Runs of all codes become the same bytes as on a disk, and so do predictions."""
    codes = {"siesta": ("nc_o2", "si2"), "abacus": ("si2",), "openmx": ("h2o",)}
    given = {"pyscf": [runs], **{code: [unpacked(code, name) for name in names] for code, names in codes.items()}}
    here, there = ({code: tmp_path / f"{code}{end}.h5" for code in given} for end in ("", "-network"))
    for code, folders in given.items():
        assert in_this_process("convert", *folders, "-o", here[code]) == 0
    conversions = [("convert", *folders, "-o", there[code]) for code, folders in given.items()]
    done = all_of(*conversions, ("check", *there.values()), env=on_network)
    assert done.returncode == 0, done.stdout
    for code in given:
        assert here[code].read_bytes() == there[code].read_bytes()
    data, model = prepared
    assert in_this_process("predict", model, data, "-o", tmp_path / "here") == 0
    assert slem("predict", model, data, "-o", tmp_path / "there", env=on_network).returncode == 0
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_a_clock_that_jumps_changes_nothing(prepared, tmp_path, on_network):
    """The time of day jumps by days at each look: the training has its length, and what is written has no time in it."""
    data, _ = prepared
    jumping = {**on_network, "JUMPING_CLOCK": "1"}
    options = ("--time", "2s", "--validate", 1, "--json")
    began = time.monotonic()
    training = ("train", data, "-o", tmp_path / "model", *options)
    prediction = ("predict", tmp_path / "model", data, "-o", tmp_path / "there", "--json")
    done = all_of(training, prediction, env=jumping)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 300
    learned, _ = json.JSONDecoder().raw_decode(done.stdout)
    seconds = [one["seconds"] for one in learned["evaluations"]]
    assert seconds == sorted(seconds)
    assert 2 <= seconds[-1] < 60
    assert in_this_process("predict", tmp_path / "model", data, "-o", tmp_path / "here") == 0
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_two_processes_do_not_write_one_file(runs, tmp_path):
    data = tmp_path / "data.h5"
    assert in_this_process("convert", runs / "h0", "-o", data) == 0
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


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGHUP])
def test_a_kill_ends_the_runs_that_were_started(tmp_path, kill):
    """`timeout`, the end of a job and a closed terminal kill slem-scf alone; the code that it runs leads a session of its own."""
    script = f"""
import signal
signal.signal({int(kill)}, signal.SIG_DFL)
from pathlib import Path
from types import SimpleNamespace
from workflows.scf.queues import Here
from workflows.scf.run_folders import run_all
engine = Here("echo $$ > begun; sleep 100 & wait")
job = SimpleNamespace(at_once=1, engine=engine)
run_all([Path.cwd()], SimpleNamespace(job=job, run=lambda folder: engine.wait(folder, "", {{}}, lambda: None)))
"""
    (tmp_path / "watch.py").write_text(script)
    process = subprocess.Popen([sys.executable, "watch.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    begun = tmp_path / "begun"
    wait_until(lambda: begun.exists() and begun.read_text().endswith("\n"))
    group = int(begun.read_text())
    process.send_signal(kill)
    assert process.communicate(timeout=60)[1].endswith("KeyboardInterrupt\n")
    wait_until(lambda: not is_there(group))


def wait_until(true):
    """Half a minute at most."""
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("it took too long")


def is_there(group):
    """Whether a group has processes."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
