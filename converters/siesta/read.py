"""Frames of SIESTA's runs, from the best file for each quantity."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import Species, cell_shells
from basis.spin import TRANSPOSED, Spin
from basis.units import RYDBERG
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Packed, join_packed, pack_elements, reorder_elements
from converters.frames.folding import Images, stored_blocks
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum, with_matrix
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import FOLDED, REORDERED, UPPER, FileForm, Step, Treatment, origins_read, scaled
from converters.physics import kspace
from converters.siesta import fdf, sparse, text
from converters.siesta.constants import Constants, find_constants
from converters.siesta.convention import convention, spinor_of
from converters.siesta.sparse import LAYOUT, Matrices, Sparse
from converters.siesta.structure import StoredStructure, read_structure
from converters.storage.files import HDF5_MAGIC, open_hdf5, starts_with

NAME = "siesta"

# How exactly the printed eigenvalues are met (eV): by double-precision files, and by HSX of version 0, which is single.
DOUBLE_TOLERANCE, SINGLE_TOLERANCE = 2e-6, 0.05
# Numbers in single precision are off by so much of themselves.
SINGLE_ROUNDING = 2.0**-24
# What solvers leave between two diagonalisations (eV), beyond the digits that are printed.
EXACT_TOLERANCE = 5e-7

# Fractions of k-points that are those of the mesh, which a cell that has changed a little may have moved.
SAME_POINT = 1e-4

# Files that hold H and S, best first, and their readers; then files that hold DM.
HAMILTONIANS = {".TSHS": sparse.read_tshs, ".nc": sparse.read_nc, ".HSX": sparse.read_hsx, ".onlyS": sparse.read_tshs}
DENSITIES = (".DM", ".nc", ".TSDE")
H_FILES = ("H_DMGEN", "H_MIXED")
VARIABLES = "OUTVARS.yml"
TEXTS = (".fdf", ".ORB_INDX", ".XV", ".STRUCT_OUT", ".EIG", ".KP")


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for each label that has a matrix file."""
    labels = dict.fromkeys(path.stem for path in files if path.suffix in (*HAMILTONIANS, ".DM") and is_sparse(path))
    for label in labels:
        own = {path.suffix: path for path in files if path.stem == label}
        suffixes = [suffix for suffix in dict.fromkeys((*HAMILTONIANS, *DENSITIES)) if suffix in own]
        matrices = [own[suffix] for suffix in suffixes]
        matrices += [path for path in files if path.name in H_FILES and len(labels) == 1]
        texts = [own[suffix] for suffix in TEXTS if suffix in own]
        outputs = [path for path in files if text.may_be_output(path) or path.name == VARIABLES]
        yield Run(NAME, folder, tuple(matrices), tuple(texts + outputs))


def is_sparse(path: Path) -> bool:
    """True for a file that begins like a Fortran record (a length of 4 to 20 bytes), or like a NetCDF-4 file with matrices."""
    if path.suffix == ".nc":
        return starts_with(path, HDF5_MAGIC) and has_matrices(path)
    return any(starts_with(path, bytes([length, 0, 0, 0])) for length in (4, 8, 16, 20))


def has_matrices(path: Path) -> bool:
    """False for nc files of grids, of molecular dynamics, of TBtrans; damaged ones are for the reader to refuse."""
    try:
        with open_hdf5(path) as file:
            return "SPARSE" in file
    except (OSError, RuntimeError):
        return True


