"""Calculators of ASE that learn: every start, what is combined, and what a folder remembers."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, all_changes
from pyscf import gto, scf

from basis.units import BOHR
from converters.errors import Kind, Refused
from converters.pyscf.calculator import PySCF
from converters.starts.earlier import combined_frame
from converters.starts.fit import shift_atoms
from converters.storage.dataset import Dataset
from tests.ase_starts import measure, ring
from tests.campaigns import energies, hydrogen, water_along
from tests.fixtures import frames_of, unpacked
from workflows.calculators.choosing import Choice
from workflows.calculators.files import Files
from workflows.calculators.learning import Learning
from workflows.campaign.worth import EARLIER, Row


def test_a_calculator_that_learns_gives_what_the_code_gives(taught, tmp_path):
    """All starts end in the energies and forces of PySCF's own; each calculation is in the dataset."""
    _, first, _ = taught
    atoms, plain = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), PySCF(hydrogen)
    with Learning(PySCF(hydrogen), tmp_path / "c", model=first, steps=6) as atoms.calc:
        for _ in range(6):
            atoms.positions[1] += 0.01 * np.array([1, 0, -1])
            other = atoms.copy()
            other.calc = plain
            plain.kind = "default"
            assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-6)
            np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), atol=1e-4)
        said = atoms.calc.summary()
    assert {"both", "predicted", "levels", "last"} <= set(said["starts"])
    assert sum(one["calculations"] for one in said["starts"].values()) == 6
    assert len(energies(tmp_path / "c")) == 6
    assert said["starts"]["both"]["iterations"] <= said["starts"]["last"]["iterations"]
    assert (tmp_path / "c" / "model" / "best.safetensors").exists()


def test_an_scf_that_does_not_converge_gives_no_energy_however_often_it_is_asked(tmp_path):
    """Nor does one that cannot be made; the density of neither is a start."""

    def make(atoms):
        if atoms.positions[1, 2] > 1:
            raise ValueError("too far")
        mf = hydrogen(atoms)
        mf.max_cycle = 50 if atoms.positions[1, 2] < 0.8 else 1
        return mf

    atoms = Atoms("LiH", [[0, 0, 0], [0, 0, 0.7]])
    atoms.calc = PySCF(make)
    atoms.get_potential_energy()
    assert atoms.calc.kinds(atoms) == ["last", "default"]
    atoms.positions[1, 2] = 1.5
    for _ in range(2):
        with pytest.raises(ValueError, match="too far"):
            atoms.get_potential_energy()
    atoms.positions[1, 2] = 0.9
    for _ in range(2):
        with pytest.raises(CalculationFailed, match="did not converge"):
            atoms.get_potential_energy()
    assert atoms.calc.results == {}
    assert atoms.calc.kinds(atoms) == ["default"]
    with Learning(PySCF(make), tmp_path) as atoms.calc:
        for _ in range(2):
            with pytest.raises(CalculationFailed, match="did not converge"):
                atoms.get_potential_energy()
        assert atoms.calc.journal.of("step") == []


def test_the_last_density_is_a_start_without_the_electrons_of_the_cores():
    """Charges of nuclei are then no atomic numbers. A start that is not there yet is PySCF's own, and is said to be."""

    def sodium(atoms):
        atom = list(zip(atoms.symbols, atoms.positions, strict=True))
        return scf.RHF(gto.M(atom=atom, basis="lanl2dz", ecp={"Na": "lanl2dz"}, verbose=0))

    atoms = Atoms("NaH", [[0, 0, 0], [0, 0, 1.9]])
    atoms.calc = PySCF(sodium)
    atoms.calc.kind = "last"
    atoms.get_potential_energy()
    assert atoms.calc.taken == "default"
    before = atoms.calc.iterations
    atoms.positions[1, 2] += 0.001
    atoms.get_potential_energy()
    assert atoms.calc.taken == "last"
    assert atoms.calc.iterations < before


