"""The text files that SIESTA writes: ORB_INDX, XV, STRUCT_OUT, EIG, KP and the main output."""

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from basis import Array
from converters.codes.digits import rounding_of
from converters.errors import Kind, Refused
from converters.siesta.fdf import smearing_of
from converters.siesta.sparse import StoredSpecies, stored_shell

# The line with which a run begins in an output, and what stands in one whose SCF did not converge.
VERSION = r"^(?:Siesta )?Version\s*:\s*(\S+)"
FAILURES = ("SCF_NOT_CONV", "SCF did not converge", "(E) SCF")
LARGEST_RADIUS = 1000  # Bohr; no orbital reaches so far
# SIESTA's echo of its input, a new file of each run: a folder in which hundreds of steps ran has hundreds of them.
ECHO = re.compile(r"fdf-\d+\.log")


def may_be_output(path: Path) -> bool:
    """Whether a file has the name of a main output."""
    return path.suffix in (".out", ".log") and not ECHO.fullmatch(path.name)


def read_numbers(path: Path) -> Array:
    """All numbers of a file that holds nothing else."""
    text = path.read_text(errors="replace")
    try:
        numbers = np.array(text.split(), dtype=float)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"expected only numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise Refused(Kind.BAD_PHYSICS, path, "has a NaN or infinity", "finite numbers")
    return numbers


def read_orbital_index(path: Path) -> tuple[tuple[StoredSpecies, ...], Array]:
    """Kinds of atoms and the kind of each atom, from the first rows of ORB_INDX (those of the cell)."""
    with path.open(errors="replace") as lines:
        head = next(lines, "").split()
        try:
            norb = int(head[0])
            rows = [line.split() for line in islice(lines, 2, 2 + norb)]
            if len(rows) != norb or any(len(row) != 16 for row in rows):
                raise ValueError(f"expected {norb} rows of 16 columns")
            atoms = np.array([int(row[1]) for row in rows])
            orbitals = [(int(row[5]), int(row[6]), int(row[8]), row[9] == "T", float(row[11])) for row in rows]
            labels = [row[3] for row in rows]
            if not all(0 <= radius < LARGEST_RADIUS for *_, radius in orbitals):
                raise ValueError("an orbital has a radius that none has")
            kind_ids = [int(row[2]) for row in rows]
        except (ValueError, IndexError) as error:
            raise Refused(Kind.DAMAGED, path, f"is not a complete ORB_INDX file: {error}") from error
    kinds: dict[int, StoredSpecies] = {}
    species_a = []
    starts = np.flatnonzero(np.diff(atoms, prepend=0))
    if (atoms[starts] != np.arange(1, len(starts) + 1)).any():
        raise Refused(Kind.DAMAGED, path, "has atoms that do not follow each other")
    for start, stop in zip(starts, [*starts[1:], norb], strict=True):
        kind = kind_of(path, labels[start], orbitals[start:stop])
        if kinds.setdefault(kind_ids[start], kind) != kind:
            raise Refused(Kind.DAMAGED, path, f"has two sets of orbitals for the species {labels[start]}")
        species_a.append(kind_ids[start] - 1)
    if sorted(kinds) != list(range(1, len(kinds) + 1)):
        raise Refused(Kind.DAMAGED, path, f"has the species {sorted(kinds)}", f"1 to {len(kinds)}")
    return tuple(kinds[number] for number in sorted(kinds)), np.array(species_a)


def kind_of(path: Path, label: str, orbitals: list[tuple[int, int, int, bool, float]]) -> StoredSpecies:
    """StoredSpecies of an atom from its orbitals (n, l, zeta, polarisation, radius)."""
    shells, radii, at = [], [], 0
    while at < len(orbitals):
        n, l, zeta, polarisation, radius = orbitals[at]
        shell = stored_shell(path, l, n, zeta, polarisation)
        if orbitals[at : at + shell.size] != [orbitals[at]] * shell.size:
            raise Refused(Kind.DAMAGED, path, f"begins the shell {shell} of {label} and does not complete it")
        shells.append(shell)
        radii.append(radius)
        at += shell.size
    return StoredSpecies(label, tuple(shells), radii=tuple(radii))


