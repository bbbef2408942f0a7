"""Reading a run of FHI-aims: from its files to a frame."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from converters.aims.cells import cells_of_atoms, to_given_cells
from converters.aims.convention import HARTREE, convention
from converters.aims.files import CONTROL, GEOMETRY, INDICES, INVOKED, MOLECULE, NAME, ORBITALS, REAL_SPACE
from converters.aims.inputs import Control, Geometry, read_control, read_geometry
from converters.aims.matrices import read_indices, read_triangle, read_values, whole
from converters.aims.orbitals import Orbitals, read_orbitals
from converters.aims.text import Log, read_bands, read_log
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, join_packed, pack_elements, reorder_elements
from converters.frames.frame import Frame, Provenance, Spectrum
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, REORDERED, FileForm, Origin, Step, Treatment, origins_read, scaled
from converters.physics.kspace import require_mesh, uniform_mesh

DAMAGE = (LookupError, ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError)
# Levels have five digits in eV.
PRINTED = 2e-5
# k-points have six digits.
KPOINT_ERROR = 5e-7
# Integrals are sums over grids about the atoms: with "light" grids S_ii of Si is off by 3.4e-3, and S breaks the symmetry about a bond by 8e-4.
GRID_ERROR = 5e-3
SMEARINGS = {"gaussian": "gauss", "fermi": "fermi"}


def read_run(run: Run) -> Iterator[Frame]:
    """One frame."""
    try:
        frame = frame_of(run)
    except DAMAGE as error:
        raise Refused(Kind.DAMAGED, run.main, f"cannot be read: {error!r}") from error
    yield frame


def frame_of(run: Run) -> Frame:
    files = {path.name: path for path in (*run.matrices, *run.others)}
    for name in (ORBITALS, GEOMETRY, CONTROL):
        if name not in files:
            raise Refused(Kind.MISSING_FILES, run.folder / name, "is missing", "it beside the matrices")
    geometry, control = read_geometry(files[GEOMETRY]), read_control(files[CONTROL])
    orbitals = read_orbitals(files[ORBITALS], geometry.names_a, control)
    log = log_of(run)
    theirs, used = matrices_of(files, run, geometry, orbitals)
    spin = Spin.NONE if len(theirs["H"].values_se) == 1 else Spin.COLLINEAR
    if (spin is Spin.COLLINEAR) != (control.words.get("spin", ("none",))[0] == "collinear"):
        raise Refused(
            Kind.DAMAGED, run.folder, f"has H of the spin {spin}", "the spin of control.in; old files may lie there"
        )
    order, signs = to_standard(cell_shells(orbitals.basis, orbitals.species_a), convention)
    packed = {
        name: pack_elements(reorder_elements(matrix, order, signs), orbitals.norb_a, spin if name == "H" else Spin.NONE)
        for name, matrix in theirs.items()
    }
    pairs, operators = join_packed(packed)
    operators["H"] = replace(operators["H"], values_sx=operators["H"].values_sx * HARTREE)
    return Frame(
        cell_cv=geometry.cell_cv,
        pbc_c=np.full(3, geometry.periodic),
        positions_av=geometry.positions_av,
        species_a=orbitals.species_a,
        basis=orbitals.basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=replace(log.outcome, electrons=electrons_of(orbitals, control)),
        spectrum=spectrum_of(run, geometry, control, log, spin),
        provenance=Provenance(
            NAME,
            log.version,
            str(run.main),
            run.source,
            files=run.digests(*run.matrices, *run.others),
            settings={word: " ".join(control.words[word]) for word in ("xc", "relativistic") if word in control.words},
            measured={f"asymmetry of {name}": item.asymmetry for name, item in packed.items()}
            | {f"unpaired elements of {name}": float(item.unpaired) for name, item in packed.items()},
            notes=notes_of(control),
            origins=origins_of(used),
            form=FileForm(harmonics=harmonics_of(orbitals.basis, convention)),
        ),
    )


def log_of(run: Run) -> Log:
    """What the code printed, of copies once; of several runs in a folder nothing is known to be that of the matrices."""
    contents = {path: path.read_bytes() for path in run.others if path.suffix in (".out", ".log")}
    logs = list({content: path for path, content in contents.items() if INVOKED in content}.values())
    if len(logs) > 1:
        raise Refused(Kind.AMBIGUOUS, run.folder, f"has the logs {' and '.join(path.name for path in logs)}", "one")
    return read_log(logs[0]) if logs else Log()


def matrices_of(
    files: dict[str, Path], run: Run, geometry: Geometry, orbitals: Orbitals
) -> tuple[dict[str, Elements], dict[str, tuple[str, ...]]]:
    """H and S in the code's orbitals and Hartree, atoms where the input has them; and the files of each."""
    norb, atom_M = int(orbitals.norb_a.sum()), np.repeat(np.arange(len(orbitals.norb_a)), orbitals.norb_a)
    forms = REAL_SPACE if INDICES in files else MOLECULE
    names = {name: matrix_files(run, name, forms[name]) for name in forms}
    if INDICES not in files:
        if geometry.periodic:
            found = "is the matrix of one k-point of a crystal"
            raise Refused(Kind.UNSUPPORTED, run.main, found, "real-space matrices (output_rs_matrices)")
        halves = {name: read_triangle(files[one], norb) for name, (one,) in names.items()}
        return {name: whole(*half) for name, half in halves.items()}, names
    half = read_indices(files[INDICES], norb, geometry.periodic)
    theirs = {name: whole(half, read_values([files[one] for one in names[name]], half)) for name in names}
    if geometry.periodic:
        fractions_ac = np.linalg.solve(geometry.cell_cv.T, geometry.positions_av.T).T
        n_ac = cells_of_atoms(fractions_ac, theirs["S"], atom_M, geometry.cell_cv)
        theirs = {name: to_given_cells(matrix, n_ac, atom_M) for name, matrix in theirs.items()}
    return theirs, {name: (INDICES, *mine) for name, mine in names.items()}


