"""The structure of each ionic step of an ABACUS run: from its matrices, from MD_dump, from the log of a relaxation, or from STRU."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from converters.abacus.context import Context
from converters.abacus.convention import BOHR
from converters.abacus.csr import Step
from converters.abacus.files import TRAJECTORY
from converters.errors import Kind, Refused
from converters.frames.neighbours import is_place

# ABACUS divides by this where it prints lengths in Angstrom; elsewhere a Bohr has 0.529177 of them.
PRINTED_ANGSTROM = 1.8897270
# Cells in the headers of matrices have 6 digits.
SIX_DIGITS = 2e-5


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the atoms of a step are (Angstrom)."""

    cell_cv: Array
    positions_av: Array


def structures_of(context: Context) -> dict[int, Geometry]:
    """The structures that the run tells besides its matrices, by the number of the ionic step from 1."""
    stru, log = context.stru, context.log
    first = Geometry(stru.cell_cv, stru.positions_av)
    if not context.moves:
        return {1: first}
    found = {}
    if context.calculation == "relax":
        for number, (is_direct, coordinates_ac) in log.coordinates.items():
            if coordinates_ac.shape == stru.positions_av.shape:
                to_angstrom = stru.cell_cv if is_direct else np.eye(3) * stru.lattice_constant * BOHR
                found[number] = Geometry(stru.cell_cv, coordinates_ac @ to_angstrom)
    if context.is_continued:  # neither its first step is that of STRU, nor do the numbers in MD_dump begin with it
        return {}
    found[1] = first
    dump = next((path for path in context.run.others if path.name == TRAJECTORY), None)
    return found | (read_dump(dump, len(stru.species_a)) if dump is not None else {})


def read_dump(path: Path, natoms: int) -> dict[int, Geometry]:
    """The structures in MD_dump."""
    _, *parts = re.split(r"^MDSTEP:\s*(\d+)\s*$", path.read_text(errors="replace"), flags=re.M)
    found = {}
    for number, part in zip(parts[::2], parts[1::2], strict=True):
        try:
            constant = float(re.search(r"LATTICE_CONSTANT:\s*(\S+)", part)[1])  # type: ignore[index]
            vectors, atoms = part.split("LATTICE_VECTORS", 1)[1].split("INDEX", 1)
            lattice_cv = np.array([line.split() for line in vectors.splitlines()[1:4]], dtype=float).reshape(3, 3)
            rows = [line.split()[2:5] for line in atoms.splitlines()[1 : natoms + 1]]
            positions_av = np.array(rows, dtype=float).reshape(natoms, 3) * (PRINTED_ANGSTROM * BOHR)
        except (ValueError, IndexError, TypeError) as error:
            raise Refused(Kind.DAMAGED, path, f"has a step {number} that cannot be read: {error}") from error
        if not (is_place(positions_av).all() and is_place(lattice_cv).all() and np.linalg.det(lattice_cv)):
            raise Refused(Kind.DAMAGED, path, f"has atoms or a cell in step {number} that are nowhere")
        found[int(number) + 1] = Geometry(constant * lattice_cv, positions_av)
    return found


def geometry_of(
    context: Context, number: int, steps: dict[str, list[Step]], paths: dict[str, list[Path]], told: dict[int, Geometry]
) -> Geometry | None:
    """The structure of a step; that in its matrix files counts before what is told elsewhere. None where neither says it."""
    known = told.get(number)
    with_structure = [name for name in ("S", "H", "DM") if name in steps and steps[name][0].fractional_ac is not None]
    if not with_structure:
        return known
    step, path = steps[with_structure[0]][0], paths[with_structure[0]][0]
    own = geometry_in(context, step, path, known, first=number == 1)
    if with_structure[:2] == ["S", "H"]:  # of a DM of another structure the checks of the physics tell
        require_same_places(paths["H"][0], steps["H"][0].fractional_ac, step.fractional_ac, path.name)
    if not context.moves:
        fractional_ac = context.stru.positions_av @ np.linalg.inv(context.stru.cell_cv)
        require_same_places(path, step.fractional_ac, fractional_ac, "STRU")
    return own


def geometry_in(context: Context, step: Step, path: Path, known: Geometry | None, first: bool) -> Geometry | None:
    """The structure in a matrix file, with the cell from where it has more digits; None where a later step has another cell than all that is known."""
    stru = context.stru
    if step.fractional_ac is None or step.cell_cv is None or step.fractional_ac.shape != stru.positions_av.shape:
        found = 0 if step.fractional_ac is None else len(step.fractional_ac)
        raise Refused(Kind.DAMAGED, path, f"has {found} atoms; STRU has {len(stru.positions_av)}")
    cells = [step.cell_cv] if step.cell_is_exact and context.moves else []
    cells += [stru.cell_cv, *([known.cell_cv] if known is not None else [])]
    for cell_cv in cells:
        if np.abs(step.cell_cv - cell_cv).max() <= SIX_DIGITS * max(1.0, np.abs(cell_cv).max()):
            return Geometry(cell_cv, step.fractional_ac @ cell_cv)
    if context.moves and not first:
        return None
    reason = "is of another cell than STRU and has only 6 digits of its own; convert single-point runs of its steps"
    raise Refused(Kind.UNSUPPORTED, path, reason)


def require_same_places(path: Path, fractional_ac: Array | None, other_ac: Array | None, name: str) -> None:
    """Raise where atoms stand elsewhere, in any cell."""
    if fractional_ac is None or other_ac is None:
        return
    if fractional_ac.shape != other_ac.shape:
        raise Refused(Kind.DAMAGED, path, f"has {len(fractional_ac)} atoms; {name} has {len(other_ac)}")
    between_ac = fractional_ac - other_ac
    if np.abs(between_ac - np.round(between_ac)).max() > 1e-5:
        raise Refused(Kind.MISSING_FILES, path, f"is of other positions than {name}", "the STRU of the run")
