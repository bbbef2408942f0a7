"""The table of docs/codes.md on runs of other people: `python -m tests.foreign_table FOLDER` reads the folders that have a SOURCE.txt.

SOURCE.txt names where a run is from in its first line ("source: ..."); compressed files are unpacked in a copy.
"""

import lzma
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from converters.codes.known import KNOWN
from converters.errors import Refused
from converters.physics.checks import check_frame
from converters.runs import search
from workflows.convert import Options, read_checked, with_functions

HEAD = "| run | from | version | read | levels, eV | Tr(DM S) - N | S against its functions |"
LEVELS, ELECTRONS = "eigenvalues against the printed ones", "Tr(DM S) = electrons"


def unpacked_copy(folder, scratch):
    """A copy of a folder with its compressed files unpacked."""
    copy = Path(shutil.copytree(folder, scratch / folder.name))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in list(copy.rglob("*.xz")):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return copy


def outcome_of(folder):
    """(frame, note) of the first run of a folder, or the refusal; where there is no run, why not."""
    with np.errstate(all="ignore"):
        found = list(search(folder, list(KNOWN)))
        run = next((item for item in found if not isinstance(item, Refused)), found[0])
        if isinstance(run, Refused):
            return run
        try:
            frame = read_checked(run, Options())[0]
        except Refused as refusal:
            return refusal
        return with_functions(run, frame, {}, Options())


def row(folder, outcome):
    source = (folder / "SOURCE.txt").read_text().splitlines()[0].removeprefix("source: ").split()[0].strip(",")
    source = source.removeprefix("github.com/")
    head = [f"{folder.parent.name}/{folder.name}", source]
    if isinstance(outcome, Refused):
        return [*head, "", f"refused: {outcome.reason}", "", "", ""]
    frame, _ = outcome
    found = {result.name: result for result in check_frame(frame)}
    levels, electrons, functions = (found.get(name) for name in (LEVELS, ELECTRONS, "S of the radial functions"))
    return [
        *head,
        frame.provenance.version,
        ", ".join(sorted(frame.operators)),
        "" if levels is None else f"{levels.found:.0e}",
        "" if electrons is None or electrons.found is None else f"{abs(electrons.found - electrons.wanted):.0e}",
        "" if functions is None else f"{functions.found:.0e}",
    ]


def folders_below(folder):
    return sorted(path.parent for path in folder.rglob("SOURCE.txt"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(HEAD, "|" + "---|" * 7, sep="\n")
    for argument in sys.argv[1:]:
        for one in folders_below(Path(argument)):
            with tempfile.TemporaryDirectory() as scratch:
                cells = row(one, outcome_of(unpacked_copy(one, Path(scratch))))
            print("| " + " | ".join(cells) + " |", flush=True)
