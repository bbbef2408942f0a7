"""When the training of a campaign pays, what it leaves, and predictions for scripts."""

import os
import shutil
import signal
from contextlib import ExitStack
from threading import Lock

import numpy as np
import pytest
from pyscf import gto, scf

from converters.pyscf import frame_from_scf
from converters.starts.start import MODEL_VARIABLE, Progress
from converters.storage.writer import DatasetWriter
from slem_plugin import pyscf_guess
from slem_plugin.checkpoint import load_model
from tests.campaigns import plan_of, silent
from workflows.campaign.campaign import Campaign, Standing, row_of
from workflows.campaign.guide import Guide
from workflows.campaign.journal import Journal
from workflows.campaign.learning import Learning as Learner
from workflows.campaign.runs import Ran
from workflows.campaign.trainer import answer_to, frames_in_a_step, teach
from workflows.campaign.worth import EARLIER, Decision, Ledger, Row
from workflows.scf.answering import Answers
from workflows.scf.outcome import Outcome, Start

# Whether training pays


def test_training_begins_only_where_it_pays():
    defaults = [Row(10, 20.0), Row(9, 18.5), Row(11, 22.5)]
    long = Ledger(defaults).decide(left=100, invested=0.0, newest=0)
    assert 10 < long.seconds < 0.03 * 103 * 20  # three hundredths of all runs are the most that is risked
    assert Ledger(defaults).decide(left=3, invested=0.0, newest=0).seconds == 0
    cheap = Ledger([Row(10, 0.2), Row(9, 0.19)]).decide(left=50, invested=0.0, newest=0)
    assert cheap.seconds == 0
    assert "would pay" in cheap.why


def test_a_few_large_frames_are_enough_to_begin_with(taught, tmp_path, monkeypatch):
    """Three frames teach as much as many when they show 96 atoms; three of small molecules do not."""
    shutil.copy(taught[0], tmp_path / "data.h5")
    begun, ledger = [], Ledger([Row(10, 60.0)] * 3)
    monkeypatch.setattr(Learner, "begin", lambda self, frames, *_: begun.append(frames))
    with Journal(tmp_path) as journal:
        learner = Learner(tmp_path, journal)
        learner.consider(ledger, 3, 40)  # of 16 atoms together
        assert begun == []
        monkeypatch.setattr("workflows.campaign.learning.ATOMS", 16)
        learner.consider(ledger, 2, 40)
        assert begun == []
        learner.consider(ledger, 3, 40)
        monkeypatch.setattr("workflows.campaign.learning.ATOMS", 17)
        learner.consider(ledger, 6, 40)
    assert begun == [3, 6]


def test_the_first_of_many_runs_are_awaited_before_the_first_training(tmp_path, monkeypatch):
    """A twentieth of them."""
    begun, ledger = [], Ledger([Row(10, 60.0)] * 12)
    monkeypatch.setattr(Learner, "begin", lambda self, frames, *_: begun.append(frames))
    with Journal(tmp_path) as journal:
        for frames, left in ((12, 388), (12, 100), (20, 388)):
            Learner(tmp_path, journal).consider(ledger, frames, left)
    assert begun == [12, 20]


@pytest.mark.parametrize("count", [40, 100, 400])
def test_predictions_that_save_nothing_lose_no_more_than_three_hundredths(count):
    """Whatever is decided while a campaign goes on, and however long a training takes besides its steps."""
    rows, invested, newest = [], 0.0, 0
    for n in range(count):
        rows.append(Row(10 - n % 2, 20.0 - n % 2, model=newest))
        decision = Ledger(rows).decide(count - n - 1, invested, newest, besides=12.0)
        if len(rows) >= 6 and decision.seconds:
            invested, newest = invested + decision.seconds + 12.0, newest + 1
    assert (newest > 0) == (count > 60)
    assert invested <= 0.03 * sum(row.seconds for row in rows)


def test_what_a_training_took_besides_its_steps_is_asked_for_by_the_next(tmp_path):
    with Journal(tmp_path) as journal:
        learner = Learner(tmp_path, journal)
        assert learner.besides == 6
        for model, cpu in ((1, 53.0), (2, 83.0)):
            journal.add("training", model=model, seconds=41.0 if model == 1 else 13.0)
            journal.add("trained", model=model, cpu=cpu)
            assert learner.besides == {1: 12, 2: 17}[model]