def read_run(run: Run) -> Iterator[Frame]:
    """The frame of a run, from the best file for each quantity."""
    own = {path.suffix: path for path in run.matrices + run.others if path.stem == run.main.stem}
    matrices, used = read_matrices(run, own)
    density, used["DM"], left_out = read_density(run, own, matrices)
    output_path, output = find_output(run, own, matrices)
    if ".fdf" in own:
        output = with_filling(output, output_path is None, fdf.read_fdf(own[".fdf"]))
    constants = find_constants(own, matrices, output.version)
    rydberg, bohr = constants.rydberg, constants.bohr
    matrices, moved = with_own_fermi_levels(matrices, output, rydberg)
    structure = read_structure(run, own, matrices, bohr, output.cell_cv)
    if (norb := int(structure.norb_a.sum())) != matrices.sparse.norb:
        raise Refused(Kind.DAMAGED, run.main, f"has {matrices.sparse.norb} orbitals", f"the {norb} of its atoms")

    stored = {name: matrices.sparse for name in matrices.sparse.values if name != "DM"}
    if density is not None:
        stored["DM"] = density
    else:
        del used["DM"]
    spin = common_layout(run, stored)
    elements = {name: item.elements(used[name], name, structure) for name, item in stored.items()}
    folded = False
    if structure.is_at_gamma():
        images = Images.of(structure.positions_av * bohr, structure.cell_cv * bohr)
        folded = images.are_summed(stored_blocks(elements.values(), structure.norb_a), structure.reach_aa * bohr)
        elements = {name: images.place(item, structure.norb_a) for name, item in elements.items()}
    packed = {name: pack(item, name, structure, spin) for name, item in elements.items()}
    if "H" in packed and not packed["H"].operator.values_sx.any():
        raise Refused(
            Kind.UNFINISHED_SCF, used["H"], "holds H = 0, as a run with MaxSCFIterations 0 leaves it", "a finished SCF"
        )
    scale = {"H": rydberg, "S": 1.0, "DM": 1.0}
    pairs, operators = join_packed(packed)
    operators = {name: replace(o, values_sx=o.values_sx * scale[name]) for name, o in operators.items()}
    spectrum, fermi = read_spectrum(own, matrices, output, structure.cell_cv, rydberg)
    texts = [own[suffix] for suffix in TEXTS if suffix in own] + ([output_path] if output_path else [])
    texts += [path for path in run.others if path.name == VARIABLES]
    outcome = Outcome(output.energy, fermi, matrices.electrons, None, output.converged, output.iterations)
    treatments = (REORDERED, UPPER, *([FOLDED] if folded else []))
    files = {name: (path.name,) for name, path in used.items()}
    provenance = Provenance(
        NAME,
        output.version,
        str(run.main),
        run.source,
        files=run.digests(*dict.fromkeys(used.values()), *texts),
        notes=(*structure.notes, *matrices.notes, *left_out, *notes_of(matrices, used), *constants.notes, *moved),
        origins=origins_read(files, *treatments, energies=scaled(constants.rydberg, "eV per Ry")),
        form=form_of(matrices, constants, structure.basis),
        measured={f"asymmetry of {name}": p.asymmetry * scale[name] for name, p in packed.items()}
        | {f"unpaired elements of {name}": float(p.unpaired) for name, p in packed.items()},
    )
    frame = Frame(
        cell_cv=structure.cell_cv * bohr,
        pbc_c=np.ones(3, dtype=bool),
        positions_av=structure.positions_av * bohr,
        species_a=structure.species_a,
        basis=structure.basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=outcome,
        spectrum=spectrum,
        provenance=provenance,
        folded=folded,
    )
    yield decide_density(frame) if spin is Spin.SPINOR else frame


def with_own_fermi_levels(matrices: Matrices, output: text.Output, rydberg: float) -> tuple[Matrices, tuple[str, ...]]:
    """The matrices of a run with a fixed moment, of whose second spin TSHS holds H moved to the Fermi level of the first; and a note of it."""
    stored = matrices.sparse
    if not output.fixed_moment or matrices.path.suffix != ".TSHS" or len(stored.values.get("H", ())) != 2:
        return matrices, ()
    if output.fermi_s is None:
        found = "holds H of spin down moved by the difference of two Fermi levels, which no file says"
        raise Refused(
            Kind.MISSING_FILES, matrices.path, found, "the main output of the run, with Fermi_up and Fermi_dn"
        )
    up, down = output.fermi_s
    H_sx = stored.values["H"] + np.array([[0.0], [down - up]]) / rydberg * stored.values["S"]
    moved = replace(matrices, sparse=replace(stored, values={**stored.values, "H": H_sx}))
    return moved, (
        f"H of spin down in TSHS was moved back by {down - up:.6f} eV: its Fermi level is not that of spin up",
    )


