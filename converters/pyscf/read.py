"""Frames of PySCF's SCF objects and of its checkpoint files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.folding import fold
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import FOLDED, REORDERED, FileForm, Made, Origin, scaled
from converters.pyscf.dm0 import is_symmetric
from converters.pyscf.levels import Levels, make_levels
from converters.pyscf.molecule import (
    checkpoint_text,
    convention,
    is_checkpoint,
    load_molecule,
    make_basis,
    make_functions,
    overlaps,
)
from converters.pyscf.spinors import spinors_in_harmonics
from converters.storage.files import open_hdf5

NAME = "pyscf"

SMEARINGS = {"fermi": "fermi", "gauss": "gauss"}

# What is read of the checkpoint of an SCF run.
STORED = ("mo_coeff", "mo_energy", "mo_occ", "e_tot", "kpts", "kpt")
# How PySCF names the lists in its checkpoint files, such as the occupations of smeared levels on a k mesh.
LIST = "__from_list__"


# From objects


def frame_from_scf(mf: Any) -> Frame:
    """Frame of a finished SCF object: RHF, RKS, UHF, UKS, ROHF, GHF, GKS of molecules, and of crystals on a k mesh.

    H of ROHF is its effective (Roothaan) Fock matrix, the same for both spins.
    """
    place = f"PySCF {type(mf).__name__}"
    if mf.mo_coeff is None:
        raise Refused(Kind.UNFINISHED_SCF, place, "has no orbitals; call mf.kernel() first")
    if is_symmetric(mf):
        mf = mf.to_khf()  # orbitals of all k-points of the mesh, from those that symmetry keeps
    from pyscf.pbc.scf.khf import KSCF

    mesh = isinstance(mf, KSCF)
    kpoints_kc = np.reshape(mf.kpts if mesh else mf.kpt, (-1, 3)) if hasattr(mf, "cell") else None
    coeff, *rest = (as_array(array, place) for array in (mf.mo_coeff, mf.mo_energy, mf.mo_occ))
    U_MM = spinors_in_harmonics(mf.mol, coeff)
    levels = make_levels(place, int(mf.mol.nao_nr()), mesh, coeff if U_MM is None else U_MM @ coeff, *rest)
    fock = None if levels.complete else np.asarray(mf.get_fock(dm=mf.make_rdm1()))
    if fock is not None and U_MM is not None:
        fock = U_MM @ fock @ U_MM.conj().T
    width = float(getattr(mf, "sigma", None) or 0) * HARTREE
    kind = SMEARINGS.get(getattr(mf, "smearing_method", None) or "", "") if width else ""
    cycles = int(getattr(mf, "cycles", 0)) or None
    outcome = Outcome(energy=float(mf.e_tot) * HARTREE, converged=bool(mf.converged), iterations=cycles)
    settings = {"method": type(mf).__name__, "xc": getattr(mf, "xc", None)}
    origins = origins_of(Made.RESTORED if fock is None else Made.GIVEN, (), folded=kpoints_kc is not None)
    form = FileForm(k_axis=mesh)
    provenance = Provenance(NAME, pyscf_version(), settings=settings, origins=origins, form=form)
    frame = make_frame(place, mf.mol, levels, kpoints_kc, fock, (kind, width), outcome, provenance)
    return replace(frame, functions=make_functions(mf.mol))


def as_array(per_k: Any, place: str | Path) -> Array:
    """One array of PySCF's lists over k-points."""
    try:
        return np.array(per_k)
    except ValueError as error:
        reason = "lacks linearly dependent orbitals at some k-points and so does not determine H"
        raise Refused(Kind.UNSUPPORTED, place, reason, "as many orbitals as functions at each of them") from error


def pyscf_version() -> str:
    import pyscf

    return str(pyscf.__version__)


