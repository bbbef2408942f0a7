"""Densities of earlier geometries combined to one of another, and which are not to be combined."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import gto, scf
from pyscf.pbc import gto as pbc_gto
from pyscf.pbc import scf as pbc_scf

from converters.pyscf import frame_from_scf
from converters.pyscf.calculator import PySCF
from converters.starts.earlier import as_projector, combined_frame, weights_of
from tests.campaigns import hydrogen, water_along
from workflows.calculators.learning import Learning


def test_densities_of_earlier_geometries_are_combined_whatever_their_order():
    """A start of the images of a barrier, each of which the steps before left elsewhere, is as good as one along a trajectory."""

    def solve(atoms, dm0=None):
        mf = hydrogen(atoms)
        mf.kernel(dm0=dm0)
        return mf

    there = [solve(water_along(t)) for t in (0.9, -1.2, 0.3, -0.5, 1.4)]
    wanted = solve(water_along(0.1))
    weights_n = weights_of(wanted.get_ovlp(), [mf.get_ovlp() for mf in there])
    assert weights_n.sum() == pytest.approx(1)
    combined = sum(weight * mf.make_rdm1() for weight, mf in zip(weights_n, there, strict=True))
    nearest = np.abs(there[2].make_rdm1() - wanted.make_rdm1()).max()
    assert np.abs(combined - wanted.make_rdm1()).max() < 0.02 * nearest
    assert solve(water_along(0.1), combined).cycles < solve(water_along(0.1), there[2].make_rdm1()).cycles
    projected = as_projector(combined, wanted.get_ovlp(), there[2].make_rdm1(), there[2].get_ovlp())
    assert np.trace(projected @ wanted.get_ovlp()) == pytest.approx(10, abs=1e-6)
    assert np.trace(combined @ wanted.get_ovlp()) != pytest.approx(10, abs=1e-6)
    smeared = 0.9 * there[2].make_rdm1()
    assert as_projector(combined, wanted.get_ovlp(), smeared, there[2].get_ovlp()) is combined
    assert weights_of(wanted.get_ovlp() + 0j, [there[0].get_ovlp() + 0j]).tolist() == [1]
    turned = [np.exp(0.3j) * mf.get_ovlp() for mf in (wanted, *there)]  # complex ones, of k-points
    np.testing.assert_allclose(weights_of(turned[0], turned[1:]), weights_n, atol=1e-6)


def chain_of_hydrogen(bond):
    """A crystal of PySCF, whose matrices are sums over the images in the supercell of its k mesh."""
    atom = [("H", (0, 0, 0)), ("H", (0.1, 0, bond))]
    cell = pbc_gto.M(a=np.diag([2.0, 4, 4]), atom=atom, basis="gth-szv", pseudo="gth-pade", ke_cutoff=30, verbose=0)
    mf = pbc_scf.KRHF(cell, cell.make_kpts([2, 1, 1]))
    mf.kernel()
    return frame_from_scf(mf)


def test_densities_of_folded_frames_are_combined_by_folded_overlaps():
    short, long, between = (chain_of_hydrogen(bond) for bond in (0.7, 0.8, 0.75))
    assert short.folded
    made = combined_frame([short, long], between.cell_cv, between.positions_av)
    place = made.pairs.find(between.pairs.i_p, between.pairs.j_p, between.pairs.R_pc)
    for p, q in enumerate(place):
        for name, far in (("S", 1e-6), ("DM", 3e-3)):
            np.testing.assert_allclose(made.block_of_pair(name, q), between.block_of_pair(name, p), atol=far)
    again = combined_frame([short, long], long.cell_cv, long.positions_av)
    np.testing.assert_allclose(again["DM"].values_sx, long["DM"].values_sx, atol=1e-6)


def test_densities_of_other_calculations_are_not_combined():
    short, long = (chain_of_hydrogen(bond) for bond in (0.7, 0.8))
    charged = replace(short, outcome=replace(short.outcome, electrons=1.0))
    assert combined_frame([charged, long], long.cell_cv, long.positions_av) is None


def test_densities_of_other_electrons_are_no_start():
    atoms = water_along(0.0)

    def make(atoms):
        atom, charge = list(zip(atoms.symbols, atoms.positions, strict=True)), int(len(starts) == 2)
        return scf.UHF(gto.M(atom=atom, basis="sto-3g", charge=charge, spin=charge, verbose=0))

    starts = []
    atoms.calc = PySCF(make)
    atoms.calc.kind = "last"
    for _ in range(3):
        atoms.positions[1, 2] += 0.01
        atoms.get_potential_energy()
        starts.append(atoms.calc.taken)
    assert starts == ["default", "last", "default"]


def test_more_of_an_earlier_geometry_is_not_that_of_another(tmp_path):
    one, other = water_along(0.0), water_along(1.0)
    with Learning(PySCF(hydrogen), tmp_path) as calc:
        for atoms in (one, other):
            atoms.calc = calc
            atoms.get_potential_energy()
        one.get_potential_energy()
        plain = water_along(0.0)
        plain.calc = PySCF(hydrogen)
        np.testing.assert_allclose(one.get_forces(), plain.get_forces(), atol=1e-4)


@pytest.mark.parametrize("kind", [scf.RHF, scf.UHF])
def test_a_molecule_that_has_turned_starts_from_its_own_density(kind):
    """The SCF of PySCF is the witness: turned densities are converged, and the same as those of the turned molecule."""

    def make(atoms):
        atom = list(zip(atoms.symbols, atoms.positions, strict=True))
        charge = 1 if kind is scf.UHF else 0
        mf = kind(gto.M(atom=atom, basis="6-31g**", charge=charge, spin=charge, verbose=0))
        mf.conv_tol = 1e-11
        return mf

    atoms, there = water_along(0.3), PySCF(make)
    there.calculate(atoms)
    before, own = frame_from_scf(there.mf), there.iterations
    atoms.rotate(77, (1, 2, 3))
    atoms.translate((3, -1, 2))
    there.kind = "last"
    energy = there.results["energy"]
    there.calculate(atoms)
    assert there.taken == "last"
    assert there.iterations <= 2 < own
    assert there.results["energy"] == pytest.approx(energy, abs=1e-7)
    after = frame_from_scf(there.mf)
    made = combined_frame([before], after.cell_cv, after.positions_av, fewest=1)
    for name in ("S", "DM"):
        np.testing.assert_allclose(made.operators[name].values_sx, after.operators[name].values_sx, atol=1e-5)