def form_of(matrices: Matrices, constants: Constants, basis: tuple[Species, ...]) -> FileForm:
    """What a writer needs to restore the files."""
    stored, cells, cell, shift = matrices.sparse, matrices.sparse.cells_c, matrices.k_cell_cc, matrices.k_shift_c
    return FileForm(
        rydberg=constants.rydberg,
        bohr=constants.bohr,
        constants_from=constants.known_from,
        spin_components=len(stored.values.get("H", stored.values["S"])),
        supercell=None if cells is None else tuple(cells.tolist()),
        k_cell=None if cell is None else tuple(np.ravel(cell).tolist()),
        k_shift=None if shift is None else tuple(np.ravel(shift).tolist()),
        harmonics=harmonics_of(basis, convention),
    )


def read_matrices(run: Run, own: dict[str, Path]) -> tuple[Matrices, dict[str, Path]]:
    """H and S from the best file that has both, and which file each is from; S alone where no file has H."""
    only_overlap: Matrices | None = None
    for suffix, read in HAMILTONIANS.items():
        if suffix in own:
            matrices = read(own[suffix])
            if "H" in matrices.sparse.values:
                return matrices, {"H": matrices.path, "S": matrices.path}
            only_overlap = only_overlap or matrices
    if only_overlap is None:
        expected = "a TSHS, nc, HSX or onlyS file (TS.HS.Save true; SIESTA writes it when the SCF has ended)"
        raise Refused(Kind.NO_RUN, run.main, "has no H or S beside it", expected)
    used = {"S": only_overlap.path}
    for path in run.matrices:
        if path.name in H_FILES:
            stored = sparse.read_density_file(path, "H")
            same = np.array_equal(stored.counts_M, only_overlap.sparse.counts_M)
            if not same or not np.array_equal(stored.column_e, only_overlap.sparse.column_e):
                raise Refused(
                    Kind.DAMAGED, path, f"has another pattern than {only_overlap.path.name}", "files of one run"
                )
            values = {**only_overlap.sparse.values, "H": stored.values["H"]}
            only_overlap = replace(only_overlap, sparse=replace(only_overlap.sparse, values=values))
            return only_overlap, used | {"H": path}
    return only_overlap, used


def read_density(run: Run, own: dict[str, Path], matrices: Matrices) -> tuple[Sparse | None, Path, tuple[str, ...]]:
    """The density matrix and the file it is from; and notes of files that hold another one, which an earlier run may have left."""
    left_out: list[str] = []
    for suffix in DENSITIES:
        if suffix not in own:
            continue
        path = own[suffix]
        found = sparse.read_nc(path).sparse if suffix == ".nc" else sparse.read_density_file(path, "DM")
        if "DM" in found.values:
            known = matrices.sparse
            same = np.array_equal(found.counts_M, known.counts_M) and np.array_equal(found.column_e, known.column_e)
            if found.cells_c is None and same:  # one pattern, whose images are known there
                found = replace(found, cells_c=known.cells_c, vectors_ev=known.vectors_ev)
            if difference := of_another_run(found, known):
                left_out.append(f"DM of {path.name} is left out: it has {difference} of {matrices.path.name}")
                continue
            return found, path, tuple(left_out)
    return None, run.main, tuple(left_out)


def of_another_run(density: Sparse, known: Sparse) -> str:
    """What shows that a DM is not of the run of H and S; nothing where it may be."""
    if density.norb != known.norb:
        return f"{density.norb} orbitals in place of the {known.norb}"
    counts = [len(values) for values in (density.values["DM"], known.values.get("H", ()))]
    if counts[1] and LAYOUT.get(counts[0]) is not LAYOUT.get(counts[1]):
        return f"{counts[0]} spin components in place of the {counts[1]}"
    return ""