def test_training_goes_on_while_it_gains_and_ends_when_it_does_not():
    defaults = [Row(10, 20.0), Row(9, 18.5), Row(11, 22.5)]
    gained = Ledger([*defaults, *[Row(6, 12.6, model=1)] * 4])
    assert 6 < gained.gain(1) < 8  # four iterations of 2 s; few runs leave open what else takes time
    assert gained.decide(left=100, invested=100.0, newest=1).seconds > 10
    useless = Ledger([*defaults, *[Row(10, 20.5, model=1)] * 4])
    assert useless.decide(left=100, invested=250.0, newest=1).seconds == 0
    progress = Progress(10, -1.0, True, (), True)
    guess, own = Start("h-guess", 15.0, 1, progress, 15.0), Start("h-default", 20.5, 0, progress, 20.5)
    failed = row_of(Ran(Outcome("h", "failed", use="h-default", guess=guess, default=own), 1, lost=15.0))
    ledger = Ledger([*defaults, *[failed] * 4])
    assert ledger.saved < -50
    assert ledger.gain(1) < -10


def test_what_is_saved_is_measured_against_controls_and_not_against_the_most_unusual_runs():
    first = [Row(14, 28.0), Row(13, 26.0), Row(15, 30.0)]
    predicted = [Row(8, 16.0, model=1)] * 40
    controls = [Row(10, 20.0, control=True), Row(11, 22.0, control=True), Row(9, 18.0, control=True)]
    assert Ledger([*first, *controls[:2], *predicted]).default == pytest.approx(12.6)  # two controls say too little
    ledger = Ledger([*first, *controls, *predicted])
    each = ledger.seconds_of_iteration()
    assert ledger.default == 10
    assert ledger.saved == pytest.approx(40 * 2 * each)
    assert ledger.gain(1) == pytest.approx(2 * each)
    standing = Standing(46, [], 0, "", ledger, [], 46, training=20.0, own=10.0, elapsed=1.0)
    assert standing.share == pytest.approx((40 * 2 * each - 30) / (ledger.spent + 40 * 2 * each))


def test_a_model_whose_predictions_are_refused_is_trained_on_and_not_asked_again():
    """It has started no run, so that nothing says what it saves; the second training may take what is left of the first one's risk."""
    defaults = [Row(10, 20.0), Row(9, 18.5), Row(11, 22.5)]
    two = Ledger([*defaults, *[Row(10, 20.0, refused=1)] * 2])
    assert two.gain(1) is None
    three = Ledger([*defaults, *[Row(10, 20.0, refused=1)] * 3])
    assert three.gain(1) == 0
    first = Ledger(defaults).decide(left=97, invested=0.0, newest=0).seconds
    again = three.decide(left=94, invested=20.0, newest=1).seconds
    assert again == pytest.approx(first - 20, rel=0.1)
    assert three.decide(left=94, invested=0.11 * 100 * 20, newest=1).seconds == 0


def test_a_model_that_is_worse_than_the_one_before_gives_its_place_back(tmp_path, monkeypatch, taught):
    """Model 2 is refused three times; runs go on with model 1, which saved iterations."""
    with Journal(tmp_path) as journal, ExitStack() as stack:
        campaign = Campaign(plan_of([], "true", tmp_path, model=taught[1]), journal, [], silent, stack)
        campaign.guide = Guide(2, tmp_path / "2")
        rows = [*[Row(10, 20.0)] * 3, *[Row(7, 14.5, model=1)] * 3, *[Row(10, 20.0, refused=2)] * 2]
        monkeypatch.setattr(Campaign, "ledger", property(lambda _: Ledger(rows)))
        assert campaign.chosen().number == 2
        rows.append(Row(10, 20.0, refused=2))
        assert campaign.chosen() == campaign.learning.newest  # number 1, in its place
        rows[3:6] = [Row(11, 21.0, model=1)] * 3
        assert campaign.chosen() is None


def test_runs_that_did_not_end_well_say_nothing_of_costs():
    endless = Start("h-default", 20.5, 0, Progress(50, -1.0, False), 20.5)
    assert row_of(Ran(Outcome("h", "did not converge", use="h-default", default=endless))) is None


