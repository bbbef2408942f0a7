"""The table of docs/overlap.md: `python -m tests.overlap_table FOLDER` measures the runs below a folder.

FOLDER/orb and FOLDER/pao may hold radial functions that do not lie beside the runs.
"""

import sys
import warnings
from pathlib import Path

from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Refused
from converters.physics.overlap import Overlap, require_positive
from converters.runs import code_module, search
from tests.test_orbital_files import largest_level_shift
from workflows.convert import best_functions


def rows(folder):
    """Of each run: its basis, how far its S is from ours, the shift of its occupied levels, the lowest eigenvalue of S."""
    places = [place for place in (folder / "orb", folder / "pao") if place.is_dir()]
    for run in search(folder, list(KNOWN)):
        if not isinstance(run, Run):
            continue
        try:
            frame = next(code_module(run.code).read_run(run))
        except Refused:
            continue
        frame = best_functions(frame, {}, code_module(run.code).find_functions(run, frame, places))[0]
        overlap = Overlap.of_frame(frame)
        if overlap is None or not {"H", "S"} <= set(frame.operators):
            continue
        basis = ", ".join(str(species) for species in frame.basis)
        name = run.folder.relative_to(folder)
        difference, shift = overlap.difference(frame)[0], largest_level_shift(frame, overlap)
        yield [run.code, str(name), basis, f"{difference:.1e}", f"{shift:.1e}", f"{require_positive(frame):.1e}"]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for argument in sys.argv[1:]:
        for row in rows(Path(argument)):
            print("| " + " | ".join(row) + " |", flush=True)