def matrix_files(run: Run, name: str, spellings: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The files of a matrix that the run has."""
    there = {path.name for path in run.matrices}
    for names in spellings:
        if set(names) <= there:
            return names
    raise Refused(
        Kind.MISSING_FILES, run.folder, f"has no file of {name}", " or ".join(" and ".join(n) for n in spellings)
    )


def spectrum_of(run: Run, geometry: Geometry, control: Control, log: Log, spin: Spin) -> Spectrum | None:
    """The k mesh of the run where it is known, and the levels of the k-points at which they were printed.

    The other points have no weight: density matrices are sums over the mesh.
    """
    soc = "include_spin_orbit" in control.words
    printed = [] if soc or spin is not Spin.NONE else list(log.levels)
    bands = [path for path in run.others if path.name.startswith("band1")]
    if printed and log.outcome.fermi is not None and geometry.periodic:
        printed += read_bands(bands, log.outcome.fermi)
    mesh_kc, weights_k = mesh_of(run, geometry, control)
    if not printed and not len(mesh_kc):
        return None
    points_kc = np.array([k_c for k_c, _ in printed]).reshape(-1, 3)
    most = max((len(levels) for _, levels in printed), default=0)
    energies_kn = np.full((len(mesh_kc) + len(printed), most), np.nan)
    for k, (_, levels) in enumerate(printed, start=len(mesh_kc)):
        energies_kn[k, : len(levels)] = levels
    width, smearing = filling_of(control)
    return Spectrum(
        np.concatenate([mesh_kc, points_kc]),
        np.concatenate([weights_k, np.zeros(len(printed))]),
        np.repeat(energies_kn[None], 2 if spin is Spin.COLLINEAR else 1, axis=0),
        PRINTED,
        smearing,
        width,
        kpoint_error=KPOINT_ERROR if geometry.periodic else 0.0,
    )


def mesh_of(run: Run, geometry: Geometry, control: Control) -> tuple[Array, Array]:
    """The k-points of the SCF and their weights; none where the input does not say which."""
    if not geometry.periodic:
        return np.zeros((1, 3)), np.ones(1)
    if "k_grid" not in control.words or "k_offset" in control.words:
        return np.zeros((0, 3)), np.zeros(0)
    mesh_c = [int(word) for word in control.words["k_grid"][:3]]
    require_mesh(run.folder / CONTROL, mesh_c)
    return uniform_mesh(mesh_c)


def filling_of(control: Control) -> tuple[float, str]:
    """Width (eV) and kind of the smearing; the code's own default where nothing is said."""
    if "fixed_spin_moment" in control.words:
        return 0.0, ""
    kind, width, *_ = (*control.words.get("occupation_type", ("gaussian", "0.01")), "0")
    return (float(width), SMEARINGS[kind]) if kind in SMEARINGS else (0.0, "")


def electrons_of(orbitals: Orbitals, control: Control) -> float:
    """Those of the nuclei, but for the charge."""
    nuclei = sum(orbitals.basis[s].number for s in orbitals.species_a)
    return nuclei - float(control.words.get("charge", ("0",))[0])


def notes_of(control: Control) -> tuple[str, ...]:
    soc = "include_spin_orbit" in control.words
    return ("H is without spin-orbit coupling, which the code adds after the SCF",) if soc else ()


def origins_of(files: dict[str, tuple[str, ...]]) -> dict[str, Origin]:
    """Where each matrix is from."""
    half = Treatment(Step.COMPLETED, reason="the half that is not stored")
    energies = scaled(HARTREE, "eV per Hartree, the code's own")
    origins = origins_read(files, half, REORDERED, AVERAGED, energies=energies)
    return origins | {"S": replace(origins["S"], error=GRID_ERROR, grid_error=GRID_ERROR)}