def test_starts_that_take_longer_than_they_save_are_not_made(tmp_path, monkeypatch):
    """Densities that are combined for as long as a hundred iterations take are hardly tried again, however few iterations they leave."""

    def solve(self):
        as_it_is(self)
        self.prepared = 1000.0 if self.taken == "last" else 0.0

    as_it_is = PySCF.solve
    monkeypatch.setattr(PySCF, "solve", solve)

    def water(atoms):
        molecule = gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="6-31g", verbose=0)
        return scf.RHF(molecule)

    atoms = water_along(0)
    with Learning(PySCF(water), tmp_path / "c", steps=8) as atoms.calc:
        for step in range(8):
            atoms.positions = water_along(0.1 * step).positions
            atoms.get_potential_energy()
        said = atoms.calc.summary()["starts"]
    assert said["last"]["iterations"] < said["default"]["iterations"]
    assert said["last"]["calculations"] <= 3 < said["default"]["calculations"]


def test_charges_dipole_and_moment_are_those_of_pyscf(tmp_path):
    def make(atoms):
        return scf.UHF(
            gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g", spin=1, verbose=0)
        )

    atoms = Atoms("OH", [[0.1, 0, 0.2], [0, 0.3, 1.1]])
    mf = make(atoms).run()
    with Learning(PySCF(make), tmp_path / "c") as atoms.calc:
        atoms.get_potential_energy()
        np.testing.assert_allclose(atoms.get_charges(), mf.mulliken_pop(verbose=0)[1], atol=1e-5)
        np.testing.assert_allclose(atoms.get_dipole_moment(), mf.dip_moment(unit="AU", verbose=0) * BOHR, atol=1e-5)
        assert atoms.get_magnetic_moment() == pytest.approx(1)
    assert len(energies(tmp_path / "c")) == 1  # asked four times, calculated once


