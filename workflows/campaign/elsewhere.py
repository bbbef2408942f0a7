"""Runs that were finished elsewhere: their results lie in the folder itself, beside the input that they belong to."""

from pathlib import Path

import numpy as np

from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Refused
from converters.frames.frame import Frame
from converters.runs import code_module, search
from converters.starts.fit import SAME_PLACE, match_atoms
from converters.starts.start import Target
from converters.starts.targets import code_of_scripts
from workflows.scf.outcome import Outcome, Start
from workflows.scf.run_folders import Subject


def finished_elsewhere(folder: Path, subject: Subject) -> Outcome | None:
    """The run whose results lie in a folder, where it ended well and is that of the input; None where there is none."""
    code = subject.target.code if subject.target is not None else code_of_scripts(folder)
    runs = [run for run in search(folder, [code]) if isinstance(run, Run)] if code else []
    if len(runs) != 1:
        return None
    progress = subject.read_progress(folder)
    if progress.energy is None or progress.converged is False or progress.iterations is None:
        return None
    if not (is_newer(runs[0], folder, code) if subject.target is None else has_structure(runs[0], subject.target)):
        return None
    start = Start(str(folder), None, 0, progress)
    atoms = progress.atoms if subject.target is None else len(subject.target.labels_a)
    return Outcome(str(folder), "ok", str(folder), default=start, notes=("was finished elsewhere",), atoms=atoms)


def has_structure(run: Run, target: Target) -> bool:
    """Whether the frame of a run is that of the input beside it."""
    try:
        return is_of(next(iter(code_module(run.code).read_run(run))), target)
    except (Refused, StopIteration):
        return False


def is_of(frame: Frame, target: Target) -> bool:
    """Whether a frame is of the structure of an input."""
    try:
        if frame.natoms != len(target.labels_a) or np.abs(frame.cell_cv - target.cell_cv).max() > SAME_PLACE:
            return False
        match_atoms(frame, target)  # refuses other elements and other places
    except Refused:
        return False
    return True


def is_newer(run: Run, folder: Path, code: str | None) -> bool:
    """Whether the results of a run are newer than the scripts beside it, of which nothing else can be asked."""
    scripts = [path for pattern in KNOWN[code or ""].inputs for path in folder.glob(pattern)]
    return all(path.stat().st_mtime < run.main.stat().st_mtime for path in scripts)
