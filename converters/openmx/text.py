"""OpenMX's text: the input (inside .scfout and as .dat) and the main output."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from basis.shells import LETTERS, Shell, Species
from converters.codes.elements import element_named
from converters.errors import Kind, Refused

# OpenMX moves its k-points off the mesh by these fractions; the five printed digits hide it.
K_SHIFT_C = np.array([1e-6, -1e-6, 2e-6])
PRINTED = 5e-6  # how far those digits are off


@dataclass(frozen=True)
class Input:
    """Keywords (lower case) and blocks of an input text."""

    words: dict[str, str]
    blocks: dict[str, list[list[str]]]

    def is_on(self, keyword: str) -> bool:
        return self.words.get(keyword, "off").lower() == "on"

    @property
    def is_cluster(self) -> bool:
        """Whether levels are of Gamma alone, whatever mesh the input names."""
        return self.words.get("scf.eigenvaluesolver", "").lower() == "cluster"


def parse_input(text: str, place: str | Path = "input of OpenMX") -> Input:
    """Keywords and blocks of a text; refused where a block does not end, for it would swallow what follows."""
    words, blocks, inside = {}, dict[str, list[list[str]]](), None
    for line in text.splitlines():
        fields = line.split("#")[0].split()
        if not fields:
            continue
        if fields[0].startswith("<"):
            inside = fields[0][1:].lower()
            blocks[inside] = []
        elif inside is not None and fields[0].rstrip(">").lower() == inside:
            inside = None
        elif inside is not None:
            blocks[inside].append(fields)
        elif len(fields) > 1:
            words[fields[0].lower()] = " ".join(fields[1:])
    if inside is not None:
        raise Refused(Kind.DAMAGED, place, f"begins the block <{inside} and does not end it")
    return Input(words, blocks)


def read_species(path: Path, given: Input, norb_a: Array) -> tuple[tuple[Species, ...], Array]:
    """Species of the run and the species of each atom, in input order."""
    definitions = given.blocks.get("definition.of.atomic.species", [])
    atoms = given.blocks.get("atoms.speciesandcoordinates", [])
    if len(atoms) != len(norb_a) or any(len(fields) < 3 for fields in definitions):
        raise Refused(
            Kind.DAMAGED,
            path,
            f"has an input text with {len(atoms)} atoms",
            f"{len(norb_a)} and three names for each species",
        )
    labels = [fields[0] for fields in definitions]
    try:
        species_a = np.array([labels.index(fields[1]) for fields in atoms])
    except (ValueError, IndexError) as error:
        raise Refused(
            Kind.DAMAGED, path, f"has an atom of a species that its input does not define: {error}"
        ) from error
    basis = []
    for s, (label, orbitals, potential) in enumerate(fields[:3] for fields in definitions):
        sizes = set(norb_a[species_a == s].tolist())
        shells = parse_basis_name(orbitals, sizes)
        if shells is None:
            raise Refused(
                Kind.DAMAGED, path, f'has the basis "{orbitals}" for {label}; it does not give {sorted(sizes)} orbitals'
            )
        basis.append(Species(label, element_number(path, potential, orbitals), shells, orbitals))
    return tuple(basis), species_a


def parse_basis_name(name: str, sizes: set[int]) -> tuple[Shell, ...] | None:
    """Shells of a name such as Si7.0-s2p2d1 that fit the numbers of orbitals found; None if none do.

    Contracted bases are written s4>1 (four primitive functions, one contracted), in old inputs s41.
    """
    entries = re.findall(r"([spdfghi])(\d+)(?:>(\d+))?", name.partition("-")[2])
    for old_style in (False, True):
        shells = []
        for letter, primitive, contracted in entries:
            count = int(contracted or (primitive[-1] if old_style else primitive))
            shells += [Shell(LETTERS.index(letter), zeta=zeta) for zeta in range(1, min(count, 1000) + 1)]
        if sizes <= {sum(shell.size for shell in shells)}:
            return tuple(shells)
    return None


def element_number(path: Path, potential: str, orbitals: str) -> int:
    """Atomic number from the names of the pseudopotential and orbital files; labels are free text. E is an empty atom."""
    for name in (potential, orbitals):
        number = 0 if re.match(r"E(?![a-z])", name) else element_named(name)
        if number is not None:
            return number
    raise Refused(Kind.MISSING_FILES, path, f"does not say which element {potential} is", "a name such as Si_PBE19")


@dataclass(frozen=True, eq=False)
class Output:
    """What a .out file says; None where it says nothing. Energies in Hartree."""

    version: str = ""
    converged: bool | None = None
    iterations: int | None = None
    energy: float | None = None
    kpoints_kc: Array | None = None
    energies_skn: Array | None = None
    grid_c: tuple[int, ...] | None = None


def read_output(path: Path, given: Input, noncollinear: bool) -> Output:
    text = path.read_text(errors="replace")
    version = re.search(r"OpenMX Ver\. (\S+)", text)
    steps = re.findall(r"SCF= *(\d+)\s+NormRD=.*?(?:Uele= *(-?\d+\.\d+))?$", text, re.M)
    last_energy = re.findall(r"^\s*Uele\.\s+(-?\d+\.\d+)", text, re.M)
    most = int(float(given.words.get("scf.maxiter", "40").split()[0]))
    total = re.findall(r"^\s*Utot\.\s+(-?\d+\.\d+)", text, re.M)
    grid = re.search(r"Num\. of grids of a-, b-, and c-axes = *(\d+), *(\d+), *(\d+)", text)
    kpoints_kc, energies_skn = read_levels(path, text, noncollinear)
    return Output(
        version=version[1] if version else "",
        converged=int(steps[-1][0]) < most if steps else None,
        iterations=int(steps[-1][0]) if steps and steps[-1][1] in last_energy[-1:] else None,
        energy=float(total[-1]) if total and float(total[-1]) else None,
        kpoints_kc=kpoints_kc,
        energies_skn=energies_skn,
        grid_c=tuple(int(n) for n in grid.groups()) if grid else None,
    )


def read_levels(path: Path, text: str, noncollinear: bool) -> tuple[Array | None, Array | None]:
    """Printed k-points and eigenvalues (spin column, k, band); a cluster calculation has no k lines."""
    head = re.search(r"Eigenvalues \(Hartree\) (?:of|for) (?:SCF|non-collinear) KS-eq\.", text)
    if head is None:
        return None, None
    body = text[head.end() :]
    columns = 1 if noncollinear else 2
    number = r"[ \t]+(-?\d+\.\d+)"
    rows = re.compile(r"^[ \t]*\d+" + number * columns + r"[ \t]*$", re.M)
    marks = list(re.finditer(r"k1= *(\S+) +k2= *(\S+) +k3= *(\S+)", body))
    starts = [mark.end() for mark in marks] or [0]
    tables = []
    for start, stop in zip(starts, [mark.start() for mark in marks[1:]] + [None], strict=True):
        levels: list[tuple[str, ...]] = []
        at = start
        for row in rows.finditer(body, start, len(body) if stop is None else stop):
            if levels and body[at : row.start()].strip():
                break  # another table of the output
            levels.append(row.groups())
            at = row.end()
        tables.append(np.array(levels, dtype=float).reshape(-1, columns))
    if len({len(table) for table in tables}) != 1 or not len(tables[0]):
        raise Refused(Kind.DAMAGED, path, "has k-points with different numbers of eigenvalues")
    return kpoints_of(path, [mark.groups() for mark in marks]), np.array(tables).transpose(2, 0, 1)


def kpoints_of(path: Path, words_kc: Sequence[Sequence[str]]) -> Array:
    """The k-points of the heads of tables of levels; Gamma where there are none."""
    try:
        kpoints_kc = np.array(words_kc or [["0"] * 3], dtype=float)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"has a k-point that is not three numbers: {error}") from error
    if not np.isfinite(kpoints_kc).all():
        raise Refused(Kind.DAMAGED, path, "has a k-point that is not three numbers")
    return kpoints_kc


def place_kpoints(kpoints_kc: Array, mesh_c: Array) -> tuple[Array, Array] | None:
    """The k-points that OpenMX used where it printed these, and their weights; half a mesh stands for all of it.

    None where the printed ones are not of the mesh.
    """
    steps = np.round((kpoints_kc + 0.5) * mesh_c - 0.5)
    exact_kc = (2 * steps + 1) / (2 * mesh_c) - 0.5
    if np.abs(exact_kc - kpoints_kc).max() > 2 * PRINTED:
        return None
    partner = np.mod(-exact_kc - exact_kc + 1e-9, 1) < 1e-6  # k = -k up to a reciprocal vector
    full = len(kpoints_kc) == mesh_c.prod()
    weights_k = np.where(full | partner.all(axis=1), 1.0, 2.0)
    moved_kc = np.where(mesh_c > 1, exact_kc + K_SHIFT_C, 0.0)
    return moved_kc, weights_k / mesh_c.prod()