def test_what_says_no_iterations_is_kept_and_teaches_nothing(tmp_path):
    """The solver of second order counts no cycles: its frames are stored, the first start is taken, and that is said once."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    with Learning(PySCF(lambda atoms: hydrogen(atoms).newton()), tmp_path) as atoms.calc:
        for _ in range(3):
            atoms.positions[1, 2] += 0.01
            atoms.get_potential_energy()
        assert (atoms.calc.calculator.taken, atoms.calc.frames, atoms.calc.rows) == ("last", 3, [])
        assert "how many iterations" in atoms.calc.summary()["said"]
        assert len(atoms.calc.journal.of("no training")) == 1


def test_a_folder_that_is_used_again_has_its_calculations_and_all_frames_of_its_dataset(tmp_path):
    """Trainings of earlier calls count, so what their calculations saved does too; `steps` are those of this call."""
    atoms, other = (Atoms("H2", [[0, 0, 0], [0, 0, length]]) for length in (0.7, 0.8))
    with Learning(PySCF(hydrogen), tmp_path) as atoms.calc:
        atoms.get_potential_energy()
        rows = atoms.calc.rows
        assert [taken for taken, _ in rows] == ["default"]
    elsewhere = PySCF(hydrogen)
    elsewhere.calculate(other)
    assert elsewhere.store(tmp_path / "data.h5") == ""
    considered = []
    with Learning(PySCF(hydrogen), tmp_path, steps=5) as atoms.calc:
        assert (atoms.calc.rows, atoms.calc.frames) == (rows, 2)
        atoms.calc.training.consider = lambda *given: considered.append(given)
        atoms.positions[1, 2] += 0.01
        atoms.get_potential_energy()
        assert [taken for taken, _ in atoms.calc.rows] == ["default", "last"]
        assert all(np.isrealobj(one.rho) for one in atoms.calc.calculator.earlier)  # else the SCF is complex
    ((_, frames, left),) = considered
    assert (frames, left) == (3, 4)
    assert len(energies(tmp_path)) == 3


def test_what_calculations_before_save_is_no_merit_of_a_model_nor_is_one_that_is_refused(taught, tmp_path, monkeypatch):
    """The default is what both are compared with; a model whose predictions are refused has saved nothing, and is trained on."""

    def refuse(_):
        raise Refused(Kind.OTHER_MODEL, "the molecule", "was not learned")

    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    with Learning(PySCF(hydrogen), tmp_path, model=taught[1]) as atoms.calc:
        atoms.calc.calculator.ask = refuse
        for _ in range(3):
            atoms.positions[1, 2] += 0.005
            atoms.get_potential_energy()
        ledger = atoms.calc.ledger
    assert [(row.model, row.refused) for row in ledger.rows] == [(0, 1), (EARLIER, 1), (EARLIER, 1)]
    assert ledger.gain(1) == 0
    assert ledger.default == ledger.rows[0].iterations
    files = [("own", Row(9, 1.0)), ("last", Row(5, 0.6)), ("predicted", Row(6, 0.7, model=1))]
    monkeypatch.setattr(Learning, "rows", property(lambda _: files))
    assert [row.model for row in atoms.calc.ledger.rows] == [0, EARLIER, 1]


def test_a_folder_that_is_used_again_knows_which_start_is_best(taught, tmp_path):
    """A new model has shown nothing yet."""
    _, first, _ = taught
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    for _ in range(2):
        with Learning(PySCF(hydrogen), tmp_path, model=first) as atoms.calc:
            for _ in range(3):
                atoms.positions[1, 2] += 0.005
                atoms.get_potential_energy()
            choice = atoms.calc.choice
    assert choice.count == 6
    assert {"predicted", "both", "last"} <= set(choice.seen)
    events = [{"event": "step", "start": "both", "iterations": 3, "cost": 3.5}]
    assert Choice.remembered(events).mean("both") == 3.5
    assert Choice.remembered([*events, {"event": "trained"}]).next(["both", "last"]) == "both"
    assert not Choice.remembered([*events, {"event": "trained"}]).seen["both"]


class Silicon:
    """Stands in for a calculator of ASE that writes files and runs SIESTA, which leaves what it once left."""

    implemented_properties = ("energy",)

    def __init__(self, run, directory):
        self.run, self.directory, self.results = run, str(directory), {}

    def write_input(self, atoms, properties=None, system_changes=None):
        Path(self.directory).mkdir(exist_ok=True)
        shutil.copy(next(self.run.glob("*.fdf")), self.directory)

    def calculate(self, atoms, properties, system_changes):
        self.changes = system_changes
        self.write_input(atoms)
        self.given = {path.name: path.read_bytes() for path in Path(self.directory).iterdir()}
        for path in self.run.iterdir():
            if path.suffix != ".fdf" and path.is_file():
                shutil.copy(path, self.directory)
        self.results = {"energy": -1.0}


def test_a_calculator_of_files_finds_the_prediction_in_its_folder(tmp_path):
    run = unpacked("siesta", "si2")
    frame = frames_of("siesta", "si2")[0]
    inner = Silicon(run, tmp_path / "calc")
    door = Files(inner)
    assert door.kinds(frame.atoms) == ["own"]
    door.calculate(frame.atoms)
    assert (door.taken, list(inner.given)) == ("own", [path.name for path in run.glob("*.fdf")])
    assert door.store(tmp_path / "data.h5") == ""
    shutil.rmtree(tmp_path / "calc")
    door.ask = lambda atoms: frame
    door.kind = "predicted"
    door.calculate(frame.atoms)
    assert door.taken == "predicted"
    assert any(name.endswith(".DM") for name in inner.given)
    assert any(b"DM.UseSaveDM" in text for name, text in inner.given.items() if name.endswith(".fdf"))
    assert door.iterations > 1
    assert door.store(tmp_path / "data.h5") == ""  # it is there already
    with Dataset(tmp_path / "data.h5") as data:
        np.testing.assert_allclose(data[0].positions_av, frame.positions_av, atol=1e-6)
    elsewhere = replace(frame, positions_av=frame.positions_av + np.array([[0, 0, 0], [0.3, 0, 0]]))
    door.ask = lambda atoms: elsewhere
    door.calculate(frame.atoms)
    assert door.taken == "own"  # a prediction of other atoms is left alone
    inner.run = shutil.copytree(run, tmp_path / "failed")
    with (inner.run / "si2.out").open("a") as output:
        output.write("\nAttempting to read DM from file... Failed...\n")
    door.ask = lambda atoms: frame
    door.calculate(frame.atoms)
    assert door.taken == "own"  # as the code says
    assert any(name.endswith(".DM") for name in inner.given)
    with pytest.raises(Refused, match="told its start"):
        Learning(object(), tmp_path / "c")


def test_a_calculator_of_files_hears_what_has_changed_since_its_last_calculation(tmp_path):
    """ASE's calculator of SIESTA goes on from its last density where nothing but positions has."""
    inner = Silicon(unpacked("siesta", "si2"), tmp_path / "calc")
    (frame,) = frames_of("siesta", "si2")
    atoms, heard = frame.atoms, []
    with Learning(inner, tmp_path / "c") as atoms.calc:
        for _ in range(3):
            atoms.get_potential_energy()
            heard.append(inner.changes)
            atoms.positions[0] += 0.01
    assert heard == [all_changes, ["positions"], ["positions"]]


