"""Molecules of dense matrices: orders, signs and units of other programs against PySCF's own integrals."""

import numpy as np
import pytest
from ase import Atoms
from scipy import linalg

import slem_plugin as slem
from converters.physics import kspace
from converters.pyscf.arrays import frame_from_matrices, matrices_of

HARTREE, BOHR = 27.211386245988, 0.529177210903
# Places of m = -l..l in the shells of each program, and the functions of which it has the negative.
PLACES = {
    "psi4": {1: [2, 0, 1], 2: [4, 2, 0, 1, 3], 3: [6, 4, 2, 0, 1, 3, 5]},
    "gaussian": {1: [1, 2, 0], 2: [4, 2, 0, 1, 3], 3: [6, 4, 2, 0, 1, 3, 5]},
    "orca": {1: [2, 0, 1], 2: [4, 2, 0, 1, 3], 3: [6, 4, 2, 0, 1, 3, 5]},
}
NEGATIVE = {"psi4": (), "gaussian": (), "orca": (3, 4)}


class TestArrays:
    def test_matrices_in_memory_make_a_frame(self):
        random = np.random.default_rng(0)
        atoms = Atoms("OH2", random.normal(size=(3, 3)))
        shells = {"O": "2s1p", "H": "1s"}
        H, S = (random.normal(size=(7, 7)) for _ in range(2))
        H, S = H + H.T, S + S.T
        frame = frame_from_matrices(atoms, shells, {"H": H, "S": S}, electrons=10)
        (H_again,), (S_again,) = (kspace.dense_at(frame, name, np.zeros(3)) for name in ("H", "S"))
        assert np.array_equal(H_again, H)
        assert np.array_equal(S_again, S)
        assert str(frame.atoms.symbols) == "OH2"

    @pytest.mark.parametrize(
        ("symbols", "size", "pbc", "words"),
        [("OHe", 5, False, "no He"), ("O", 3, False, r"expected \(5, 5\)"), ("O", 5, True, "expected a molecule")],
    )
    def test_what_does_not_fit_is_refused(self, symbols, size, pbc, words):
        atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3), cell=[9, 9, 9], pbc=pbc)
        with pytest.raises(ValueError, match=words):
            frame_from_matrices(atoms, {"O": "2s1p"}, {"H": np.eye(size)})


@pytest.fixture(scope="module")
def molecule():
    """HF in a basis with f functions, with the matrices of its nuclei alone."""
    from pyscf import gto

    mol = gto.M(atom="F 0.1 -0.2 0.3; H 0.5 0.4 0.7", basis="def2-tzvp", verbose=0)
    atoms = Atoms("FH", mol.atom_coords() * BOHR)
    return mol, atoms, mol.intor("int1e_kin") + mol.intor("int1e_nuc"), mol.intor("int1e_ovlp")


def in_order_of(program, mol, *matrices):
    """Matrices of PySCF (p = x y z, else m = -l..l) as another program has them."""
    rows, signs = [], []
    for shell in range(mol.nbas):
        l = mol.bas_angular(shell)
        for _ in range(mol.bas_nctr(shell)):
            pyscf = {-1: 1, 0: 2, 1: 0} if l == 1 else {m: m + l for m in range(-l, l + 1)}
            ms = np.argsort(PLACES[program][l]) - l if l else [0]
            start = len(rows)
            rows += [start + pyscf[int(m)] for m in ms]
            signs += [-1 if abs(m) in NEGATIVE[program] else 1 for m in ms]
    return [M[np.ix_(rows, rows)] * np.outer(signs, signs) for M in matrices]


@pytest.mark.parametrize("program", list(PLACES))
def test_orders_of_programs_come_in_and_go_out(molecule, program):
    """S is compared with the integrals of the radial functions, levels with those of PySCF's own matrices."""
    mol, atoms, H, S = molecule
    H_theirs, S_theirs = in_order_of(program, mol, H, S)
    frame = slem.frame_from_matrices(
        atoms, "def2-tzvp", {"H": H_theirs, "S": S_theirs}, order=program, unit="Hartree", electrons=10
    )
    assert {result.name: result.ok for result in slem.check(frame)}["S of the radial functions"]
    levels = linalg.eigh(frame.H(), frame.S(), eigvals_only=True) / HARTREE
    np.testing.assert_allclose(levels, linalg.eigh(H, S, eigvals_only=True), atol=1e-9)
    back = slem.matrices_of(frame, program, "Hartree")
    np.testing.assert_allclose(back["H"], H_theirs, atol=1e-12)
    np.testing.assert_allclose(back["S"], S_theirs, atol=1e-12)
    alone = frame_from_matrices(atoms, "def2-tzvp", {"H": H_theirs}, order=program, unit="Hartree")
    np.testing.assert_allclose(matrices_of(alone, program)["S"], S_theirs, atol=1e-7)


def test_matrices_of_each_spin(molecule):
    _, atoms, H, S = molecule
    frame = frame_from_matrices(atoms, "def2-tzvp", {"H": np.stack([H, H + 0.1 * S]), "S": S}, order="pyscf")
    up, down = matrices_of(frame, "pyscf")["H"]
    np.testing.assert_allclose(down - up, 0.1 * S, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positions": 1 / BOHR}, "positions in Angstrom"),
        ({"order": "psi4"}, "this order of orbitals"),
        ({"unit": "eV"}, "else its unit is another"),
        ({"half": True}, "differs from its transpose"),
        ({"order": "mopac"}, "expected slem or pyscf or psi4"),
    ],
)
def test_other_units_orders_and_halves_are_refused(molecule, change, words):
    _, atoms, H, S = molecule
    atoms = Atoms("FH", atoms.positions * change.get("positions", 1))
    given = {"H": np.triu(H) if "half" in change else H, "S": S}
    names = {"order": "pyscf", "unit": "Hartree", "electrons": 10} | {
        k: v for k, v in change.items() if k in ("order", "unit")
    }
    with pytest.raises(slem.Refused, match=words):
        frame_from_matrices(atoms, "def2-tzvp", given, **names)
