"""The calculator of ASE without a code, against PySCF."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.units import Debye
from pyscf import dft, gto, scf
from pyscf.pbc import gto as pbc
from pyscf.pbc.scf import KRHF
from scipy.linalg import expm

from basis.units import BOHR, HARTREE
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.physics.dipole import dipole
from converters.physics.kspace import count_electrons
from converters.physics.populations import neutral_electrons, populations
from converters.pyscf import frame_from_scf
from converters.pyscf.functional import Functional
from slem_plugin import Predicted, PySCF, convert, read
from tests.fixtures import frames_of, unpacked

WATER = Atoms("OHH", [[0, 0, 0], [0, -0.8, 0.6], [0, 0.75, 0.65]])


def water(atoms=WATER, kind=scf.RHF, **more):
    atom = list(zip(atoms.symbols, atoms.positions, strict=True))
    mf = kind(gto.M(atom=atom, basis="6-31g", verbose=0, **more))
    mf.conv_tol = 1e-11
    return mf


def converged(**more):
    mf = water(**more)
    mf.kernel()
    return mf


class Knowing(Predicted):
    """Its predictions are what PySCF finds."""

    def __init__(self, frame, make=None):
        super().__init__("no model", make and PySCF(make))
        self.frame = frame

    def predict(self, question):
        return self.frame


def test_charges_and_levels_are_those_of_pyscf():
    mf, atoms = converged(), WATER.copy()
    calc = atoms.calc = Knowing(frame_from_scf(mf))
    np.testing.assert_allclose(atoms.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-8)
    np.testing.assert_allclose(atoms.get_dipole_moment(), mf.dip_moment(unit="AU", verbose=0) * BOHR, atol=1e-7)
    levels_n = mf.mo_energy * HARTREE
    np.testing.assert_allclose(calc.get_eigenvalues(), levels_n, atol=1e-6)
    np.testing.assert_allclose(calc.get_occupation_numbers(), mf.mo_occ)
    assert calc.results["gap"] == pytest.approx(levels_n[5] - levels_n[4], abs=1e-6)
    assert levels_n[4] < calc.get_fermi_level() < levels_n[5]
    for ask in (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="charges, levels and the dipole"):
            ask()


def test_charges_and_dipole_are_of_all_electrons():
    """Of a density with a twentieth of an electron too much, wherever the molecule is."""
    mf, atoms = converged(), WATER.copy()
    frame = frame_from_scf(mf)
    more = replace(frame, operators={**frame.operators, "DM": Operator(frame["DM"].values_sx * 1.005)})
    shift = np.array([10.0, 0, 0])
    atoms.calc = Knowing(replace(more, positions_av=more.positions_av + shift))
    np.testing.assert_allclose(atoms.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-8)
    np.testing.assert_allclose(atoms.get_dipole_moment(), mf.dip_moment(unit="AU", verbose=0) * BOHR, atol=1e-7)


def test_levels_need_no_charges_of_nuclei():
    frame = frame_from_scf(converged())
    atoms = WATER.copy()
    calc = atoms.calc = Knowing(replace(frame, outcome=replace(frame.outcome, electrons=4.0)))
    with pytest.raises(Refused, match="charges of its nuclei"):
        atoms.get_charges()
    calc.calculate(atoms)
    assert calc.get_occupation_numbers().sum() == 4
    calc.frame = replace(frame, operators={name: frame[name] for name in ("H", "S")})
    with pytest.raises(Refused, match="holds no DM"):
        atoms.get_charges()


def test_with_an_scf_object_there_are_energy_and_forces():
    mf, atoms = converged(), WATER.copy()
    atoms.calc = Knowing(frame_from_scf(mf), water)
    assert atoms.get_potential_energy() == pytest.approx(mf.e_tot * HARTREE, abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), -mf.nuc_grad_method().kernel() * HARTREE / BOHR, atol=1e-4)
    np.testing.assert_allclose(atoms.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-8)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_a_radical_has_its_electrons_of_each_spin():
    radical = Atoms("OH", [[0, 0, 0], [0, 0, 0.98]])

    def make(atoms):
        return water(atoms, scf.UHF, spin=1)

    mf = make(radical)
    mf.kernel()
    calc = radical.calc = Knowing(frame_from_scf(mf), make)
    np.testing.assert_allclose(radical.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-8)
    for spin in (0, 1):
        np.testing.assert_allclose(calc.get_occupation_numbers(spin=spin), mf.mo_occ[spin])
    assert radical.get_potential_energy() == pytest.approx(mf.e_tot * HARTREE, abs=1e-6)


@pytest.mark.parametrize(("kind", "more"), [(dft.RKS, {}), (scf.UHF, {"charge": 1, "spin": 1})])
def test_errors_of_a_density_are_of_second_order_in_its_energy_and_of_first_order_in_its_forces(kind, more):
    mf = water(kind=kind, **more)
    mf.kernel()
    norb = mf.mol.nao
    turn = np.random.default_rng(0).normal(size=(norb, norb))
    energies, forces = [], []
    for size in (0, 0.5e-3, 1e-3):
        orbitals = mf.mo_coeff @ expm(size * (turn - turn.T))
        functional = Functional.of(mf, np.asarray(mf.make_rdm1(orbitals, mf.mo_occ)))
        energies.append(functional.energy)
        forces.append(functional.forces())
    np.testing.assert_allclose(forces[0], -mf.nuc_grad_method().kernel() * HARTREE / BOHR, atol=1e-5)
    assert energies[0] == pytest.approx(mf.e_tot * HARTREE, abs=1e-8)
    assert (energies[2] - energies[0]) / (energies[1] - energies[0]) == pytest.approx(4, rel=0.02)
    half, whole = (np.linalg.norm(one - forces[0]) for one in forces[1:])
    assert whole / half == pytest.approx(2, rel=0.1)


def test_what_has_no_energy_of_a_density_is_refused():
    mf = converged()
    rho = mf.make_rdm1()
    with pytest.raises(Refused, match="neither full nor empty"):
        Functional.of(mf, rho * 0.99).forces()
    with pytest.raises(Refused, match="RHF, RKS, UHF or UKS"):
        Functional.of(scf.GHF(mf.mol), np.kron(np.eye(2), rho / 2)).forces()
    with pytest.raises(Refused, match="smears"):
        Functional.of(scf.addons.smearing_(water(), sigma=0.01), rho)


@pytest.mark.parametrize(("code", "name"), [("siesta", "si2"), ("openmx", "soc"), ("openmx", "spin")])
def test_atoms_share_all_electrons(code, name):
    for frame in frames_of(code, name):
        np.testing.assert_allclose(populations(frame).sum(axis=1), count_electrons(frame), atol=1e-9)


def test_atoms_of_a_folded_crystal_have_their_share_at_the_kpoints_of_the_run():
    cell = pbc.M(
        atom="H 0 0 0; He 0 0 1.5", a=np.diag([4.0, 4.0, 3.0]), basis="gth-szv", pseudo="gth-pade", charge=1, verbose=0
    )
    mf = KRHF(cell, cell.make_kpts([1, 1, 2]), exxdiv=None)
    overlaps = mf.get_ovlp()
    mf.mo_energy, mf.mo_coeff = mf.eig(
        np.array(cell.pbc_intor("int1e_kin", kpts=mf.kpts)), overlaps
    )  # the electrons of an empty box
    mf.mo_occ, mf.e_tot, mf.converged = mf.get_occ(), 0.0, True
    frame = frame_from_scf(mf)
    assert frame.folded
    shares_kM = [(rho * S.conj()).real.sum(axis=1) for rho, S in zip(mf.make_rdm1(), overlaps, strict=True)]
    np.testing.assert_allclose(populations(frame)[0], np.mean(shares_kM, axis=0), atol=1e-9)


def test_the_dipole_of_tabulated_orbitals_is_the_one_that_siesta_printed(tmp_path):
    run = unpacked("siesta", "h2o")
    convert(run, tmp_path / "data.h5")  # which finds the radial functions
    (frame,) = read(tmp_path / "data.h5")
    (line,) = [line for line in (run / "h2o.out").read_text().splitlines() if "Electric dipole (Debye)" in line]
    printed_v = np.array(line.split("=")[1].split(), dtype=float) * Debye
    np.testing.assert_allclose(dipole(frame, neutral_electrons(frame)), printed_v, atol=1e-5)
    with pytest.raises(Refused, match="reach other cells"):
        dipole(frames_of("siesta", "si2")[0], np.array([4, 4]))
    with pytest.raises(Refused, match="no radial functions"):
        dipole(replace(frame, functions=()), np.array([6, 1, 1]))


def test_nuclei_have_the_charges_of_neutral_atoms_or_are_not_known():
    frame = frames_of("siesta", "si2")[0]

    def holding(electrons):
        return replace(frame, outcome=replace(frame.outcome, electrons=electrons))

    assert neutral_electrons(holding(8.0)).tolist() == [4, 4]
    assert neutral_electrons(holding(28.0)).tolist() == [14, 14]
    for electrons in (7.0, None):
        with pytest.raises(Refused, match="charges of its nuclei"):
            neutral_electrons(holding(electrons))
