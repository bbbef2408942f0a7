"""Starting SIESTA: from LABEL.DM (DM.UseSaveDM true), which every version reads.

H_IN, which SIESTA can be made to read too, is not written: it needs the run's own order of elements, and analyses after
the SCF read it again in place of the converged H.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basis import Array
from basis.spin import Spin
from basis.units import KELVIN
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.frames.moments import UP, along
from converters.physics.kspace import points_of_supercell, require_mesh, uniform_mesh
from converters.physics.sparse import Source
from converters.siesta import text
from converters.siesta.fdf import included_files, keyword, smearing_of, words_of
from converters.siesta.parts import PatternInParts
from converters.siesta.plain import WRONG_INPUT, PlainInput, by_sisl
from converters.siesta.structure import element_of
from converters.siesta.write import Pattern, write_density
from converters.starts.start import Options, Progress, Route, Target, Written, last_length, numbers_of, replace_lines

if TYPE_CHECKING:
    from ase import Atoms

LAYOUTS = {"none": Spin.NONE, "collinear": Spin.COLLINEAR, "non-collinear": Spin.SPINOR, "spin-orbit": Spin.SPINOR}
TRUE = ("true", "t", "yes", "y", ".true.")
# The moment of a cell: before its components up to 4.1, behind them from 5.0 on.
MOMENT = r"spin moment: (?:S , \{S\} =|\{S\} , \|S\| = \{(?:\s*-?\d+\.\d+){3}\s*\})\s*(-?\d+\.\d+)"
# Steps that SIESTA's mixer remembers by default, and keywords that say otherwise. All that was tried took fewer iterations with six (docs/results.md).
SHORT_MEMORY = 2
MEMORY = ("SCF.Mixer.History", "DM.NumberPulay", "DM.NumberBroyden")


def read_target(path: Path) -> Target:
    """The run of an fdf file, or of a folder that has only one besides those that it includes."""
    path = only_fdf(path)
    files = tuple(included_files(path))
    if not files and (plain := PlainInput.of(path)) is not None:
        with suppress(*WRONG_INPUT):  # sisl says what is wrong with it
            return target_of(path, plain)
    with by_sisl(path) as fdf:
        return replace(target_of(path, fdf), files=files)


def is_input(path: Path) -> bool:
    """True: what an fdf file leaves out has a default, so it may hold anything."""
    return True


def read_structure(path: Path) -> "Atoms":
    """The structure of an fdf file."""
    return read_target(path).atoms


def target_of(path: Path, fdf: Any) -> Target:
    geometry = fdf.read_geometry(output=False)
    species = [int(row.split()[3]) for row in fdf.get("AtomicCoordinatesAndAtomicSpecies", default=[])]
    labels = {int(row.split()[0]): row.split()[1:3] for row in fdf.get("ChemicalSpeciesLabel", default=[])}
    named = [labels[s] for s in species]
    tolerance = number(fdf, "SCF.DM.Tolerance", number(fdf, "DM.Tolerance", 1e-4))
    kpoints_kc, weights_k = mesh_of(path, fdf)
    kind = spin_kind(fdf)
    spin = LAYOUTS[kind]
    moments_av = initial_moments(fdf, len(named), spin)
    return Target(
        code="siesta",
        path=path,
        cell_cv=np.array(geometry.cell),
        positions_av=np.array(geometry.xyz),
        labels_a=tuple(label for _, label in named),
        numbers_a=np.array([element_of(int(z)) for z, _ in named]),
        radials={},
        spin=spin,
        kpoints_kc=kpoints_kc,
        weights_k=weights_k,
        smearing=smearing_of(
            str(fdf.get("OccupationFunction", default="FD")), str(fdf.get("OccupationMPOrder", default="1"))
        ),
        width=float(fdf.get("ElectronicTemperature", unit="eV", default=300 * KELVIN)),
        moment=number(fdf, "Spin.Total", 0.0) if is_on(fdf, "Spin.Fix") else None,
        energy_tolerance=max(1e-5, 0.2 * tolerance) * len(named),
        moments_a=None if moments_av is None or spin is not Spin.COLLINEAR else moments_av[:, 2],
        moments_av=moments_av if spin is Spin.SPINOR else None,
        settings={
            "spin": kind,
            "label": str(fdf.get("SystemLabel", default="siesta")),
            "memory": "" if fdf.get("SCF.Mixers", default=None) is not None else str(memory_of_mixer(fdf)),
        },
    )


def initial_moments(fdf: Any, natoms: int, spin: Spin) -> Array | None:
    """The moments of DM.InitSpin, +1 and -1 for the words + and -, along z or, of spinors, two angles, or those that DM.InitSpin.AF alternates; None where the input has neither."""
    rows = fdf.get("DM.InitSpin", default=None)
    if not isinstance(rows, list):
        alternate = is_on(fdf, "DM.InitSpin.AF")
        return np.outer(np.where(np.arange(natoms) % 2, -1.0, 1.0), UP) if alternate else None
    moments_av = np.zeros((natoms, 3))
    for words in (words_of(row) for row in rows):
        atom, moment = int(words[0]), fortran_number({"+": "1", "-": "-1"}.get(words[1], words[1]))
        angles = [fortran_number(word) for word in words[2:4]] if spin is Spin.SPINOR else []
        moments_av[atom - 1 if atom > 0 else atom] = moment * (along(*angles) if len(angles) == 2 else UP)
    return moments_av


def memory_of_mixer(fdf: Any) -> int:
    """How many steps the mixer remembers, where no block of mixers says it for each."""
    return next((int(n) for name in MEMORY if (n := number(fdf, name, 0)) > 0), SHORT_MEMORY)


def only_fdf(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.fdf"))
    if len(found) > 1:
        inner = {other.resolve() for file in found for other in included_files(file)}
        found = [file for file in found if file.resolve() not in inner]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise Refused(
            Kind.AMBIGUOUS, path, f"holds {len(found)} fdf files ({names}); name the one that SIESTA is given"
        )
    return found[0]


def number(fdf: Any, name: str, default: float) -> float:
    return fortran_number(str(fdf.get(name, default=default)).split()[0])


def fortran_number(word: str) -> float:
    """A number that Fortran may have written."""
    return float(word.lower().replace("d", "e"))


def is_on(fdf: Any, name: str) -> bool:
    return str(fdf.get(name, default="false")).lower() in TRUE


def spin_kind(fdf: Any) -> str:
    """none, collinear, non-collinear or spin-orbit, in the words of new and of old inputs."""
    word = str(fdf.get("Spin", default="")).lower().replace("+onsite", "")
    kinds = {"": "", "none": "none", "non-polarized": "none", "polarized": "collinear", "collinear": "collinear"}
    kinds |= {
        "p": "collinear",
        "nc": "non-collinear",
        "non-collinear": "non-collinear",
        "noncollinear": "non-collinear",
    }
    kinds |= {"so": "spin-orbit", "spin-orbit": "spin-orbit", "soc": "spin-orbit", "non-colinear": "non-collinear"}
    if word not in kinds:
        raise ValueError(f'Spin is "{word}"')
    if kinds[word]:
        return kinds[word]
    if is_on(fdf, "SpinOrbit"):
        return "spin-orbit"
    if is_on(fdf, "NonCollinearSpin") or is_on(fdf, "NonColinearSpin"):
        return "non-collinear"
    return "collinear" if is_on(fdf, "SpinPolarized") else "none"


def mesh_of(path: Path, fdf: Any) -> tuple[Array | None, Array | None]:
    """All k-points of kgrid_Monkhorst_Pack, whose rows are the supercell in which the density repeats; Gamma without one, None for a cutoff."""
    rows = fdf.get("kgrid_Monkhorst_Pack", default=None)
    if rows is None:
        if (
            fdf.get("kgrid_cutoff", default=None) is not None
            or fdf.get("kgrid.MonkhorstPack", default=None) is not None
        ):
            return None, None
        return np.zeros((1, 3)), np.ones(1)
    table = np.array([row.split()[:4] + ["0"] * (4 - len(row.split()[:4])) for row in rows[:3]], dtype=float)
    cells_cc, shift_c = table[:, :3], table[:, 3]
    if np.abs(cells_cc - np.diag(np.diagonal(cells_cc))).max() == 0:
        mesh_c = np.diagonal(cells_cc).astype(int)
        require_mesh(path, mesh_c.tolist())
        return uniform_mesh(mesh_c, shift_c / mesh_c)
    require_mesh(path, [1, 1, round(abs(np.linalg.det(cells_cc)))])
    return points_of_supercell(cells_cc.astype(int), shift_c)


def choose_route(frame: Frame, target: Target | None, options: Options) -> Route:
    if {"H", "S"} <= set(frame.operators):
        return Route(
            "h2dm", "the DM of the levels of H is nearer to the end than a predicted DM, and starts every version"
        )
    return Route("dm", "SIESTA takes the density of a DM file as it is and scales it")


def write_guess(frame: Frame, route: str, folder: Path, target: Target | None, options: Options) -> Written:
    """Write LABEL.DM of a prepared frame."""
    if route not in ("dm", "h2dm"):
        raise Refused(Kind.NO_START, folder, f"cannot start SIESTA by {route}", "dm or h2dm")
    if frame.spin is Spin.SPINOR and target is not None:
        components = 4 if target.settings["spin"] == "non-collinear" else 8
        form = replace(frame.provenance.form, spin_components=components)
        frame = replace(frame, provenance=replace(frame.provenance, form=form))
    only = replace(frame, operators={"DM": frame.operators["DM"]})
    pattern = Pattern.of(only)
    return write_start(pattern, pattern.rows(only, "DM"), folder, target)


def write_density_of(source: Source, factor: float, folder: Path, target: Target | None) -> Written:
    """The same of a large prediction without spinors, DM times a number."""
    pattern = PatternInParts(source)
    return write_start(pattern, pattern.rows(source.outline, "DM") * factor, folder, target)


def write_start(pattern: Pattern, DM_se: Array, folder: Path, target: Target | None) -> Written:
    """LABEL.DM, and what its reader has to do and to know."""
    label = str(target.settings["label"]) if target is not None else "siesta"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label}.DM"
    write_density(pattern, DM_se, path)
    notes = (
        advice(target)
        if target is not None
        else ("rename siesta.DM to the SystemLabel of the run, or name it in File.DM.Init",)
    )
    return Written((path,), {"DM.UseSaveDM": "true"}, notes)


def advice(target: Target) -> tuple[str, ...]:
    """What the input asks for that wastes more than a good start saves."""
    if target.settings["memory"] != str(SHORT_MEMORY):
        return ()
    return (
        f"the mixer remembers {SHORT_MEMORY} steps, SIESTA's default; with SCF.Mixer.History 6 default starts of insulators took up to a third fewer iterations, of metals more than half",
    )


def patch(target: Target, keywords: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of the fdf with other keywords before all others, for the first one counts."""
    lines = ((keyword_of(line), line) for line in target.path.read_text().splitlines())
    new = {keyword(key): f"{key} {value}" for key, value in keywords.items()}
    return target.path.name, replace_lines(lines, new, in_front=True)