def test_a_training_process_that_dies_ends_no_campaign(tmp_path):
    (tmp_path / "data.h5").write_bytes(b"")
    with Journal(tmp_path) as journal:
        learning = Learner(tmp_path, journal)
        learning.begin(6, Decision(20.0, "it would pay"), 0)
        os.kill(learning.process.pid, signal.SIGKILL)
        while not learning.poll():
            pass
        assert "has ended" in learning.failed
        learning.close()
    with Journal(tmp_path) as journal:
        assert Learner(tmp_path, journal).cpu >= 0


def test_seconds_before_the_first_iteration_are_not_saved():
    """Runs of 3 s and 0.5 s an iteration: the line is found once iterations differ."""
    rows = [Row(n, 3.0 + 0.5 * n, model) for n, model in [(10, 0)] * 10 + [(4, 1)] * 30]
    ledger = Ledger(rows)
    assert ledger.beginning == pytest.approx(3.0, abs=0.3)
    assert ledger.saved == pytest.approx(30 * 6 * 0.5, rel=0.1)


def test_a_few_runs_say_more_than_a_guess_of_what_iterations_take():
    """The first five runs of 64 atoms of MgO in SIESTA, CPU seconds of the code; by eight pairs of runs of 11 iterations and of 1 an iteration takes 0.83 s."""
    measured = [(11, 18.16), (5, 13.72), (4, 12.91), (6, 15.96), (6, 15.12)]
    ledger = Ledger([Row(n, seconds, EARLIER if n < 11 else 0) for n, seconds in measured])
    assert ledger.seconds_of_iteration() == pytest.approx(0.83, rel=0.1)


# Learning, and predictions for scripts


def test_a_model_goes_on_from_the_one_before(taught, tmp_path):
    data, first, said = taught
    assert teach(data, tmp_path / "second.safetensors", str(first), 0.2)["errors"]["H"] < 3 * said["errors"]["H"]


@pytest.mark.parametrize(("count", "largest", "expected"), [(3, 3, 1), (24, 3, 6), (24, 9, 2), (63, 64, 1), (64, 9, 0)])
def test_many_frames_are_learned_as_in_other_trainings(count, largest, expected):
    assert frames_in_a_step(count, largest) == expected


def test_a_model_of_other_runs_is_no_beginning(taught, tmp_path):
    """A campaign that was given a model of another basis learns its own all the same."""
    _, first, _ = taught
    with DatasetWriter(tmp_path / "other.h5") as writer:
        for length in (0.7, 0.75, 0.8):
            mf = scf.RHF(gto.M(atom=f"H 0 0 0; H 0 0 {length}", basis="6-31g", verbose=0)).run()
            writer.append(frame_from_scf(mf))
    wanted = {"model": str(tmp_path / "own.safetensors"), "before": str(first), "seconds": 0.2}
    said = answer_to({"data": str(tmp_path / "other.h5"), **wanted})
    assert said["frames"] == 3
    assert load_model(tmp_path / "own.safetensors").blueprint.basis != load_model(first).blueprint.basis


def test_a_script_asks_the_campaign_for_its_prediction(taught, tmp_path, monkeypatch):
    """The answer through a socket is what a model in the script's own process says."""
    _, first, _ = taught
    mf = scf.RHF(gto.M(atom="H 0 0 0; H 0 0 0.71", basis="sto-3g", verbose=0))
    own = pyscf_guess(mf, str(first))
    with Answers(Lock()) as answers:
        monkeypatch.setenv(MODEL_VARIABLE, str(first))
        monkeypatch.setattr("slem_plugin.pyscf_start.predicted", None)  # the script has no model of its own
        for name, value in answers.environment.items():
            monkeypatch.setenv(name, value)
        np.testing.assert_allclose(pyscf_guess(mf), own, atol=1e-12)
        other = scf.RHF(gto.M(atom="H 0 0 0; H 0 0 0.71", basis="6-31g", verbose=0))
        assert pyscf_guess(other) is None
        assert list(answers.folder.glob("*.h5")) == []
    monkeypatch.undo()
    monkeypatch.setenv(MODEL_VARIABLE, str(first))
    monkeypatch.setenv(*answers.environment.popitem())  # whoever answered is gone
    np.testing.assert_allclose(pyscf_guess(mf), own, atol=1e-12)
