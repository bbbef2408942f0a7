"""SIESTA's own files of a frame: LABEL.DM to start from (DM.UseSaveDM true), LABEL.TSHS, LABEL.ORB_INDX and LABEL.XV."""

from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import label_of, to_standard
from basis.shells import LETTERS, Species, cell_shells
from basis.spin import Spin
from converters.codes.binary import FortranWriter
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Operator, distinct, reorder_elements, unpack_elements
from converters.frames.frame import Frame
from converters.siesta.constants import LEGACY
from converters.siesta.convention import (
    components_of,
    convention,
    image_numbers,
    images_of,
)
from converters.starts.start import Options


def write_matrices(frame: Frame, folder: Path, options: Options) -> list[Path]:
    """All matrices of a frame under the label of a template, else that which SIESTA takes where an input has none."""
    return write(frame, folder, options.template.stem if options.template is not None else "siesta")


def write(frame: Frame, folder: Path, label: str) -> list[Path]:
    """Write what the frame holds under the label; returns the files. An existing file is replaced as a whole."""
    if not frame.operators:
        raise Refused(Kind.UNSUPPORTED, folder, "would be left empty: the frame holds no matrix")
    written = [folder / f"{label}{suffix}" for suffix in (".ORB_INDX", ".XV")]
    pattern = Pattern.of(frame)
    written[0].write_text(orbital_index(frame, pattern.cells_c))
    written[1].write_text(geometry(frame))
    if "DM" in frame.operators:
        write_density(pattern, pattern.rows(frame, "DM"), folder / f"{label}.DM")
        written.append(folder / f"{label}.DM")
    if "S" in frame.operators:
        suffix = ".TSHS" if "H" in frame.operators else ".onlyS"
        write_hamiltonian(frame, pattern, folder / f"{label}{suffix}")
        written.append(folder / f"{label}{suffix}")
    return written


class Pattern:
    """The rows that all matrices of a frame share: every element that the code stored in any of them."""

    def __init__(self, cells_c: Array, counts_M: Array, column_e: Array) -> None:
        self.cells_c, self.counts_M, self.column_e = cells_c, counts_M, column_e

    @classmethod
    def of(cls, frame: Frame) -> "Pattern":
        cells_c = supercell(frame, np.abs(frame.pairs.R_pc).max(axis=0))
        known = [operator.known_x for operator in frame.operators.values() if operator.known_x is not None]
        whole = np.logical_or.reduce(known) if len(known) == len(frame.operators) else None
        empty = Operator(np.zeros((1, frame.pairs.elements)), whole)
        key_e, _ = cls.place(frame, cells_c, unpack_elements(frame.pairs, empty, Spin.NONE))
        row_e, column_e = np.divmod(distinct(key_e), cells_c.prod() * frame.norb)
        return cls(cells_c, np.bincount(row_e, minlength=frame.norb), column_e + 1)

    @staticmethod
    def place(frame: Frame, cells_c: Array, matrix: Elements) -> tuple[Array, Array]:
        """Place of elements, row after row of the supercell, and their values."""
        order, signs = to_standard(cell_shells(frame.basis, frame.species_a), convention)
        theirs = reorder_elements(matrix, np.argsort(order), signs)  # the signs do not mix with the order: m = -l..l
        column_e = image_numbers(matrix.R_tc, cells_c)[matrix.t_e] * frame.norb + theirs.column_e
        return theirs.row_e * (cells_c.prod() * frame.norb) + column_e, theirs.values_se

    def rows(self, frame: Frame, name: str) -> Array:
        """Values of a matrix on the pattern in SIESTA's components; zero where it is not known."""
        layout = frame.layout(name)
        whole = Operator(frame.operators[name].values_sx)
        key_e, stored_se = self.place(frame, self.cells_c, unpack_elements(frame.pairs, whole, layout))
        row_e = np.repeat(np.arange(frame.norb), self.counts_M)
        own_e = row_e * (self.cells_c.prod() * frame.norb) + self.column_e - 1
        place_e = np.minimum(np.searchsorted(own_e, key_e), len(own_e) - 1)
        inside_e = own_e[place_e] == key_e
        values_se = np.zeros((len(stored_se), len(own_e)), dtype=stored_se.dtype)
        for values_e, stored_e in zip(values_se, stored_se, strict=True):
            np.add.at(values_e, place_e[inside_e], stored_e[inside_e])
        if layout is Spin.SPINOR:
            count = 4 if frame.provenance.form.spin_components == 4 else 8
            values_se = components_of(values_se, count, conjugate=name == "H")
        return np.ascontiguousarray(values_se, dtype="<f8")


def supercell(frame: Frame, reach_c: Array) -> Array:
    """Cells along each vector for pairs that reach so far; a run at Gamma alone has one, where all images of a block are one sum."""
    own_c = np.array(frame.provenance.form.supercell or (0, 0, 0))
    return own_c if (own_c == 1).all() else np.maximum(own_c, 2 * reach_c + 1)


