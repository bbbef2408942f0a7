"""ABACUS (LCAO): matrices of all generations of its files, and back to the files from which it restarts.

Facts that the code's manual does not tell:

- `symmetry 1`, the default, writes a DM that is wrong where symmetry removed k-points, and passes every trace check. It is
  taken only if it is that of (H, S) element by element.
- The cell in matrix files has 6 digits: it comes from STRU.
- Spinors: the spin is the fastest index of a matrix; DM holds only the real Pauli components. Some versions of 3.11 write a
  spinor H that is not Hermitian, older versions use another sign of sigma_y.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import Species, cell_shells
from basis.spin import Spin, to_pauli
from converters.abacus import csr, text
from converters.abacus.convention import BOHR, RYDBERG, convention, density_from_pauli
from converters.abacus.csr import Step
from converters.abacus.orbitals import find_functions
from converters.abacus.write import write
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Packed, join_packed, pack_elements, reorder_elements
from converters.frames.folding import closest_images
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum
from converters.runs import Run

__all__ = ["NAME", "find_functions", "find_runs", "read_run", "write"]

NAME = "abacus"

# Names of the matrices in each generation: {s} is the spin from 1, {z} from 0, {g} the ionic step or nothing.
NEW_FILES = {"H": "hrs{s}{g}_nao.csr", "S": "srs1{g}_nao.csr", "DM": "dmrs{s}{g}_nao.csr"}
OLD_FILES = {
    "H": "data-HR-sparse_SPIN{z}.csr",
    "S": "data-SR-sparse_SPIN0.csr",
    "DM": "data-DMR-sparse_SPIN{z}.csr",
}
DENSE_FILES = {"H": "hk_nao.txt", "S": "sk_nao.txt", "DM": "dmg1_nao.txt"}
OVERLAP_FILES = ("sr_nao.csr", "SR.csr")
MATRIX = re.compile(
    r"(hrs\d|srs1|dmrs\d)(g\d+)?_nao\.csr|(\d+_)?data-(HR|SR|DMR)-sparse_SPIN\d\.csr|sr_nao\.csr|SR\.csr"
)

MOVING = ("md", "relax", "cell-relax")  # calculations of several ionic steps

LAYOUT = {1: Spin.NONE, 2: Spin.COLLINEAR, 4: Spin.SPINOR}


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for each folder with INPUT and OUT.*; matrices that lie alone are a run too, which `read_run` refuses."""
    names = {path.name for path in files}
    if "INPUT" in names and starts_as_input(folder / "INPUT"):
        given = text.read_input(folder / "INPUT")
        suffix = given.get("suffix", "ABACUS")
        if "/" in suffix:
            raise Refused(Kind.DAMAGED, folder / "INPUT", f'has the suffix "{suffix}", which leads out of the folder')
        output = folder / f"OUT.{suffix}"
        output = output if output.is_dir() else folder
        start = (folder / given.get("read_file_dir", ".")).resolve()
        claimed = tuple(path for path in (output, start) if path.is_dir() and path.resolve() != folder.resolve())
        texts = [folder / name for name in ("INPUT", "STRU", "KPT") if name in names]
        texts += sorted(output.glob("running_*.log")) + [p for p in (output / "eig_occ.txt",) if p.exists()]
        yield Run(NAME, folder, tuple(matrix_files(output)) or (folder / "INPUT",), tuple(texts), claimed)
    elif any(MATRIX.fullmatch(name) for name in names):
        above = folder.resolve().parent
        if folder.resolve().name.startswith("OUT.") and (above / "INPUT").exists():
            yield from find_runs(above, sorted(path for path in above.iterdir() if path.is_file()))
        else:
            yield Run(NAME, folder, tuple(path for path in files if MATRIX.fullmatch(path.name)))


def starts_as_input(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4096).lstrip().upper().startswith(b"INPUT_PARAMETERS")


def matrix_files(output: Path) -> list[Path]:
    """Matrices in an OUT folder and in its folder of MD steps."""
    places = [folder for folder in (output, output / "matrix") if folder.is_dir()]
    found = [path for folder in places for path in sorted(folder.iterdir()) if path.is_file()]
    matrices = [path for path in found if MATRIX.fullmatch(path.name) or path.name in DENSE_FILES.values()]
    return sorted(matrices, key=lambda path: not re.search(r"hrs|hk_|-HR-", path.name))  # H names the run


