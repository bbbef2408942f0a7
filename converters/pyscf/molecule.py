"""PySCF's molecules and cells: their basis in our terms, their overlaps, and reading them from checkpoint files."""

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from basis import Array
from basis.conventions import standard
from basis.radial import Functions, GaussianFunction, RadialFunction
from basis.shells import Shell, Species
from basis.units import BOHR
from converters.errors import Kind, Refused
from converters.storage.files import HDF5_MAGIC, open_hdf5, starts_with

if TYPE_CHECKING:
    from pyscf.gto import Mole


def convention(l: int) -> Sequence[str]:
    """PySCF has p = x, y, z and every other l as m = -l..l, all positive."""
    return ("c1", "s1", "c0") if l == 1 else standard(l)


def load_molecule(path: Path, description: bytes | str) -> "Mole":
    """Mole or Cell of a checkpoint's JSON text. PySCF's own loader would execute parts of the text; this reads data."""
    from pyscf.gto import Mole
    from pyscf.pbc.gto import Cell, estimate_rcut

    try:
        stored: dict[str, Any] = json.loads(description)
        molecule = Cell() if "a" in stored else Mole()
        molecule.verbose = 0
        for key in ("cart", "charge", "spin", "unit", "a", "dimension", "precision", "_rcut"):
            if stored.get(key) is not None:
                setattr(molecule, key, stored[key])
        for key, dtype in (("_atm", np.int32), ("_bas", np.int32), ("_env", np.float64), ("_ecpbas", np.int32)):
            setattr(molecule, key, np.array(literal(stored[key]), dtype=dtype))
        molecule._atom = [(str(name), list(map(float, xyz))) for name, xyz in literal(stored["_atom"])]
        molecule._built = True
        require_inside(molecule)
        if isinstance(molecule, Cell) and molecule._rcut is None:  # PySCF 1 computed it anew for each run
            molecule.rcut = estimate_rcut(molecule, molecule.precision)
    except (ValueError, KeyError, TypeError, SyntaxError, IndexError) as error:
        raise Refused(Kind.DAMAGED, path, f"has no readable molecule: {error}") from error
    return molecule


def literal(value: Any) -> Any:
    """The value that a text such as "[1, 2]" stands for."""
    return ast.literal_eval(value) if isinstance(value, str) else value


def require_inside(molecule: Any) -> None:
    """Raise unless all pointers of the integral tables stay inside them, for the integral library does not look."""
    atm, bas, env = molecule._atm.reshape(-1, 6), molecule._bas.reshape(-1, 8), molecule._env
    molecule._atm, molecule._bas, molecule._ecpbas = atm, bas, molecule._ecpbas.reshape(-1, 8)
    ends = [atm[:, 1] + 3, bas[:, 5] + bas[:, 2], bas[:, 6] + bas[:, 2] * bas[:, 3]]
    low = min(atm[:, 1].min(initial=0), bas.min(initial=0))
    if low < 0 or max(end.max(initial=0) for end in ends) > len(env) or bas[:, 0].max(initial=0) >= len(atm):
        raise ValueError("its integral tables point outside of themselves")
    if len(atm) != len(molecule._atom) or bas[:, 1].max(initial=0) > 12 or not np.isfinite(env).all():
        raise ValueError("its integral tables do not fit its atoms")


def checkpoint_text(path: Path) -> str:
    """The description of the molecule in a checkpoint file."""
    with open_hdf5(path) as file:
        return str(file["mol"].asstr()[()])


def is_checkpoint(path: Path) -> bool:
    """True for a checkpoint file of an SCF, and for one of what follows an SCF or a damaged one, which are to be reported."""
    if not starts_with(path, HDF5_MAGIC):
        return False
    try:
        with open_hdf5(path) as file:
            return {"mol", "scf"} <= set(file) or "mcscf" in file
    except (OSError, RuntimeError):
        return path.suffix in (".chk", ".chkfile")


def overlaps(molecule: Any, kpoints_kc: Array | None) -> Array:
    """S of each k-point (one for a molecule), without spin, summed over as many cells as in an SCF of PySCF."""
    if kpoints_kc is None:
        return np.asarray(molecule.intor("int1e_ovlp"))[None]
    from pyscf.pbc.scf.hf import get_ovlp

    S_kMM = np.reshape(get_ovlp(molecule, kpoints_kc), (len(kpoints_kc), molecule.nao_nr(), -1))
    return np.asarray(S_kMM + S_kMM.conj().swapaxes(-1, -2)) / 2


def make_functions(molecule: Any) -> tuple[Functions, ...]:
    """Radial functions of the species of `make_basis`."""
    basis, species_a = make_basis(molecule)
    found = []
    for s in range(len(basis)):
        atom, functions = int(np.argmax(species_a == s)), list[RadialFunction]()
        for b in range(molecule.nbas):
            if molecule.bas_atom(b) == atom:
                l = int(molecule.bas_angular(b))
                exponents_n = molecule.bas_exp(b) / BOHR**2
                for coefficients_n in molecule._libcint_ctr_coeff(b).T / BOHR ** (l + 1.5):
                    functions.append(GaussianFunction(l, exponents_n, coefficients_n))
        found.append(tuple(functions))
    return tuple(found)


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """The Gaussians of some elements in the basis that a source names; nothing of one that is a file or a folder."""
    return {} if Path(source).exists() else gaussian_species(source, symbols)


def gaussian_species(name: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """Species and functions of some elements in a basis that PySCF knows by name, such as def2-svp."""
    from pyscf.gto import M
    from pyscf.lib.exceptions import BasisNotFoundError

    found: dict[Species, Functions] = {}
    for symbol in symbols:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice to install another library
                molecule = M(atom=f"{symbol} 0 0 0", basis=name, spin=None, verbose=0)
        except (BasisNotFoundError, KeyError, ValueError, RuntimeError, OSError) as error:
            reason = "is not a file of radial functions, and not a basis that PySCF knows for"
            raise Refused(
                Kind.WRONG_FUNCTIONS,
                name,
                f"{reason} {symbol}: {str(error).splitlines()[0] if str(error) else error!r}",
            ) from error
        found |= dict(zip(make_basis(molecule)[0], make_functions(molecule), strict=True))
    return found


def make_basis(molecule: Any) -> tuple[tuple[Species, ...], Array]:
    """Distinct species of a molecule, and the species of each atom.

    Atoms with the same label and the same functions are of one species.
    """
    found: dict[Species, int] = {}
    species_a = []
    for a in range(molecule.natm):
        shells, numbers, zetas = [], [], dict[int, int]()
        for b in range(molecule.nbas):
            if molecule.bas_atom(b) == a:
                l = int(molecule.bas_angular(b))
                for _ in range(molecule.bas_nctr(b)):
                    zetas[l] = zetas.get(l, 0) + 1
                    shells.append(Shell(l, zeta=zetas[l]))
                numbers += [l, *molecule.bas_exp(b), *molecule._libcint_ctr_coeff(b).ravel()]
        name = str(molecule.atom_symbol(a))
        element = re.sub(r"^(GHOST|X)[-_:.]*(?=[A-Z])", "", name, flags=re.I)
        number = 0 if element != name else atomic_numbers[re.match(r"[A-Z][a-z]?", name)[0]]  # type: ignore[index]
        digest = hashlib.sha256(np.round(np.array(numbers, dtype=float), 9).tobytes()).hexdigest()[:16]
        species = Species(name, number, tuple(shells), f"gto-{digest}")
        species_a.append(found.setdefault(species, len(found)))
    return tuple(found), np.array(species_a)
