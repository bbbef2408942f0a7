"""Back to PySCF: starting densities and checkpoint files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg

from basis import Array
from basis.conventions import to_standard
from basis.shells import Species, cell_shells
from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics import kspace
from converters.pyscf.molecule import checkpoint_text, convention
from converters.starts.start import Options
from converters.storage.files import draft_hdf5


def starting_density(frame: Frame) -> Array:
    """`dm0` for the SCF of the same structure, in PySCF's order and shape: (spin,) (k,) orbital, orbital."""
    DM_skMM = to_pyscf(frame, "DM")
    if frame.spin is Spin.SPINOR:
        DM_skMM = join_spins(DM_skMM)[None]
    if not frame.pbc_c.any() or not is_mesh(frame):
        DM_skMM = DM_skMM[:, 0]
    return DM_skMM if frame.spin is Spin.COLLINEAR else DM_skMM[0]


def is_mesh(frame: Frame) -> bool:
    """True when the run had an axis of k-points (a K class of PySCF)."""
    return bool(frame.provenance.form.k_axis)


def to_pyscf(frame: Frame, name: str) -> Array:
    """A matrix at the k-points of the run, in PySCF's orbital order."""
    kpoints_kc = np.zeros((1, 3)) if frame.spectrum is None else frame.spectrum.kpoints_kc
    M_ksMM = []
    for k_c in kpoints_kc:
        parts = [kspace.spatial_overlap(frame, k_c)] if name == "S" else kspace.dense_at(frame, name, k_c)
        if frame.layout(name) is Spin.SPINOR:
            parts = kspace.split_spinor(parts[0])
        M_ksMM.append([reorder_matrix(frame, part) for part in parts])
    return np.array(M_ksMM).swapaxes(0, 1)


def order_of_pyscf(basis: Sequence[Species], species_a: Array) -> tuple[Array, Array]:
    """Where each of our orbitals is among PySCF's, and its sign."""
    return to_standard(cell_shells(basis, species_a), convention)


def reorder_matrix(frame: Frame, matrix: Array) -> Array:
    """A dense matrix in PySCF's orbital order; one with two spins keeps all up orbitals first."""
    order, signs = order_of_pyscf(frame.basis, frame.species_a)
    back = np.argsort(order)
    if len(matrix) == 2 * len(back):
        back, signs = np.concatenate([back, back + len(back)]), np.tile(signs, 2)
    return (matrix * np.outer(signs, signs))[back[:, None], back]


def join_spins(M_skMM: Array) -> Array:
    """The matrix (k, 2M, 2M) of components uu, ud, du, dd."""
    return np.block([[M_skMM[0], M_skMM[1]], [M_skMM[2], M_skMM[3]]])


def write_matrices(frame: Frame, folder: Path, options: Options) -> list[Path]:
    """A checkpoint file of the molecule of another one."""
    if options.template is None:
        raise Refused(Kind.NO_START, folder, "needs a checkpoint file of the molecule as a template")
    path = folder / f"{options.template.stem}.chk"
    write(frame, path, options.template)
    return [path]