def test_a_calculator_of_files_starts_from_several_earlier_densities(tmp_path):
    """Where the radial functions are known; an atom that has gone into another cell is where it was."""
    inner = Silicon(unpacked("siesta", "h2o"), tmp_path / "calc")
    door = Files(inner)
    (frame,) = frames_of("siesta", "h2o")
    door.calculate(frame.atoms)
    door.store(tmp_path / "data.h5")
    assert door.kinds(frame.atoms) == ["own"]
    (known,) = door.earlier.frames
    far = replace(known, positions_av=known.positions_av + np.array([[0], [1], [0]]))
    door.earlier.frames = [known, far]
    door.kind = "last"
    door.calculate(frame.atoms)
    assert door.taken == "own"
    crossed = shift_atoms(known, np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]]))
    door.earlier.frames = [known, crossed]
    assert door.kinds(frame.atoms) == ["last", "own"]
    door.calculate(frame.atoms)
    assert door.taken == "last"
    assert any(name.endswith(".DM") for name in inner.given)
    made = combined_frame([known, crossed], known.cell_cv, known.positions_av)
    np.testing.assert_allclose(made["DM"].values_sx, known["DM"].values_sx, atol=1e-9)
    np.testing.assert_allclose(made["S"].values_sx, known["S"].values_sx, atol=1e-8)
    assert combined_frame([known], known.cell_cv, known.positions_av) is None
    assert combined_frame([replace(known, functions=())] * 2, known.cell_cv, known.positions_av) is None


def test_starts_along_a_trajectory_are_compared_at_the_same_positions():
    """What docs/campaign.md shows of larger ones."""
    rows = {row["start"]: row["cycles"] for row in measure(ring(1), hydrogen, 6)}
    assert rows["last"] <= rows["ASPC"] < rows["step before"] < rows["default"]


def test_images_of_a_barrier_share_a_calculator(tmp_path):
    """Each starts from the nearest earlier geometries, though the last calculation is that of another image, and none is calculated twice."""

    class Counting(PySCF):
        cycles = calculations = 0

        def solve(self):
            super().solve()
            self.cycles += self.iterations
            self.calculations += 1

    def energies_of(calc):
        found = []
        for step in range(4):
            images = [water_along(place + 0.1 / (1 + step)) for place in (-1.5, 0.0, 1.5)]
            for image in images:
                image.calc = calc
            found.append([image.get_potential_energy() for image in images])
            images[0].get_potential_energy()
        return np.array(found)

    plain, learning = Counting(hydrogen), Counting(hydrogen)
    plain.kind = "default"
    with Learning(learning, tmp_path) as calc:
        np.testing.assert_allclose(energies_of(calc), energies_of(plain), atol=1e-6)
    assert learning.calculations == 12
    assert learning.cycles < 0.6 * 12 * (plain.cycles / plain.calculations)


