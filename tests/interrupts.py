"""Ctrl-C at random moments of every command.

    python -m tests.interrupts --count 100

interrupts each command so many times, and then runs it to its end. It must say how to go on, leave no traceback, and end with what
an undisturbed run ends with. Python itself ignores a Ctrl-C in the middle of its own housekeeping, and says so.
"""

import argparse
import contextlib
import importlib
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pyscf.lib

import workflows
from converters.storage.dataset import Dataset
from tests.pyscf_runs import hydrogen_runs

# Each command, and what it makes; MADE stands for a file or folder that only it writes.
COMMANDS = {
    "convert": "convert RUNS -o MADE",
    "convert in two processes": "convert RUNS -o MADE -j 2",
    "check": "check DATA",
    "info": "info DATA",
    "train": "train DATA -o MADE --steps 4 --validate 1",
    "predict": "predict MODEL DATA -o MADE",
    "predict in pieces": "predict MODEL DATA -o MADE --pieces 2",
    "eval": "eval MODEL DATA",
    "report": "report MODEL DATA -o MADE",
    "overlap": "overlap DATA --basis def2-svp -o MADE",
    "bands": "bands DATA --model MODEL -o MADE.png",
    "spectrum": "spectrum DATA --levels 2 --dos=-20:10",
    "export": "export DATA --into CHECKPOINT -o MADE",
    "scf": "scf RUN --model MODEL --cmd PYTHON --compare",
}
# What follows a first call that was interrupted, where the same words would not go on.
AFTERWARDS = {"train": "--resume", "scf": "--overwrite"}

SCRIPT = """
from pyscf import gto, scf
from slem_plugin import pyscf_guess
mf = scf.RHF(gto.M(atom="H 0 0 0; H 0 0 0.7; H 0.2 1.6 0; H 1.4 0 0.7", basis="def2-tzvp", verbose=4, output="pyscf.log"))
mf.kernel(dm0=pyscf_guess(mf))
"""


def import_all():
    """Import what the commands import when they run, so that the children have it and an interrupt meets their work."""
    for module in pkgutil.walk_packages(workflows.__path__, "workflows."):
        if module.name != "workflows.__main__":
            importlib.import_module(module.name)


def prepare(folder):
    """Runs, a dataset and a model, by the names that stand for them in the commands."""
    import_all()
    places = {"RUNS": hydrogen_runs(folder / "runs", 6), "DATA": folder / "data.h5", "MODEL": folder / "model"}
    places |= {"RUN": folder / "script", "CHECKPOINT": places["RUNS"] / "h0" / "run.chk"}
    places["PYTHON"] = f"{sys.executable} run.py"
    places["RUN"].mkdir()
    (places["RUN"] / "run.py").write_text(SCRIPT)
    for words in ("convert RUNS -o DATA", "train DATA -o MODEL --steps 200 --validate 1"):
        code, said, _ = call(words, places)
        assert code == 0, said
    return places


def call(words, places, after=None):
    """Exit code, output and seconds of a command in a process of its own, which gets a Ctrl-C after some seconds."""
    named = [str(places.get(word, word)).replace("MADE", str(places.get("MADE"))) for word in words.split()]
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                run_and_end(named, said, after)
            os._exit(99)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read(), time.monotonic() - began


def run_and_end(words, said, after):
    from workflows.cli import main

    os.setsid()  # what the command leaves running is ended with it
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    code = 99
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        if after is not None:
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, after)
        try:
            main(words, prog_name="slem")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as end:  # noqa: BLE001 - a traceback is what is looked for
        # An interrupt that comes when the command has ended says nothing of it.
        ended = end.__context__ if isinstance(end, KeyboardInterrupt) else end
        if isinstance(ended, SystemExit):
            code = ended.code
        else:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def interrupt(name, places, made, moments):
    """What is wrong with a command that is interrupted after these parts of its time; nothing should be."""
    words = COMMANDS[name]
    places = places | {"MADE": made}
    code, said, seconds = call(words, places)
    if code:
        return [f"{name} ends with {code}: {said}"]
    whole = outcome(made)
    wrong = []
    for moment in moments:
        clean(places)
        code, said, _ = call(words, places, moment * seconds)
        ending = f"{name}, interrupted after {moment:.3f} of {seconds:.2f} s, ends with {code}: {said}"
        traceback_there = "Traceback" in said and "Exception ignored in" not in said and code != 130
        if said.rstrip().endswith("Aborted!"):  # click's own word, before the command begins and after it has ended
            code, said = 130, "interrupted"
        if code not in (0, 130) or traceback_there or (code == 130) != ("interrupted" in said):
            wrong.append(ending)
        more = AFTERWARDS.get(name, "") if code == 130 else ""
        if more == "--resume" and not (made / "last.safetensors").exists():
            more = ""
        if code == 130:
            code, said, _ = call(f"{words} {more}", places)
        if code or outcome(made) != whole:
            wrong.append(f"{ending}\n    afterwards {code}: {said}, {outcome(made)} in place of {whole}")
    clean(places)
    return wrong


def outcome(made):
    """What a command has made, as far as it is the same each time."""
    if not made.exists():
        return None
    if made.is_dir():
        return sorted(path.name for path in made.iterdir())
    if made.read_bytes()[1:4] != b"HDF":
        return "file"
    with Dataset(made) as data:
        return [(frame.formula, len(frame.pairs), sorted(frame.operators)) for frame in data]


def clean(places):
    for path in [*places["MADE"].parent.glob("made*"), *places["RUN"].parent.glob("script-slem-*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def run(count, seed, only):
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    pyscf.lib.num_threads(1)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        places = prepare(Path(folder))
        for name in COMMANDS:
            if only in name:
                wrong = interrupt(name, places, Path(folder) / "made", [draw.random() for _ in range(count)])
                print(f"{name}: {count} times, {len(wrong)} wrong", *wrong, sep="\n    ", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    run(options.count, options.seed, options.only)
