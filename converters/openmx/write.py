"""OpenMX's own files of a frame: .scfout, and the restart folder NAME_rst with one .rst file for each atom.

Both are made from a template, the .scfout file of any run of the same structure and basis (one cheap iteration is enough):
it has the pair list, the grid and the spin-orbit part of H, which a frame does not hold apart.
"""

from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import cell_shells
from basis.spin import TRANSPOSED, Spin
from basis.units import HARTREE
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs, is_canonical
from converters.frames.frame import Frame
from converters.openmx.convention import BOHR, LAYOUT, convention
from converters.openmx.scfout import SETS, ScfOut, read_scfout, replace_values
from converters.openmx.text import parse_input, read_output, read_species
from converters.starts.start import Options
from converters.storage.files import write_whole


def write_matrices(frame: Frame, folder: Path, options: Options) -> list[Path]:
    """The template with the matrices of a frame."""
    if options.template is None:
        raise Refused(
            Kind.NO_START, folder, "needs the .scfout file of a cheap run of the same structure as a template"
        )
    return write(frame, folder, options.template, options.template.stem)


def write(frame: Frame, folder: Path, template_path: Path, name: str) -> list[Path]:
    """Write NAME.scfout and NAME_rst/ with the frame's H (and DM, where the file has a place for it); returns the files."""
    template = read_scfout(template_path)
    values = stored_values(frame, template)
    path = folder / f"{name}.scfout"
    written = write_restart(frame, folder, template, name)
    write_whole(path, replace_values(template, values))
    return [path, *written]


def write_restart(frame: Frame, folder: Path, template: ScfOut, name: str) -> list[Path]:
    """Write NAME_rst/ with one .rst file for each atom and the line of the grid; a matrix that the frame lacks is the template's."""
    require_same_structure(frame, template, template.path)
    values, has_soc = stored_values(frame, template), is_spin_orbit(template)
    place = folder / f"{name}_rst"
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for a in range(frame.natoms):
        written.append(place / f"{name}.rst{a + 1}")
        write_whole(written[-1], restart_file(template, given_species(template), values, a, has_soc))
    written.append(place / f"{name}.crst_check")
    write_whole(written[-1], grid_line(template).encode())
    return written


def is_spin_orbit(template: ScfOut) -> bool:
    return parse_input(template.text).is_on("scf.spinorbit.coupling")


def require_same_structure(frame: Frame, template: ScfOut, path: Path) -> None:
    """Refuse a template of another structure, basis or spin: its pair list would not be the frame's."""
    components = LAYOUT[template.spin_switch]
    if frame.spin is not components:
        raise Refused(
            Kind.OTHER_STRUCTURE, path, f"is of a run with the spin layout {components}; the frame has {frame.spin}"
        )
    if template.norb_a.tolist() != frame.pairs.norb_a.tolist():
        raise Refused(Kind.OTHER_STRUCTURE, path, "is of a run with other orbitals than the frame")
    moved = np.abs(template.positions_av * BOHR - frame.positions_av).max()
    strained = np.abs(template.cell_cv * BOHR - frame.cell_cv).max()
    if max(moved, strained) > 1e-4:
        raise Refused(
            Kind.OTHER_STRUCTURE,
            path,
            f"is of another structure: atoms differ by {moved:.2g}, the cell by {strained:.2g} Angstrom",
        )


def stored_values(frame: Frame, template: ScfOut) -> dict[str, Array]:
    """The frame's matrices as the template stores them; a pair that the frame lacks becomes zero."""
    has_soc = is_spin_orbit(template)
    pairs = Pairs(template.i_q, template.j_q, template.R_qc, template.norb_a)
    values = {}
    if "S" in frame.operators:
        values["S"] = spread(frame, "S", pairs).real
    if "H" in frame.operators:
        H_sx = spread(frame, "H", pairs) / HARTREE
        values["H"] = H_sx.real
        if frame.spin is Spin.SPINOR:
            iH_sx = template.values["iH"] if has_soc else np.zeros((3, pairs.elements))
            values["H"] = np.stack([H_sx[0].real, H_sx[3].real, H_sx[1].real, H_sx[1].imag - iH_sx[2]])
            values["iH"] = template.values["iH"]
    if "DM" in frame.operators:
        DM_sx = spread(frame, "DM", pairs)
        values["DM"] = DM_sx.real / (2 if frame.spin is Spin.NONE else 1)
        if frame.spin is Spin.SPINOR:
            values["DM"] = np.stack([DM_sx[0].real, DM_sx[3].real, DM_sx[1].real, -DM_sx[1].imag])
            if template.version == 3:
                values["iDM"] = np.stack([-DM_sx[0].imag, -DM_sx[3].imag])
    return values