def keyword_of(line: str) -> str:
    return keyword(next(iter(words_of(line)), ""))


def read_progress(folder: Path) -> Progress:
    """What the newest main output of a folder says."""
    outputs = [
        path for path in folder.iterdir() if (text.may_be_output(path) or path.suffix == ".txt") and path.is_file()
    ]
    outputs = sorted(outputs, key=lambda path: path.stat().st_mtime)
    found = [
        path
        for path in outputs
        if re.search(r"^(?:Siesta )?Version\s*:", path.read_text(errors="replace"), re.M | re.I)
    ]
    if not found:
        return Progress()
    content = found[-1].read_text(errors="replace")
    output = text.read_output(found[-1])
    attempt = re.search(r"Attempting to read DM from file\.*\s*(\w+)", content)
    steps = re.findall(r"^\s*scf:\s*\d+\s.*$", content, re.M)
    columns = [re.findall(r"-?\d+\.\d{6}", step) for step in steps]  # they may run together
    iterations = output.iterations or len(steps) or None  # SIESTA says the number at the end
    energies = numbers_of([numbers[1] for numbers in columns if len(numbers) > 3], iterations)
    residuals = numbers_of([numbers[3] for numbers in columns if len(numbers) > 3], iterations)
    took = None if attempt is None else attempt[1].lower().startswith("succe")
    moment = last_length(MOMENT, content)
    return Progress(iterations, output.energy, output.converged, residuals, took, energies=energies, moment=moment)
