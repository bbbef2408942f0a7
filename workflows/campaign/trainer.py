"""The process that trains during a campaign: a line of JSON on its standard input is a training, a line on its standard output what came of it.

It has one thread and a low priority. The clock of a training is the processor's: what the runs take does not shorten it.
"""

import json
import os
import shutil
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from workflows.processes.clock import Clock
from workflows.processes.engines import end_with_parent

# So many frames or more: one in so many is kept to see how good the model is.
FOR_CHECKS, ONE_IN = 8, 8
NO_CHECKS = "0"
# Runs go first; at the lowest priority (19) a machine that has no idle processor would train at a fiftieth of its speed, until nothing is left to be started.
POLITE = 5
# Atoms in a step: those of small molecules cost little more than those of one, and a step learns more. Of so many frames it has as
# many as other trainings have, which are too few of fewer.
ATOMS, MOST_TOGETHER, MANY = 24, 8, 64


def main() -> None:
    os.nice(POLITE)
    Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = sys.stdout
    for line in sys.stdin:
        with redirect_stdout(sys.stderr):
            answer = answer_to(json.loads(line))
        print(json.dumps(answer), file=answers, flush=True)


def answer_to(wanted: dict[str, Any]) -> dict[str, Any]:
    """What came of a training: steps and errors, or why there is no model; and the processor's seconds of this process so far."""
    from converters.errors import Refused

    try:
        found = teach_anyway(Path(wanted["data"]), Path(wanted["model"]), wanted["before"], float(wanted["seconds"]))
    except (Refused, OSError, MemoryError) as error:
        found = {"refused": str(error)}
    return {**found, "cpu": time.process_time()}


def teach_anyway(data: Path, model_path: Path, before: str | None, seconds: float) -> dict[str, Any]:
    """`teach`, from nothing where the model before is of other runs than these."""
    from converters.errors import Kind, Refused

    try:
        return teach(data, model_path, before, seconds)
    except Refused as refusal:
        if before is None or refusal.kind is not Kind.OTHER_MODEL:
            raise
        return teach(data, model_path, None, seconds)


def frames_in_a_step(count: int, largest: int) -> int:
    """Of so many frames, the largest of which has so many atoms; 0: what is usual."""
    return 0 if count >= MANY else max(1, min(ATOMS // largest, count // 4, MOST_TOGETHER))


def teach(data: Path, model_path: Path, before: str | None, seconds: float) -> dict[str, Any]:
    """Train a model on all frames of a dataset, beginning with the weights of the model before where they fit."""
    import torch

    from converters.storage.dataset import Dataset
    from slem_plugin.checkpoint import BEST, load_model
    from slem_plugin.learning.further import config_like
    from workflows.train import train_folder

    torch.set_num_threads(1)
    clock = Clock()

    with Dataset(data) as frames:
        count, largest = len(frames), max(frame.natoms for frame in frames.outlines())
    validate = f"{1 / ONE_IN:.3f}" if count >= FOR_CHECKS else NO_CHECKS
    start = None if before is None else load_model(Path(before))
    config = replace(
        config_like(start),
        time=f"{seconds:.1f}",
        validate=validate,
        evaluations=6,
        workers=0,
        device="cpu",
        batch=frames_in_a_step(count, largest),
    )
    folder = model_path.with_suffix(".training")
    shutil.rmtree(folder, ignore_errors=True)
    reports: list[Any] = []
    train_folder(
        data,
        folder,
        config,
        resume=False,
        prepared=lambda *_: None,
        watch=clock.set,
        report=reports.append,
        before=start,
    )
    os.replace(folder / BEST, model_path)
    shutil.rmtree(folder)
    best = next((one for one in reversed(reports) if one.best), None)
    return {
        "frames": count,
        "steps": 0 if not reports else reports[-1].step,
        "errors": {} if best is None else best.errors,
        "checked": validate != NO_CHECKS,
    }


if __name__ == "__main__":
    main()
