"""Kills of predictions in pieces: `python -m tests.kills FOLDER` kills a run at 20 random moments, and a worker 20 times, and compares the files."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from ase.io import write

from converters.errors import Refused
from tests.test_pieces import ROOT, made_model, predicted, spread_out
from workflows.predict import Cutting
from workflows.processes.engines import Processes
from workflows.processes.pieces import pieces_folder


def kill_runs(folder, times=20, natoms=400):
    """Kill whole runs, then single workers, at random moments; each run must end with the bytes of one that was left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "s.xyz", spread_out(natoms, (27, 23, 25), (True, True, True)))
    model_path = made_model(folder)
    expected = predicted(model_path, folder / "s.xyz", folder / "expected.h5", cutting=Cutting(12)).read_bytes()
    random = np.random.default_rng(0)
    output, kills, runs = folder / "killed.h5", 0, 0
    words = ["predict", model_path, folder / "s.xyz", "-o", output, "--pieces", 12]
    engines = ([], ["--workers", 2], None)
    while kills < times:
        output.unlink(missing_ok=True)
        done, runs = False, runs + 1
        while not done:
            extra = engines[random.integers(3)]
            launcher = (
                ["workflows"]
                if extra is not None
                else ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "workflows"]
            )
            command = [sys.executable, "-m", *launcher, *map(str, words), *map(str, extra or [])]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and not pieces_folder(output).exists():
                time.sleep(0.01)  # it still imports
            try:
                done = process.wait(random.uniform(0, 5)) == 0
            except subprocess.TimeoutExpired:
                victim = process.pid if extra is not None else rank_of(process.pid) or process.pid
                os.kill(victim, signal.SIGKILL)
                process.wait()
                kills += 1
                time.sleep(1.0)  # workers notice that their parent is gone
        assert output.read_bytes() == expected
    print(f"{kills} runs or ranks were killed, {runs} predictions ended with the same bytes")
    output.unlink()
    with Processes(2, "spawn") as engine:
        killer = threading.Thread(target=kill_workers, args=(engine, times))
        killer.start()
        rounds = 0
        while killer.is_alive():
            output.unlink(missing_ok=True)
            try:
                predicted(model_path, folder / "s.xyz", output, cutting=Cutting(12), engine=engine)
            except Refused as refusal:  # the same piece was hit twice
                print(refusal)
                predicted(model_path, folder / "s.xyz", output, cutting=Cutting(12), engine=engine)
            assert output.read_bytes() == expected
            rounds += 1
    print(f"{times} workers were killed, {rounds} predictions ended with the same bytes")


def rank_of(launcher):
    """One of the ranks that a torchrun process started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return int(children[-1]) if children else None


def kill_workers(engine, times, seed=0):
    """Kill some of the processes of an engine, each a moment after it began."""
    random = np.random.default_rng(seed)
    for _ in range(times):
        time.sleep(random.uniform(0.3, 1.5))
        victims = list((engine._pool._processes or {}).values())
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims[0].pid, signal.SIGKILL)


if __name__ == "__main__":
    kill_runs(Path(sys.argv[1]))
