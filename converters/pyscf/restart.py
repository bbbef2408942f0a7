"""Starting PySCF: what its scripts read, and how their runs went."""

import re
from pathlib import Path

from basis.units import HARTREE
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.pyscf.dm0 import ANNOUNCED, REFUSED, guess_of_checkpoint
from converters.pyscf.molecule import is_checkpoint
from converters.starts.start import Progress, Route, Written, numbers_of


def write_start(frame: Frame, given: Path | None, folder: Path, route: str, how: str) -> tuple[Route, Written]:
    """dm0.npy and guess.chk, for the molecule of a checkpoint file or of the only one in a folder."""
    if given is None:
        found = "needs PySCF's molecule: give a checkpoint file of it, or use slem_plugin.pyscf_guess"
        raise Refused(Kind.NO_START, folder, found)
    name = "h" if route in ("h", "h2dm") or "DM" not in frame.operators else "dm"
    files, density = guess_of_checkpoint(frame, find_checkpoint(given), folder, name, how)
    why = "DM is a density already" if name == "dm" else "the levels of H give a density"
    keywords = {
        "dm0": 'mf.kernel(dm0=numpy.load("dm0.npy"))',
        "or": 'mf.chkfile = "guess.chk"; mf.init_guess = "chkfile"',
    }
    return Route(name, why), Written(tuple(files), keywords, ("S is PySCF's own", density.note))


def find_checkpoint(path: Path) -> Path:
    """A checkpoint file, or the only one below a folder."""
    if path.is_file():
        return path
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and is_checkpoint(file)]
    if len(found) != 1:
        raise Refused(Kind.AMBIGUOUS, path, f"holds {len(found)} checkpoint files; name the one of the molecule")
    return found[0]


def newest_log(folder: Path) -> str:
    """The text of the newest log of an SCF below a folder; nothing where there is none."""
    logs = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".log", ".out", ".txt")]
    texts = (path.read_text(errors="replace") for path in sorted(logs, key=lambda path: -path.stat().st_mtime))
    return next((text for text in texts if "SCF energy = " in text or "\ncycle= " in text), "")


def read_progress(folder: Path) -> Progress:
    """Cycles, energy and whether the guess was taken; cycles are printed at verbose 4."""
    text = newest_log(folder)
    endings = re.findall(r"^(converged )?SCF energy = +(\S+)", text, re.M)
    cycles = re.findall(r"^cycle= (\d+)", text, re.M)
    iterations = int(cycles[-1]) if cycles else None
    if not endings:
        return Progress(iterations)
    gradients = re.findall(r"^cycle= \d+.*\|g\|= *(\S+)", text, re.M)
    residuals = numbers_of(gradients, iterations)
    took = None if REFUSED in text else ANNOUNCED in text
    refused = re.search(re.escape(REFUSED) + "(.*)", text)
    note = refused[1].strip() if refused else ""
    energies = numbers_of(re.findall(r"^cycle= \d+ E= *(\S+)", text, re.M), iterations)
    in_ev = tuple(energy * HARTREE for energy in energies)
    energy, converged = float(endings[-1][1]) * HARTREE, bool(endings[-1][0])
    return Progress(iterations, energy, converged, residuals, took, note, in_ev, count_atoms(text))


def count_atoms(text: str) -> int | None:
    """The atoms that a log lists, at verbose 4; the last structure counts."""
    numbers = re.findall(r"^\[INPUT\] num\. atoms = (\d+)", text, re.M)
    return int(numbers[-1]) if numbers else None


def energy_tolerance(folder: Path) -> float:
    """Energies (eV) of two starts that differ by less are the same: a hundred times conv_tol."""
    found = re.search(r"^SCF conv_tol = (\S+)", newest_log(folder), re.M)
    return max(1e-6, 100 * float(found[1]) * HARTREE) if found else 1e-4