# From disk


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for each checkpoint file of a folder."""
    for path in files:
        if is_checkpoint(path):
            logs = tuple(other for other in files if other.suffix in (".log", ".out", ".txt"))
            yield Run(NAME, folder, (path,), logs)


def read_run(run: Run) -> Iterator[Frame]:
    """The frame of a checkpoint file; what the file does not say is taken from the log beside it."""
    path = run.main
    try:
        with open_hdf5(path) as file:
            if absent := [name for name in ("scf", "mol") if name not in file]:
                found = f"has no {absent[0]} beside {', '.join(file)}"
                raise Refused(Kind.MISSING_FILES, path, found, "the checkpoint file of the SCF (mf.chkfile)")
            names = {key.removesuffix(LIST): key for key in file["scf"]}
            lists = {name: whole(file["scf"][key]) for name, key in names.items() if name in STORED}
            description = file["mol"][()]
    except OSError as error:
        raise refused_by_system(path, error) from error
    except (KeyError, RuntimeError) as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    stored = {key: as_array(values, path) for key, values in lists.items()}
    missing = {"mo_coeff", "mo_energy", "mo_occ", "e_tot"} - set(stored)
    if missing:
        raise Refused(Kind.MISSING_FILES, path, f"has no scf/{sorted(missing)[0]}", "the checkpoint of an SCF run")
    mesh = "kpts" in stored
    kpoints = stored.get("kpts", stored.get("kpt"))
    kpoints_kc = None if kpoints is None else np.reshape(kpoints, (-1, 3))
    molecule = load_molecule(path, description)
    norb = int(molecule.nao_nr())
    if (U_MM := spinors_in_harmonics(molecule, stored["mo_coeff"])) is not None:
        stored["mo_coeff"] = U_MM @ stored["mo_coeff"]
    levels = make_levels(path, norb, mesh, stored["mo_coeff"], stored["mo_energy"], stored["mo_occ"])
    if not levels.complete:
        lost = levels.coeff_skMn.shape[-2] - levels.coeff_skMn.shape[-1]
        reason = f"lacks {lost} linearly dependent orbitals and so does not determine H; convert the SCF object instead"
        raise Refused(Kind.UNSUPPORTED, path, reason)
    if np.size(stored["e_tot"]) != 1:
        raise Refused(Kind.DAMAGED, path, f"has {np.size(stored['e_tot'])} energies", "one")
    energy = float(np.ravel(stored["e_tot"])[0])
    log = find_log(energy, run.others)
    provenance = Provenance(
        NAME,
        log.version,
        str(path),
        source=run.source,
        files=run.digests(path, *log.files),
        settings={"method": log.method},
        origins=origins_of(Made.RESTORED, (path.name,), folded=kpoints_kc is not None),
        form=FileForm(k_axis=mesh),
    )
    outcome = Outcome(energy=energy * HARTREE, converged=log.converged, iterations=log.iterations)
    yield make_frame(path, molecule, levels, kpoints_kc, None, log.smearing, outcome, provenance)


def origins_of(hamiltonian: Made, files: tuple[str, ...], *, folded: bool) -> dict[str, Origin]:
    """Where each matrix is from: S is integrated anew, DM made of the occupied orbitals."""
    treatments = (REORDERED, *([FOLDED] if folded else []))
    return {
        "H": Origin(hamiltonian, files, (*treatments, scaled(HARTREE, "eV per Ha"))),
        "S": Origin(Made.INTEGRATED, files, treatments),
        "DM": Origin(Made.RESTORED, files, treatments),
    }


def whole(item: h5py.Dataset | h5py.Group, depth: int = 2) -> Any:
    """What PySCF stored under a name: an array, or lists (of spins, of k-points) of arrays; nothing for what is neither."""
    if isinstance(item, h5py.Dataset):
        return item[()]
    if not depth or not item.name.endswith(LIST):
        return []
    return [whole(item[key], depth - 1) for key in sorted(item)]


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """The Gaussians of a checkpoint file, which are always there."""
    molecule = load_molecule(run.main, checkpoint_text(run.main))
    basis, _ = make_basis(molecule)
    yield FoundFunctions(dict(zip(basis, make_functions(molecule), strict=True)), (run.main,))


@dataclass(frozen=True)
class Log:
    """What the log of a run says that its checkpoint file does not."""

    converged: bool | None = None
    iterations: int | None = None
    version: str = ""
    method: str = ""
    smearing: tuple[str, float] = ("", 0.0)  # its kind and its width, eV
    files: tuple[Path, ...] = ()


NUMBER = r"-?\d+\.?\d*(?:e[+-]?\d+)?"  # as Python prints one


def find_log(energy: float, candidates: Sequence[Path]) -> Log:
    """The log among the candidates that ends with the given energy (Hartree)."""
    for path in candidates:
        text = path.read_text(errors="replace")
        endings = list(re.finditer(rf"^(converged )?SCF energy = +({NUMBER})(?!\S)", text, re.M))
        for ending in endings:
            if abs(float(ending[2]) - energy) < 1e-9 * max(1.0, abs(energy)):
                head = text[: ending.start()]
                own = head[max(head.rfind("\n********"), 0) :]  # a log may have several runs
                cycles, width = last_cycle(own), last(r"^ *sigma = (\d+\.?\d*(?:e-?\d+)?) ", own)
                kind = SMEARINGS.get(last(r"^Smearing method = (\w+)", own), "") if width else ""
                return Log(
                    converged=bool(ending[1]),
                    iterations=int(cycles) if cycles else None,
                    version=last(r"PySCF version (\S+)", head),
                    method=last(r"^method = (\S+)", own),
                    smearing=(kind, float(width) * HARTREE if kind else 0.0),
                    files=(path,),
                )
    return Log()


def last_cycle(log: str) -> str:
    """The number of the last cycle, or nothing where the change of energy after it shows that its line is missing."""
    number, energy = (re.findall(rf"^cycle= (\d+) E= ({NUMBER})(?!\S)", log, re.M) or [("", "0")])[-1]
    after = re.search(rf"^Extra cycle +E= ({NUMBER}) +delta_E= ({NUMBER})(?!\S)", log, re.M)
    if number and after:
        change = float(after[2])
        if abs(float(after[1]) - float(energy) - change) > 0.01 * abs(change) + 1e-14 * abs(float(energy)):
            return ""
    return number


def last(pattern: str, text: str) -> str:
    """What a pattern finds last, or nothing."""
    return ["", *re.findall(pattern, text, re.M)][-1]


# What both have in common


def make_frame(
    place: str | Path,
    molecule: Any,
    levels: Levels,
    kpoints_kc: Array | None,
    fock: Array | None,
    smearing: tuple[str, float],
    outcome: Outcome,
    provenance: Provenance,
) -> Frame:
    """Frame of PySCF's orbitals (or of a Fock matrix that was given) in our convention; None for k: a molecule."""
    if molecule.cart:
        raise Refused(
            Kind.UNSUPPORTED, place, "has Cartesian d functions (cart=True)", "spherical ones, rerun with cart=False"
        )
    basis, species_a = make_basis(molecule)
    fractional_kc, cell_cv, pbc_c = np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool)
    if kpoints_kc is not None:
        cell_cv, pbc_c = molecule.lattice_vectors() * BOHR, np.arange(3) < molecule.dimension
        fractional_kc = kpoints_kc @ molecule.lattice_vectors().T / (2 * np.pi)
    positions_av = molecule.atom_coords() * BOHR
    S_kMM = overlaps(molecule, kpoints_kc)
    spin, nk = levels.spin, len(fractional_kc)
    full_S_kMM = np.kron(np.eye(2), S_kMM) if spin is Spin.SPINOR else S_kMM
    fock_skMM = (
        levels.fock(full_S_kMM) if fock is None else fock.reshape(len(levels.energy_skn), nk, *full_S_kMM.shape[1:])
    )
    folding = fold(place, fractional_kc, positions_av, cell_cv, pbc_c, [basis[s].size for s in species_a])
    order, signs = to_standard(cell_shells(basis, species_a), convention)
    stored = {"H": split_spins(fock_skMM, spin) * HARTREE, "S": S_kMM[None], "DM": split_spins(levels.density(), spin)}
    operators = {
        name: folding.operator(
            place,
            M_skMM[..., order[:, None], order] * np.outer(signs, signs),
            name == "S" or spin is not Spin.SPINOR,
        )
        for name, M_skMM in stored.items()
    }
    electrons = float(levels.occupation_skn.sum()) / nk
    if abs(electrons - molecule.tot_electrons()) > 1e-6:
        raise Refused(
            Kind.BAD_PHYSICS, place, f"has {electrons:.8g} electrons in its levels", f"{molecule.tot_electrons()}"
        )
    moment = float(molecule.spin) if spin is Spin.COLLINEAR and kpoints_kc is None else None
    form = replace(provenance.form, harmonics=harmonics_of(basis, convention))
    return Frame(
        cell_cv=cell_cv,
        pbc_c=pbc_c,
        positions_av=positions_av,
        species_a=species_a,
        basis=basis,
        pairs=folding.pairs,
        spin=spin,
        operators=operators,
        outcome=replace(outcome, electrons=electrons, moment=moment),
        spectrum=spectrum_of(levels, fractional_kc, full_S_kMM, smearing, printed=fock is None),
        provenance=replace(provenance, form=form),
        folded=kpoints_kc is not None,
    )


def spectrum_of(
    levels: Levels, fractional_kc: Array, S_kMM: Array, smearing: tuple[str, float], *, printed: bool
) -> Spectrum:
    """The k-points of a run and how its levels are filled; the levels themselves where they are those of the matrices."""
    energies_skn = np.sort(levels.energy_skn, axis=-1) * HARTREE
    kind, width = smearing if smearing[0] else ("fixed" if levels.is_aufbau() else "", 0.0)
    return Spectrum(
        fractional_kc,
        np.full(len(fractional_kc), 1 / len(fractional_kc)),
        energies_skn if printed else energies_skn[..., :0],
        levels.tolerance(S_kMM) + levels.lopsidedness(S_kMM, fractional_kc),
        kind,
        width,
        fixed_moment=levels.spin is Spin.COLLINEAR,
    )


def split_spins(M_skMM: Array, spin: Spin) -> Array:
    """The spin components as the first axis: (uu, ud, du, dd) for spinors."""
    if spin is not Spin.SPINOR:
        return M_skMM
    n = M_skMM.shape[-1] // 2
    return np.stack([M_skMM[0, :, a : a + n, b : b + n] for a in (0, n) for b in (0, n)])