@dataclass(frozen=True, eq=False)
class Context:
    """What all steps of a run share."""

    run: Run
    given: dict[str, str]
    stru: text.Stru
    log: text.Log
    basis: tuple[Species, ...]
    spin: Spin

    @property
    def calculation(self) -> str:
        return self.given.get("calculation", "scf").lower()

    @property
    def is_gamma_only(self) -> bool:
        return text.flag(self.given, "gamma_only") == "1"

    @property
    def norb_a(self) -> Array:
        return np.array([self.basis[s].size for s in self.stru.species_a])

    @property
    def dimension(self) -> int:
        """Rows of the matrices: orbitals, times two for spinors."""
        return int(self.norb_a.sum()) * (2 if self.spin is Spin.SPINOR else 1)


def read_run(run: Run) -> Iterator[Frame]:
    """One frame for each ionic step whose matrices the run wrote."""
    own = {path.name: path for path in run.others}
    for name in ("INPUT", "STRU"):
        if name not in own:
            raise Refused(
                Kind.MISSING_FILES, run.main, f"has no {name} beside or above it", "the folder in which ABACUS ran"
            )
    if run.main.name == "INPUT":
        raise Refused(
            Kind.NO_RUN,
            run.folder,
            "holds no matrices; switch on out_mat_hs2 1 and out_dmr 1 (out_dm1 1 before 3.9) and rerun",
        )
    given = text.read_input(own["INPUT"])
    stru = text.read_stru(own["STRU"], given.get("latname", "none"))
    log_path = next((path for path in run.others if path.name.startswith("running_")), None)
    log = text.read_log(log_path) if log_path else text.Log()
    components = text.spin_components(own["INPUT"], given)
    context = Context(run, given, stru, log, text.read_species(run.main, stru, log), LAYOUT[components])
    steps = read_gamma_only(context) if any(p.name in DENSE_FILES.values() for p in run.matrices) else read_csr(context)
    for number, (matrices, used) in enumerate(steps):
        yield make_frame(context, number, matrices, used)


# Matrices of a run, step by step


def read_csr(context: Context) -> Iterator[tuple[dict[str, list[Step]], dict[str, list[Path]]]]:
    """Matrices of each ionic step: name to one step of each spin, and the files that they are from."""
    present = {path.name: path for path in context.run.matrices}
    spins = 2 if context.spin is Spin.COLLINEAR else 1
    for names in per_step_names(present, spins):
        files = {name: [present[f] for f in wanted if f in present] for name, wanted in names.items()}
        files = {name: paths for name, paths in files.items() if paths}
        for name, paths in files.items():
            if len(paths) != len(names[name]):
                raise Refused(Kind.NO_RUN, paths[0], "is alone", f"{' and '.join(names[name])}")
        if "S" not in files:
            found = next(iter(names.values()))[0]
            raise Refused(
                Kind.MISSING_FILES,
                context.run.main,
                f"has no overlap beside {found}",
                f"{names.get('S', ['srs1_nao.csr'])[0]}",
            )
        read = {name: [csr.read_steps(path) for path in paths] for name, paths in files.items()}
        counts = {name: len(steps[0]) for name, steps in read.items()}
        if len({len(steps) for parts in read.values() for steps in parts}) != 1:
            raise Refused(
                Kind.DAMAGED, context.run.main, f"has different numbers of ionic steps in its files: {counts}"
            )
        for n in range(counts["S"]):
            yield {name: [steps[n] for steps in parts] for name, parts in read.items()}, files


