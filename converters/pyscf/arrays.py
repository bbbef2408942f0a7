"""Molecules as quantum chemists keep them: dense H, S and DM in the order and the units of their program, in and out.

>>> frame = frame_from_matrices(atoms, "def2-svp", {"H": fock, "S": overlap}, order="psi4", unit="Hartree")
>>> fock = matrices_of(frame, order="psi4", unit="Hartree")["H"]
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from basis import Array
from basis.conventions import to_standard
from basis.radial import Functions
from basis.shells import Species, cell_shells, parse_shells
from basis.spin import Spin
from basis.units import HARTREE
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator, make_pairs
from converters.frames.frame import Frame, Outcome, Provenance, with_matrix
from converters.frames.neighbours import structure_of
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, REORDERED, FileForm, Made, Origin, scaled
from converters.physics.overlap import Overlap
from converters.pyscf.dense import core_range
from converters.pyscf.molecule import gaussian_species
from converters.pyscf.orders import order_named

if TYPE_CHECKING:
    from ase import Atoms

UNITS = {"eV": 1.0, "Hartree": HARTREE}
# The halves of a matrix in single precision differ by less than this part of its largest element.
MOST_ASYMMETRY = 1e-4
# S in single precision, of positions in another Bohr, is this near to the integrals of its basis.
MOST_OFF = 1e-4
# With fewer electrons than this below those of the nuclei, cores are not left out.
CORES = 2


def frame_from_matrices(
    atoms: "Atoms",
    basis: str | Mapping[str, str],
    matrices: Mapping[str, Array],
    *,
    order: str = "slem",
    unit: str = "eV",
    electrons: float | None = None,
    code: str = "arrays",
) -> Frame:
    """The frame of a molecule of its dense "H", "S" and "DM"; two of H or DM, one after the other, are those of spin up and down.

    `basis` is a Gaussian basis that PySCF knows by name, or names the shells of each element in their order, such as {"O": "3s2p1d", "H": "2s1p"}.
    With a name the radial functions are known: S is compared with their integrals, or made of them where it is not given.
    `order` is that of the orbitals inside a shell: slem (m = -l..l), pyscf, psi4, orca or gaussian. `unit` is that of H, eV or Hartree; positions are in Angstrom.
    """
    if any(atoms.pbc):
        raise ValueError("dense matrices have no lattice vectors; expected a molecule")
    if unit not in UNITS:
        raise Refused(Kind.NO_SUCH_CHOICE, "unit of H", f'is "{unit}"', " or ".join(UNITS))
    species, functions = species_of(atoms, basis)
    place = {one.name: s for s, one in enumerate(species)}
    species_a = np.array([place[symbol] for symbol in atoms.get_chemical_symbols()])
    norb_a = np.array([species[s].size for s in species_a])
    convention = order_named(order)
    rows, signs = to_standard(cell_shells(species, species_a), convention)
    i_p, j_p = np.triu_indices(len(species_a))
    pairs = make_pairs(i_p, j_p, np.zeros((len(i_p), 3), dtype=int), norb_a)
    several = any(np.ndim(matrices[name]) == 3 for name in ("H", "DM") if name in matrices)
    operators, measured = {}, {}
    for name, matrix in matrices.items():
        components = 2 if several and name != "S" else 1
        M_sMM, off = hermitian(name, np.asarray(matrix), components, len(rows))
        ours = M_sMM[:, rows[:, None], rows] * np.outer(signs, signs) * (UNITS[unit] if name == "H" else 1)
        row_x, column_x = pairs.row_column_x
        operators[name] = Operator(ours[:, row_x, column_x])
        measured[f"asymmetry of {name}"] = off * (UNITS[unit] if name == "H" else 1)
    given = (REORDERED, AVERAGED)
    in_eV = scaled(HARTREE, "eV per Ha")
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in (atoms.positions, *matrices.values()))
    frame = Frame(
        np.zeros((3, 3)),
        np.zeros(3, dtype=bool),
        atoms.positions.copy(),
        species_a,
        species,
        pairs,
        Spin.COLLINEAR if several else Spin.NONE,
        operators,
        outcome=Outcome(electrons=electrons),
        provenance=Provenance(
            code,
            source=hashlib.sha256(content).hexdigest(),
            settings={"basis": basis} if isinstance(basis, str) else {},
            measured=measured,
            origins={
                name: Origin(Made.GIVEN, (), (*given, in_eV) if name == "H" and unit == "Hartree" else given)
                for name in matrices
            },
            form=FileForm(harmonics=harmonics_of(species, convention)),
        ),
        functions=functions,
    )
    frame = with_integrals(frame)
    require_core_level(frame)
    return frame


def matrices_of(frame: Frame, order: str = "slem", unit: str = "eV") -> dict[str, Array]:
    """The dense matrices of a molecule in an order and a unit that `frame_from_matrices` knows; two of each spin."""
    if frame.pbc_c.any():
        raise ValueError("dense matrices have no lattice vectors; expected a molecule")
    if unit not in UNITS:
        raise Refused(Kind.NO_SUCH_CHOICE, "unit of H", f'is "{unit}"', " or ".join(UNITS))
    rows, signs = to_standard(cell_shells(frame.basis, frame.species_a), order_named(order))
    back = np.argsort(rows)
    return {
        name: (real(frame, name) * np.outer(signs, signs))[..., back[:, None], back]
        / (UNITS[unit] if name == "H" else 1)
        for name in frame.operators
    }


def species_of(
    atoms: "Atoms", basis: str | Mapping[str, str]
) -> tuple[tuple[Species, ...], tuple[Functions | None, ...]]:
    """The species of a molecule and their radial functions, which are known of a basis with a name."""
    symbols = dict.fromkeys(atoms.get_chemical_symbols())
    if isinstance(basis, str):
        known = gaussian_species(basis, tuple(symbols))
        return tuple(known), tuple(known.values())
    if missing := sorted(set(symbols) - set(basis)):
        raise ValueError(f"shells names no {', '.join(missing)}")
    numbers = dict(zip(atoms.get_chemical_symbols(), atoms.numbers.tolist(), strict=True))
    species = tuple(Species(name, numbers[name], parse_shells(basis[name])) for name in basis if name in numbers)
    return species, ()


def hermitian(name: str, matrix: Array, components: int, norb: int) -> tuple[Array, float]:
    """The mean of both halves of a matrix, and how far they are apart; refused where one of them is not filled."""
    if np.iscomplexobj(matrix):
        raise ValueError(f"{name} is complex; expected real numbers")
    shape = (norb, norb) if components == 1 else (components, norb, norb)
    if matrix.shape != shape:
        raise ValueError(f"{name} has shape {matrix.shape}; expected {shape} for these shells")
    M_sMM = matrix.astype(float).reshape(components, norb, norb)
    off = float(np.abs(M_sMM - M_sMM.swapaxes(1, 2)).max())
    largest = float(np.abs(M_sMM).max())
    if not off <= MOST_ASYMMETRY * largest:
        found = f"differs from its transpose by {off:.3g}"
        raise Refused(Kind.BAD_PHYSICS, name, found, "both halves of a symmetric matrix")
    rounded = 2 * float(np.finfo(matrix.dtype).eps) * largest if matrix.dtype.kind == "f" else 0.0
    return (M_sMM + M_sMM.swapaxes(1, 2)) / 2, off if off > rounded else 0.0


def with_integrals(frame: Frame) -> Frame:
    """The frame with S of its radial functions where none was given; refused where S is not theirs."""
    overlap = Overlap.of_frame(frame)
    if overlap is None:
        return frame
    if "S" not in frame.operators:
        integrals = Operator(overlap.values(structure_of(frame), frame.pairs)[None])
        return with_matrix(frame, "S", integrals, Origin(Made.INTEGRATED))
    off, place = overlap.difference(frame)
    if not off <= MOST_OFF:
        found = f"is {off:.3g} from the integrals of {frame.provenance.settings['basis']}, most for {place}"
        expected = "positions in Angstrom, this basis, and this order of orbitals"
        raise Refused(Kind.WRONG_FUNCTIONS, f"S of {frame.formula}", found, expected)
    return frame


def require_core_level(frame: Frame) -> None:
    """Refuse H in another unit: of a molecule with all its electrons the lowest level is the 1s of the heaviest element."""
    if not {"H", "S"} <= set(frame.operators):
        return
    electrons, heaviest = count_of(frame), int(frame.numbers_a.max())
    if heaviest < 3 or electrons is None or electrons <= float(frame.numbers_a.sum()) - CORES:
        return
    H, S = real(frame, "H"), real(frame, "S")
    try:
        lowest = float(linalg.eigh(H.reshape(-1, *S.shape)[0], S, eigvals_only=True, subset_by_index=[0, 0])[0])
    except linalg.LinAlgError:
        return  # the checks say that S is not positive definite
    low, high = core_range(heaviest)
    low, high = 2 * low, high / 2  # of nuclei alone it lies lower; another unit is 27 times off
    if not low < lowest < high:
        found = f"has its lowest level at {lowest:.4g} eV"
        expected = f"the 1s of its heaviest element, {low:.4g} to {high:.4g}; else its unit is another"
        raise Refused(Kind.BAD_PHYSICS, f"H of {frame.formula}", found, expected)


def count_of(frame: Frame) -> float | None:
    """The electrons of a frame: as they were named, or those of its DM."""
    if frame.outcome.electrons is not None or "DM" not in frame.operators:
        return frame.outcome.electrons
    return float(np.sum(real(frame, "DM") * real(frame, "S")))


def real(frame: Frame, name: str) -> Array:
    """A matrix of a molecule; two where each spin has its own."""
    if frame.spin is Spin.SPINOR:
        raise Refused(Kind.UNSUPPORTED, frame.formula, "has spinors", "matrices without spin, or of spin up and down")
    return np.asarray(getattr(frame, name)()).real
