"""ABACUS's text files that a user writes: INPUT, STRU and KPT."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from basis.shells import LETTERS, Shell, Species, parse_shells
from converters.abacus.convention import BOHR
from converters.abacus.log import Log
from converters.codes.elements import element_named
from converters.errors import Kind, Refused
from converters.frames.moments import along
from converters.frames.neighbours import is_place
from converters.physics.kspace import require_mesh, uniform_mesh


def lines_of(path: Path) -> list[list[str]]:
    """Words of each line that has any, without comments."""
    text = path.read_text(errors="replace")
    return [words for line in text.splitlines() if (words := re.split(r"//|#", line)[0].split())]


def read_input(path: Path) -> dict[str, str]:
    """Keywords of an INPUT file, in lower case; the first value of each."""
    lines = lines_of(path)
    if not lines or lines[0][0].upper() != "INPUT_PARAMETERS":
        raise Refused(Kind.DAMAGED, path, "does not begin with INPUT_PARAMETERS")
    return {words[0].lower(): words[1] for words in lines[1:] if len(words) > 1}


def flag(given: dict[str, str], keyword: str, default: str = "0") -> str:
    """A keyword that is a number or a logical value, as "0", "1", "-1" .. ."""
    value = given.get(keyword, default).lower().strip(".")
    return {"true": "1", "t": "1", "false": "0", "f": "0"}.get(value, value)


def calculation(given: dict[str, str]) -> str:
    """The kind of run that INPUT asks for."""
    return given.get("calculation", "scf").lower()


def number(given: dict[str, str], keyword: str, default: float) -> float:
    value = given.get(keyword, str(default))
    try:
        return float(value)
    except ValueError as error:
        raise Refused(Kind.DAMAGED, "INPUT", f'has "{keyword} {value}"', "a number") from error


# Where the moment of an atom points: from z, and in the plane of x and y.
ANGLES = ("angle1", "angle2")
# Numbers of k-points that are nearer to the next whole number than this depend on rounding.
UNDECIDED = 1e-6
SMEARINGS = {
    **dict.fromkeys(("gauss", "gaussian"), "gauss"),
    **dict.fromkeys(("fd", "fermi-dirac"), "fermi"),
    **dict.fromkeys(("mp", "methfessel-paxton"), "mp1"),
    "mp2": "mp2",
    **dict.fromkeys(("mv", "cold", "marzari-vanderbilt"), "cold"),
    "fixed": "fixed",
}


def files_of(given: dict[str, str]) -> tuple[str, str]:
    """Names of the files of the structure and of the k-points."""
    return given.get("stru_file", "STRU"), given.get("kpoint_file", "KPT")


def orbital_places(folder: Path, given: dict[str, str]) -> tuple[Path, ...]:
    """Folders in which the orbital files of a run may lie."""
    return folder, folder / given.get("orbital_dir", ".")


def spin_components(path: Path, given: dict[str, str]) -> int:
    if flag(given, "noncolin") == "1" or flag(given, "lspinorb") == "1":
        return 4
    nspin = int(number(given, "nspin", 1))
    if nspin not in (1, 2, 4):
        raise Refused(Kind.DAMAGED, path, f"has nspin {nspin}", "1, 2 or 4")
    return nspin


@dataclass(frozen=True, eq=False)
class Stru:
    """A STRU file: atoms grouped by species in the order of ATOMIC_SPECIES and moved into the cell, as ABACUS uses them.

    Lengths in Angstrom, the lattice constant in Bohr. `moments_av` are the initial moments, of collinear spins along z.
    """

    labels: tuple[str, ...]
    pseudopotentials: tuple[str, ...]
    orbital_files: tuple[str, ...]
    cell_cv: Array
    species_a: Array
    positions_av: Array
    lattice_constant: float
    moments_av: Array


SECTIONS = (
    "ATOMIC_SPECIES", "NUMERICAL_ORBITAL", "ABFS_ORBITAL", "NUMERICAL_DESCRIPTOR", "PAW_FILES", "LATTICE_CONSTANT",
    "LATTICE_VECTORS", "LATTICE_PARAMETERS", "ATOMIC_POSITIONS",
)  # fmt: skip


def named_lattice(name: str, parameters: list[float]) -> Array | None:
    """Rows, in units of the lattice constant, of a lattice that INPUT names (latname); parameters are c/a and b/a."""
    first, second = [*parameters, 1.0, 1.0][:2]
    lattices = {
        "sc": np.eye(3),
        "fcc": np.array([[-0.5, 0, 0.5], [0, 0.5, 0.5], [-0.5, 0.5, 0]]),
        "bcc": np.array([[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5], [-0.5, -0.5, 0.5]]),
        "hexagonal": np.array([[1, 0, 0], [-0.5, np.sqrt(3) / 2, 0], [0, 0, first]]),
        "st": np.diag([1, 1, first]),
        "so": np.diag([1, first, second]),
    }
    return lattices.get(name)


def read_stru(path: Path, latname: str = "none") -> Stru:
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] | None = None
    for words in lines_of(path):
        if words[0] in SECTIONS:
            current = sections.setdefault(words[0], [])
        elif current is None:
            raise Refused(Kind.DAMAGED, path, f'begins with "{words[0]}"', f"one of {', '.join(SECTIONS)}")
        else:
            current.append(words)
    for name in ("ATOMIC_SPECIES", "LATTICE_CONSTANT", "ATOMIC_POSITIONS"):
        if not sections.get(name):
            raise Refused(Kind.DAMAGED, path, f"has no {name}")
    try:
        lattice_constant = float(sections["LATTICE_CONSTANT"][0][0])
        cell_cv = lattice_constant * BOHR * lattice_vectors(path, sections, latname)
        labels = tuple(words[0] for words in sections["ATOMIC_SPECIES"])
        potentials = tuple(words[2] if len(words) > 2 else "" for words in sections["ATOMIC_SPECIES"])
        species_a, positions_av, moments_av = read_positions(
            path, sections["ATOMIC_POSITIONS"], labels, cell_cv, lattice_constant
        )
    except (ValueError, IndexError) as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    orbitals = tuple(words[0] for words in sections.get("NUMERICAL_ORBITAL", []))
    if len(set(labels)) != len(labels) or len(orbitals) not in (0, len(labels)):
        raise Refused(
            Kind.DAMAGED,
            path,
            f"has {len(labels)} species {' '.join(labels)} and {len(orbitals)} orbital files",
            "one for each",
        )
    if not len(species_a) or not is_place(positions_av).all() or not abs(np.linalg.det(cell_cv)) > 0:
        raise Refused(
            Kind.DAMAGED, path, f"has {len(species_a)} atoms in a cell of {np.linalg.det(cell_cv):g} cubic Angstrom"
        )
    positions_av = move_into_cell(positions_av, cell_cv)
    return Stru(labels, potentials, orbitals, cell_cv, species_a, positions_av, lattice_constant, moments_av)


def lattice_vectors(path: Path, sections: dict[str, list[list[str]]], latname: str) -> Array:
    """Lattice vectors in units of the lattice constant."""
    if "LATTICE_VECTORS" in sections:
        vectors = np.array([words[:3] for words in sections["LATTICE_VECTORS"][:3]], dtype=float)
        if vectors.shape != (3, 3):
            raise ValueError("LATTICE_VECTORS has not three vectors")
        return vectors
    lattice = named_lattice(
        latname, [float(word) for words in sections.get("LATTICE_PARAMETERS", []) for word in words]
    )
    if lattice is None:
        reason = f'has no LATTICE_VECTORS for "latname {latname}"; write them out to make the structure readable'
        raise Refused(Kind.MISSING_FILES, path, reason)
    return lattice


def read_positions(
    path: Path, lines: list[list[str]], labels: tuple[str, ...], cell_cv: Array, lattice_constant: float
) -> tuple[Array, Array, Array]:
    """Species, positions (Angstrom) and initial moments of all atoms; what follows the coordinates of an atom does not move it."""
    kind, at = lines[0][0].lower(), 1
    rows: list[list[float]] = []
    species: list[int] = []
    moments: list[Array] = []
    while at < len(lines):
        if lines[at][0] not in labels:
            raise Refused(Kind.DAMAGED, path, f'has positions of "{lines[at][0]}", which ATOMIC_SPECIES does not name')
        count = int(lines[at + 2][0])
        if not 0 <= count <= len(lines) - at - 3:
            raise Refused(
                Kind.DAMAGED, path, f"has {len(lines) - at - 3} lines for the {count} atoms of {lines[at][0]}"
            )
        rows += [[float(word) for word in words[:3]] for words in lines[at + 3 : at + 3 + count]]
        moments += [initial_moment(words[3:], float(lines[at + 1][0])) for words in lines[at + 3 : at + 3 + count]]
        species += [labels.index(lines[at][0])] * count
        at += 3 + count
    coordinates_av = np.array(rows).reshape(len(species), 3)
    order = np.argsort(species, kind="stable")
    positions_av = to_angstrom(path, kind, coordinates_av, cell_cv, lattice_constant)
    return np.array(species)[order], positions_av[order], np.array(moments)[order]


def initial_moment(words: list[str], of_species: float) -> Array:
    """The moment behind the coordinates of an atom: three numbers, or one along z, else that of its species; two angles leave of it the length alone."""
    given = dict(zip(words, range(1, len(words) + 1), strict=True))
    numbers = [of_species]
    for name in ("magmom", "mag"):
        if name in given:
            numbers = leading_numbers(words[given[name] :][:3])
    is_vector, has_angles = len(numbers) == 3, not given.keys().isdisjoint(ANGLES)
    if is_vector and not has_angles:
        return np.array(numbers)
    angles = [float(words[given[name]]) if name in given else 0.0 for name in ANGLES]
    return (float(np.linalg.norm(numbers)) if is_vector else numbers[0]) * along(*angles)


def leading_numbers(words: list[str]) -> list[float]:
    """The numbers that come before the first word that is none."""
    numbers: list[float] = []
    with suppress(ValueError):
        for word in words:
            numbers.append(float(word))
    return numbers


def to_angstrom(path: Path, kind: str, coordinates_av: Array, cell_cv: Array, lattice_constant: float) -> Array:
    """Cartesian positions of coordinates of each kind that ABACUS knows."""
    if kind == "direct":
        return coordinates_av @ cell_cv
    if kind == "cartesian":
        return coordinates_av * lattice_constant * BOHR
    if kind == "cartesian_au":
        return coordinates_av * BOHR
    centre = re.fullmatch(r"cartesian_angstrom(?:_center_([xyz]+))?", kind)
    if centre is None:
        raise Refused(
            Kind.DAMAGED, path, f'has "{kind}" coordinates', "Direct, Cartesian, Cartesian_au or Cartesian_angstrom"
        )
    middle_v = cell_cv.sum(axis=0) / 2 * np.array([axis in (centre[1] or "") for axis in "xyz"])
    return coordinates_av + middle_v


def move_into_cell(positions_av: Array, cell_cv: Array) -> Array:
    """The places to which ABACUS moves atoms before it does anything else: R of all its files counts from there."""
    return np.asarray(positions_av + cells_moved(positions_av, cell_cv) @ cell_cv)


def cells_moved(positions_av: Array, cell_cv: Array) -> Array:
    """By how many cells ABACUS moves each atom.

    It takes fractional coordinates plus 10000 modulo 1, so that one a trillionth below 0 or 1 becomes 0.
    """
    fractional_ac = positions_av @ np.linalg.inv(cell_cv)
    return np.round(np.fmod(fractional_ac + 10000, 1.0) - fractional_ac).astype(np.int64)


def read_mesh(path: Path) -> tuple[Array, Array] | None:
    """Fractional k-points and weights of a KPT file; None for bands."""
    lines = lines_of(path)
    try:
        count, kind = int(lines[1][0]), lines[2][0].lower()
        if count > 0:
            if not kind.startswith("direct"):
                return None
            table = np.array([words[:4] for words in lines[3 : 3 + count]], dtype=float).reshape(count, 4)
            return table[:, :3], table[:, 3] / table[:, 3].sum()
        mesh = np.array([int(word) for word in lines[3][:3]])
        shift = np.array([float(word) for word in (lines[3] + ["0"] * 3)[3:6]])
    except (ValueError, IndexError) as error:
        wanted = "K_POINTS, then the number of points, their kind, and the points or the mesh, each on a line"
        raise Refused(Kind.DAMAGED, path, "is no KPT file that ABACUS reads", wanted) from error
    if kind[0] not in "gm":
        raise Refused(Kind.DAMAGED, path, f'has k-points of the kind "{kind}"', "Gamma or MP")
    require_mesh(path, mesh.tolist())
    return uniform_mesh(mesh, shift / mesh if kind[0] == "g" else (1 - mesh + shift) / (2 * mesh))


def mesh_of_spacing(path: Path, cell_cv: Array) -> tuple[Array, Array] | None:
    """The mesh that ABACUS makes, and writes into KPT, where INPUT has kspacing (1/Bohr); None where it has none.

    None too where a spacing divides a reciprocal vector so evenly that rounding decides, and where newer keywords shift the mesh.
    """
    given = {words[0].lower(): words[1:] for words in reversed(lines_of(path))}
    try:
        spacing_c = np.array([float(word) for word in given.get("kspacing", ["0"])[:3]])
    except ValueError as error:
        raise Refused(
            Kind.DAMAGED, path, f"has kspacing {' '.join(given['kspacing'])}", "one number or three"
        ) from error
    if len(spacing_c) not in (1, 3) or not (spacing_c > 0).all() or {"kmesh_type", "koffset"} & set(given):
        return None
    steps_c = np.linalg.norm(2 * np.pi * np.linalg.inv(cell_cv).T * BOHR, axis=1) / spacing_c
    if (np.abs(steps_c - np.round(steps_c)) < UNDECIDED).any():
        return None
    mesh = (steps_c.astype(int) + 1).tolist()
    require_mesh(path, mesh)
    return uniform_mesh(np.array(mesh), np.zeros(3))


def read_species(path: Path, stru: Stru, log: Log, places: Sequence[Path]) -> tuple[Species, ...]:
    """Species with their shells from the log, else from the orbital files in some folders, else from the names of these (.._2s2p1d.orb)."""
    basis = []
    for s, label in enumerate(stru.labels):
        file = stru.orbital_files[s] if s < len(stru.orbital_files) else ""
        there = [place / file for place in places if file and (place / file).is_file()]
        shells = log.orbitals.get(label) or (shells_in_file(there[0]) if there else ()) or shells_of_name(file)
        if not shells:
            wanted = f"running_scf.log of the run, or {Path(file).name or 'its orbital file'}"
            raise Refused(Kind.MISSING_FILES, path, f"does not say which orbitals {label} has", wanted)
        basis.append(Species(label, element_number(path, label, stru.pseudopotentials[s]), shells, Path(file).name))
    return tuple(basis)


def shells_of_name(name: str) -> tuple[Shell, ...]:
    match = re.search(rf"_((?:\d+[{LETTERS}])+)\.orb$", name, re.I)
    return parse_shells(match[1].lower()) if match else ()


def shells_in_file(path: Path) -> tuple[Shell, ...]:
    """The shells that the header of an orbital file counts; it may hold more tables than these."""
    head = path.read_text(errors="replace").split("Type", 1)[0]
    counts = re.findall(r"^Number of ([A-Z])orbital\s*-*>\s*(\d+)", head, re.M)
    known = [(LETTERS.index(letter.lower()), int(count)) for letter, count in counts if letter.lower() in LETTERS]
    return tuple(Shell(l, zeta=zeta) for l, count in sorted(known) for zeta in range(1, min(count, 99) + 1))


def element_number(path: Path, label: str, pseudopotential: str) -> int:
    """Atomic number from the label of a species or its pseudopotential; of two letters the first may be the symbol."""
    for name in (label, Path(pseudopotential).name):
        if number := element_named(name) or element_named(name[:1]):
            return number
    raise Refused(Kind.MISSING_FILES, path, f"does not say which element {label} is", "its symbol at the beginning")
