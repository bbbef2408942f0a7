"""Benchmark of what a start costs: prediction and export, beside one iteration of the user's code, for runs of any sizes."""

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused
from converters.frames.origin import Made
from converters.interrupts import kills_as_interrupts
from converters.starts.start import Target
from converters.starts.targets import find_target, restart_module
from workflows.export import Request, export
from workflows.processes.threads import threads_for
from workflows.scf.copies import RESULTS
from workflows.scf.queues import Here

if TYPE_CHECKING:
    from slem_plugin.model import Model

# An iteration is what runs of so many differ by, over the difference; the set-up varies by as much as an iteration of a small run takes.
FEW, MORE = 1, 8
# Starts of a process after its first; the quickest counts, which was disturbed least.
REPEATS = 3


def bench_cost(runs: Sequence[Path], folder: Path, model_path: Path, command: str) -> list[dict[str, Any]]:
    """Rows in CPU seconds: a start among many of one process, a start in a process of its own, and an iteration of the code."""
    from slem_plugin.checkpoint import load_model

    model = load_model(model_path)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for run in runs:
        target = find_target(run)
        atoms = len(target.labels_a)
        click.echo(f"{run}: starts of {atoms} atoms, then runs of {FEW} and of at most {MORE} iterations", err=True)
        predict_seconds, export_seconds, said = cost_of_start(model, target, folder / "start")
        iteration = cost_of_iteration(target, folder, command)
        rows.append(
            {
                "code": KNOWN[target.code].title,
                "atoms": atoms,
                **said,
                "prediction": predict_seconds,
                "export": export_seconds,
                "iteration": iteration,
                "start / iteration": (predict_seconds + export_seconds) / iteration,
                "in a process of its own": cost_alone(target, model_path, folder / "start"),
            }
        )
    return rows


def cost_of_start(model: "Model", target: Target, output: Path) -> tuple[float, float, dict[str, Any]]:
    """CPU seconds of the prediction and of the export, once the program has done it before, and what was made."""
    from slem_plugin.prediction import predict

    predicted, exported = [], []
    for _ in range(1 + REPEATS):
        began = time.process_time()
        with threads_for(len(target.labels_a)):
            frame = predict(model, target.atoms)
        between = time.process_time()
        done = export(frame, output, Request(), target)
        predicted.append(between - began)
        exported.append(time.process_time() - between)
        shutil.rmtree(output)
    points = 0 if target.kpoints_kc is None else len(target.kpoints_kc)
    learned = [name for name in frame.operators if frame.origin(name).made is Made.PREDICTED]
    said = {"orbitals": frame.norb, "k-points": points, "predicted": ", ".join(learned), "start": done.route.name}
    return min(predicted[1:]), min(exported[1:]), said


def cost_alone(target: Target, model_path: Path, output: Path) -> float:
    """CPU seconds of `slem-export` for this run, its imports among them."""
    run = target.folder
    words = [sys.executable, "-m", "workflows", "export", run, "--model", model_path, "--into", run]

    before = os.times()
    subprocess.run([*map(str, words), "-o", str(output)], check=True, capture_output=True)
    after = os.times()
    shutil.rmtree(output)
    return after.children_user + after.children_system - before.children_user - before.children_system


@kills_as_interrupts()
def cost_of_iteration(target: Target, folder: Path, command: str) -> float:
    """CPU seconds of one iteration of the code, from two runs that end early."""
    spent, taken = [], []
    for fewest, most in ((FEW, FEW), (FEW + 1, MORE)):  # the second one may converge before
        copy = folder / f"{target.folder.name}-{most}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(target.folder, copy, ignore=shutil.ignore_patterns(*RESULTS))
        name, content = restart_module(target.code).patch(target, at_most(target, most))
        (copy / name).write_text(content)
        ended = Here(command).wait(copy, "", {}, lambda: None)
        progress = restart_module(target.code).read_progress(copy)
        iterations = progress.iterations or 0
        if ended.returned or ended.cpu_seconds is None or not fewest <= iterations <= most:
            found = f"ended with exit code {ended.returned} after {progress.iterations} iterations"
            raise Refused(Kind.NO_RUN, copy, found, f"exit code 0 after {fewest} to {most}")
        spent.append(ended.cpu_seconds)
        taken.append(iterations)
    if spent[1] <= spent[0]:  # what the set-up takes varies by more
        click.echo(
            f"{target.folder}: {taken[1]} iterations took no longer than {taken[0]}; the time of one is not known",
            err=True,
        )
        return math.nan
    return (spent[1] - spent[0]) / (taken[1] - taken[0])


def at_most(target: Target, iterations: int) -> dict[str, str]:
    return {key: text.format(n=iterations) for key, text in KNOWN[target.code].at_most.items()}
