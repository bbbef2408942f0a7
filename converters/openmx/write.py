"""A frame's matrices as OpenMX stores them, and its .scfout file.

That file is made from a template, the .scfout file of any run of the same structure and basis: it also holds matrices that a frame does not.
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
from converters.openmx.scfout import ScfOut, read_scfout, replace_values
from converters.openmx.text import parse_input
from converters.starts.fit import reorder_atoms
from converters.starts.start import Options
from converters.storage.files import write_whole


def write_matrices(frame: Frame, folder: Path, options: Options) -> list[Path]:
    """The template with the matrices of a frame."""
    if options.template is None:
        raise Refused(Kind.NO_START, folder, "needs the .scfout file of a run of the same structure as a template")
    return [write(frame, folder, options.template, options.template.stem)]


def write(frame: Frame, folder: Path, template_path: Path, name: str) -> Path:
    """Write NAME.scfout with the frame's matrices; those that the frame lacks are the template's."""
    template = read_scfout(template_path)
    frame = in_cells_of(template, frame)
    require_same_structure(frame, template)
    given = parse_input(template.text)
    pairs = Pairs(template.i_q, template.j_q, template.R_qc, template.norb_a)
    imaginary = given.is_on("scf.spinorbit.coupling") or given.is_on("scf.hubbard.u")
    values = stored_values(frame, pairs, imaginary=imaginary)
    path = folder / f"{name}.scfout"
    write_whole(path, replace_values(template, {key: value for key, value in values.items() if key in template.values}))
    return path


def in_cells_of(template: ScfOut, frame: Frame) -> Frame:
    """The frame with each atom in the cell in which the template has it; OpenMX leaves atoms where its input puts them."""
    if len(template.positions_av) != frame.natoms:
        return frame  # `require_same_structure` says so
    between_av = template.positions_av * BOHR - frame.positions_av
    shift_ac = np.round(between_av @ np.linalg.inv(frame.cell_cv)).astype(np.int64)
    return reorder_atoms(frame, np.arange(frame.natoms), shift_ac)


def require_same_structure(frame: Frame, template: ScfOut) -> None:
    """Refuse a template of another structure, basis or spin: its pair list would not be the frame's."""
    path, components = template.path, LAYOUT[template.spin_switch]
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


def stored_values(frame: Frame, pairs: Pairs, *, imaginary: bool) -> dict[str, Array]:
    """The frame's matrices as OpenMX stores them on its pairs; a pair that the frame lacks becomes zero.

    `imaginary` is true for runs whose iH count. OpenMX stores its spin-orbit part in iH: it is what of H_ud changes its sign with the
    order of the orbitals, for potentials do not.
    """
    values = {}
    if "S" in frame.operators:
        values["S"] = spread(frame, "S", pairs).real
    if "H" in frame.operators:
        H_sx = spread(frame, "H", pairs) / HARTREE
        values["H"] = H_sx.real
        if frame.spin is Spin.SPINOR:
            uu, ud, du, dd = H_sx
            iH_sx = np.stack([uu.imag, dd.imag, (ud.imag + du.imag) / 2]) * imaginary
            values["H"] = np.stack([uu.real, dd.real, ud.real, ud.imag - iH_sx[2]])
            values["iH"] = iH_sx
    if "DM" in frame.operators:
        DM_sx = spread(frame, "DM", pairs)
        values["DM"] = DM_sx.real / (2 if frame.spin is Spin.NONE else 1)
        if frame.spin is Spin.SPINOR:
            values["DM"] = np.stack([DM_sx[0].real, DM_sx[3].real, DM_sx[1].real, -DM_sx[1].imag])
            values["iDM"] = np.stack([-DM_sx[0].imag, -DM_sx[3].imag])
    return values


def spread(frame: Frame, name: str, pairs: Pairs) -> Array:
    """A matrix on OpenMX's list of pairs, both halves, in its order of orbitals."""
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