def write(frame: Frame, path: Path, molecule: Any) -> None:
    """A checkpoint file from which `mf.init_guess = "chkfile"; mf.chkfile = path` starts.

    `molecule` is PySCF's Mole or Cell, or another checkpoint file of it. The orbitals are those of (H, S) when DM is
    diagonal in them, else the natural orbitals of DM, which give the same density. PySCF drops negative occupations, so
    they are set to zero and the others scaled to the same number of electrons.
    """
    if not {"S", "DM"} <= set(frame.operators):
        raise Refused(Kind.MISSING_MATRIX, path, f"needs S and DM; the frame has {', '.join(frame.operators)}")
    description = checkpoint_text(Path(molecule)) if isinstance(molecule, str | Path) else molecule.dumps()
    DM_skMM, S_kMM = to_pyscf(frame, "DM"), to_pyscf(frame, "S")[0]
    H_skMM = to_pyscf(frame, "H") / HARTREE if "H" in frame.operators else None
    if frame.spin is Spin.SPINOR:
        DM_skMM, S_kMM = join_spins(DM_skMM)[None], np.kron(np.eye(2), S_kMM)
        H_skMM = None if H_skMM is None else join_spins(H_skMM)[None]
    solved = [
        [orbitals_of(DM_skMM[s, k], S_MM, None if H_skMM is None else H_skMM[s, k]) for k, S_MM in enumerate(S_kMM)]
        for s in range(len(DM_skMM))
    ]
    facts = {"scf/e_tot": np.array((frame.outcome.energy or 0.0) / HARTREE)}
    if frame.pbc_c.any():
        reciprocal_cv = 2 * np.pi * np.linalg.inv(frame.cell_cv / BOHR).T
        kpoints_kc = np.zeros((1, 3)) if frame.spectrum is None else frame.spectrum.kpoints_kc
        kpoints_kv = kpoints_kc @ reciprocal_cv
        facts["scf/kpts" if is_mesh(frame) else "scf/kpt"] = kpoints_kv if is_mesh(frame) else kpoints_kv[0]
    save_orbitals(path, description, solved, facts, frame.spin, is_mesh(frame))


def save_density(DM_sMM: Array, S_MM: Array, spin: Spin, path: Path, molecule: str | Path) -> None:
    """A checkpoint file of the natural orbitals of a molecule's density, one matrix for each spin (or one of both)."""
    solved = [[orbitals_of(DM_MM, S_MM, None)] for DM_MM in DM_sMM]
    save_orbitals(path, checkpoint_text(Path(molecule)), solved, {"scf/e_tot": np.zeros(())}, spin, mesh=False)


Orbitals = tuple[Array, Array, Array]


def save_orbitals(
    path: Path,
    description: str,
    solved: Sequence[Sequence[Orbitals]],
    facts: Mapping[str, Array],
    spin: Spin,
    mesh: bool,
) -> None:
    """Write the orbitals of each spin and k-point in PySCF's shapes."""
    arrays = {key: np.array([[entry[n] for entry in row] for row in solved]) for n, key in enumerate(ORBITAL_KEYS)}
    one_spin = len(solved) == 1
    if spin is Spin.NONE and np.abs(arrays["scf/mo_occ"] % 2).max() > 1e-6:
        # PySCF reads a closed shell with occupations below 1 as full ones; as two spins it takes them as they are.
        arrays = {key: np.concatenate([array, array]) for key, array in arrays.items()}
        arrays["scf/mo_occ"], one_spin = arrays["scf/mo_occ"] / 2, False
    if not mesh:
        arrays = {key: array[:, 0] for key, array in arrays.items()}
    if one_spin:
        arrays = {key: array[0] for key, array in arrays.items()}
    with draft_hdf5(path) as file:
        file["mol"] = description
        for key, array in {**arrays, **facts}.items():
            file[key] = array


ORBITAL_KEYS = ("scf/mo_energy", "scf/mo_coeff", "scf/mo_occ")


def orbitals_of(DM_MM: Array, S_MM: Array, H_MM: Array | None) -> tuple[Array, Array, Array]:
    """Energies, coefficients and occupations of orbitals whose density is DM, those of H where they are its own."""
    if H_MM is not None:
        e_n, C_Mn = linalg.eigh(H_MM, S_MM)
        f_nn = C_Mn.conj().T @ S_MM @ DM_MM @ S_MM @ C_Mn
        if np.abs(f_nn - np.diag(np.diagonal(f_nn))).max() < 1e-7:
            return e_n, C_Mn, np.maximum(np.round(np.diagonal(f_nn).real, 12), 0)
    f_n, C_Mn = linalg.eigh(S_MM @ DM_MM @ S_MM, S_MM)
    f_n, C_Mn = np.maximum(f_n, 0)[::-1] * (f_n.sum() / np.maximum(f_n, 0).sum()), C_Mn[:, ::-1]
    e_n = np.zeros(len(f_n)) if H_MM is None else np.einsum("Mn,MN,Nn->n", C_Mn.conj(), H_MM, C_Mn).real
    return e_n, C_Mn, f_n
