"""Starting ABACUS: from DM or H in the CSR grammar of 3.11 (init_chg dm, hr), or from the density on its grid (init_chg file)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.abacus import text
from converters.abacus.convention import BOHR, LAYOUT, RYDBERG
from converters.abacus.files import is_input
from converters.abacus.log import read_log, version_of
from converters.abacus.orbitals import read_orbitals
from converters.abacus.write import generation, write
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, make_pairs
from converters.frames.frame import Frame
from converters.frames.moments import UP
from converters.physics.density_grid import Grid, density_on_grid
from converters.physics.kspace import dense_at
from converters.starts.density import operator_on_mesh
from converters.starts.fit import without_magnetism
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
from converters.starts.symmetry import has_turns

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["choose_route", "is_input", "patch", "read_progress", "read_structure", "read_target", "write_guess"]

FOLDER = "guess"  # read_file_dir of the patched INPUT
KERKER = "mixing_gg0"
# Where all moments of STRU (magnetons) are below the first, ABACUS begins with moments of its own; below the second they are none.
NOT_SET, NO_MOMENT = 1e-5, 1e-3
DIGITS = 11  # 3 digits of a density cost iterations
# Of a matrix; ABACUS's own files have as many where INPUT says nothing (docs/results.md).
DIGITS_OF_MATRIX = 8


def read_target(path: Path) -> Target:
    """The run of an INPUT file, or of the folder that has one."""
    path = path / "INPUT" if path.is_dir() else path
    given = text.read_input(path)
    stru_path = path.parent / given.get("stru_file", "STRU")
    stru = text.read_stru(stru_path, given.get("latname", "none"))
    spin = LAYOUT[text.spin_components(path, given)]
    labels_a = tuple(stru.labels[s] for s in stru.species_a)
    numbers_s = [text.element_number(path, *names) for names in zip(stru.labels, stru.pseudopotentials, strict=True)]
    mesh = (np.zeros((1, 3)), np.ones(1)) if text.flag(given, "gamma_only") == "1" else None
    mesh_path = path.parent / given.get("kpoint_file", "KPT")
    if mesh is None:
        mesh = text.mesh_of_spacing(path, stru.cell_cv)
    if mesh is None and mesh_path.exists() and not text.number(given, "kspacing", 0) > 0:
        mesh = text.read_mesh(mesh_path)
    wanted = text.number(given, "nelec", 0)
    moment = text.number(given, "nupdown", 0) if "nupdown" in given else None
    threshold = text.number(given, "scf_thr", 1e-7)
    # With noncolin 0 spinors have moments along z alone.
    is_along_z = spin is Spin.SPINOR and text.flag(given, "noncolin") != "1"
    moments_av = stru.moments_av * UP if is_along_z else stru.moments_av
    nonmagnetic = is_along_z and bool(np.abs(stru.moments_av).max() > NOT_SET and np.abs(moments_av).max() < NO_MOMENT)
    return Target(
        code="abacus",
        path=path,
        cell_cv=stru.cell_cv,
        positions_av=stru.positions_av,
        labels_a=labels_a,
        numbers_a=np.array([numbers_s[s] for s in stru.species_a]),
        radials={label: Path(file).name for label, file in zip(stru.labels, stru.orbital_files, strict=False)},
        spin=spin,
        kpoints_kc=mesh[0] if mesh else None,
        weights_k=mesh[1] if mesh else None,
        smearing=text.SMEARINGS.get(given.get("smearing_method", "gauss").lower(), "fixed"),
        width=text.number(given, "smearing_sigma", 0.015) * RYDBERG,
        electrons=wanted if wanted > 0 else valence_electrons(path, given, stru),
        moment=moment,
        nonmagnetic=nonmagnetic,
        energy_tolerance=max(1e-5, 10 * threshold * RYDBERG) * len(labels_a),
        settings=given,
        moments_a=stru.moments_av[:, 2] if spin is Spin.COLLINEAR and stru.moments_av.any() else None,
        moments_av=moments_av if spin is Spin.SPINOR and not nonmagnetic and moments_av.any() else None,
        files=(stru_path, mesh_path),
    )


def read_structure(path: Path) -> "Atoms":
    """The structure of a STRU file."""
    from ase import Atoms

    stru = text.read_stru(path)
    numbers_s = [text.element_number(path, *names) for names in zip(stru.labels, stru.pseudopotentials, strict=True)]
    return Atoms([numbers_s[s] for s in stru.species_a], stru.positions_av, cell=stru.cell_cv, pbc=True)


def valence_electrons(path: Path, given: dict[str, str], stru: text.Stru) -> float | None:
    """Electrons of the pseudopotential files, where these can be found."""
    charges = []
    for name in stru.pseudopotentials:
        file = path.parent / given.get("pseudo_dir", ".") / name
        found = (
            re.search(r"z_valence\s*=\s*\"?\s*([\d.Ee+-]+)", file.read_text(errors="replace"))
            if file.is_file()
            else None
        )
        if found is None:
            return None
        charges.append(float(found[1]))
    return float(sum(charges[s] for s in stru.species_a) + text.number(given, "nelec_delta", 0))


def choose_route(frame: Frame, target: Target | None, options: Options) -> Route:
    if generation(options.version) == "3.8":
        return Route(
            "charge", "ABACUS before 3.9.0.25 reads no DM; the density on its grid is the only start that it knows"
        )
    if not {"H", "S"} <= set(frame.operators):
        return Route("dm", "ABACUS takes the density of a DM file as it is and scales it")
    if frame.spin is not Spin.NONE:
        return Route("h2dm", "the DM of the levels of H starts every nspin, H itself only nspin 1 without fail")
    if target is not None and is_reduced(target):
        return Route(
            "h2dm", "with symmetry 1 ABACUS sums the density of a predicted H over the irreducible k-points only"
        )
    return Route("h", "ABACUS diagonalises a predicted H, whose density is nearer to the end than a predicted DM")


def is_reduced(target: Target) -> bool:
    """Whether ABACUS leaves out k-points of a run because its crystal has turns or mirrors."""
    alone = target.kpoints_kc is not None and len(target.kpoints_kc) == 1
    if alone or text.flag(dict(target.settings), "symmetry", "1") != "1":
        return False
    return has_turns(target.cell_cv, target.positions_av, target.numbers_a)


def write_guess(frame: Frame, route: str, folder: Path, target: Target | None, options: Options) -> Written:
    """Write the files of a prepared frame below `folder`/guess."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    if target is not None and target.nonmagnetic and "DM" in frame.operators:
        frame = without_magnetism(frame)
    if route == "charge":
        require_no_occupations(place, target)
        files, notes = write_charge(frame, place, target, options)
        notes += doubt_of_version(target, options)
        return Written(files, {"init_chg": "file", "read_file_dir": f"./{FOLDER}/"}, notes)
    if generation(options.version) == "3.8":
        raise Refused(
            Kind.NO_START,
            place,
            f"cannot start ABACUS {options.version} by {route}: it reads cube files only: the route charge is possible",
        )
    if route == "h" and frame.spin is Spin.COLLINEAR:
        reason = (
            "cannot start nspin 2 from H: ABACUS 3.11 reads the file and goes on to another state (1.2 eV higher in O2)"
        )
        raise Refused(Kind.NO_START, place, f"{reason}; the route h2dm is possible")
    name = "H" if route == "h" else "DM"
    only = replace(frame, operators={name: frame.operators[name]})
    if target is not None and text.flag(dict(target.settings), "gamma_only") == "1":
        only = at_gamma(only)
    files = tuple(write(only, place, digits=DIGITS_OF_MATRIX))
    lines = {"init_chg": "hr" if route == "h" else "dm", "read_file_dir": f"./{FOLDER}/"}
    return Written(files, lines, advice(target) + doubt_of_version(target, options))