def integers(*values: object) -> Array:
    return np.concatenate([np.ravel(np.asarray(value)) for value in values]).astype("<i4")


def write_density(pattern: Pattern, DM_se: Array, path: Path) -> None:
    file = FortranWriter()
    file.record(integers(len(pattern.counts_M), len(DM_se), pattern.cells_c))
    file.record(integers(pattern.counts_M))
    file.rows(pattern.counts_M, integers(pattern.column_e))
    for DM_e in DM_se:
        file.rows(pattern.counts_M, DM_e)
    file.save(path)


def write_hamiltonian(frame: Frame, pattern: Pattern, path: Path) -> None:
    """TSHS of version 1, or onlyS without H."""
    rydberg, bohr = constants(frame)
    S_e = pattern.rows(frame, "S")[0]
    H_se = pattern.rows(frame, "H") / rydberg if "H" in frame.operators else np.empty((1, 0))
    cells, outcome, spectrum = int(pattern.cells_c.prod()), frame.outcome, frame.spectrum
    file = FortranWriter()
    file.record(integers(1))
    file.record(integers(frame.natoms, frame.norb, frame.norb * cells, len(H_se), len(S_e)))
    file.record(integers(pattern.cells_c))
    file.record((frame.cell_cv / bohr).astype("<f8"), (frame.positions_av / bohr).astype("<f8"))
    file.record(integers(cells == 1, cells == 1, "H" not in frame.operators))
    form = frame.provenance.form
    k_cell, k_shift = form.k_cell or np.eye(3), form.k_shift or np.zeros(3)
    file.record(integers(k_cell), np.asarray(k_shift, dtype="<f8"))
    width = spectrum.width if spectrum is not None else 0.0
    file.record(np.array([(outcome.fermi or 0.0) / rydberg, outcome.electrons or 0.0, width / rydberg], dtype="<f8"))
    file.record(integers(0, 0))
    file.record(integers(frame.pairs.orbital_start_a))
    file.record(integers(pattern.counts_M))
    file.rows(pattern.counts_M, integers(pattern.column_e))
    file.rows(pattern.counts_M, S_e)
    if "H" in frame.operators:
        for H_e in H_se:
            file.rows(pattern.counts_M, H_e)
    if cells > 1:
        file.record(integers(images_of(pattern.cells_c)))
    file.save(path)


def constants(frame: Frame) -> tuple[float, float]:
    """Rydberg and Bohr that the frame was read with; those of SIESTA 4.1 for one that comes from elsewhere."""
    form = frame.provenance.form
    return form.rydberg or LEGACY.rydberg, form.bohr or LEGACY.bohr


def geometry(frame: Frame) -> str:
    """The XV file: cell and positions (Bohr) without velocities."""
    _, bohr = constants(frame)
    rest = "".join(f"{0:18.9f}" for _ in range(3))
    lines = ["".join(f"{x:18.9f}" for x in vector) + rest for vector in frame.cell_cv / bohr]
    lines.append(f"{frame.natoms:12d}")
    for s, number, position in zip(frame.species_a, frame.numbers_a, frame.positions_av / bohr, strict=True):
        lines.append(f"{s + 1:3d}{number:6d}" + "".join(f"{x:18.9f}" for x in position) + rest)
    return "\n".join(lines) + "\n"


def orbital_index(frame: Frame, cells_c: Array) -> str:
    """The ORB_INDX file, with the rows of the cell only."""
    total = frame.norb * int(cells_c.prod())
    lines = [f"{frame.norb:7d}{total:8d} = orbitals in unit cell and supercell. See end of file.", ""]
    lines.append("    io    ia is   spec iao  n  l  m  z  p          sym      rc    isc     iuo")
    number = 0
    for a, s in enumerate(frame.species_a):
        species, inside = frame.basis[s], 0
        for shell, radius in zip(species.shells, radii(species), strict=True):
            for m in range(-shell.l, shell.l + 1):
                number, inside = number + 1, inside + 1
                symbol = ("P" if shell.polarisation else "") + LETTERS[shell.l] + label_of(m)
                quantum = f"{shell.n:3d}{shell.l:3d}{m:3d}{shell.zeta:3d}{'T' if shell.polarisation else 'F':>3s}"
                head = f"{number:6d}{a + 1:6d}{s + 1:3d} {species.name[:6]:>6s}{inside:4d}"
                lines.append(f"{head} {quantum}{symbol:>13s}{radius:8.3f}  0  0  0{number:6d}")
    return "\n".join(lines) + "\n"


def radii(species: Species) -> list[float]:
    """Cut-off radius (Bohr) of each shell, 0 where it is not known."""
    numbers = species.radial.removeprefix("rc ").split() if species.radial.startswith("rc ") else []
    return [float(x) for x in numbers] if len(numbers) == len(species.shells) else [0.0] * len(species.shells)
