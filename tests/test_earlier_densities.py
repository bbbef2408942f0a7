"""Densities of earlier geometries combined to one of another, and which are not to be combined."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import gto, scf
from pyscf.pbc import gto as pbc_gto
from pyscf.pbc import scf as pbc_scf

from basis.spin import Spin
from converters.frames.blocks import Operator, spread_operator
from converters.frames.folding import with_images_as_one
from converters.frames.frame import operator_on
from converters.physics.kspace import dense_at
from converters.pyscf import frame_from_scf
from converters.pyscf.calculator import PySCF
from converters.starts.earlier import combined_frame, weights_of
from converters.starts.repeats import Repeats
from converters.starts.whole import as_projector, with_all_elements
from tests.campaigns import hydrogen, water_along
from workflows.calculators.learning import Learning
from workflows.campaign.earlier import EarlierRuns


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


def chain_of_hydrogen(bond, mesh=(2, 1, 1), height=4.0):
    """A crystal of PySCF, whose matrices are sums over the images in the supercell of its k mesh."""
    atom = [("H", (0, 0, 0)), ("H", (0.1, 0, bond))]
    lattice = np.diag([2.0, 4, height])
    cell = pbc_gto.M(a=lattice, atom=atom, basis="gth-szv", pseudo="gth-pade", ke_cutoff=30, verbose=0)
    mf = pbc_scf.KRHF(cell, cell.make_kpts(mesh))
    mf.kernel()
    return frame_from_scf(mf)


def assert_alike(frame, other, name, far):
    """Their blocks are the same sums over images."""
    one, other = with_images_as_one(frame), with_images_as_one(other)
    np.testing.assert_allclose(operator_on(one, name, other.pairs).values_sx, other[name].values_sx, atol=far)


def test_densities_of_folded_frames_are_combined_by_folded_overlaps():
    short, long, between = (chain_of_hydrogen(bond) for bond in (0.7, 0.8, 0.75))
    assert short.folded
    made = combined_frame([short, long], between.cell_cv, between.positions_av)
    assert_alike(made, between, "S", 1e-6)
    assert_alike(made, between, "DM", 3e-3)
    again = combined_frame([short, long], long.cell_cv, long.positions_av)
    assert_alike(again, long, "DM", 1e-6)


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 1, 1)])
def test_another_image_may_be_the_closest_one(mesh):
    """Two atoms half a cell apart: where one has moved on, a block belongs to another image, and holds the same sum."""
    before, after, wanted = (chain_of_hydrogen(bond, mesh, height=1.8) for bond in (0.86, 0.92, 0.89))
    assert len({tuple(one.pairs.R_pc[one.pairs.i_p != one.pairs.j_p][0]) for one in (before, after)}) == 2
    made = combined_frame([before, after], wanted.cell_cv, wanted.positions_av)
    assert_alike(made, wanted, "S", 1e-6)
    assert_alike(made, wanted, "DM", 1e-3)


def test_elements_that_a_code_left_out_of_a_density_come_from_its_levels():
    """Codes store DM of atoms that overlap alone."""
    whole = chain_of_hydrogen(0.8, (1, 1, 1))
    onsite = np.flatnonzero(whole.pairs.onsite_p)
    pairs = whole.pairs.take(onsite)
    stored = operator_on(whole, "DM", pairs)
    parted = replace(whole, operators={**whole.operators, "DM": spread_operator(stored, pairs, whole.pairs)})
    assert np.abs(dense_at(parted, "DM", np.zeros(3))[0] - dense_at(whole, "DM", np.zeros(3))[0]).max() > 0.1
    assert_alike(with_all_elements(parted), whole, "DM", 1e-6)
    excited = replace(parted, operators={**parted.operators, "DM": Operator(0.5 * parted["DM"].values_sx)})
    assert with_all_elements(excited) is excited
    without_levels = replace(whole, operators={"S": whole["S"], "DM": whole["DM"]})
    assert with_all_elements(without_levels) is without_levels
    spins = {name: Operator(np.tile(whole[name].values_sx, (2, 1))) for name in ("H", "DM")}
    spins["DM"].values_sx[0] = 0
    spins["DM"].values_sx[1] *= 0.25
    half = replace(whole, spin=Spin.COLLINEAR, operators={**whole.operators, **spins})
    assert with_all_elements(half) is half  # none up, and half a level down


def test_frames_that_do_not_name_their_mesh_stop_nothing():
    frame = replace(chain_of_hydrogen(0.8, (1, 1, 1)), spectrum=None)
    earlier = EarlierRuns()
    earlier.take(frame)
    assert len(earlier.frames) == 1


def test_turns_that_exchange_directions_of_a_mesh_are_none():
    frame = chain_of_hydrogen(0.8)
    turns = np.array([np.eye(3), [[0, 1, 0], [1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]]], dtype=int)
    assert replace(Repeats.of(frame), turn_qcc=turns).keep_mesh.tolist() == [True, False, True]


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
