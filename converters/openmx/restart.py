"""Starting OpenMX: from the density on its grid (crst files), or from H (rst files, with spin-orbit coupling or U = 0).

OpenMX rebuilds H from the density unless the run has spin-orbit coupling, +U or a constraint of spins; then it diagonalises the H of the
files. Its list of neighbours and its grid follow from the input and the .pao files.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from basis.units import HARTREE
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.openmx import text
from converters.openmx.grid import grid_of, points_of
from converters.openmx.missing_neighbours import require_that_all_are_found
from converters.openmx.neighbour_order import layout_of, require_same_orbitals
from converters.openmx.orbitals import read_cutoff
from converters.openmx.restart_files import write_density, write_hamiltonian
from converters.openmx.target import data_folders, is_input, read_structure, read_target
from converters.starts.start import (
    Options,
    Progress,
    Route,
    Target,
    Written,
    basis_file,
    last_length,
    numbers_of,
    replace_lines,
)

__all__ = ["choose_route", "is_input", "patch", "read_progress", "read_structure", "read_target", "write_guess"]

# Mixers that keep what the first diagonalisation gives; the others go back to the density of the atoms.
KEEP_H = ("rmm-diish", "rmm-diis")
# Mixers whose second iteration repeats the density of the first.
REPEAT = ("rmm-diisk", "kerker")
# What OpenMX prints after the first iteration, whatever it starts from.
NO_RESIDUAL = 1.0
# What makes OpenMX diagonalise the H of the files, whatever the density is.
TAKES_H = {
    "scf.SpinOrbit.Coupling": "spin-orbit coupling",
    "scf.Hubbard.U": "+U",
    "scf.Constraint.NC.Spin": "a constraint of spins",
    "scf.NC.Zeeman.Spin": "a Zeeman term",
    "scf.NC.Zeeman.Orbital": "a Zeeman term",
}


def mixer(target: Target) -> str:
    return str(target.settings.get("scf.mixing.type", "rmm-diis")).lower()


def takes_h(target: Target) -> str:
    """What makes a run diagonalise the H of its files; empty where it makes H from the density."""
    words = target.settings
    return next((what for keyword, what in TAKES_H.items() if words.get(keyword.lower(), "off").lower() != "off"), "")


def choose_route(frame: Frame, target: Target | None, options: Options) -> Route:
    if target is not None and (what := takes_h(target)):
        return Route("h", f"with {what} OpenMX diagonalises the H of the restart files, whatever the density is")
    if {"H", "S", "DM"} <= set(frame.operators):
        return Route("h2dm", "the density of the levels of H is nearer to the end than that of a predicted DM")
    if "DM" in frame.operators:
        return Route("charge", "OpenMX rebuilds H from the density on its grid, and errors of DM stay small there")
    if target is not None and mixer(target) in KEEP_H:
        return Route("h", f"only H was predicted, and {mixer(target)} keeps what its diagonalisation gives")
    return Route("h2dm", "only H was predicted; the density of its levels starts every mixer")


def write_guess(frame: Frame, route: str, folder: Path, target: Target | None, options: Options) -> Written:
    """Write the restart folder of a prepared frame; it has the name under which every version looks for it."""
    if target is None:
        raise Refused(
            Kind.NO_START,
            folder,
            "needs the input of the run: neighbours and grid follow from it",
            "the run to be started",
        )
    require_restartable(target)
    files = pao_files(target, options)
    layout = layout_of(target, {label: read_cutoff(path) for label, path in files.items()})
    require_same_orbitals(frame, layout, target)
    require_that_all_are_found(target.path, layout.pairs)
    name = target.settings.get("system.name", "default")
    place, keywords, notes = (
        folder / f"{name}_rst",
        {"scf.restart": "on"},
        [f"the run overwrites {name}_rst at its end"],
    )
    if "scf.restart.filename" in target.settings:
        keywords["scf.restart.filename"] = name
    if route == "h":
        if not takes_h(target):
            keywords["scf.Hubbard.U"] = "on"
            notes.append("+U with U = 0 is switched on, for without it OpenMX throws H away; energies stay the same")
        if mixer(target) not in KEEP_H:
            notes.append(
                f"scf.Mixing.Type {mixer(target)} goes back to the density of the atoms after the first iteration; rmm-diish replaces it"
            )
            keywords["scf.Mixing.Type"] = "rmm-diish"
        written = write_hamiltonian(frame, layout, points_of(target), place, name)
        return Written(tuple(written), keywords, tuple(notes))
    if route not in ("dm", "h2dm", "charge"):
        raise Refused(Kind.NO_START, folder, f"cannot start OpenMX by {route}", "charge, h2dm or h")
    if what := takes_h(target):
        reason = f"cannot start a run with {what} from a density: OpenMX diagonalises the H of the restart files"
        raise Refused(Kind.NO_START, folder, f"{reason}; the route h, from a predicted H, is possible")
    grid = grid_of(target)
    written = write_hamiltonian(frame, layout, grid.shape_c, place, name)
    sources = [files[species.name] for species in frame.basis]
    written += write_density(frame, grid, sources, electrons_of_atoms(frame, target), place, name)
    return Written(tuple(written), keywords, (*notes, *advice(target)))


def require_restartable(target: Target) -> None:
    """Refuse runs that make something else of the files."""
    if target.settings.get("orbitalopt.method", "off").lower() != "off":
        raise Refused(Kind.NO_START, target.path, "contracts its orbitals, and then OpenMX takes nothing of the files")
    if target.settings.get("scf.eigenvaluesolver", "band").lower() == "negf":
        raise Refused(Kind.NO_START, target.path, "is a run between leads, which have files of their own")


def pao_files(target: Target, options: Options) -> dict[str, Path]:
    """The .pao file of each species that the run has atoms of: in the folder that the user names, else in its DATA.PATH."""
    folders = [*([options.basis_dir] if options.basis_dir else []), *data_folders(target.path, target.settings)]
    names = {label: target.radials[label].partition("-")[0] for label in target.labels_a}
    return {label: basis_file(f"{name}.pao", folders) for label, name in names.items()}


def electrons_of_atoms(frame: Frame, target: Target) -> list[float]:
    """Electrons of an atom of each species; OpenMX runs no input where they are not those of the pseudopotential."""
    rows = text.parse_input(target.path.read_text(errors="replace")).blocks["atoms.speciesandcoordinates"]
    electrons = {row[1]: float(row[5]) + float(row[6]) for row in rows}
    return [electrons[species.name] for species in frame.basis]


def advice(target: Target) -> list[str]:
    """What keeps a good guess from showing its worth."""
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


def patch(target: Target, keywords: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of the .dat file with other keywords; +U brings its block of zeros and a column for each atom."""
    with_u = keywords.get("scf.Hubbard.U") == "on"
    new = {key.lower(): f"{key:<32} {value}" for key, value in keywords.items()}
    content = target.path.read_text(errors="replace")
    if with_u:  # OpenMX would take the values of a block that stands there already
        content = re.sub(r"(?ims)^\s*<Hubbard\.U\.values.*?^\s*Hubbard\.U\.values>[^\n]*\n?", "", content)
    changed = replace_lines(keyed_lines(content, with_u), new)
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
    content = outputs[-1].read_text(errors="replace")
    norms = re.findall(r"SCF= *\d+\s+NormRD= *(\S+)", content)
    said = [path.read_text(errors="replace") for path in folder.iterdir() if path.suffix in (".std", ".log", ".txt")]
    found = [True for content in said if "Found restart files" in content]
    lost = [
        False
        for content in said
        if "Could not find restart files" in content or "in reading the restart file" in content
    ]
    residuals = numbers_of(norms, output.iterations)
    energy = None if output.energy is None else output.energy * HARTREE
    moment = last_length(r"Total spin moment \(muB\)\s*(-?\d+\.\d+)", content)
    took = next(iter([*lost, *found]), None)
    return Progress(
        output.iterations,
        energy,
        output.converged,
        residuals,
        took,
        moment=moment,
        absolute=absolute_moment(content),
        residuals_of_any_start=int(residuals[:1] == (NO_RESIDUAL,)),
    )


def absolute_moment(content: str) -> float | None:
    """The sum of what the moments of all atoms measure (magnetons), from the last Mulliken populations of an output; None where it has none, 0 without spin polarization."""
    tables = re.findall(r"^ *Up.*Sum +Diff.*\n((?: +\d+ +[A-Za-z]\S* .*\n)+)", content, re.M)
    return sum(abs(float(row.split()[5])) for row in tables[-1].splitlines()) if tables else None