def test_what_was_calculated_with_other_parameters_is_no_result_of_these(tmp_path):
    """The energy is that of the function that makes the SCF object now, whether or not the atoms have moved."""

    def larger(atoms):
        return scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="6-31g", verbose=0))

    atoms, inner = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), PySCF(hydrogen)
    with Learning(inner, tmp_path) as atoms.calc:
        small = atoms.get_potential_energy()
        inner.make = larger
        assert atoms.get_potential_energy() < small - 0.1
        inner.make = hydrogen
        assert atoms.get_potential_energy() == pytest.approx(small, abs=1e-8)


def test_a_folder_that_is_used_again_begins_with_its_densities(tmp_path):
    """The first calculation of a second call starts as one of the first call would; that of another method does not."""

    def stretched(basis, length, expected):
        def make(atoms):
            return scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis=basis, verbose=0))

        atoms = Atoms("OHH", [[0, 0, 0], [0, -0.76, 0.59], [0, 0.76, length]])
        with Learning(PySCF(make), tmp_path) as atoms.calc:
            energy = atoms.get_potential_energy()
            assert atoms.calc.calculator.taken == expected
            taken = atoms.calc.calculator.iterations
        plain = PySCF(make)
        plain.calculate(atoms)
        assert energy == pytest.approx(plain.results["energy"], abs=1e-5)
        return taken, plain.iterations

    for length in (0.57, 0.59):
        stretched("sto-3g", length, "default" if length == 0.57 else "last")
    taken, own = stretched("sto-3g", 0.6, "last")
    assert taken <= own - 3
    stretched("6-31g", 0.6, "default")


def test_a_training_that_fails_forgets_nothing(tmp_path, monkeypatch):
    """What the model before has shown still counts, in this call and in the next."""
    seen = {"event": "step", "start": "both", "iterations": 3, "cost": 3.5}
    failed = {"event": "trained", "model": 2, "refused": "too little memory"}
    assert Choice.remembered([seen, failed]).seen["both"]
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    with Learning(PySCF(hydrogen), tmp_path) as atoms.calc:
        atoms.calc.choice.add("both", 3.0)
        monkeypatch.setattr(atoms.calc.training, "poll", lambda: True)
        atoms.get_potential_energy()
        assert atoms.calc.choice.seen["both"]


def test_the_best_start_is_taken_and_others_are_tried_again():
    choice = Choice()
    taken = []
    for _ in range(100):
        kind = choice.next(["both", "predicted", "last"])
        choice.add(kind, {"both": 3, "predicted": 4, "last": 6}[kind])
        taken.append(kind)
    assert set(taken[:3]) == {"both", "predicted", "last"}
    assert 90 < taken.count("both") < 98
    choice.forget(["both"])
    assert choice.next(["both", "predicted", "last"]) == "both"


@pytest.mark.parametrize("failing", ["last", "predicted"])
def test_a_start_that_cannot_be_made_does_not_starve_the_others(failing):
    choice, taken = Choice(), []
    for _ in range(60):
        wanted = choice.next(["predicted", "last", "own"])
        taken.append("own" if wanted == failing else wanted)
        choice.add_outcome(wanted, taken[-1], 12 if taken[-1] == "own" else 5)
    assert taken.count("own") < 8


def test_earlier_densities_are_tried_again_when_there_are_twice_as_many():
    """Geometries far apart: of two others a start is worse than the default, of many better; what it cost then counts no longer."""
    choice, taken = Choice(), []
    for count in range(60):
        kind = choice.next(["last", "default"] if count else ["default"])
        choice.add(kind, 10 if kind == "default" else 14 if count < 6 else 8)
        taken.append(kind)
    assert taken.count("last") > 45
    assert choice.mean("last") == 8