def doubt_of_version(target: Target | None, options: Options) -> tuple[str, ...]:
    """A note where no version was named, and the last run in the folder was of one that cannot read the files."""
    if target is None or options.version:
        return ()
    logs = [path.read_text(errors="replace") for path in sorted(target.folder.glob("OUT.*/running_*.log"))]
    older = [version for text in logs if (version := version_of(text)) and generation(version) == "3.8"]
    if not older:
        return ()
    return (
        f"the run in {target.folder} was of ABACUS {older[0]}, which cannot read this start: a newer version will, "
        "or name the version that is to read it, for the density in its own files",
    )


def require_no_occupations(place: Path, target: Target | None) -> None:
    """Refuse DFT+U, which reads its occupations wherever it reads a density on the grid."""
    if target is not None and text.flag(dict(target.settings), "dft_plus_u", "0") != "0":
        reason = "cannot start DFT+U from a density: ABACUS then reads occupations too, from onsite.dm, and ends without them"
        raise Refused(Kind.NO_START, place, f"{reason}; the route h2dm is possible for 3.9.0.25 and newer")


def advice(target: Target | None) -> tuple[str, ...]:
    """What the input leaves to a default that wastes much of a good start (docs/results.md)."""
    if target is None or KERKER in target.settings:
        return ()
    return (
        f"INPUT leaves {KERKER} at 1: Kerker's damping of long waves, which a poor start needs and a good one pays for. "
        f"Try {KERKER} 0 on one run: of small cells starts of graphene take 7 iterations in place of 10.5, of MoS2 9.7 in place of 13.8, though of silicon 8.7 in place of 7.2",
    )