def spread(frame: Frame, name: str, pairs: Pairs) -> Array:
    """A matrix on the template's list of pairs, both halves, in OpenMX's orbital order."""
    order, signs = to_standard(cell_shells(frame.basis, frame.species_a), convention)
    place_M, sign_M = np.empty_like(order), np.empty_like(signs)
    place_M[order], sign_M[order] = np.arange(len(order)), signs
    row_x, column_x = pairs.row_column_x
    ours = frame.pairs
    start = ours.orbital_start_a
    mine_q = is_canonical(pairs.i_p, pairs.j_p, pairs.R_pc)
    i_q, j_q = np.where(mine_q, pairs.i_p, pairs.j_p), np.where(mine_q, pairs.j_p, pairs.i_p)
    p_q = ours.find(i_q, j_q, np.where(mine_q[:, None], pairs.R_pc, -pairs.R_pc))
    mine_x, p_x = mine_q[pairs.pair_x], p_q[pairs.pair_x]
    first_x = place_M[np.where(mine_x, row_x, column_x)] - start[i_q][pairs.pair_x]
    second_x = place_M[np.where(mine_x, column_x, row_x)] - start[j_q][pairs.pair_x]
    x = ours.start_p[p_x] + first_x * ours.norb_a[j_q][pairs.pair_x] + second_x
    values_sx = frame.operators[name].values_sx[:, np.where(p_x >= 0, x, 0)]
    transposed = values_sx.conj() if len(values_sx) != 4 else values_sx[TRANSPOSED[Spin.SPINOR]].conj()
    sign_x = sign_M[row_x] * sign_M[column_x]
    result: Array = np.where(p_x >= 0, np.where(mine_x, values_sx, transposed) * sign_x, 0)
    return result


def given_species(template: ScfOut) -> Array:
    return read_species(template.path, parse_input(template.text), template.norb_a)[1]


def restart_file(template: ScfOut, species_a: Array, values: dict[str, Array], a: int, has_soc: bool) -> bytes:
    """The bytes of the .rst file of atom a."""
    norb_a, neighbours = template.norb_a, int(template.neighbours_a[a])
    switch, order = template.spin_switch, template.byte_order
    q = np.flatnonzero(template.i_q == a)
    sizes_q = norb_a[template.i_q] * norb_a[template.j_q]
    start_q = np.concatenate([[0], np.cumsum(sizes_q)])
    mine = slice(start_q[q[0]], start_q[q[-1] + 1])
    j_q = template.j_q[q]
    largest = int(template.neighbours_a.max()) + 7
    header = [switch, SETS[switch], len(norb_a) + 1, largest, int(norb_a.max()), len(norb_a)]
    header += [int(species_a[a]), int(norb_a[a]), neighbours, int(has_soc)]
    rows = [j_q + 1, *template.R_qc[q].T, species_a[j_q], norb_a[j_q]]
    blocks = [values.get("H", template.values["H"])[:, mine]]
    if switch == 3:
        blocks.append(values.get("iH", template.values["iH"])[:, mine])
    if template.version == 3:
        blocks.append(values.get("DM", template.values["DM"])[:, mine])
    integers = np.concatenate([header, *rows]).astype(f"{order}i4")
    reals = np.concatenate([[0.0], *(block.ravel() for block in blocks)]).astype(f"{order}f8")
    return integers.tobytes() + reals.tobytes()


def grid_line(template: ScfOut) -> str:
    """The line of crst_check: one process, the grid of the template's run, and (3.9) the spin switch."""
    numbers = [1, *grid_of(template)] + ([template.spin_switch] if template.version == 3 else [])
    return " ".join(map(str, numbers))


def grid_of(template: ScfOut) -> tuple[int, int, int]:
    """Points of the real-space grid of the template's run, from its main output."""
    output_path = template.path.with_suffix(".out")
    given = parse_input(template.text)
    grid_c = read_output(output_path, given, template.spin_switch == 3).grid_c if output_path.exists() else None
    if grid_c is None:
        raise Refused(
            Kind.MISSING_FILES, output_path, "does not give the grid", "the main output of the template's run beside it"
        )
    return grid_c[0], grid_c[1], grid_c[2]
