"""`dm0`: the starting density of an SCF object of PySCF from predicted matrices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basis import Array
from basis.shells import Species
from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters.errors import Kind, Refused
from converters.frames.folding import mesh_of
from converters.frames.frame import Frame
from converters.physics.kspace import Filling
from converters.pyscf.molecule import load_molecule, make_basis, overlaps
from converters.pyscf.write import reorder_matrix, save_density
from converters.starts.agreement import Agreement, agreement
from converters.starts.asking import numbers_in
from converters.starts.density import (
    Dense,
    Density,
    Sampling,
    density_of_levels,
    doubt,
    operator_on_mesh,
    purify,
)
from converters.starts.fit import SAME_PLACE
from converters.storage.files import open_hdf5

ANNOUNCED = "starting density from slem: "
REFUSED = "no starting density from slem: "
# Occupations below this are none.
EMPTY = 1e-10


def structure_of(mf: Any, basis: Sequence[Species]) -> tuple[Array, Array, Array, Array]:
    """Cell, periodic axes, positions (Angstrom) and species of the atoms of an SCF object, numbered as in a basis."""
    own, own_a = make_basis(mf.mol)
    return *atoms_of(mf), numbers_in(basis, own, name_of(mf))[own_a]


def atoms_of(mf: Any) -> tuple[Array, Array, Array]:
    """Cell, periodic axes and positions (Angstrom) of the atoms of an SCF object."""
    molecule = mf.mol
    positions_av = molecule.atom_coords() * BOHR
    if not hasattr(mf, "cell"):
        return np.zeros((3, 3)), np.zeros(3, dtype=bool), positions_av
    return molecule.lattice_vectors() * BOHR, np.arange(3) < molecule.dimension, positions_av


def guess_density(mf: Any, frame: Frame, route: str = "auto", how: str = "auto") -> tuple[Array, Density, str]:
    """`dm0` for an SCF object, in its shape, from the matrices of the same atoms, and why not to trust it; S is PySCF's own.

    Routes: "dm" purifies DM (`how` is that of `converters.starts.density.purify`), "h" fills the levels of H; "auto" takes DM where
    there is one. A DM that is far from a density casts doubt on H too.
    """
    name = {"auto": "DM" if "DM" in frame.operators else "H", "dm": "DM", "h": "H"}[route]
    if name not in frame.operators:
        raise Refused(Kind.OTHER_MODEL, name_of(mf), f"cannot start from {name}: it was not predicted")
    sampling = sampling_of_scf(mf, frame.spin)
    require_same_mesh(mf, frame, sampling.kpoints_kc)
    S = list(overlaps(mf.mol, absolute_kpoints(mf)))
    if frame.spin is Spin.SPINOR:
        S = [np.kron(np.eye(2), overlap) for overlap in S]

    def dense(which: str) -> list[list[Array]]:
        parts_k = operator_on_mesh(frame, which, sampling.kpoints_kc)
        return [[reorder_matrix(frame, part) for part in parts] for parts in parts_k]

    predicted = {which: dense(which) for which in ("H", "DM") if which in frame.operators}
    found = {}
    if "DM" in predicted:
        found["DM"] = purify(predicted["DM"], S, sampling, how)
    if "H" in predicted:
        found["H"] = density_of_levels(predicted["H"], S, sampling)
    reasons = [
        doubt(found[which], sampling.filling.electrons) for which in dict.fromkeys(("DM", name)) if which in found
    ]
    if name == "H" and "DM" in predicted:
        reasons.append(compare(predicted, found["H"], sampling).doubt)
    density, reason = found[name], next(filter(None, reasons), "")
    dm0 = shape_like(mf, np.array(density.rho).swapaxes(0, 1), frame.spin)
    return dm0, density, reason


def compare(predicted: Mapping[str, Dense], levels: Density, sampling: Sampling) -> Agreement:
    """How far the predicted DM is from the density of the predicted H, all dense matrices at the k-points."""
    differences = (
        [a - b for a, b in zip(*both, strict=True)] for both in zip(predicted["DM"], levels.rho, strict=True)
    )
    return agreement(levels.orbitals, differences, sampling)


def require_same_mesh(mf: Any, frame: Frame, kpoints_kc: Array) -> None:
    """Refuse folded matrices of another k mesh than that of the SCF object."""
    if frame.folded and frame.spectrum is not None:
        own, learned = (mesh_of(name_of(mf), points).tolist() for points in (kpoints_kc, frame.spectrum.kpoints_kc))
        if own != learned or np.abs(np.mod(kpoints_kc * own + 0.5, 1) - 0.5).max() > 1e-5:
            raise Refused(
                Kind.OTHER_MODEL,
                name_of(mf),
                f"has the k mesh {own} or another centre; the matrices are of {learned} about Gamma",
            )


def sampling_of_scf(mf: Any, spin: Spin) -> Sampling:
    """k-points and filling of an SCF object, for matrices of a spin layout."""
    absolute_kv = absolute_kpoints(mf)
    kpoints_kc = np.zeros((1, 3))
    if absolute_kv is not None:
        kpoints_kc = absolute_kv @ mf.cell.lattice_vectors().T / (2 * np.pi)
    nk = len(kpoints_kc)
    width = float(getattr(mf, "sigma", None) or 0) * HARTREE
    kind = {"fermi": "fermi", "gauss": "gauss"}.get(getattr(mf, "smearing_method", None) or "", "fixed")
    moment = None if width and not getattr(mf, "fix_spin", False) else float(mf.mol.spin) / nk
    electrons = float(mf.mol.tot_electrons(nk)) / nk if hasattr(mf, "cell") else float(mf.mol.nelectron)
    return Sampling(
        kpoints_kc, np.full(nk, 1 / nk), Filling(electrons, kind if width else "fixed", width, moment), spin
    )


def absolute_kpoints(mf: Any) -> Array | None:
    """k-points (1/Bohr) of an SCF object of a crystal, all of its mesh; None for a molecule."""
    if not hasattr(mf, "cell"):
        return None
    kpoints = mf.kpts if is_mesh(mf) else mf.kpt
    return np.reshape(kpoints.kpts if is_symmetric(mf) else kpoints, (-1, 3))


def is_mesh(mf: Any) -> bool:
    """True for the K classes of PySCF, whose matrices have an axis of k-points."""
    from pyscf.pbc.scf.khf import KSCF

    return isinstance(mf, KSCF)


def is_symmetric(mf: Any) -> bool:
    """True where k-point symmetry leaves out some points of the mesh."""
    from pyscf.pbc.lib.kpts import KPoints

    return isinstance(getattr(mf, "kpts", None), KPoints)


def with_orbitals(mf: Any, dm0: Array) -> Array:
    """The density of a molecule with its natural orbitals beside it, as PySCF's own densities have them: exchange and grids take a few filled orbitals in place of a whole matrix.

    Others as they are: of crystals, of ROHF, of two components, and with occupations below zero, which PySCF would leave out.
    """
    from pyscf import lib
    from pyscf.scf import ghf, rohf

    if hasattr(mf, "cell") or isinstance(mf, rohf.ROHF | ghf.GHF):
        return dm0
    try:
        root_MM = np.linalg.cholesky(np.asarray(mf.get_ovlp()))
    except np.linalg.LinAlgError:  # orbitals that depend on each other
        return dm0
    occupations, orthogonal = np.linalg.eigh(root_MM.T @ dm0 @ root_MM)
    if occupations.min() < -EMPTY:
        return dm0
    orbitals = np.linalg.solve(root_MM.T, orthogonal)
    tagged: Array = lib.tag_array(dm0, mo_coeff=orbitals, mo_occ=np.where(occupations > EMPTY, occupations, 0))
    return tagged


def shape_like(mf: Any, rho_skMM: Array, spin: Spin) -> Array:
    """The density in the shape and spin layout of an SCF object."""
    from pyscf.pbc.scf import kghf, kuhf
    from pyscf.scf import ghf, rohf, uhf

    if not is_mesh(mf):
        rho_skMM = rho_skMM[:, 0]
    elif is_symmetric(mf):
        rho_skMM = rho_skMM[:, mf.kpts.ibz2bz]
    open_shell = isinstance(mf, uhf.UHF | rohf.ROHF | kuhf.KUHF)
    spinor = isinstance(mf, ghf.GHF | kghf.KGHF)
    if spinor != (spin is Spin.SPINOR):
        raise Refused(Kind.OTHER_MODEL, name_of(mf), f"cannot start from matrices with the spin layout {spin}")
    if open_shell and spin is Spin.NONE:
        if mf.mol.spin:
            raise Refused(
                Kind.OTHER_MODEL,
                name_of(mf),
                f"has {mf.mol.spin} unpaired electrons; the model was trained without spin",
            )
        return np.concatenate([rho_skMM, rho_skMM]) / 2
    if open_shell:
        return rho_skMM
    return np.asarray(rho_skMM.sum(axis=0))


def announce(mf: Any, density: Density) -> None:
    """Say in the log of PySCF where the density is from."""
    from pyscf.lib import logger

    logger.note(mf, "%s%s", ANNOUNCED, density.note)


def refuse_guess(mf: Any, reason: str) -> None:
    """Say in the log of PySCF why a prediction is not used."""
    from pyscf.lib import logger

    logger.note(mf, "%s%s", REFUSED, reason)


def name_of(mf: Any) -> str:
    return f"PySCF {type(mf).__name__}"


def guess_of_checkpoint(
    frame: Frame, checkpoint: Path, folder: Path, route: str, how: str
) -> tuple[list[Path], Density]:
    """dm0.npy and guess.chk for the molecule of a checkpoint file."""
    from pyscf import scf

    with open_hdf5(checkpoint) as file:
        molecule = load_molecule(checkpoint, file["mol"][()])
    if hasattr(molecule, "lattice_vectors"):
        raise Refused(Kind.NO_START, checkpoint, "is of a crystal; use slem_plugin.pyscf_guess in its script")
    kinds = {Spin.NONE: scf.hf.RHF, Spin.COLLINEAR: scf.uhf.UHF, Spin.SPINOR: scf.ghf.GHF}
    mf = kinds[frame.spin](molecule)
    *_, positions_av, species_a = structure_of(mf, frame.basis)
    same = len(species_a) == frame.natoms and np.array_equal(species_a, frame.species_a)
    if not same or np.abs(positions_av - frame.positions_av).max() > SAME_PLACE:
        raise Refused(
            Kind.OTHER_STRUCTURE,
            checkpoint,
            f"is not of the atoms of the matrices ({frame.formula}), or not in their order and place",
        )
    dm0, density, reason = guess_density(mf, frame, route, how)
    if reason:
        raise Refused(Kind.NO_START, frame.formula, f"cannot be used as a start: {reason}")
    np.save(folder / "dm0.npy", dm0)
    save_density(np.reshape(dm0, (-1, *dm0.shape[-2:])), mf.get_ovlp(), frame.spin, folder / "guess.chk", checkpoint)
    return [folder / "dm0.npy", folder / "guess.chk"], density
