"""slem-campaign: what runs, in which order; kills at random moments end in the same dataset and verdicts."""

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from click.testing import CliRunner
from pyscf import gto, scf

from converters.errors import Refused
from converters.starts.start import Progress
from tests.campaigns import energies, plan_of, silent
from workflows.campaign.campaign import Campaign, run_campaign
from workflows.campaign.journal import Journal
from workflows.campaign.kept import BEGUN, ENDED, STATE, Kept, end, is_alive
from workflows.campaign.order import choose_order, farthest_first, fingerprints
from workflows.campaign.runs import Ran
from workflows.cli import campaign_command
from workflows.pictures.campaign_page import write_campaign_page
from workflows.scf.outcome import Outcome, Start
from workflows.terminal.show_campaign import facts_of

COUNT = 10


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


class AtOnce:
    """In place of a thread: what is asked of it is done at once."""

    def __init__(self, _):
        pass

    def submit(self, function, *arguments):
        answer = Future()
        answer.set_result(function(*arguments))
        return answer

    def shutdown(self):
        pass


def learn_together(monkeypatch):
    """From the third run on frames go into the dataset three at a time, as where all start from the default."""
    monkeypatch.setattr("workflows.campaign.campaign.FIRST_LEARNED", 2)
    monkeypatch.setattr("workflows.campaign.campaign.PORTION", 3)
    monkeypatch.setattr("workflows.campaign.worth.Ledger.gain", lambda *_: 0.0)
    monkeypatch.setattr("workflows.campaign.worth.Ledger.is_due", lambda _: False)


def test_runs_go_into_the_dataset_together_where_nobody_waits_for_them(runs, tmp_path, monkeypatch):
    folders, command = runs
    sizes, convert = [], Campaign.convert
    learn_together(monkeypatch)
    monkeypatch.setattr(Campaign, "convert", lambda self, some: sizes.append(len(some)) or convert(self, some))
    monkeypatch.setattr("workflows.campaign.postponed.ThreadPoolExecutor", AtOnce)
    standing = run_campaign(plan_of(folders, command, tmp_path / "c"), silent)
    assert sizes == [1, 1, 3, 3, 1, 1]  # while the last run goes nothing waits any more
    assert len(energies(tmp_path / "c")) == standing.frames == COUNT
    assert not standing.refused


def test_runs_do_not_wait_for_the_dataset(runs, tmp_path, monkeypatch):
    folders, command = runs
    learn_together(monkeypatch)
    convert, begun = Campaign.convert, []

    def after_all_runs(self, some):
        until = time.monotonic() + 20
        while len(self.done) > 2 and how_many() < COUNT and time.monotonic() < until:
            time.sleep(0.01)
        begun.append(how_many())
        return convert(self, some)

    def how_many():
        return len((tmp_path / "count").read_text().split())

    monkeypatch.setattr(Campaign, "convert", after_all_runs)
    monkeypatch.setattr("workflows.campaign.learning.FEWEST", COUNT + 1)  # nobody asks the dataset how large they are
    standing = run_campaign(plan_of(folders, command, tmp_path / "c"), silent)
    assert begun[:2] == [1, 2]
    assert set(begun[2:]) == {COUNT}
    assert len(energies(tmp_path / "c")) == standing.frames == COUNT


def test_what_a_kill_left_out_of_the_dataset_goes_in_later(runs, tmp_path, monkeypatch):
    folders, command = runs
    with monkeypatch.context() as patched:
        learn_together(patched)
        patched.setattr(Campaign, "learn_postponed", lambda _: None)
        patched.setattr(Campaign, "learn_beside", lambda *_: None)
        run_campaign(plan_of(folders, command, tmp_path / "c"), silent)
    assert len(energies(tmp_path / "c")) == 2
    standing = run_campaign(plan_of(folders, command, tmp_path / "c"), silent)
    assert len(set(energies(tmp_path / "c"))) == standing.frames == COUNT
    assert len((tmp_path / "count").read_text().split()) == COUNT


@pytest.mark.parametrize("together", [False, True])
def test_killed_campaigns_go_on_and_end_in_the_same(runs, tmp_path, monkeypatch, together):
    folders, command = runs
    if together:
        learn_together(monkeypatch)
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
    monkeypatch.setattr("workflows.campaign.campaign.Campaign.learn", lambda _, runs: ["not here"] * len(runs))
    monkeypatch.setattr("workflows.campaign.worth.Ledger.gain", lambda *_: 1.0)
    for count in (7, 12, 35):  # calls with more and more folders
        standing = run_campaign(plan_of(folders[:count], "true", tmp_path / "c", model=taught[1]), silent)
    assert [n for n, (_, control) in enumerate(begun, 1) if control] == [10, 30]
    assert len(begun) == 35
    assert len(standing.ledger.controls) == 2
    page = write_campaign_page(standing, facts_of(standing), "")
    assert page.count("default, as a control") == 2
    assert "default of controls 10.0 (2)" in facts_of(standing)["iterations"]


def test_ctrl_c_leaves_the_model_so_far(tmp_path, monkeypatch, taught):
    monkeypatch.setattr("workflows.campaign.runs.Runner.run", lambda *_: Ran(Outcome("run", "ok")))
    (tmp_path / "run").mkdir()

    def tell(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_campaign(plan_of([tmp_path / "run"], "true", tmp_path / "c", model=taught[1]), tell)
    assert (tmp_path / "c" / "model" / "best.safetensors").exists()


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
