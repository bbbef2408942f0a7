"""Starts that are made of earlier runs without a model: what they are near to, when a campaign takes them, and what it must not take."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from threading import Lock

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from click.testing import CliRunner
from pyscf import gto, scf
from pyscf.pbc import gto as pbc_gto
from pyscf.pbc import scf as pbc_scf
from scipy import linalg

from basis.spin import Spin
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.folding import with_images_as_one
from converters.frames.frame import operator_on
from converters.frames.neighbours import Structure, find_pairs
from converters.physics.kspace import count_electrons, dense_at
from converters.physics.overlap import Overlap
from converters.pyscf import frame_from_scf
from converters.starts.earlier import are_alike
from converters.starts.fit import reorder_atoms, shift_atoms
from converters.starts.repeats import Repeats
from converters.starts.response import Response
from converters.starts.start import EARLIER_RUNS, MODEL_VARIABLE
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin import pyscf_guess
from tests.fixtures import unpacked
from workflows.campaign.campaign import Campaign, Plan
from workflows.campaign.earlier import EarlierRuns
from workflows.campaign.guide import Guide
from workflows.campaign.journal import Journal
from workflows.campaign.kept import Kept
from workflows.campaign.runs import Runner
from workflows.campaign.worth import EARLIER, Ledger, Row
from workflows.cli import campaign_command
from workflows.export import Request
from workflows.scf.answering import Answers
from workflows.scf.run_folders import Board

CELLS = 6
UNMOVED = np.array([[2.4 * n + x, 2.0, 2.0] for n in range(CELLS) for x in (0.0, 0.9)])


def chain(moved_av, turn=0, field=0.0):
    """A supercell of six H2 molecules in a row, with the levels that extended Hueckel theory gives it; `turn` numbers its atoms from another one.

    An atom hears how much its neighbours overlap with it; a field lifts the first atom of each molecule.
    """
    positions_av = np.roll(UNMOVED + moved_av, turn, axis=0)
    cell = pbc_gto.M(
        a=np.diag([2.4 * CELLS, 4, 4]), atom=[("H", p) for p in positions_av], basis="gth-szv", pseudo="gth-pade",
        ke_cutoff=20, verbose=0,
    )  # fmt: skip
    mf = pbc_scf.RHF(cell)
    S = cell.pbc_intor("int1e_ovlp")
    site = np.diag(0.3 * (S.sum(axis=1) - 1) - 0.7 + np.roll(field * (np.arange(len(S)) % 2), turn))
    H = (0.875 - 0.375 * np.eye(len(S))) * (site @ S + S @ site)
    mf.mo_energy, mf.mo_coeff = linalg.eigh(H, S)
    mf.mo_occ = np.where(np.arange(len(S)) < CELLS, 2.0, 0.0)
    mf.e_tot, mf.converged = -1.0, True
    return frame_from_scf(mf)


def moves(seed, size=0.01):
    return np.random.default_rng(seed).normal(0, size, UNMOVED.shape)


def miss(made, frame):
    """How far a density is from that of a frame at Gamma, the only k-point; blocks alone are not compared, as images may be equally close."""
    return float(np.linalg.norm(made.DM() - frame.DM()))


def at(response, frame):
    return response.frame_at(frame.cell_cv, frame.numbers_a, frame.positions_av)


def test_what_repeats_in_a_supercell_tells_its_answer_to_displacements():
    """Ten times nearer than the nearest run after six runs; nothing but the constant of a response is left at the first."""
    wanted, runs = chain(moves(0)), [chain(moves(n)) for n in range(1, 7)]
    response = Response.of(runs[0])
    assert len(response.repeats.place_ta) == CELLS
    missed = []
    for run in runs:
        assert response.add(run)
        missed.append(miss(at(response, wanted), wanted))
    nearest = min(miss(run, wanted) for run in runs)
    assert missed[0] < nearest
    assert missed[-1] < 0.1 * nearest
    made = at(response, wanted)
    np.testing.assert_allclose(made.positions_av, wanted.positions_av, atol=1e-12)
    assert count_electrons(made).sum() == pytest.approx(2 * CELLS, abs=2e-3)
    wanted = with_images_as_one(wanted)
    np.testing.assert_allclose(operator_on(made, "S", wanted.pairs).values_sx, wanted["S"].values_sx, atol=1e-3)
    # The same atoms in neighbouring cells are the same crystal.
    across = wanted.positions_av + wanted.cell_cv[0] * (np.arange(2 * CELLS)[:, None] % 3)
    again = response.frame_at(wanted.cell_cv, wanted.numbers_a, across)
    np.testing.assert_allclose(again["DM"].values_sx, made["DM"].values_sx, atol=1e-9)


def test_turns_and_mirrors_repeat_too_where_the_density_has_them():
    """One run tells as much as many without them; a field leaves those that it does not break, and moments of other signs are other atoms."""
    wanted, first = chain(moves(0)), chain(moves(1))
    turned, plain = (Response(first, repeats) for repeats in (Repeats.of(first), alone(first)))
    assert len(turned.repeats) == 16 * CELLS
    for response in (turned, plain):
        response.add(first)
    assert miss(at(turned, wanted), wanted) < 0.6 * miss(at(plain, wanted), wanted)
    assert len(Repeats.of(chain(moves(1), field=0.2))) == 8 * CELLS
    up = np.where(np.arange(2 * CELLS) // 2 % 2 == 0, 0.6, -0.6)[first.pairs.i_p] * first.pairs.onsite_p
    half_x, moment_x = first["DM"].values_sx[0] / 2, up[first.pairs.pair_x]
    ordered = {"S": first["S"], "DM": Operator(np.array([half_x + moment_x, half_x - moment_x]))}
    magnet = replace(first, spin=Spin.COLLINEAR, operators=ordered)
    assert len(Repeats.of(magnet).place_ta) == CELLS // 2
    opposed = replace(magnet, operators={"S": first["S"], "DM": Operator(magnet["DM"].values_sx[::-1])})
    assert [are_alike(magnet, other) for other in (magnet, replace(magnet), opposed)] == [True, True, False]


def test_turns_that_are_no_group_are_left_out():
    """Their products would lead to pairs that are not there."""
    cell = bulk("C", a=3.6) * 2
    first = neon(cell, 0)
    repeats = Repeats.of(first)
    some = repeats.with_turns(np.arange(48) % 5 == 0)
    assert len(some.turn_qcc) == 10
    assert len(Response(first, some).repeats.turn_qcc) == 1
    assert len(Response(first, repeats).repeats.turn_qcc) == 48


def neon(cell, seed):
    """A crystal of neon atoms with orbitals up to d, displaced; S stands for a density that is known exactly at all places."""
    atom = scf.RHF(gto.M(atom="Ne", basis="6-31g*", verbose=0))
    atom.kernel()
    known = replace(frame_from_scf(atom), pbc_c=np.ones(3, dtype=bool))
    positions_av = cell.positions + np.random.default_rng(seed).normal(0, 0.02, cell.positions.shape)
    species_a, norb_a = np.zeros(len(cell), dtype=int), np.full(len(cell), known.pairs.norb_a[0])
    there = Structure(cell.cell.array, np.ones(3, dtype=bool), positions_av, species_a)
    pairs = find_pairs(there, np.full((1, 1), 2.8), norb_a)
    moved = replace(
        known,
        cell_cv=cell.cell.array,
        positions_av=positions_av,
        species_a=species_a,
        pairs=pairs,
        operators={},
    )
    S = Operator(Overlap.of_frame(known).like(moved)[None])
    return replace(moved, operators={"S": S, "DM": S})


@pytest.mark.parametrize("cell", [graphene("C2", a=2.5, thickness=0.4, size=(2, 2, 1), vacuum=4), bulk("C", a=3.6) * 2])
def test_turns_and_mirrors_turn_orbitals_up_to_d(cell):
    """Hexagonal and cubic: from one structure nearer than by translations."""

    def missed(response):
        wanted = neon(cell, 9)
        response.add(neon(cell, 0))
        made = operator_on(at(response, wanted), "DM", wanted.pairs).values_sx
        return float(np.linalg.norm(made - wanted["DM"].values_sx))

    first = neon(cell, 0)
    assert max(shell.l for shell in first.basis[0].shells) == 2
    turned, plain = Response.of(first), Response(first, alone(first))
    assert len(turned.repeats.turn_qcc) in (12, 48)
    assert missed(turned) < 0.2 * missed(plain)


def strained(seed):
    """Eight neon atoms, each cell strained otherwise, so that no two are the same supercell."""
    cell = bulk("C", cubic=True, a=3.6)
    strain = np.random.default_rng(seed).normal(0, 0.004, (3, 3))
    cell.set_cell(cell.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
    return neon(cell, seed)


def test_supercells_that_are_strained_start_each_other():
    """Each repeats a smaller cell of its own, and is no displacement of the others; whole densities are combined, the better the more."""
    wanted, earlier, missed = strained(99), EarlierRuns(), []
    for seed in range(12):
        assert Response.of(strained(seed)) is not None
        earlier.take(strained(seed))
        made = earlier.start(wanted.cell_cv, wanted.numbers_a, wanted.positions_av, "run")
        missed.append(np.linalg.norm(operator_on(made, "DM", wanted.pairs).values_sx - wanted["DM"].values_sx))
    assert missed[-1] < 0.8 * missed[0]


def test_atoms_in_other_cells_hide_no_earlier_run():
    """Codes move atoms into the cell: one about its corner is now at one side, now at the other; at Gamma the matrices are the same."""
    wanted, frames = strained(99), [strained(seed) for seed in range(4)]
    random = np.random.default_rng(5)
    elsewhere = [shift_atoms(frame, random.integers(-1, 2, (8, 3))) for frame in frames]
    moved = shift_atoms(wanted, random.integers(-1, 2, (8, 3)))
    earlier, earlier_elsewhere = EarlierRuns(), EarlierRuns()
    for frame, other in zip(frames, elsewhere, strict=True):
        earlier.take(frame)
        earlier_elsewhere.take(other)
    there = earlier.start(wanted.cell_cv, wanted.numbers_a, wanted.positions_av, "run")
    here = earlier_elsewhere.start(moved.cell_cv, moved.numbers_a, moved.positions_av, "run")
    np.testing.assert_array_equal(here.positions_av, moved.positions_av)
    np.testing.assert_allclose(Overlap.of_frame(moved).like(here), here["S"].values_sx[0], atol=1e-12)
    for name in ("S", "DM"):
        np.testing.assert_allclose(*(dense_at(made, name, np.zeros(3))[0] for made in (here, there)), atol=1e-9)


def alone(frame):
    """The translations of a frame."""
    repeats = Repeats.of(frame)
    return repeats.with_turns(np.zeros(len(repeats.turn_qcc), dtype=bool))


def test_a_response_of_other_atoms_cells_or_places_is_none(monkeypatch):
    run = chain(moves(1))
    response = Response.of(run)
    response.add(run)
    numbers_a = run.numbers_a.copy()
    numbers_a[0] = 2
    assert response.frame_at(run.cell_cv, numbers_a, run.positions_av) is None
    assert response.frame_at(1.01 * run.cell_cv, run.numbers_a, run.positions_av) is None
    far_av = run.positions_av.copy()
    far_av[0, 1] += 0.5
    assert response.frame_at(run.cell_cv, run.numbers_a, far_av) is None
    assert not response.add(replace(run, positions_av=far_av))
    turned = replace(run, outcome=replace(run.outcome, moment=2.0))
    assert not response.add(turned)
    cells_ac = np.zeros((2 * CELLS, 3), dtype=int)
    cells_ac[[0, 3], 0] = -1, 2
    before = at(response, run)["DM"].values_sx
    assert response.add(reorder_atoms(run, np.arange(2 * CELLS), cells_ac))  # the same crystal, with other R
    np.testing.assert_allclose(at(response, run)["DM"].values_sx, before, atol=0.02 * np.abs(before).max())
    again = Response.of(run)
    again.add(run)
    again.add(run)
    np.testing.assert_allclose(at(response, run)["DM"].values_sx, at(again, run)["DM"].values_sx, atol=1e-9)
    with monkeypatch.context() as patched:
        patched.setattr("converters.starts.response.FEWEST_AROUND", 4)
        patched.setattr("converters.starts.response.MOST_BYTES", 3e5)
        assert 0 < Response.of(run).around < 2 * CELLS
        patched.setattr("converters.starts.response.MOST_BYTES", 1e3)
        assert Response.of(run) is None
    alone = chain(np.where(np.arange(2 * CELLS)[:, None] == 0, 0.5, 0.0) * np.ones(3))
    assert Response.of(alone) is None  # an atom off its place: nothing repeats


def water(bend):
    return Atoms("OHH", [[0, 0, 0], [0, -0.76, 0.59], [0, 0.76 + bend, 0.59]])


def solver(atoms, basis="sto-3g"):
    atom = list(zip(atoms.symbols, atoms.positions, strict=True))
    return scf.RHF(gto.M(atom=atom, basis=basis, verbose=0))


def write_waters(path, bends):
    with DatasetWriter(path) as writer:
        for bend in bends:
            mf = solver(water(bend))
            mf.kernel()
            writer.append(frame_from_scf(mf))


def test_a_script_starts_from_earlier_runs_of_its_own_atoms_alone(tmp_path, monkeypatch):
    """The same energy in fewer cycles; other molecules, other bases and a campaign that has ended leave PySCF its own start."""
    write_waters(tmp_path / "data.h5", (-0.02, 0.01, 0.03))
    mf, own = solver(water(0.015)), solver(water(0.015))
    own.kernel()
    earlier = EarlierRuns(tmp_path / "data.h5")
    with Answers(Lock(), {EARLIER_RUNS: earlier.start_of_question}) as answers:
        monkeypatch.setenv(MODEL_VARIABLE, EARLIER_RUNS)
        for name, value in answers.environment.items():
            monkeypatch.setenv(name, value)
        mf.kernel(dm0=pyscf_guess(mf))
        assert mf.cycles <= own.cycles - 3
        assert mf.e_tot == pytest.approx(own.e_tot, abs=1e-8)
        assert pyscf_guess(solver(water(0.015), "6-31g")) is None
        assert pyscf_guess(solver(Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]))) is None
        assert pyscf_guess(solver(water(1.5))) is None
    assert pyscf_guess(solver(water(0.015))) is None


def test_a_molecule_started_from_one_earlier_run_has_whole_orbitals(tmp_path):
    """Its density as it was, on moved atoms, may have more electrons too many or too few than the guard lets pass."""
    write_waters(tmp_path / "data.h5", [0.0])
    moved = water(0.3)
    with Dataset(tmp_path / "data.h5") as data:
        known = data[0]
    frame = EarlierRuns(tmp_path / "data.h5").start(moved.cell.array, moved.numbers, moved.positions, "run")
    as_it_was = replace(frame, operators={"S": frame["S"], "DM": known["DM"]})
    assert abs(count_electrons(as_it_was).sum() - 10) > 0.09
    assert count_electrons(frame).sum() == pytest.approx(10, abs=1e-6)


def test_a_run_of_files_starts_from_the_runs_before_and_a_kill_forgets_none(tmp_path):
    """The second run finds DM and the line that makes SIESTA read it; so does one of a later call, whose memory is data.h5."""
    stock = unpacked("siesta", "h2o")
    folders = [tmp_path / "runs" / name for name in "abc"]
    for folder in folders:
        folder.mkdir(parents=True)
        shutil.copy(next(stock.glob("*.fdf")), folder)
    command = f"ls > given; cp -n {stock}/* ."
    said = []
    for count in (2, 3):
        arguments = [*map(str, folders[:count]), "--cmd", command, "-o", str(tmp_path / "c"), "--json"]
        done = CliRunner().invoke(campaign_command, arguments, catch_exceptions=False)
        said.append(json.loads(done.stdout))
    made = sorted(path.parent.name for path in tmp_path.glob("runs/*/given") if ".DM" in path.read_text())
    assert made == ["b-slem-guess", "c-slem-guess"]
    fdf = next((tmp_path / "runs" / "c-slem-guess").glob("*.fdf")).read_text()
    assert "DM.UseSaveDM true" in fdf
    assert said[-1]["frames"] == 3


def test_earlier_runs_go_before_models_and_what_saves_most_is_taken(tmp_path, monkeypatch):
    first = [Row(12, 24.0), Row(12, 24.0)]
    good, useless = Row(6, 13.0, model=EARLIER), Row(12, 24.0, model=EARLIER)
    better, worse = Row(4, 9.0, model=1), Row(9, 18.0, model=1)
    with Journal(tmp_path) as journal, ExitStack() as stack:
        campaign = Campaign(Plan([], "true", Kept("true"), tmp_path), journal, [], lambda _: None, stack)
        rows: list[Row] = []
        monkeypatch.setattr(Campaign, "ledger", property(lambda _: Ledger(rows)))

        def chosen(*there, model=False):
            rows[:] = there
            campaign.guide = Guide(1, tmp_path / "1") if model else None
            guide = campaign.chosen()
            return None if guide is None else guide.number

        assert chosen() is None  # nothing was learned yet
        campaign.earlier.seen = 2
        assert chosen(*first) == EARLIER
        assert chosen(*first, *[good] * 3) == EARLIER
        assert chosen(*first, *[useless] * 3) is None
        assert chosen(*first, *[useless] * 3, *first) is None
        assert chosen(*first, *[useless] * 3, *first * 3) == EARLIER  # there are twice as many runs
        assert chosen(*first, *[Row(12, 24.0, refused=EARLIER)] * 3) is None
        assert chosen(*first, *[replace(good, before=20.0)] * 3) is None  # it costs more than it saves
        assert chosen(*first, *[good] * 3, model=True) == 1  # not tried yet
        assert chosen(*first, *[good] * 3, *[worse] * 3, model=True) == EARLIER
        assert chosen(*first, *[good] * 3, *[better] * 3, model=True) == 1
        assert chosen(*first, *[useless] * 3, *[useless] * 6, *[good] * 6) == EARLIER  # the last ones count


def test_scripts_that_cannot_ask_start_from_the_default_and_leave_models_their_turn(tmp_path):
    """Jobs of a queue do not reach the socket of a campaign; nothing is taken for untried for ever."""
    (tmp_path / "h2").mkdir()
    (tmp_path / "h2" / "run.py").write_text("# asks for its start")
    command = "echo 'converged SCF energy = -1.0' > run.log"
    runner = Runner(Kept(command), command, tmp_path, Request(), Board(1, lambda *_: None))
    ran = runner.run(tmp_path / "h2", Guide(EARLIER, tmp_path, EarlierRuns().start_of_target))
    assert (ran.model, ran.refused) == (0, EARLIER)
    assert not (tmp_path / "h2-slem-guess").exists()


def test_a_model_is_trained_only_for_what_it_saves_beyond_earlier_runs():
    first = [Row(12, 24.0), Row(11, 22.0), Row(13, 26.0)]
    trained = Ledger(first).decide(left=200, invested=0.0, newest=0)
    assert trained.seconds > 10
    waits = Ledger([*first, Row(6, 12.0, model=EARLIER)]).decide(left=200, invested=0.0, newest=0)
    assert waits.seconds == 0
    assert "too few runs to say" in waits.why
    # Nor is it the merit of a first model that is no better, and is hoped to become little better by a second training.
    rows = [*first, *[Row(8, 16.0, model=EARLIER)] * 6, *[Row(8, 16.0, model=1)] * 3]
    assert Ledger(rows).progress(1) == 0.02
    worse = Row(13, 26.0, model=EARLIER)  # which nobody goes on with
    assert Ledger([*first, worse]).decide(left=300, invested=0.0, newest=0).seconds > 10
    enough = Ledger([*first, *[Row(6, 12.0, model=EARLIER)] * 3]).decide(left=200, invested=0.0, newest=0)
    assert enough.seconds == 0
    assert "earlier runs save" in enough.why
    useless = Ledger([*first, *[Row(12, 24.0, refused=EARLIER)] * 3]).decide(left=200, invested=0.0, newest=0)
    assert useless.seconds > 10
    # What earlier runs have saved is not there to be spent on trainings.
    rows = [*first, *[Row(6, 12.0, model=EARLIER)] * 100, *[Row(6, 12.0, model=1)] * 3]
    assert Ledger(rows).decide(left=100, invested=200.0, newest=1).seconds == 0


def test_no_model_is_trained_where_earlier_runs_start_well_however_many_runs_are_left():
    """Iterations and seconds of a campaign of MgO cells, whose earlier rule trained after four runs a model that was worse than these starts."""
    iterations = [13, 12, 9, 10, 10, 9, 8, 7, 9, 8, 7, 7, 8, 8, 8, 8, 8, 8, 7, 7, 9, 7, 7, 7, 7]
    rows = [Row(n, 9.0 + 1.35 * n, EARLIER if m else 0, before=0.25 if m else 0.0) for m, n in enumerate(iterations)]
    for count in range(2, len(rows) + 1):
        assert Ledger(rows[:count]).decide(left=1000, invested=0.0, newest=0).seconds == 0


def test_a_model_is_trained_once_more_earlier_runs_save_no_more():
    """It has to be worth its first starts too, which may save nothing."""
    first, poor = [Row(12, 30.0)] * 2, Row(11, 28.2, model=EARLIER)
    early = Ledger([*first, *[poor] * 5]).decide(left=200, invested=0.0, newest=0)
    assert early.seconds == 0
    assert "not known yet" in early.why
    later = Ledger([*first, *[poor] * 6])
    assert later.decide(left=200, invested=0.0, newest=0).seconds > 10
    better = Ledger([*first, *[poor] * 3, *[Row(10, 26.4, model=EARLIER)] * 3])
    assert better.decide(left=200, invested=0.0, newest=0).seconds == 0
    risked = 0.03 * 208 * later.default * later.seconds_of_iteration() - 6
    assert later.decide(200, 0.0, 0).seconds == pytest.approx(risked - 3 * later.without_model)


def test_a_start_that_costs_within_its_run_what_it_saves_is_none():
    """Scripts that ask take time to do so: fewer iterations in as many seconds are nothing gained."""
    own = [Row(8, 1.9), Row(8, 1.7, control=True), Row(7, 3.0, refused=EARLIER)]
    asking = [Row(5, 2.0, model=EARLIER)] * 6
    assert Ledger([*own, *asking]).gain(EARLIER) < 0
    quicker = [Row(5, 1.5, model=EARLIER)] * 6
    assert Ledger([*own, *quicker]).gain(EARLIER) > 0


def test_frames_of_runs_that_did_not_converge_start_nothing(tmp_path):
    mf = solver(water(0.0))
    mf.kernel()
    mf.converged = False
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(frame_from_scf(mf))
    (tmp_path / "unfinished.h5").write_bytes(b"")  # a kill may leave that
    assert len(EarlierRuns(tmp_path / "unfinished.h5")) == 0
    with pytest.raises(Refused, match="other atoms or other places"):
        EarlierRuns(tmp_path / "data.h5").start(np.zeros((3, 3)), np.array([8, 1, 1]), water(0.0).positions, "run")
