"""What ABACUS printed: running_*.log, eig_occ.txt and istate.info."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from basis import Array
from basis.shells import Shell
from converters.codes.digits import rounding_of
from converters.errors import Kind, Refused

# The first line of each iteration: its ionic step, from 1, and its number in the SCF of this step.
ITERATION = re.compile(r"(?:#ION MOVE#\s+(\d+)\s.*?)?#ELEC ITER#\s+(\d+)|(?:ION\s*=\s*(\d+)\s+)?\bELEC\s*=\s*(\d+)")
# The atoms, before the first step and after each move: label, three coordinates, moment.
COORDINATES = re.compile(
    r"^ *(?:DIRECT|CARTESIAN) COORDINATES.*\n *atom +x +y +z.*\n((?: *\S+(?: +-?\d+\.\d+){3}.*\n)+)", re.M
)


@dataclass(frozen=True)
class Scf:
    """How the SCF of one ionic step ended; None where nothing is said. Energies in eV."""

    converged: bool | None = None
    iterations: int | None = None
    energy: float | None = None
    fermi: float | None = None
    moment: float | None = None


@dataclass(frozen=True)
class Log:
    """What running_*.log says; None where it says nothing."""

    version: str = ""
    orbitals: dict[str, tuple[Shell, ...]] = field(default_factory=dict)
    electrons: float | None = None
    spins: int | None = None
    kpoints: int | None = None
    kept_kpoints: int | None = None  # where time reversal or symmetry left out the others
    last: Scf = Scf()
    steps: dict[int, Scf] = field(default_factory=dict)  # by the number of the ionic step, from 1
    coordinates: dict[int, tuple[bool, Array]] = field(
        default_factory=dict
    )  # of the atoms in a step, whether fractional
    of_nscf: bool = False


def read_log(path: Path) -> Log:
    """A log of the 3.8 or the 3.11 series."""
    text = path.read_text(errors="replace")
    orbitals = {}
    for part in re.split(r"READING ATOM TYPE\s+\d+", text)[1:]:
        label = re.search(r"[Aa]tom label\s*=\s*(\S+)", part)
        counts = re.findall(r"L=(\d+), number of zeta\s*=\s*(\d+)", part[:2000])
        if label:
            orbitals[label[1]] = tuple(Shell(int(l), zeta=z) for l, n in counts for z in range(1, min(int(n), 99) + 1))
    kpoints = re.search(r"^\s*nkstot\s*=\s*(\d+)\s*$", text, re.M)
    kept = re.search(r"^\s*nkstot(?:_ibz| now)\s*=\s*(\d+)\s*$", text, re.M)
    spins = re.search(r"^\s*nspin\s*=\s*([124])\s*$", text, re.M)
    electrons = re.findall(r"Autoset the number of electrons\s*=\s*([\d.]+)|nelec\s*=\s*([\d.]+)", text)
    begins = {int(match[1] or match[3] or 1): match.start() for match in reversed(list(iterations_of(text)))}
    numbers = sorted(begins)
    ends = [*(begins[number] for number in numbers[1:]), len(text)][: len(numbers)]
    tables = list(COORDINATES.finditer(text))
    coordinates = {}
    for number in numbers:
        before = bisect_right(tables, begins[number], key=re.Match.end)
        if before:
            rows = [line.split()[1:4] for line in tables[before - 1][1].splitlines()]
            coordinates[number] = "DIRECT" in tables[before - 1][0], np.array(rows, dtype=float)
    return Log(
        version=version_of(text),
        orbitals=orbitals,
        electrons=float(next(filter(None, electrons[-1]))) if electrons else None,
        spins=int(spins[1]) if spins else None,
        kpoints=int(kpoints[1]) if kpoints else None,
        kept_kpoints=int(kept[1]) if kept else None,
        last=read_scf(text),
        steps={n: read_scf(text[begins[n] : end]) for n, end in zip(numbers, ends, strict=True)},
        coordinates=coordinates,
    )


def version_of(text: str) -> str:
    """The version that wrote a log; nothing where it does not say it."""
    version = re.search(r"ABACUS (v\S+)", text) or re.search(r"Version:\s*(\S+)", text)
    return version[1].lstrip("v") if version else ""


def iterations_of(text: str) -> Iterator[re.Match[str]]:
    """The first lines of all iterations, looked for where their word is: the pattern alone takes ten times as long."""
    at = text.find("ELEC")
    while at >= 0:
        stop = text.find("\n", at)
        stop = len(text) if stop < 0 else stop
        yield from ITERATION.finditer(text, text.rfind("\n", 0, at) + 1, stop)
        at = text.find("ELEC", stop)


def read_scf(text: str) -> Scf:
    """The last SCF of a part of a log."""
    iterations = [match[2] or match[4] for match in iterations_of(text)]
    counted = len(iterations) == (
        text.count("Electron density deviation") or len(iterations)
    )  # no line of one is missing
    end = text[max(text.rfind("#ELEC ITER#"), 0) :]
    good = "#SCF IS CONVERGED#" in text or "charge density convergence is achieved" in text
    # Of a relaxation that goes on the log says "not converged yet", too.
    bad = re.search(r"(SCF|EXX) IS NOT CONVERGED|convergence has not been achieved", text, re.I)
    energy = re.findall(r"!FINAL_ETOT_IS (-?[\d.]+) eV", text) or re.findall(r"final etot is (-?[\d.]+) eV", text)
    if not energy:  # of the steps of MD and of relaxations it stands with the iterations alone
        energy = re.findall(r"E_KohnSham\s+\S+\s+(-?[\d.]+)", end)
    fermi = re.findall(r"E_Fermi\s+-?[\d.]+\s+(-?[\d.]+)", end) or re.findall(r"EFERMI = (-?[\d.]+) eV", text)
    moment = re.findall(r"Total magnetism \(Bohr mag/cell\)\s*=\s*(-?[\d.eE+-]+)", text, re.I)
    return Scf(
        converged=good and not bad if iterations else None,
        iterations=int(iterations[-1]) if iterations and counted else None,
        energy=float(energy[-1]) if energy else None,
        fermi=float(fermi[-1]) if fermi else None,
        moment=float(moment[-1]) if moment else None,
    )


@dataclass(frozen=True, eq=False)
class Levels:
    """Printed k-points, how far their digits are off, eigenvalues (eV) and occupations.

    k-points are Cartesian (2 pi / lattice constant) in eig_occ.txt, fractional in istate.info.
    """

    kpoints_k: Array
    error_k: Array
    energies_skn: Array
    occupations_skn: Array
    fractional: bool


def read_levels(path: Path, step: int | None = None, points: int | None = None) -> Levels | None:
    """The levels of a step; of the last without its number.

    Where a repeated run has appended to a file, a step stands there again; the last one is meant that has the number of
    k-points of the run, for bands (nscf) are appended too.
    """
    head, *parts = re.split(r"^\s*(\d+)\s+# ionic step", path.read_text(errors="replace"), flags=re.M)
    of_step = [part for number, part in zip(parts[::2], parts[1::2], strict=True) if step in (None, int(number))]
    if step is not None and not of_step:
        return None
    of_run = [part for part in of_step if f"k-point=1/{points} " in part]
    text = (of_run or of_step or [head])[-1]
    heads = list(re.finditer(r"^ *spin=(\d+) k-point=(\d+)/(\d+) Cartesian=(\S+) +(\S+) +(\S+).*$", text, re.M))
    if not heads:
        return read_older_levels(path)
    tables = []
    for head, stop in zip(heads, [*(match.start() for match in heads[1:]), len(text)], strict=True):
        try:
            tables.append(np.array(text[head.end() : stop].split(), dtype=float).reshape(-1, 3)[:, 1:])
        except ValueError as error:
            raise Refused(
                Kind.DAMAGED, path, f"has eigenvalues at k-point {head[2]} that cannot be read: {error}"
            ) from error
    nk, spins = int(heads[0][3]), max(int(head[1]) for head in heads)
    if len({len(table) for table in tables}) != 1 or len(tables) != nk * spins:
        raise Refused(Kind.DAMAGED, path, f"has {len(tables)} tables of eigenvalues", f"{spins} x {nk} of one length")
    levels = np.array(tables).reshape(spins, nk, -1, 2)
    return Levels(*kpoints_of(path, [head.groups()[3:] for head in heads[:nk]]), levels[..., 0], levels[..., 1], False)


def kpoints_of(path: Path, words_kv: Sequence[Sequence[str]]) -> tuple[Array, Array]:
    """The k-points of the heads of tables of eigenvalues, and how far their digits are off."""
    try:
        kpoints_kv = np.array(words_kv, dtype=float)
        return kpoints_kv, np.array([[rounding_of(word) for word in words] for words in words_kv])
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"has a k-point that is not three numbers: {error}") from error


def read_older_levels(path: Path) -> Levels | None:
    """The same from istate.info of versions before 3.11."""
    content = path.read_text(errors="replace")
    heads = list(re.finditer(r"^BAND\b.*?Kpoint = (\d+)\s+\((\S+) (\S+) (\S+)\)[ \t]*$", content, re.M))
    if not heads:
        return None
    tables = []
    for head, stop in zip(heads, [*(match.start() for match in heads[1:]), len(content)], strict=True):
        rows = [line.split() for line in content[head.end() : stop].splitlines() if line.split()]
        try:
            tables.append(np.array(rows, dtype=float)[:, 1:])
        except (ValueError, IndexError) as error:
            raise Refused(Kind.DAMAGED, path, f"has eigenvalues at k-point {head[1]} that cannot be read") from error
    if len({table.shape for table in tables}) != 1 or tables[0].shape[1] not in (2, 4):
        raise Refused(Kind.DAMAGED, path, "has tables of eigenvalues of different lengths", "one length")
    levels = np.array(tables).reshape(len(tables), len(tables[0]), -1, 2).transpose(2, 0, 1, 3)
    return Levels(*kpoints_of(path, [head.groups()[1:] for head in heads]), levels[..., 0], levels[..., 1], True)
