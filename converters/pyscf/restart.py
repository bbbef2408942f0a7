"""How a run of PySCF went, from the log of its script."""

import re
from pathlib import Path

from basis.units import HARTREE
from converters.pyscf.start import ANNOUNCED, REFUSED
from converters.starts.restart import Progress, residuals_of


def newest_log(folder: Path) -> str:
    """The text of the newest log of an SCF below a folder; nothing where there is none."""
    logs = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".log", ".out", ".txt")]
    texts = (path.read_text(errors="replace") for path in sorted(logs, key=lambda path: -path.stat().st_mtime))
    return next((text for text in texts if "SCF energy = " in text), "")


def read_progress(folder: Path) -> Progress:
    """Cycles, energy and whether the guess was taken; cycles are printed at verbose 4."""
    text = newest_log(folder)
    endings = re.findall(r"^(converged )?SCF energy = +(\S+)", text, re.M)
    if not endings:
        return Progress()
    cycles = re.findall(r"^cycle= (\d+)", text, re.M)
    gradients = re.findall(r"^cycle= \d+.*\|g\|= *(\S+)", text, re.M)
    iterations = int(cycles[-1]) if cycles else None
    residuals = residuals_of(gradients, iterations)
    took = None if REFUSED in text else ANNOUNCED in text
    refused = re.search(re.escape(REFUSED) + "(.*)", text)
    note = refused[1].strip() if refused else ""
    return Progress(iterations, float(endings[-1][1]) * HARTREE, bool(endings[-1][0]), residuals, took, note)


def energy_tolerance(folder: Path) -> float:
    """Energies (eV) of two starts that differ by less are the same: a hundred times conv_tol."""
    found = re.search(r"^SCF conv_tol = (\S+)", newest_log(folder), re.M)
    return max(1e-6, 100 * float(found[1]) * HARTREE) if found else 1e-4