def read_xv(path: Path) -> tuple[Array, Array, Array]:
    """Cell and positions (Bohr) and the atomic number of each atom."""
    numbers = read_numbers(path)
    if len(numbers) < 19 or len(numbers) != 19 + 8 * int(numbers[18]):
        raise Refused(
            Kind.DAMAGED, path, f"has {len(numbers)} numbers", "a cell, the number of atoms and 8 numbers for each"
        )
    cell_cv, rows = numbers[:18].reshape(3, 6)[:, :3], numbers[19:].reshape(-1, 8)
    return cell_cv, rows[:, 2:5], rows[:, 1].astype(int)


def read_species_numbers(path: Path) -> Array:
    """The species of each atom in an XV file, from 1."""
    read_xv(path)
    return read_numbers(path)[19:].reshape(-1, 8)[:, 0].astype(int)


def read_structure(path: Path, bohr: float) -> tuple[Array, Array, Array]:
    """The same from STRUCT_OUT, which is in Angstrom and fractions."""
    numbers = read_numbers(path)
    if len(numbers) < 10 or len(numbers) != 10 + 5 * int(numbers[9]):
        raise Refused(
            Kind.DAMAGED, path, f"has {len(numbers)} numbers", "a cell, the number of atoms and 5 numbers for each"
        )
    cell_cv, rows = numbers[:9].reshape(3, 3) / bohr, numbers[10:].reshape(-1, 5)
    return cell_cv, rows[:, 2:] @ cell_cv, rows[:, 1].astype(int)


def read_eigenvalues(path: Path) -> tuple[float, Array]:
    """Fermi level and eigenvalues (eV), shape (spin channel, k, band)."""
    numbers = read_numbers(path)
    if len(numbers) < 4:
        raise Refused(Kind.DAMAGED, path, "is not a complete EIG file")
    bands, spins, nk = (int(n) for n in numbers[1:4])
    channels = 2 if spins == 2 else 1
    if min(bands, nk) < 1 or len(numbers) != 4 + nk * (1 + channels * bands):
        raise Refused(
            Kind.DAMAGED, path, f"has {len(numbers)} numbers", f"{nk} k-points of {channels} x {bands} eigenvalues"
        )
    rows = numbers[4:].reshape(nk, -1)[:, 1:]
    return float(numbers[0]), rows.reshape(nk, channels, bands).swapaxes(0, 1)


def rounding_of_levels(path: Path) -> float:
    """How far an eigenvalue (eV) may be off for it was printed so: SIESTA up to 4.0 prints five decimals, later ones more."""
    read_numbers(path)
    words = path.read_text(errors="replace").split()[4:]
    return max((rounding_of(word) for word in words if "." in word), default=0.0)


def read_kpoints(path: Path) -> tuple[Array, Array, Array]:
    """Cartesian k-points (1/Bohr), their weights, and how far each number of the k-points may be off for it was printed so."""
    numbers, words = read_numbers(path), path.read_text(errors="replace").split()
    if not len(numbers) or len(numbers) != 1 + 5 * int(numbers[0]):
        raise Refused(Kind.DAMAGED, path, "is not a complete KP file", "the number of k-points and 5 numbers for each")
    rows = numbers[1:].reshape(-1, 5)
    if not rows[:, 4].sum() > 0:
        raise Refused(Kind.DAMAGED, path, f"has weights that sum to {rows[:, 4].sum():g}", "a positive sum")
    error_kv = np.array([rounding_of(word) for word in words[1:]]).reshape(-1, 5)[:, 1:4]
    return rows[:, 1:4], rows[:, 4], error_kv