def per_step_names(present: dict[str, Path], spins: int) -> list[dict[str, list[str]]]:
    """File names of each group of files: all steps in one, one group for each step, or the overlap alone."""
    groups = []
    steps = sorted({int(m[1]) for name in present if (m := re.fullmatch(r"(?:[hs]rs\d)g(\d+)_nao\.csr", name))})
    for mark in [f"g{step}" for step in steps] or ([""] if "srs1_nao.csr" in present else []):
        groups.append(
            {
                name: [form.format(s=s + 1, g=mark) for s in range(1 if name == "S" else spins)]
                for name, form in NEW_FILES.items()
            }
        )
    old = sorted({int(m[1]) for name in present if (m := re.fullmatch(r"(\d+)_data-SR-sparse_SPIN0\.csr", name))})
    for step in old:
        shift = {"H": step, "S": step, "DM": step + 1}  # DM of a step is numbered one higher
        groups.append(
            {
                name: [f"{shift[name]}_{form.format(z=z)}" for z in range(1 if name == "S" else spins)]
                for name, form in OLD_FILES.items()
            }
        )
    if "data-SR-sparse_SPIN0.csr" in present:
        groups.append(
            {name: [form.format(z=z) for z in range(1 if name == "S" else spins)] for name, form in OLD_FILES.items()}
        )
    if not groups:
        groups = [{"S": [name]} for name in OVERLAP_FILES if name in present] or [{"S": ["srs1_nao.csr"]}]
    return groups


def read_gamma_only(context: Context) -> Iterator[tuple[dict[str, list[Step]], dict[str, list[Path]]]]:
    """Dense matrices of a gamma_only run: the sum over all images of each block, given to the closest one."""
    present = {path.name: path for path in context.run.matrices}
    files = {name: present[file] for name, file in DENSE_FILES.items() if file in present}
    if context.spin is not Spin.NONE or "S" not in files:
        raise Refused(
            Kind.UNSUPPORTED,
            context.run.main,
            "is a gamma_only run with spin or without sk_nao.txt; rerun with gamma_only 0",
        )
    stru, norb_a = context.stru, context.norb_a
    R_aac, _ = closest_images(stru.positions_av, stru.cell_cv, np.zeros((len(norb_a), len(norb_a))))
    atom_M = np.repeat(np.arange(len(norb_a)), norb_a)
    row_e, column_e = (index.ravel() for index in np.indices((len(atom_M), len(atom_M))))
    R_tc, t_e = np.unique(R_aac[atom_M[row_e], atom_M[column_e]], axis=0, return_inverse=True)
    steps = {}
    for name, path in files.items():
        M_MM = csr.read_dense(path)
        if len(M_MM) != len(atom_M):
            raise Refused(Kind.DAMAGED, path, f"has {len(M_MM)} orbitals", f"{len(atom_M)}")
        steps[name] = [Step(1, len(M_MM), Elements(row_e, column_e, t_e.ravel(), R_tc, M_MM.reshape(1, -1)))]
    yield steps, {name: [path] for name, path in files.items()}


# From matrices to a frame


def make_frame(context: Context, number: int, matrices: dict[str, list[Step]], used: dict[str, list[Path]]) -> Frame:
    spin = context.spin
    positions_av = positions_of(context, matrices, used)
    packed = pack(context, matrices, used)
    refuse_broken(packed, spin, used)
    scale = {"H": RYDBERG, "S": 1.0, "DM": 1.0}
    pairs, operators = join_packed(packed)
    operators = {name: replace(o, values_sx=o.values_sx * scale[name]) for name, o in operators.items()}
    if "DM" in operators and spin is Spin.SPINOR:
        refuse_old_sign(context, operators["DM"].values_sx, used["DM"][0])
    is_single_point = context.calculation not in MOVING
    return Frame(
        cell_cv=context.stru.cell_cv,
        pbc_c=np.ones(3, dtype=bool),
        positions_av=positions_av,
        species_a=context.stru.species_a,
        basis=context.basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=outcome_of(context, is_single_point),
        spectrum=read_spectrum(context, is_single_point),
        provenance=provenance_of(
            context,
            number,
            used,
            {f"asymmetry of {name}": item.asymmetry * scale[name] for name, item in packed.items()},
        ),
        folded=context.is_gamma_only and has_second_images(context),
    )