def at_gamma(frame: Frame) -> Frame:
    """The frame with one lattice vector, R = 0: the sum of H over all, the DM that is the same for all of them.

    gamma_only runs read the block R = 0 alone.
    """
    gamma_kc = np.zeros((1, 3))
    i_p, j_p = np.triu_indices(frame.natoms)
    pairs = make_pairs(i_p, j_p, np.zeros((len(i_p), 3), dtype=int), frame.pairs.norb_a)
    row_x, column_x = pairs.row_column_x
    operators = {}
    for name in frame.operators:
        parts = next(operator_on_mesh(frame, name, gamma_kc)) if name == "DM" else dense_at(frame, name, gamma_kc[0])
        operators[name] = Operator(np.array([part.real[row_x, column_x] for part in parts]))
    return replace(frame, pairs=pairs, operators=operators)


def write_charge(
    frame: Frame, place: Path, target: Target | None, options: Options
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    shape_c = options.grid or grid_of_log(target) or grid_of_cutoff(target)
    places = basis_folders(target, options)
    orbitals = [read_orbitals(basis_file(species.radial, places), species) for species in frame.basis]
    density = density_on_grid(frame, orbitals, Grid(shape_c, np.zeros(3), BOHR))
    volume = abs(np.linalg.det(frame.cell_cv / BOHR)) / np.prod(shape_c)
    held = float((density[:2] if frame.spin is Spin.COLLINEAR else density[:1]).sum() * volume)
    old = generation(options.version) == "3.8"
    names = [f"SPIN{s + 1}_CHG.cube" if old else f"chgs{s + 1}.cube" for s in range(len(density))]
    if not old and len(density) == 1:
        names = ["chg.cube"]
    for s, name in enumerate(names):
        (place / name).write_text(cube(frame, density[s], len(density), old))
    grid_text = " x ".join(map(str, shape_c))
    restart = f"{dict(target.settings).get('suffix', 'ABACUS') if target else 'ABACUS'}-CHARGE-DENSITY.restart"
    notes = (
        f"the density on {grid_text} points holds {held:.6f} electrons",
        f"{restart} must not lie in {FOLDER}/: it goes first",
    )
    return tuple(place / name for name in names), notes


def basis_folders(target: Target | None, options: Options) -> list[Path]:
    """Where .orb files may be: in the folder that the user names, then in the orbital_dir of the run."""
    places = [options.basis_dir] if options.basis_dir else []
    return places if target is None else [*places, target.folder / dict(target.settings).get("orbital_dir", ".")]


def grid_of_log(target: Target | None) -> tuple[int, int, int] | None:
    """The grid that an earlier run in the same folder printed."""
    if target is None:
        return None
    for log in sorted(target.folder.glob("OUT.*/running_*.log")):
        found = re.search(
            r"(?:FFT grid for charge/potential|fft grid for charge/potential)\s*=\s*\[\s*(\d+),\s*(\d+),\s*(\d+)\s*\]",
            log.read_text(errors="replace"),
        )
        if found:
            return int(found[1]), int(found[2]), int(found[3])
    return None


def grid_of_cutoff(target: Target | None) -> tuple[int, int, int]:
    """The grid that ABACUS will choose: it holds all plane waves below ecutrho, and its sides divide by 2, 3 and 5 alone."""
    if target is None:
        raise Refused(Kind.NO_START, "charge", "needs the grid, or the run that has it")
    given = dict(target.settings)
    if {"nx", "ny", "nz"} <= set(given):
        return int(given["nx"]), int(given["ny"]), int(given["nz"])
    cutoff = text.number(given, "ecutrho", 4 * text.number(given, "ecutwfc", 50))
    cell_cv = target.cell_cv / BOHR
    reach_c = np.floor(np.sqrt(cutoff) * np.linalg.norm(cell_cv, axis=1) / (2 * np.pi)).astype(int)
    sides = [smooth(2 * largest_index(cell_cv, cutoff, reach_c, axis) + 1) for axis in range(3)]
    return sides[0], sides[1], sides[2]


def largest_index(cell_cv: Array, cutoff: float, reach_c: Array, axis: int) -> int:
    """Largest index along an axis of a plane wave below the cutoff (Ry)."""
    reciprocal_cv = 2 * np.pi * np.linalg.inv(cell_cv).T
    indices = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach_c), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = ((indices @ reciprocal_cv) ** 2).sum(axis=1) <= cutoff
    return int(np.abs(indices[inside, axis]).max(initial=0))


