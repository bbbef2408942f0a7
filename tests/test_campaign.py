"""slem-campaign: what runs, what is learned, when training pays; kills at random moments end in the same dataset and verdicts."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock, Timer

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, all_changes
from click.testing import CliRunner
from pyscf import gto, scf
from pyscf.pbc import gto as pbc_gto
from pyscf.pbc import scf as pbc_scf

from converters.errors import Refused
from converters.pyscf import frame_from_scf
from converters.pyscf.calculator import PySCF
from converters.starts.earlier import as_projector, combined_frame, weights_of
from converters.starts.start import MODEL_VARIABLE, Progress
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin import pyscf_guess
from tests.ase_starts import measure, ring
from tests.fixtures import frames_of, unpacked
from workflows.calculators.choosing import Choice
from workflows.calculators.files import Files
from workflows.calculators.learning import Learning
from workflows.campaign.answering import Answers
from workflows.campaign.campaign import Campaign, Plan, Standing, row_of, run_campaign
from workflows.campaign.guide import Guide
from workflows.campaign.journal import Journal
from workflows.campaign.kept import BEGUN, ENDED, STATE, Kept, end, is_alive
from workflows.campaign.learning import Learning as Learner
from workflows.campaign.order import choose_order, farthest_first, fingerprints
from workflows.campaign.runs import Ran
from workflows.campaign.trainer import teach
from workflows.campaign.worth import Decision, Ledger, Row
from workflows.cli import campaign_command
from workflows.pictures.campaign_page import write_campaign_page
from workflows.scf.outcome import Outcome, Start
from workflows.terminal.show_campaign import facts_of

COUNT = 10


def hydrogen(atoms):
    return scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g", verbose=0))


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """What PySCF left of hydrogen molecules: a checkpoint and a log for each."""
    place = tmp_path_factory.mktemp("stock")
    for n in range(COUNT):
        (place / f"h{n}").mkdir()
        mol = gto.M(
            atom=f"H 0 0 0; H 0 0 {0.6 + 0.03 * n}", basis="sto-3g", verbose=4, output=str(place / f"h{n}/run.log")
        )
        mf = scf.RHF(mol)
        mf.chkfile = str(place / f"h{n}" / "run.chk")
        mf.kernel()
        mf._chkfile.close()
        mol.stdout.close()
    return place


@pytest.fixture
def runs(stock, tmp_path):
    """Folders that have not run, and the line of a code that costs nothing and says that it ran."""
    folders = [tmp_path / "runs" / f"h{n}" for n in range(COUNT)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "run.py").write_text("# asks for its start")
    name = '$(basename "$PWD" | sed s/-slem-.*//)'
    return folders, f"echo {name} >> {tmp_path}/count; sleep 0.03; cp {stock}/{name}/run.* ."


def plan_of(folders, command, home, **more):
    return Plan(folders, command, Kept(command), home, **more)


def silent(_):
    pass


def energies(home):
    with Dataset(home / "data.h5") as data:
        return sorted(round(frame.outcome.energy, 9) for frame in data)


def test_killed_campaigns_go_on_and_end_in_the_same(runs, tmp_path):
    folders, command = runs
    random = np.random.default_rng(7)
    for _ in range(5):
        child = os.fork()
        if child == 0:
            try:
                run_campaign(plan_of(folders, command, tmp_path / "c", at_once=2), silent)
            finally:
                os._exit(0)
        time.sleep(random.uniform(0.05, 0.35))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    standing = run_campaign(plan_of(folders, command, tmp_path / "c", at_once=2), silent)
    assert sorted((tmp_path / "count").read_text().split()) == sorted(folder.name for folder in folders)
    assert len(standing.done) == COUNT
    assert {ran.outcome.verdict for ran in standing.done} == {"ok"}
    again = run_campaign(plan_of(folders, command, tmp_path / "c", at_once=2), silent)
    assert [ran.as_dict() for ran in again.done] == [ran.as_dict() for ran in standing.done]
    assert len((tmp_path / "count").read_text().split()) == COUNT
    for folder in folders:
        for copy in folder.parent.glob(f"{folder.name}-slem-*"):
            shutil.rmtree(copy)
    run_campaign(plan_of(folders, command, tmp_path / "other"), silent)
    assert energies(tmp_path / "c") == energies(tmp_path / "other")
    assert len(set(energies(tmp_path / "c"))) == COUNT


def test_the_command_says_what_failed_and_goes_on(runs, tmp_path, stock):
    """One run fails, one is not converged, one was finished elsewhere; the report has them all."""
    folders, command = runs
    shutil.copytree(stock / "h2", folders[2], dirs_exist_ok=True)
    later = time.time() + 5
    os.utime(folders[2] / "run.chk", (later, later))
    command = f'case "$PWD" in *h1-*) exit 3;; esac; {command}; case "$PWD" in *h4-*) sed -i "s/^converged SCF/SCF/" run.log;; esac'
    arguments = [*map(str, folders[:5]), "--cmd", command, "-o", str(tmp_path / "c"), "--json"]
    done = CliRunner().invoke(campaign_command, arguments, catch_exceptions=False)
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    outcomes = {Path(ran["outcome"]["folder"]).name: ran["outcome"] for ran in said["outcomes"]}
    assert "exit code 3" in outcomes["h1"]["verdict"]
    assert "not converged" in outcomes["h4"]["verdict"]
    assert outcomes["h2"]["use"] == str(folders[2])
    assert outcomes["h2"]["notes"] == ["was finished elsewhere"]
    assert (said["done"], said["ok"], said["frames"]) == (5, 3, 3)
    assert "h2" not in (tmp_path / "count").read_text()
    page = (tmp_path / "c" / "report.html").read_text()
    assert all(str(folder) in page for folder in folders[:5])
    (tmp_path / "count").unlink()
    everything = [*arguments, *map(str, (tmp_path / "runs").iterdir()), "--again"]  # as runs/* names copies too
    CliRunner().invoke(campaign_command, everything)
    assert sorted((tmp_path / "count").read_text().split()) == ["h4", "h5", "h6", "h7", "h8", "h9"]


def test_campaigns_do_not_share_folders(runs, tmp_path):
    folders, command = runs
    with Journal(tmp_path / "c"), pytest.raises(Refused, match="in use"):
        run_campaign(plan_of(folders, command, tmp_path / "c"), silent)
    run_campaign(plan_of(folders[:1], command, tmp_path / "c"), silent)
    with pytest.raises(Refused, match="holds a campaign of the command"):
        run_campaign(plan_of(folders[:1], "true", tmp_path / "c"), silent)
    other = run_campaign(plan_of(folders[:1], command, tmp_path / "other"), silent)
    assert "not of this campaign" in other.done[0].outcome.verdict
    assert (tmp_path / "count").read_text().split() == ["h0"]


QUEUE = """
cd "$(dirname "$0")"
if [ "$1" = ask ]; then [ -e "done-$2" ] || echo "$2 R"; exit 0; fi
number=$(($(ls -d taken-* 2>/dev/null | wc -l) + 1))
until mkdir "taken-$number" 2>/dev/null; do number=$((number + 1)); done
queue=$PWD
(cd "$OLDPWD"; sleep 0.05; sh -c "$2" > job.txt 2>&1; touch "$queue/done-$number") > /dev/null 2>&1 &
echo "Submitted batch job $number"
"""


def test_jobs_of_a_queue_are_found_again_by_a_campaign_and_learned(runs, tmp_path, monkeypatch):
    """A campaign that ends while its jobs are in the queue: the same command waits for them and submits each folder once. Their files say how long they took."""
    folders, command = runs
    (tmp_path / "queue.sh").write_text(QUEUE)
    queue = f"sh {tmp_path}/queue.sh"
    line = f"{queue} submit 'touch begun; sleep 0.2; {command}'"
    arguments = [*map(str, folders[:4]), "--submit", line, "--queue", f"{queue} ask {{job}}", "--every", "0.01"]
    arguments += ["-j", "2", "-o", str(tmp_path / "c"), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr("workflows.scf.queues.Queue.holds", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ended = CliRunner().invoke(campaign_command, arguments)
    assert ended.exit_code == 130
    assert 1 <= len(list(tmp_path.glob("taken-*"))) <= 2
    done = CliRunner().invoke(campaign_command, arguments, catch_exceptions=False)
    said = json.loads(done.stdout)
    assert (done.exit_code, said["ok"], said["frames"]) == (0, 4, 4)
    assert sorted((tmp_path / "count").read_text().split()) == ["h0", "h1", "h2", "h3"]
    assert len(energies(tmp_path / "c")) == 4
    seconds = [ran["outcome"]["default"]["seconds"] for ran in said["outcomes"]]
    assert all(0.2 <= took < 5 for took in seconds)
    assert said["seconds_of_an_iteration"] > 0


def test_a_run_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    ended = Kept("sleep 60 & sleep 60", timeout=0.3).wait(tmp_path, "kept", {}, lambda: None)
    assert ended.returned == 124
    assert not (tmp_path / ENDED).exists()


def test_times_of_a_run_are_those_of_all_its_processes(tmp_path):
    ended = Kept("""awk 'BEGIN { for (n = 0; n < 3000000; n++) s += n }'; exit 5""").wait(
        tmp_path, "kept", {}, lambda: None
    )
    assert ended.returned == 5
    assert 0.03 < ended.cpu_seconds < 10


def test_a_journal_survives_a_line_that_was_cut_off(tmp_path):
    with Journal(tmp_path) as journal:
        journal.add("done", folder="a")
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"event": "done", "fol')
    with Journal(tmp_path) as journal:
        assert [event["folder"] for event in journal.of("done")] == ["a"]
        journal.add("again", folder="a")
    with Journal(tmp_path) as journal:
        assert journal.of_folders() == {}


# Order


def test_the_first_runs_are_the_most_different(tmp_path):
    """Two clusters of structures and one far from both: the first three runs are one of each."""
    random = np.random.default_rng(0)
    structures = []
    for bend in [0.0] * 6 + [0.25] * 6 + [0.6]:
        atoms = molecule("H2O")
        atoms.positions[1, 1] += bend
        atoms.positions += random.normal(0, 0.002, (3, 3))
        structures.append(atoms)
    order = farthest_first(fingerprints(structures))
    assert sorted(order) == list(range(13))
    assert {0 if n < 6 else 1 if n < 12 else 2 for n in order[:3]} == {0, 1, 2}
    turned = [atoms.copy() for atoms in structures]
    for atoms in turned:
        atoms.rotate(random.uniform(0, 360), random.normal(size=3))
    np.testing.assert_allclose(fingerprints(turned), fingerprints(structures), atol=1e-9)
    unknown = [tmp_path / str(n) for n in range(5)]
    for folder in unknown:
        folder.mkdir()
    assert choose_order(unknown) == [0, 4, 2, 1, 3]


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
        learner.consider(ledger, 3, 100)  # of 16 atoms together
        assert begun == []
        monkeypatch.setattr("workflows.campaign.learning.ATOMS", 16)
        learner.consider(ledger, 2, 100)
        assert begun == []
        learner.consider(ledger, 3, 100)
        monkeypatch.setattr("workflows.campaign.learning.ATOMS", 17)
        learner.consider(ledger, 6, 100)
    assert begun == [3, 6]


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


def test_one_run_in_twenty_starts_from_the_default_for_comparison_however_often_the_campaign_is_ended(
    runs, tmp_path, monkeypatch, taught
):
    """A model to begin with starts all runs but the tenth and the thirtieth; these are no fewer where the budget ends a call."""
    begun = []

    def run(self, folder, guide, control=False):
        begun.append((guide is not None, control))
        progress = Progress(10, -1.0, True, (), True)
        start = Start(str(folder), 5.0, 0, progress, 5.0)
        starts = {"default": start} if control else {"guess": start}
        return Ran(Outcome(str(folder), "ok", use=str(folder), **starts), 0 if control else guide.number, 0.0, control)

    folders = [tmp_path / "many" / str(n) for n in range(35)]
    for folder in folders:
        folder.mkdir(parents=True)
    monkeypatch.setattr("workflows.campaign.runs.Runner.run", run)
    monkeypatch.setattr("workflows.campaign.campaign.Campaign.learn", lambda *_: "not here")
    monkeypatch.setattr("workflows.campaign.worth.Ledger.gain", lambda *_: 1.0)
    for count in (7, 12, 35):  # calls with more and more folders
        standing = run_campaign(plan_of(folders[:count], "true", tmp_path / "c", model=taught[1]), silent)
    assert [n for n, (_, control) in enumerate(begun, 1) if control] == [10, 30]
    assert len(begun) == 35
    assert len(standing.ledger.controls) == 2
    page = write_campaign_page(standing, facts_of(standing), "")
    assert page.count("default, as a control") == 2
    assert "default of controls 10.0 (2)" in facts_of(standing)["iterations"]


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


def test_ctrl_c_ends_what_runs_here_and_nothing_elsewhere(tmp_path):
    stopped, elsewhere = Kept("sleep 60"), tmp_path / "elsewhere"
    stopped.stop.set()
    with pytest.raises(KeyboardInterrupt):
        stopped.wait(tmp_path, "", {}, lambda: None)
    assert not (tmp_path / STATE).exists()
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    (elsewhere / STATE).mkdir(parents=True)
    (elsewhere / BEGUN).write_text(f"{other.pid} another-machine")
    end(elsewhere, None)
    assert other.poll() is None
    other.kill()
    other.wait()
    running = Kept("sleep 60")
    Timer(0.3, running.stop.set).start()
    with pytest.raises(KeyboardInterrupt):
        running.wait(tmp_path, "", {}, lambda: None)
    assert not is_alive(tmp_path)


def test_the_end_of_a_run_is_seen_at_once_and_waiting_costs_nothing(tmp_path):
    looks: list[float] = []
    began, spent = time.monotonic(), time.process_time()
    ended = Kept("sleep 0.6").wait(tmp_path, "", {}, lambda: looks.append(0.0))
    assert ended.returned == 0
    assert time.monotonic() - began < 1.5  # the next look would have been after a second
    assert time.process_time() - spent < 0.1


def test_atoms_in_one_place_are_no_end_of_a_campaign(tmp_path):
    for n in range(3):
        (tmp_path / str(n)).mkdir()
        Atoms("H2", [[0, 0, 0], [0, 0, 0.0 if n == 1 else 0.7 + n]]).write(tmp_path / str(n) / "h2.xyz")
    assert choose_order([tmp_path / str(n) for n in range(3)]) == [0, 2, 1]


def test_seconds_before_the_first_iteration_are_not_saved():
    """Runs of 3 s and 0.5 s an iteration: the line is found once iterations differ."""
    rows = [Row(n, 3.0 + 0.5 * n, model) for n, model in [(10, 0)] * 10 + [(4, 1)] * 30]
    ledger = Ledger(rows)
    assert ledger.beginning == pytest.approx(3.0, abs=0.3)
    assert ledger.saved == pytest.approx(30 * 6 * 0.5, rel=0.1)


# Learning, and predictions for scripts


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A model of hydrogen that the training process of a campaign makes, and the dataset."""
    place = tmp_path_factory.mktemp("taught")
    with DatasetWriter(place / "data.h5") as writer:
        for n in range(8):
            mf = hydrogen(Atoms("H2", [[0, 0, 0], [0, 0, 0.62 + 0.03 * n]]))
            mf.kernel()
            writer.append(frame_from_scf(mf))
    said = teach(place / "data.h5", place / "first.safetensors", None, 0.7)
    assert said["frames"] == 8
    assert said["checked"]
    return place / "data.h5", place / "first.safetensors", said