def pack(context: Context, matrices: dict[str, list[Step]], used: dict[str, list[Path]]) -> dict[str, Packed]:
    """Matrices in our convention, energies still in Ry; each is let go of when it is packed."""
    order, signs = to_standard(cell_shells(context.basis, context.stru.species_a), convention)
    packed = {}
    for name in list(matrices):
        steps = matrices.pop(name)
        if any(step.norb != context.dimension for step in steps):
            wanted = f"expected {context.dimension} of STRU and log"
            raise Refused(Kind.DAMAGED, used[name][0], f"has {steps[0].norb} basis functions; {wanted}")
        joined = reorder_elements(join_spins(name, steps, context.spin), order, signs)
        packed[name] = pack_elements(joined, context.norb_a, Spin.NONE if name == "S" else context.spin)
    return packed


def refuse_broken(packed: dict[str, Packed], spin: Spin, used: dict[str, list[Path]]) -> None:
    """Refuse what some versions of 3.11 are known to write in place of H."""
    H = packed.get("H")
    if H is None:
        return
    if not H.operator.values_sx.any():
        reason = "holds H = 0: ABACUS 3.11.0-beta.1 to beta.5 wrote it so for nspin 2; rerun with a newer version"
        raise Refused(Kind.FAULTY_VERSION, used["H"][0], reason)
    if spin is Spin.SPINOR and H.asymmetry > 1e-6:
        found = f"has an H(R) that is not Hermitian by {H.asymmetry:.3g} Ry"
        cause = "ABACUS 3.11.0-beta.5 and beta.6 conjugate the spin-flip blocks of magnetic runs, and their energies are wrong"
        raise Refused(Kind.FAULTY_VERSION, used["H"][0], f"{found}: {cause}; rerun with another version")


def outcome_of(context: Context, is_single_point: bool) -> Outcome:
    """What the log says; of a run with several steps only what holds for all of them."""
    log = context.log
    wanted = text.number(context.given, "nelec", 0)
    electrons = wanted if wanted > 0 else log.electrons
    if not is_single_point:
        return Outcome(electrons=electrons, converged=log.converged)
    moment = log.moment if context.spin is Spin.COLLINEAR else None
    return Outcome(log.energy, log.fermi, electrons, moment, log.converged, log.iterations)


def provenance_of(context: Context, number: int, used: dict[str, list[Path]], measured: dict[str, float]) -> Provenance:
    run = context.run
    settings: dict[str, str | float | int | bool | None] = {
        f"{name} from": ", ".join(path.name for path in paths) for name, paths in used.items()
    }
    settings |= {"calculation": context.calculation, "nspin": context.spin.components}
    if "DM" in used and context.spin is Spin.SPINOR:
        settings["DM parts"] = "real Pauli"
    if "DM" in used and (reason := doubt_of_density(context)):
        settings["DM doubtful"] = reason
    guessed = [species.name for species in context.basis if species.name not in context.log.orbitals]
    note = f"no log has the orbitals; those of {', '.join(guessed)} are from the names of the orbital files"
    return Provenance(
        NAME,
        context.log.version,
        str(run.main),
        run.source,
        number,
        files=run.digests(*(path for paths in used.values() for path in paths), *run.others),
        settings=settings,
        measured=measured,
        notes=(note,) if guessed else (),
    )


def join_spins(name: str, steps: list[Step], spin: Spin) -> Elements:
    """One matrix with all spin components of the files of a step."""
    if spin is Spin.SPINOR:
        spinor = split_spinor(steps[0].matrix)
        if name == "S":
            return replace(spinor, values_se=spinor.values_se[:1].real)
        values_se = density_from_pauli(spinor.values_se) if name == "DM" else spinor.values_se.astype(complex)
        return replace(spinor, values_se=values_se)
    first = steps[0].matrix
    if any(np.iscomplexobj(step.matrix.values_se) for step in steps):
        raise ValueError(f"{name} has complex numbers; expected real ones unless nspin is 4")
    if len(steps) == 1 or name == "S":
        return first
    return merge(first, steps[1].matrix)