def common_layout(run: Run, stored: dict[str, Sparse]) -> Spin:
    """Spin layout of H, and of DM where there is no H."""
    name, count = next(((name, len(stored[name].values[name])) for name in ("H", "DM") if name in stored), ("S", 1))
    if (layout := LAYOUT.get(count)) is None:
        known = ", ".join(map(str, LAYOUT))
        raise Refused(Kind.DAMAGED, run.main, f"has {count} spin components in {name}", f"one of {known}")
    return layout


def pack(theirs: Elements, name: str, structure: StoredStructure, spin: Spin) -> Packed:
    """A matrix in our convention, energies still in Ry."""
    order, signs = to_standard(cell_shells(structure.basis, structure.species_a), convention)
    layout = Spin.NONE if name == "S" else spin
    if layout is Spin.SPINOR:
        theirs = replace(theirs, values_se=spinor_of(theirs.values_se, conjugate=name == "H"))
    ours = reorder_elements(theirs, order, signs)
    return pack_elements(ours, structure.norb_a, layout, whole_blocks=False, upper_triangle=True)


def decide_density(frame: Frame) -> Frame:
    """The frame with DM conjugated in spin if that is what gives Tr(DM H) the sum of the occupied levels."""
    spectrum, operators = frame.spectrum, frame.operators
    if (
        spectrum is None
        or not spectrum.smearing
        or not {"H", "DM"} <= set(operators)
        or frame.outcome.electrons is None
    ):
        return frame
    filling = kspace.Filling(frame.outcome.electrons, spectrum.smearing, spectrum.width)
    try:
        f_skn, _ = kspace.occupations(spectrum.energies_skn, spectrum.weights_k, filling, frame.spin)
    except (ValueError, RuntimeError):
        return frame  # the checks will say what is wrong with these levels
    levels = np.einsum("skn,skn,k->", f_skn, spectrum.energies_skn, spectrum.weights_k)
    both_x = frame.pairs.copies_p[frame.pairs.pair_x]
    DM_sx, H_sx = operators["DM"].values_sx, operators["H"].values_sx
    other_sx = DM_sx[TRANSPOSED[Spin.SPINOR]].conj()
    energies = [float((M_sx * H_sx.conj() * both_x).real.sum()) for M_sx in (DM_sx, other_sx)]
    if abs(energies[0] - levels) <= abs(energies[1] - levels) + 1e-6:
        return frame
    reason = f"Tr(DM H) is now {energies[1]:.6f} eV, the levels sum to {levels:.6f} eV"
    origin = frame.origin("DM")
    conjugated = replace(origin, treatments=(*origin.treatments, Treatment(Step.CONJUGATED, reason=reason)))
    return with_matrix(frame, "DM", replace(operators["DM"], values_sx=other_sx), conjugated)


def with_filling(output: text.Output, is_missing: bool, given: fdf.Fdf) -> text.Output:
    """An output with what the input says of how levels were filled, where both agree or the output is missing."""
    known = given.smearing() if is_missing or "occupationfunction" in given.words else output.smearing
    smearing = known if is_missing or known == output.smearing else ""
    return replace(output, smearing=smearing, fixed_moment=output.fixed_moment or given.fixes_moment())


def notes_of(matrices: Matrices, used: dict[str, Path]) -> tuple[str, ...]:
    """What a person should know of matrices from files that are not the best ones."""
    notes = [f"H and S of {matrices.path.name} are in single precision"] if matrices.single else []
    if "DM" in used and used["DM"].suffix == ".TSDE":
        notes += [f"DM is that of {used['DM'].name}, which may be a mixing step from the last one"]
    return tuple(notes)


