"""Bars: on a terminal they say what matters, in a pipe they are silent, and without colours where that is wished."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import threading
from unittest.mock import MagicMock, patch

import pytest

from converters.pyscf import frame_from_scf
from converters.storage.writer import DatasetWriter
from tests.pyscf_runs import finished
from workflows.cli import main
from workflows.terminal import progress as bars

COLOUR = re.compile(r"\x1b\[[0-9;]*\b(?:3[0-8]|9[0-7])[0-9;]*m")


def on_terminal(*words, **variables):
    """Exit code of a command, and what it writes to a terminal of 160 columns as its stderr."""
    leader, follower = pty.openpty()
    written = bytearray()
    reader = threading.Thread(target=read_all, args=(leader, written))
    reader.start()
    environment = {"TERM": "xterm-256color", "COLUMNS": "160", **variables}
    with (
        open(follower, "w") as terminal,
        patch.dict(os.environ, environment),
        contextlib.redirect_stderr(terminal),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(SystemExit) as end,
    ):
        main([str(word) for word in words])
    reader.join()
    os.close(leader)
    return end.value.code, written.decode()


def read_all(leader, written):
    """Everything that a terminal gets, until it is closed."""
    with contextlib.suppress(OSError):  # Linux says so at the end
        while part := os.read(leader, 4096):
            written += part


@pytest.fixture(scope="module")
def hydrogen(tmp_path_factory):
    """A dataset of four molecules."""
    from pyscf import gto

    folder = tmp_path_factory.mktemp("hydrogen")
    with DatasetWriter(folder / "data.h5") as writer:
        for bond in (0.7, 0.74, 0.8, 0.86):
            molecule = gto.M(atom=f"H 0 0 0; H 0 0 {bond}", basis="6-31g", verbose=0)
            writer.append(frame_from_scf(finished(molecule)))
    return folder


def test_a_terminal_shows_errors_speed_and_time(hydrogen):
    data, model = hydrogen / "data.h5", hydrogen / "model"
    code, text = on_terminal("train", data, "-o", model, "--steps", "8", "--validate", "0")
    assert code == 0
    assert re.search(r"step 8, loss [\d.]+, [\d.]+ steps/s, H [\d.]+ meV", text)
    expected = {
        ("eval", model, data): r"evaluating.*4/4.*H [\d.]+ meV.*\d(/s|s each)",
        ("check", data): r"checking.*4/4.*\d(/s|s each)",
        ("convert", hydrogen, "-o", hydrogen / "none.h5"): r"converting",
        ("bands", data): r"k-points.*\d/\d+",
        ("spectrum", data): r"looking at the spectrum",
        ("info", data): r"looking at it",
        ("report", model, data, "-o", hydrogen / "report.html"): r"looking at frames.*H [\d.]+ meV",
        ("predict", model, data, "-o", hydrogen / "pred.h5"): r"predicting.*4/.*H2",
        ("overlap", data, "--basis", "6-31g", "-o", hydrogen / "overlap.h5"): r"overlaps.*4/4",
        ("export", hydrogen / "pred.h5", "-o", hydrogen / "start"): r"writing the start",
    }
    for words, pattern in expected.items():
        _, text = on_terminal(*words)
        assert re.search(pattern, text), (words[0], text)


def test_colours_may_be_declined(hydrogen):
    assert COLOUR.search(on_terminal("check", hydrogen / "data.h5")[1])
    assert not COLOUR.search(on_terminal("check", hydrogen / "data.h5", NO_COLOR="1")[1])


def test_a_pipe_hears_nothing_of_short_work(hydrogen):
    command = [sys.executable, "-m", "workflows", "check", hydrogen / "data.h5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_a_pipe_hears_a_line_of_long_work_now_and_then(capsys, monkeypatch):
    """What is left is foretold from the steps, not from what was prepared before the first one."""
    clock = iter([0, 100, 102, 130, 160])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(bars, "Progress", MagicMock())
    with bars.progress("predicting") as tell:
        tell(1, 10)  # after 100 seconds of preparations
        tell(2, 10)
        tell(4, 10, "H 3 meV")
        tell(6, None)
    assert capsys.readouterr().err.splitlines() == [
        "predicting: 2 of 10, 102 s",
        "predicting: 4 of 10, 130 s, about 60 s to go, H 3 meV",
        "predicting: 6, 160 s",
    ]