def split_spinor(matrix: Elements) -> Elements:
    """A matrix whose fastest index is the spin, as four components over orbitals."""
    norb = int(max(matrix.row_e.max(initial=0), matrix.column_e.max(initial=0))) // 2 + 1
    row_e, column_e = matrix.row_e // 2, matrix.column_e // 2
    component_e = 2 * (matrix.row_e % 2) + matrix.column_e % 2
    key_e = (matrix.t_e * norb + row_e) * norb + column_e
    key_q, q_e = np.unique(key_e, return_inverse=True)
    values_sq = np.zeros((4, len(key_q)), dtype=matrix.values_se.dtype)
    values_sq[component_e, q_e.ravel()] = matrix.values_se[0]
    rest_q, column_q = np.divmod(key_q, norb)
    t_q, row_q = np.divmod(rest_q, norb)
    return Elements(row_q, column_q, t_q, matrix.R_tc, values_sq)


def merge(up: Elements, down: Elements) -> Elements:
    """Two spins, whose files leave out other small elements, as one matrix of two components."""
    R_tc, t_t = np.unique(np.concatenate([up.R_tc, down.R_tc]), axis=0, return_inverse=True)
    t_up, t_down = np.split(t_t.ravel(), [len(up.R_tc)])
    t_e = np.concatenate([t_up[up.t_e], t_down[down.t_e]])
    row_e, column_e = np.concatenate([up.row_e, down.row_e]), np.concatenate([up.column_e, down.column_e])
    norb = int(max(row_e.max(initial=0), column_e.max(initial=0))) + 1
    key_q, q_e = np.unique((t_e * norb + row_e) * norb + column_e, return_inverse=True)
    values_sq = np.zeros((2, len(key_q)))
    values_sq[np.repeat([0, 1], [len(up.row_e), len(down.row_e)]), q_e.ravel()] = np.concatenate(
        [up.values_se[0], down.values_se[0]]
    )
    rest_q, column_q = np.divmod(key_q, norb)
    t_q, row_q = np.divmod(rest_q, norb)
    return Elements(row_q, column_q, t_q, R_tc, values_sq)


def positions_of(context: Context, matrices: dict[str, list[Step]], used: dict[str, list[Path]]) -> Array:
    """Positions of the step (Angstrom): those in the matrix file where it has them, in the cell of STRU."""
    step, path, stru = matrices["S"][0], used["S"][0], context.stru
    moves = context.calculation in MOVING
    if step.fractional_ac is None or step.cell_cv is None:
        if moves:
            raise Refused(
                Kind.UNSUPPORTED,
                path,
                "does not carry the structure of its ionic steps; convert single-point runs of them",
            )
        return stru.positions_av
    if step.fractional_ac.shape != stru.positions_av.shape:
        raise Refused(Kind.DAMAGED, path, f"has {len(step.fractional_ac)} atoms; STRU has {len(stru.positions_av)}")
    if np.abs(step.cell_cv - stru.cell_cv).max() > 2e-5 * max(1.0, np.abs(stru.cell_cv).max()):
        reason = "is of another cell than STRU and has only 6 digits of its own; convert single-point runs of its steps"
        raise Refused(Kind.UNSUPPORTED, path, reason)
    positions_av = step.fractional_ac @ stru.cell_cv
    between_ac = np.linalg.solve(stru.cell_cv.T, (positions_av - stru.positions_av).T).T
    if not moves and np.abs(between_ac - np.round(between_ac)).max() > 1e-5:
        raise Refused(Kind.MISSING_FILES, path, "is of other positions than STRU", "the STRU of the run")
    return positions_av


def doubt_of_density(context: Context) -> str:
    """Why the DM file of a run may be wrong; empty when it cannot. Without symmetric k-points to leave out it is right."""
    given = context.given
    default = "0" if context.calculation in ("nscf", "md") or context.is_gamma_only else "1"
    symmetry = text.flag(given, "symmetry", default)
    if symmetry == "1" or (symmetry == "0" and context.spin is Spin.SPINOR):
        wanted = "-1" if context.spin is Spin.SPINOR else "0 or -1"
        return f"symmetry {symmetry} sums DM over a part of the k-points; rerun with symmetry {wanted}, or rebuild it from H and S"
    return ""