def find_output(run: Run, own: dict[str, Path], matrices: Matrices) -> tuple[Path | None, text.Output]:
    """The main output that belongs to the label: the one that names it, else the only one; else what OUTVARS.yml says.

    Of several that name it, as failed runs leave them beside, it is the one with the Fermi level of the matrices.
    """
    outputs = [(path, text.read_output(path)) for path in run.others if text.may_be_output(path)]
    found = [(path, output) for path, output in outputs if output.version]
    nameless = [item for item in found if not item[1].label]
    named = [item for item in found if run.main.stem in (item[1].label, item[0].stem)]
    if named or len(nameless) == 1:
        fermi = fermi_of(own, matrices)
        return min(named or nameless, key=lambda item: distance(item[1].fermi, fermi))
    variables = [path for path in run.others if path.name == VARIABLES]
    return None, text.Output(version=text.read_variables(variables[0])) if variables else text.Output()


def fermi_of(own: dict[str, Path], matrices: Matrices) -> float | None:
    """The Fermi level (eV) beside the matrices, to a part in ten thousand: which Rydberg the run used is not known yet."""
    if ".EIG" in own:
        return text.read_eigenvalues(own[".EIG"])[0]
    return None if matrices.fermi is None else matrices.fermi * RYDBERG


def distance(fermi: float | None, other: float | None) -> float:
    return np.inf if fermi is None or other is None else abs(fermi - other)


def read_spectrum(
    own: dict[str, Path], matrices: Matrices, output: text.Output, cell_cv: Array, rydberg: float
) -> tuple[Spectrum | None, float | None]:
    """k-points, printed eigenvalues and smearing, and the Fermi level (eV)."""
    fermi = None if matrices.fermi is None else matrices.fermi * rydberg
    if ".KP" not in own:
        return None, fermi
    kpoints_kv, weights_k, error_kv = text.read_kpoints(own[".KP"])
    k_cell_cc = output.k_cell_cc if matrices.k_cell_cc is None else matrices.k_cell_cc
    k_shift_c = output.k_shift_c if matrices.k_shift_c is None else matrices.k_shift_c
    kpoints_kc = kpoints_kv @ cell_cv.T / (2 * np.pi)
    error = float((error_kv @ np.abs(cell_cv).T / (2 * np.pi)).max())
    if k_cell_cc is not None and k_shift_c is not None:
        kpoints_kc, error = snap(kpoints_kc, k_cell_cc, k_shift_c, error)
    energies_skn = np.empty((1, len(weights_k), 0))
    tolerance = SINGLE_TOLERANCE if matrices.single else DOUBLE_TOLERANCE
    if ".EIG" in own:
        tolerance = max(tolerance, text.rounding_of_levels(own[".EIG"]) + EXACT_TOLERANCE)
        fermi, energies_skn = text.read_eigenvalues(own[".EIG"])
        if energies_skn.shape[1] != len(weights_k):
            raise Refused(
                Kind.DAMAGED,
                own[".EIG"],
                f"has {energies_skn.shape[1]} k-points; {own['.KP'].name} has {len(weights_k)}",
            )
    width = None if matrices.width is None else matrices.width * rydberg
    smearing = output.smearing if width is not None else ""
    spectrum = Spectrum(
        kpoints_kc,
        weights_k / weights_k.sum(),
        energies_skn,
        tolerance,
        smearing,
        width or 0.0,
        output.fixed_moment,
        error,
        SINGLE_ROUNDING if matrices.single else 0.0,
    )
    return spectrum, fermi


def snap(kpoints_kc: Array, k_cell_cc: Array, k_shift_c: Array, error: float) -> tuple[Array, float]:
    """The points of the mesh that printed k-points are, which are exact; other k-points as they are, and how far they may be off."""
    steps = kpoints_kc @ k_cell_cc.T - k_shift_c
    snapped = (np.round(steps) + k_shift_c) @ np.linalg.inv(k_cell_cc).T
    near = np.abs(snapped - kpoints_kc).max(initial=0) <= max(SAME_POINT, error)
    return (snapped, 0.0) if near else (kpoints_kc, error)
