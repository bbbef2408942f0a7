"""Starting OpenMX: from the density on its grid (crst files), or from H (rst files, with spin-orbit coupling or U = 0).

OpenMX rebuilds H from the density unless the run has spin-orbit coupling or +U; then it diagonalises the H of the files.
Both need the .scfout file of a cheap run of the same structure as a template: its pair list and its grid.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.spin import Spin
from basis.units import HARTREE, KELVIN
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.openmx import text
from converters.openmx.convention import BOHR
from converters.openmx.orbitals import pao_name, read_atomic_density, read_orbitals
from converters.openmx.scfout import ScfOut, read_scfout
from converters.openmx.write import grid_of, is_spin_orbit, write_restart
from converters.physics.density_grid import Grid, density_on_grid, superposed
from converters.physics.kspace import require_mesh, uniform_mesh
from converters.starts.start import Options, Progress, Route, Target, Written, basis_file, numbers_of, replace_lines
from converters.storage.files import write_whole

if TYPE_CHECKING:
    from ase import Atoms

NAME = "guess"
LAYOUTS = {"off": Spin.NONE, "on": Spin.COLLINEAR, "nc": Spin.SPINOR}
# Mixers that keep what the first diagonalisation gives; the others go back to the density of the atoms.
KEEP_H = ("rmm-diish", "rmm-diis")
# Mixers whose second iteration repeats the density of the first.
REPEAT = ("rmm-diisk", "kerker")


def read_target(path: Path) -> Target:
    """The run of a .dat file, or of the folder that has only one."""
    if path.is_dir():
        found = [file for file in sorted(path.glob("*.dat")) if is_input(file)]
        if len(found) != 1:
            raise Refused(Kind.AMBIGUOUS, path, f"holds {len(found)} inputs of OpenMX; name the one that is to run")
        path = found[0]
    given = text.parse_input(path.read_text(errors="replace"))
    definitions = {row[0]: row[1:3] for row in given.blocks.get("definition.of.atomic.species", []) if len(row) > 2}
    atoms = given.blocks.get("atoms.speciesandcoordinates", [])
    vectors = given.blocks.get("atoms.unitvectors", [])
    if not atoms or len(vectors) != 3 or any(len(row) < 7 or row[1] not in definitions for row in atoms):
        raise Refused(
            Kind.DAMAGED,
            path,
            "has no atoms with seven columns, their species and three Atoms.UnitVectors",
            "all of them",
        )
    try:
        unit = given.words.get("atoms.unitvectors.unit", "ang").lower()
        cell_cv = np.array([row[:3] for row in vectors], dtype=float) * (BOHR if unit == "au" else 1.0)
        places_av = np.array([row[2:5] for row in atoms], dtype=float)
        electrons = float(np.array([row[5:7] for row in atoms], dtype=float).sum())
        electrons -= float(given.words.get("scf.system.charge", "0"))
        mesh_c = [int(n) for n in given.words.get("scf.kgrid", "1 1 1").split()[:3]]
        criterion = float(given.words.get("scf.criterion", "1e-6").split()[0])
        width = float(given.words.get("scf.electronictemperature", "300").split()[0]) * KELVIN
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    require_mesh(path, mesh_c)
    place = given.words.get("atoms.speciesandcoordinates.unit", "ang").lower()
    positions_av = places_av @ cell_cv if place == "frac" else places_av * (BOHR if place == "au" else 1.0)
    if given.words.get("scf.eigenvaluesolver", "band").lower() == "cluster":
        mesh_c = [1, 1, 1]
    # The mesh of OpenMX has Gamma for odd numbers alone.
    kpoints_kc, weights_k = uniform_mesh(mesh_c, [1 / (2 * n) - 0.5 for n in mesh_c])
    return Target(
        code="openmx",
        path=path,
        cell_cv=cell_cv,
        positions_av=positions_av,
        labels_a=tuple(row[1] for row in atoms),
        numbers_a=np.array([text.element_number(path, *reversed(definitions[row[1]])) for row in atoms]),
        radials={label: names[0] for label, names in definitions.items()},
        spin=LAYOUTS.get(given.words.get("scf.spinpolarization", "off").lower(), Spin.NONE),
        kpoints_kc=kpoints_kc,
        weights_k=weights_k,
        smearing="fermi",
        width=width,
        electrons=electrons,
        energy_tolerance=max(1e-5 * len(atoms), 10 * criterion * HARTREE),
        settings=given.words,
    )


def is_input(path: Path) -> bool:
    """True for a .dat file that names a system."""
    return "system.name" in path.read_text(errors="replace").lower()


def read_structure(path: Path) -> "Atoms":
    """The structure of a .dat file."""
    return read_target(path).atoms


def mixer(target: Target) -> str:
    return str(target.settings.get("scf.mixing.type", "rmm-diis")).lower()


def has_spin_orbit(target: Target) -> bool:
    return str(target.settings.get("scf.spinorbit.coupling", "off")).lower() == "on"


def choose_route(frame: Frame, target: Target | None, options: Options) -> Route:
    if target is not None and has_spin_orbit(target):
        return Route(
            "h", "with spin-orbit coupling OpenMX diagonalises the H of the restart files, whatever the density is"
        )
    if "DM" in frame.operators:
        return Route("charge", "OpenMX rebuilds H from the density on its grid, and errors of DM stay small there")
    if target is not None and mixer(target) in KEEP_H:
        return Route("h", f"only H was predicted, and {mixer(target)} keeps what its diagonalisation gives")
    return Route("h2dm", "only H was predicted; the density of its levels starts every mixer")


def write_guess(frame: Frame, route: str, folder: Path, target: Target | None, options: Options) -> Written:
    """Write the restart folder of a prepared frame."""
    template = read_scfout(template_path(folder, target, options))
    is_old = options.version.startswith("3.8") or (not options.version and template.version == 0)
    given = text.parse_input(template.text)
    name = given.words.get("system.name", "default") if is_old else NAME
    keywords = {"scf.restart": "on"} if is_old else {"scf.restart": "on", "scf.restart.filename": name}
    notes = [f"{name}_rst is overwritten at the end of the run: keep a copy"] if is_old else []
    if route == "h":
        if not is_spin_orbit(template):
            keywords["scf.Hubbard.U"] = "on"
            notes.append("+U with U = 0 is switched on, for without it OpenMX throws H away; energies stay the same")
        if target is not None and mixer(target) not in KEEP_H:
            notes.append(
                f"scf.Mixing.Type {mixer(target)} goes back to the density of the atoms after the first iteration; rmm-diish replaces it"
            )
            keywords["scf.Mixing.Type"] = "rmm-diish"
        return Written(tuple(write_restart(frame, folder, template, name)), keywords, tuple(notes))
    if route not in ("dm", "h2dm", "charge"):
        raise Refused(Kind.NO_START, folder, f"cannot start OpenMX by {route}", "charge, h2dm or h")
    if is_spin_orbit(template):
        reason = (
            "cannot start a run with spin-orbit coupling from a density: OpenMX diagonalises the H of the restart files"
        )
        raise Refused(Kind.NO_START, folder, f"{reason}; the route h, from a predicted H, is possible")
    files = write_restart(frame, folder, template, name) + write_charge(
        frame, folder / f"{name}_rst", template, name, options
    )
    return Written(tuple(files), keywords, (*notes, *advice(target)))


def advice(target: Target | None) -> list[str]:
    """What keeps a good guess from showing its worth."""
    if target is None:
        return []
    notes = []
    if mixer(target) in REPEAT and float(target.settings.get("scf.criterion", "1e-6").split()[0]) > 1e-8:
        notes.append(
            f"{mixer(target)} repeats its first density and may stop at iteration 2 unimproved; set scf.criterion 1e-8 or smaller"
        )
    start = int(float(target.settings.get("scf.mixing.startpulay", "6")))
    if start > 3:
        notes.append(
            f"scf.Mixing.StartPulay {start} mixes linearly until then, which wastes a good start; 3 shows the gain"
        )
    return notes


def template_path(folder: Path, target: Target | None, options: Options) -> Path:
    """The .scfout file to take pair list and grid from."""
    if options.template is not None:
        return options.template
    found = sorted(target.folder.glob("*.scfout")) if target is not None else []
    if len(found) != 1:
        reason = "needs one .scfout file of the same structure; run it once with scf.maxIter 1 and HS.fileout on"
        raise Refused(Kind.NO_START, folder if target is None else target.folder, f"{reason}")
    return found[0]


def write_charge(frame: Frame, place: Path, template: ScfOut, name: str, options: Options) -> list[Path]:
    """The crst files: the density of each spin less half of that of the atoms; for spinors also the two flip densities."""
    shape_c = grid_of(template)
    places = basis_folders(template, options)
    files = [basis_file(pao_name(species), places) for species in frame.basis]
    orbitals = [read_orbitals(path, species) for path, species in zip(files, frame.basis, strict=True)]
    grid = Grid(shape_c, grid_origin(template, shape_c), BOHR)
    density = density_on_grid(frame, orbitals, grid)
    atomic = half_atomic_density(frame, template, grid, files)
    if frame.spin is Spin.NONE:
        parts = [density[0] / 2 - atomic]
    elif frame.spin is Spin.COLLINEAR:
        parts = [density[0] - atomic, density[1] - atomic]
    else:
        total, x, y, z = density
        parts = [(total + z) / 2 - atomic, (total - z) / 2 - atomic, x / 2, -y / 2]
    paths = [place / f"{name}.crst{s}_0_0" for s in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write_whole(path, part.astype(f"{template.byte_order}f8").tobytes())
    return paths


def grid_origin(template: ScfOut, shape_c: tuple[int, int, int]) -> Array:
    """The first grid point (Angstrom): the grid is centred on the atoms, unless scf.fixed.grid says where it is."""
    fixed = text.parse_input(template.text).words.get("scf.fixed.grid")
    if fixed:
        return np.array([float(x) for x in fixed.split()[:3]]) * BOHR
    sides_c = np.array(shape_c)
    steps_c = sides_c // 2 - np.where(sides_c % 2, 0.0, 0.5)
    return np.asarray(template.positions_av.mean(axis=0) - (steps_c / sides_c) @ template.cell_cv) * BOHR


def half_atomic_density(frame: Frame, template: ScfOut, grid: Grid, files: list[Path]) -> Array:
    """Half of the superposed densities of the atoms: as 3.9 writes it (adrst), else from the tables of the basis."""
    stored = template.path.parent / f"{template.path.stem}_rst" / f"{template.path.stem}.adrst0"
    if stored.is_file() and stored.stat().st_size == 8 * np.prod(grid.shape_c):
        return np.fromfile(stored, dtype=f"{template.byte_order}f8").reshape(grid.shape_c)
    atoms = text.parse_input(template.text).blocks["atoms.speciesandcoordinates"]
    charges = {row[1]: float(row[5]) + float(row[6]) for row in atoms}
    densities = [read_atomic_density(path, charges[s.name]) for path, s in zip(files, frame.basis, strict=True)]
    return superposed(frame, densities, grid) / 2


def basis_folders(template: ScfOut, options: Options) -> list[Path]:
    """Where .pao files may be: in the folder that the user names, then in the DATA.PATH of the template's input."""
    data = text.parse_input(template.text).words.get("data.path", "../DFT_DATA19")
    return [*([options.basis_dir] if options.basis_dir else []), template.path.parent / data / "PAO"]