def test_a_model_goes_on_from_the_one_before(taught, tmp_path):
    data, first, said = taught
    assert teach(data, tmp_path / "second.safetensors", str(first), 0.2)["errors"]["H"] < 3 * said["errors"]["H"]


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


# ASE's door


def test_a_calculator_that_learns_gives_what_the_code_gives(taught, tmp_path):
    """All four starts end in the energies and forces of PySCF's own start; each calculation is in the dataset."""
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
    assert {"both", "predicted", "last"} <= set(said["starts"])
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
    ((_, frames, left),) = considered
    assert (frames, left) == (3, 4)
    assert len(energies(tmp_path)) == 3


def water_along(t):
    return Atoms("OHH", [[0, 0, 0], [0, 0.05 * t, 0.96 + 0.04 * t], [0, 0.95 - 0.03 * t**2, -0.3 + 0.1 * t]])


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
    """Where the radial functions are known; an atom that has gone into another cell is no earlier place."""
    inner = Silicon(unpacked("siesta", "h2o"), tmp_path / "calc")
    door = Files(inner)
    (frame,) = frames_of("siesta", "h2o")
    door.calculate(frame.atoms)
    door.store(tmp_path / "data.h5")
    assert door.kinds(frame.atoms) == ["own"]
    (known,) = door.earlier.frames
    crossed = replace(known, positions_av=known.positions_av + known.cell_cv[0] * np.array([[0], [1], [0]]))
    door.earlier.frames = [known, crossed]
    door.kind = "last"
    door.calculate(frame.atoms)
    assert door.taken == "own"
    door.earlier.frames = [known, known]
    assert door.kinds(frame.atoms) == ["last", "own"]
    door.calculate(frame.atoms)
    assert door.taken == "last"
    assert any(name.endswith(".DM") for name in inner.given)
    made = combined_frame([known, known], known.cell_cv, known.positions_av)
    np.testing.assert_allclose(made["DM"].values_sx, known["DM"].values_sx, atol=1e-9)
    np.testing.assert_allclose(made["S"].values_sx, known["S"].values_sx, atol=1e-8)
    assert combined_frame([known], known.cell_cv, known.positions_av) is None
    assert combined_frame([replace(known, functions=())] * 2, known.cell_cv, known.positions_av) is None


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