def smooth(n: int) -> int:
    """The next number that is a product of 2, 3 and 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def cube(frame: Frame, density: Array, spins: int, old: bool) -> str:
    """A cube file with the header that ABACUS looks at: the number of spins and a Fermi energy in its second line."""
    fermi = (frame.outcome.fermi or 0.0) / RYDBERG
    head = [
        "slem: starting density. Inner loop is z, followed by y and x",
        f"{spins} (nspin) {fermi:.6f} (fermi energy, in Ry)"
        if old
        else f"{spins} # number of spin directions {fermi:.6f} # Fermi energy, in Ry",
        f"{frame.natoms} 0.0 0.0 0.0",
    ]
    for n, vector in zip(density.shape, frame.cell_cv / BOHR, strict=True):
        head.append(f"{n} " + " ".join(f"{x / n:.6f}" for x in vector))
    for number, position in zip(frame.numbers_a, frame.positions_av / BOHR, strict=True):
        head.append(f" {number} 0.000000 " + " ".join(f"{x:.6f}" for x in position))
    rows = density.reshape(-1, density.shape[2])
    lines = [
        " " + " ".join(f"{x:.{DIGITS}e}" for x in row[at : at + 6]) for row in rows for at in range(0, len(row), 6)
    ]
    return "\n".join([*head, *lines]) + "\n"


def patch(target: Target, keywords: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of the INPUT with other keywords; all other lines stay as they are."""
    lines = ((keyword_of(line), line) for line in target.path.read_text().splitlines())
    return "INPUT", replace_lines(lines, {key: f"{key:<18} {value}" for key, value in keywords.items()})


def keyword_of(line: str) -> str:
    return next(iter(re.split(r"//|#", line)[0].split()), "").lower()


def read_progress(folder: Path) -> Progress:
    """What the newest log of a folder says."""
    logs = sorted(folder.glob("OUT.*/running_*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return Progress()
    content = logs[-1].read_text(errors="replace")
    last = read_log(logs[-1]).last
    residuals = re.findall(r"Electron density deviation\s+(\S+)|Density error is\s+(\S+)", content)
    start = re.search(r"init_chg\s*=\s*(\w+)", content)
    took = (
        None
        if start is None
        else start[1] in ("dm", "hr") or (start[1] == "file" and "Read electron density from file" in content)
    )
    found = numbers_of([new or old for new, old in residuals], last.iterations)
    energies = numbers_of(re.findall(r"^\s*E_KohnSham\s+\S+\s+(\S+)", content, re.M), last.iterations)
    # An scf that was cut off before it said its final energy has only those of its iterations.
    ended = logs[-1].name != "running_scf.log" or re.search(r"FINAL_ETOT_IS|final etot is", content)
    energy = last.energy if ended else None
    moment, absolute = (
        last_length(rf"{kind} magnetism \(Bohr mag/cell\)\s*=\s*(.*)", content) for kind in ("total", "absolute")
    )
    return Progress(
        last.iterations, energy, last.converged, found, took, energies=energies, moment=moment, absolute=absolute
    )