def patch(target: Target, keywords: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of the .dat file with other keywords; +U brings its block of zeros and a column for each atom."""
    with_u = keywords.get("scf.Hubbard.U") == "on"
    new = {key.lower(): f"{key:<32} {value}" for key, value in keywords.items()}
    changed = replace_lines(keyed_lines(target.path.read_text(errors="replace"), with_u), new)
    block = ["<Hubbard.U.values", *zero_u(target), "Hubbard.U.values>", ""] if with_u else []
    return target.path.name, changed + "\n".join(block)


def keyed_lines(content: str, with_u: bool) -> Iterator[tuple[str, str]]:
    """Keyword and text of each line, no keyword inside a block; +U wants one more column for each atom."""
    inside = ""
    for line in content.splitlines():
        words = line.split("#")[0].split()
        key = words[0].lower() if words else ""
        if key.startswith("<"):
            inside = key[1:]
        elif key == f"{inside}>":
            inside = ""
        elif not inside:
            yield key, line
            continue
        elif inside == "atoms.speciesandcoordinates" and with_u and words and words[-1].lower() not in ("on", "off"):
            line = f"{line.rstrip()}  off"
        yield "", line


def zero_u(target: Target) -> list[str]:
    """One line for each species: U = 0 for each of its shells."""
    rows = []
    for label, name in target.radials.items():
        entries = re.findall(r"([spdf])(\d+)(?:>(\d+))?", name.partition("-")[2])
        shells = [f"{n}{letter} 0.0" for letter, count, taken in entries for n in range(1, int(taken or count) + 1)]
        rows.append(f" {label} " + " ".join(shells))
    return rows


def read_progress(folder: Path) -> Progress:
    """What the main output and the standard output in a folder say."""
    outputs = sorted(folder.glob("*.out"), key=lambda path: path.stat().st_mtime)
    inputs = sorted(folder.glob("*.dat"))
    if not outputs or not inputs:
        return Progress()
    given = text.parse_input(inputs[0].read_text(errors="replace"))
    output = text.read_output(outputs[-1], given, given.words.get("scf.spinpolarization", "off").lower() == "nc")
    norms = re.findall(r"SCF= *\d+\s+NormRD= *(\S+)", outputs[-1].read_text(errors="replace"))
    said = [path.read_text(errors="replace") for path in folder.iterdir() if path.suffix in (".std", ".log", ".txt")]
    found = [True for content in said if "Found restart files" in content]
    lost = [
        False
        for content in said
        if "Could not find restart files" in content or "in reading the restart file" in content
    ]
    residuals = numbers_of(norms, output.iterations)
    energy = None if output.energy is None else output.energy * HARTREE
    return Progress(output.iterations, energy, output.converged, residuals, next(iter([*lost, *found]), None))