def read_variables(path: Path) -> str:
    """The version of SIESTA that wrote an OUTVARS.yml."""
    found = re.search(r"^siesta:\s*\n\s+version:\s*\"?([^\"\s]+)", path.read_text(errors="replace"), re.M)
    return found[1] if found else ""


@dataclass(frozen=True)
class Output:
    """What the main output says about the run; None where it says nothing."""

    version: str = ""
    converged: bool | None = None
    iterations: int | None = None
    energy: float | None = None
    smearing: str = ""
    fixed_moment: bool = False
    fermi: float | None = None  # eV
    fermi_s: tuple[float, float] | None = None  # of each spin (eV), where the moment is fixed
    k_cell_cc: Array | None = None
    k_shift_c: Array | None = None
    label: str = ""
    cell_cv: Array | None = None  # Angstrom, at the beginning


def read_output(path: Path) -> Output:
    """The last SCF cycle of an output, in which several runs may follow each other."""
    text = path.read_text(errors="replace")
    text = text[max((match.start() for match in re.finditer(VERSION, text, re.M | re.I)), default=0) :]
    if re.search(r"^tbt: ", text, re.M):  # of TBtrans, which reads what SIESTA wrote
        return Output()
    version = re.search(VERSION, text, re.M | re.I)
    ended = list(re.finditer(r"SCF cycle converged after\s+(\d+) iterations", text))
    last_end = ended[-1].start() if ended else -1
    last_failure = max(map(text.rfind, FAILURES))
    total, moving = (re.findall(rf"^siesta:\s+{word}\s*=\s+(-?[\d.]+)", text, re.M) for word in ("Total", "Ekinion"))
    kinetic = float(moving[-1]) if moving else 0.0  # of the nuclei, which Total includes
    grid = re.findall(r"^siesta: k-grid:\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)\s+(-?[\d.]+)\s*$", text, re.M)[:3]
    table = np.array(grid, dtype=float) if len(grid) == 3 else None
    label = re.search(r"^(?:reinit: System Label:|\s*system[-_.]?label)\s+(\S+)", text, re.M | re.I)
    fixed = re.search(r"^redata: Fix the spin of the system\s*=\s*T", text, re.M)
    function = re.search(r"^(?:redata|stepf):.*(Methfessel-Paxton|Cold)", text, re.M | re.I)
    order = re.search(r"^ *Using Hermite-Gauss polynomials of order +(\d+)", text, re.M)
    fermis = re.findall(r"^siesta: +Fermi_up = +(-?[\d.]+)\s+siesta: +Fermi_dn = +(-?[\d.]+)", text, re.M)
    fermi = re.findall(r"^siesta: +Fermi = +(-?[\d.]+)", text, re.M)
    finished = last_end > last_failure
    failed = last_failure > last_end
    return Output(
        version=version[1] if version else "",
        converged=finished if finished or failed or "End of run" in text or "iscf" in text else None,
        iterations=int(ended[-1][1]) if ended else None,
        energy=round(float(total[-1]) - kinetic, 6) if total else None,
        smearing=smearing_of(function[1] if function else "fd", order[1] if order else ""),
        fixed_moment=bool(fixed),
        fermi=float(fermi[-1]) if fermi else None,
        fermi_s=(float(fermis[-1][0]), float(fermis[-1][1])) if fermis else None,
        k_cell_cc=None if table is None else table[:, :3].astype(int),
        k_shift_c=None if table is None else table[:, 3],
        label=label[1] if label else "",
        cell_cv=cell_of(text),
    )


def cell_of(text: str) -> Array | None:
    """The cell (Angstrom) that an output prints first: that of the input, or the one that SIESTA puts around a molecule."""
    found = re.search(r"^outcell: Unit cell vectors \(Ang\):\s*\n((?:(?:[ \t]+-?\d+\.\d+){3}[ \t]*\n){3})", text, re.M)
    return np.array(found[1].split(), dtype=float).reshape(3, 3) if found else None