def refuse_old_sign(context: Context, DM_sx: Array, path: Path) -> None:
    """Refuse a density with a y component of the spin from versions whose sign of sigma_y is the other one."""
    largest = float(np.abs(to_pauli(DM_sx)[2]).max(initial=0))
    version = context.log.version
    if largest > 1e-6 and version_key(version) < version_key("3.11.0-beta6"):
        reason = f"has a spin density along y (up to {largest:.3g}) from ABACUS {version or 'of unknown version'}, whose sign of"
        raise Refused(
            Kind.FAULTY_VERSION,
            path,
            f"{reason} sigma_y is the opposite; rerun with 3.11.0-beta6 or newer, or with moments in the xz plane",
        )


def version_key(version: str) -> tuple[int, ...]:
    """A version such as 3.11.0-beta6 as numbers; a release comes after its betas, an unknown version first."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-?beta\.?(\d+))?", version)
    if match is None:
        return (0,)
    major, minor, patch, build, beta = match.groups()
    return int(major), int(minor), int(patch or 0), int(build or 0), int(beta) if beta else 999


def has_second_images(context: Context) -> bool:
    """True when the radii in the names of the orbital files (.._6au_..) reach a second image of some atom."""
    names = [re.search(r"_(\d+(?:\.\d+)?)au_", species.radial) for species in context.basis]
    radii = np.array([float(match[1]) * BOHR if match else np.inf for match in names])
    radius_a = radii[context.stru.species_a]
    return closest_images(context.stru.positions_av, context.stru.cell_cv, np.add.outer(radius_a, radius_a))[1]


def read_spectrum(context: Context, is_single_point: bool) -> Spectrum | None:
    """k-points of the whole mesh, with the eigenvalues that the code printed at some of them (NaN elsewhere)."""
    own = {path.name: path for path in context.run.others}
    given, stru = context.given, context.stru
    levels = text.read_levels(own["eig_occ.txt"]) if "eig_occ.txt" in own and is_single_point else None
    mesh = None
    if context.is_gamma_only:
        mesh = np.zeros((1, 3)), np.ones(1)
    elif "KPT" in own and "kspacing" not in given:
        mesh = text.read_mesh(own["KPT"])
    printed_kc = None if levels is None else levels[0] @ stru.cell_cv.T / (stru.lattice_constant * BOHR)
    if mesh is None or (printed_kc is not None and not on_mesh(printed_kc, mesh[0])):
        if levels is None or printed_kc is None:
            return None
        # The lowest level is full: its occupation is the weight.
        mesh = printed_kc, levels[2][0, :, 0] / levels[2][0, :, 0].sum()
    kpoints_kc, weights_k = mesh
    channels = 2 if context.spin is Spin.COLLINEAR else 1
    energies_skn = np.empty((channels, len(weights_k), 0))
    if levels is not None and printed_kc is not None:
        energies_skn = np.full((channels, len(weights_k), levels[1].shape[2]), np.nan)
        place_k = closest_kpoint(printed_kc, kpoints_kc)
        energies_skn[:, place_k] = levels[1]
    smearing = text.SMEARINGS.get(given.get("smearing_method", "gauss").lower(), "")
    width = text.number(given, "smearing_sigma", 0.015) * RYDBERG
    tolerance = level_tolerance(text.number(given, "scf_thr", 1e-7))
    return Spectrum(kpoints_kc, weights_k, energies_skn, tolerance, smearing, width, "nupdown" in given)


def level_tolerance(threshold: float) -> float:
    """How exactly printed eigenvalues are met (eV): they are one mixing step of the charge density away from H."""
    return max(1e-5, 0.1 * max(threshold, 0.0) ** 0.5)


def closest_kpoint(printed_kc: Array, mesh_kc: Array) -> Array:
    """Index of the mesh point that each printed k-point is, up to a reciprocal lattice vector."""
    between = printed_kc[:, None] - mesh_kc
    return np.abs(between - np.round(between)).max(axis=-1).argmin(axis=1)


def on_mesh(printed_kc: Array, mesh_kc: Array) -> bool:
    between = printed_kc - mesh_kc[closest_kpoint(printed_kc, mesh_kc)]
    return bool(np.abs(between - np.round(between)).max(initial=0) < 1e-4)
