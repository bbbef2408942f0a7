"""The frame of a molecule in def2-SVP from a dense H; S is stored beside it, or integrated by PySCF."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from scipy import linalg

from basis import Array
from basis.conventions import Convention, to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters.codes.databases import RowRun
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, Pairs, make_pairs
from converters.frames.dense import matrices_at
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, REORDERED, FileForm, Made, Origin, scaled
from converters.pyscf.molecule import convention as own_convention
from converters.pyscf.molecule import make_basis, make_functions

BASIS = "def2-svp"
# The nearest two atoms of a molecule are this far apart, in units of the sum of their covalent radii; Bohr for Angstrom is outside.
BONDED = (0.65, 1.5)
# The 1s level (Ha) of an element is between these parts of -Z^2; that of hydrogen-like ions is -Z^2 / 2.
CORE = (0.5, 0.22)


def molecule_of(run: RowRun, numbers_a: Array, positions_av: Array) -> Any:
    """PySCF's molecule in def2-SVP, with positions in Angstrom that are those of one."""
    if not len(numbers_a) or not 1 <= numbers_a.min() <= numbers_a.max() < len(chemical_symbols):
        raise Refused(Kind.DAMAGED, run.place, "has atomic numbers of no element")
    if not np.isfinite(positions_av).all():
        raise Refused(Kind.DAMAGED, run.place, "has positions that are not finite")
    require_bonds(run, numbers_a, positions_av)
    try:
        from pyscf.gto import M
    except ImportError as error:
        reason = f"cannot be read without PySCF, which knows {BASIS}; pip install pyscf"
        raise Refused(Kind.NOT_INSTALLED, run.place, reason) from error
    atoms = [
        (chemical_symbols[z], tuple(xyz)) for z, xyz in zip(numbers_a.tolist(), positions_av.tolist(), strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to install another library
        try:
            return M(atom=atoms, basis=BASIS, unit=BOHR, spin=int(numbers_a.sum()) % 2, verbose=0)
        except (KeyError, RuntimeError, ValueError) as error:
            raise Refused(Kind.DAMAGED, run.place, f"is no molecule that {BASIS} is for: {error}") from error


def require_bonds(run: RowRun, numbers_a: Array, positions_av: Array) -> None:
    """Refuse positions in another unit."""
    if len(numbers_a) < 2:
        return
    between_aa = np.linalg.norm(positions_av[:, None] - positions_av, axis=-1)
    ratio_aa = between_aa / (covalent_radii[numbers_a][:, None] + covalent_radii[numbers_a])
    np.fill_diagonal(ratio_aa, np.inf)
    if not BONDED[0] < ratio_aa.min() < BONDED[1]:
        found = f"has its nearest atoms {ratio_aa.min():.2f} bond lengths apart"
        raise Refused(
            Kind.BAD_PHYSICS, run.place, found, f"{BONDED[0]:.2f} to {BONDED[1]:.2f}; else the unit is another"
        )


def core_range(number: int) -> tuple[float, float]:
    """Between which energies (eV) the 1s of an element lies."""
    low, high = (-part * number**2 * HARTREE for part in CORE)
    return low, high


def require_core_level(run: RowRun, operators: Mapping[str, Operator], pairs: Pairs, number: int) -> None:
    """Refuse H and S whose lowest level is not the 1s of the heaviest element: H is in another unit, or of other places."""
    if number < 3:
        return
    H, S = (matrices_at(pairs, operators[name], Spin.NONE, np.zeros(3))[0].toarray().real for name in ("H", "S"))
    try:
        lowest = float(linalg.eigh(H, S, eigvals_only=True, subset_by_index=[0, 0])[0]) / HARTREE
    except (linalg.LinAlgError, ValueError) as error:
        raise Refused(Kind.BAD_PHYSICS, run.place, f"has H and S without levels: {error}") from error
    low, high = (energy / HARTREE for energy in core_range(number))
    if not low < lowest < high:
        found = f"has its lowest level at {lowest:.4g} Ha"
        raise Refused(Kind.BAD_PHYSICS, run.place, found, f"the 1s of its heaviest element, {low:.4g} to {high:.4g}")


def frame_of(
    run: RowRun, molecule: Any, matrices: Mapping[str, Array], convention: Convention, outcome: Outcome, **settings: str
) -> Frame:
    """The frame of a neutral molecule without spin; H in Hartree, all in a code's order of orbitals."""
    basis, species_a = make_basis(molecule)
    norb_a = np.array([basis[s].size for s in species_a])
    i_p, j_p = np.triu_indices(len(species_a))
    pairs = make_pairs(i_p, j_p, np.zeros((len(i_p), 3), dtype=int), norb_a)
    stored = dict(matrices)
    conventions = dict.fromkeys(stored, convention)
    if "S" not in stored:
        stored["S"], conventions["S"] = np.asarray(molecule.intor("int1e_ovlp")), own_convention
    operators, measured = {}, {}
    for name, M_MM in stored.items():
        order, signs = to_standard(cell_shells(basis, species_a), conventions[name])
        M_MM = M_MM.astype(float)[np.ix_(order, order)] * np.outer(signs, signs) * (HARTREE if name == "H" else 1)
        operators[name] = Operator(((M_MM + M_MM.T) / 2)[pairs.row_column_x][None])
        eps = np.finfo(stored[name].dtype).eps
        off, rounded = float(np.abs(M_MM - M_MM.T).max()), 2 * float(eps * np.abs(M_MM).max())
        measured[f"asymmetry of {name}"] = off if not off <= rounded else 0.0
    require_core_level(run, operators, pairs, int(np.max(molecule.atom_charges())))
    read = {
        name: Origin(
            Made.READ, (run.main.name,), (REORDERED, AVERAGED, *([scaled(HARTREE, "eV per Ha")] if name == "H" else []))
        )
        for name in matrices
    }
    origins = {"S": Origin(Made.INTEGRATED, (), (REORDERED,)), **read}
    return Frame(
        cell_cv=np.zeros((3, 3)),
        pbc_c=np.zeros(3, dtype=bool),
        positions_av=np.asarray(molecule.atom_coords()) * BOHR,
        species_a=species_a,
        basis=basis,
        pairs=pairs,
        spin=Spin.NONE,
        operators=operators,
        outcome=outcome,
        spectrum=Spectrum(np.zeros((1, 3)), np.ones(1), np.zeros((1, 1, 0)), smearing="fixed"),
        provenance=Provenance(
            run.code,
            path=run.place,
            source=run.source,
            step=int(run.row or 0),
            settings={"basis": BASIS, **settings},
            measured=measured,
            origins=origins,
            form=FileForm(harmonics=harmonics_of(basis, convention)),
        ),
        functions=make_functions(molecule),
    )
