"""slem-scf: a real SCF of PySCF from a model's prediction, and every way in which a run can go wrong, with stand-in codes."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from click.testing import CliRunner
from pyscf import dft, gto

from converters.errors import Refused
from converters.openmx.restart import absolute_moment
from converters.pyscf import frame_from_scf
from converters.starts.agreement import Agreement
from converters.starts.start import Progress
from converters.starts.targets import restart_module
from converters.storage.writer import DatasetWriter
from slem_plugin import pyscf_guess
from slem_plugin.checkpoint import load_model
from slem_plugin.config import Config
from tests.fixtures import frames_of, unpacked
from workflows.cli import scf_command
from workflows.scf.judge import compare, judge
from workflows.scf.outcome import Outcome, Start
from workflows.scf.queues import Here
from workflows.scf.run_folders import Work
from workflows.terminal.show_scf import gain_of, shared_notes
from workflows.train import train_folder

SCRIPT = """
from pyscf import dft, gto
from slem_plugin import pyscf_guess
mol = gto.M(atom={atom!r}, basis="{basis}", verbose=4, output="pyscf.log")
mf = dft.RKS(mol, xc="pbe")
mf.kernel(dm0=pyscf_guess(mf))
"""
# Its import takes longer than a small SCF: slem-scf predicts for the scripts.
NO_TORCH = """
import sys
assert "torch" not in sys.modules
"""


def water(seed, basis="6-31g"):
    atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(seed).normal(0, 0.04, (3, 3))
    atom = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    return atom, dft.RKS(gto.M(atom=atom, basis=basis, verbose=0), xc="pbe")


def trained(frames, folder):
    data = folder / "data.h5"
    with DatasetWriter(data) as writer:
        for frame in frames:
            writer.append(frame)
    config = Config(steps=60, time="0", layers=1, validate="0", channels="12x0e+8x1o+4x2e+2x3o+2x4e")
    train_folder(data, folder / "model", config, resume=False, prepared=nothing, watch=nothing, report=nothing)
    return folder / "model"


def nothing(*_):
    pass


@pytest.fixture(scope="module")
def water_model(tmp_path_factory):
    frames = []
    for seed in range(8):
        mf = water(seed)[1]
        mf.kernel()
        frames.append(frame_from_scf(mf))
    return trained(frames, tmp_path_factory.mktemp("water"))


@pytest.fixture(scope="module")
def silicon_model(tmp_path_factory):
    """A model of one structure of ABACUS; its predictions are of the run that it was made from."""
    return trained(frames_of("abacus", "si2"), tmp_path_factory.mktemp("silicon"))


def run_scf(*arguments):
    done = CliRunner().invoke(scf_command, [*map(str, arguments), "--json"], catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)["runs"]


# PySCF, for real


def test_pyscf_starts_from_a_prediction_and_ends_in_the_same_energy(water_model, tmp_path):
    folders = [tmp_path / f"run{seed}" for seed in (100, 101)]
    for folder, seed in zip(folders, (100, 101), strict=True):
        folder.mkdir()
        (folder / "run.py").write_text(SCRIPT.format(atom=water(seed)[0], basis="6-31g") + NO_TORCH)
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    code, runs = run_scf(*folders, "--model", water_model, "--cmd", f"{sys.executable} run.py", "--compare")
    assert code == 0, runs
    for run in runs:
        assert run["ok"]
        assert run["guess"]["progress"]["took_guess"] is True
        assert run["default"]["progress"]["took_guess"] is False
        assert run["guess"]["progress"]["iterations"] < run["default"]["progress"]["iterations"]
        assert run["guess"]["progress"]["residuals"][0] < 0.1 * run["default"]["progress"]["residuals"][0]
        assert abs(run["difference"]) <= run["tolerance"] < 1e-4
        assert run["atoms"] == 3
        assert len(run["guess"]["progress"]["energies"]) == run["guess"]["progress"]["iterations"]
        assert run["until_1meV_an_atom"][0] < run["until_1meV_an_atom"][1]
        assert not run["weakness"]
    assert before == {path: path.read_text() for path in before}


def test_atoms_unlike_those_learned_are_started_by_pyscf_itself(water_model, tmp_path):
    """Hydrogens on top of each other: the prediction is no density, and the guard says so."""
    atom = [["O", [0, 0, 0]], ["H", [0.55, 0, 0]], ["H", [0.75, 0.2, 0]]]
    mf = dft.RKS(gto.M(atom=atom, basis="6-31g", verbose=0), xc="pbe")
    assert pyscf_guess(mf, water_model) is None
    assert pyscf_guess(mf, water_model, guard=False) is not None
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.py").write_text(SCRIPT.format(atom=atom, basis="6-31g"))
    code, runs = run_scf(tmp_path / "run", "--model", water_model, "--cmd", f"{sys.executable} run.py")
    assert code == 1
    assert "the default start was taken" in runs[0]["verdict"]
    assert runs[0]["use"].endswith("-slem-default")


def test_one_line_starts_scripts_and_nothing_happens_without_a_model(water_model, monkeypatch):
    _, mf = water(200)
    assert pyscf_guess(mf) is None
    for source in (water_model, str(water_model), load_model(water_model)):
        dm0 = pyscf_guess(mf, source)
        assert dm0.shape == (13, 13)
        S = mf.get_ovlp()
        assert np.trace(dm0 @ S) == pytest.approx(10, abs=1e-9)
        np.testing.assert_allclose(dm0 @ S @ dm0, 2 * dm0, atol=1e-8)
    monkeypatch.setenv("SLEM_MODEL", str(water_model))
    np.testing.assert_allclose(pyscf_guess(mf), dm0)
    other = water(200, "sto-3g")[1]
    from converters.errors import Refused

    with pytest.raises(Refused, match="the model was trained with"):
        pyscf_guess(other)


# ABACUS, with stand-ins: scripts that leave the logs that the real code left


LOG = "OUT.ABACUS/running_scf.log"
CODE = """
import pathlib, re, shutil, sys
given = pathlib.Path("INPUT").read_text()
guess = re.search(r"^init_chg +(dm|hr)", given, re.M)
guessed = guess is not None
assert not guessed or pathlib.Path("guess", guess[1] + "s1_nao.csr" if guess[1] == "hr" else "dmrs1_nao.csr").exists()
text = pathlib.Path({log!r}).read_text()
if not guessed:
    text = text.replace("init_chg = dm", "init_chg = atomic").replace("#ELEC ITER#         1", "#ELEC ITER#         8")
{change}
out = pathlib.Path("OUT.ABACUS"); out.mkdir()
(out / "running_scf.log").write_text(text)
"""


@pytest.fixture
def silicon_run(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unpacked("abacus", "si2"), folder)
    unpacked("abacus", "restart")
    return folder


def stand_in(folder, change=""):
    """A command that behaves like ABACUS and leaves the log of the accepted restart."""
    log = unpacked("abacus", "si2").parent / "restart" / "si2_dm" / LOG
    script = folder.parent / "code.py"
    script.write_text(CODE.format(log=str(log), change=change))
    return f"{sys.executable} {script}"


def test_a_run_that_takes_the_guess_is_a_success(silicon_model, silicon_run):
    command = stand_in(silicon_run)
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", command, "--compare")
    assert code == 0, run
    assert run["route"] in ("h", "dm")  # dm where the model is too poor
    assert (run["guess"]["progress"]["iterations"], run["default"]["progress"]["iterations"]) == (1, 8)
    assert run["use"].endswith("run-slem-guess")
    copy = silicon_run.parent / "run-slem-guess"
    assert f"init_chg           {'hr' if run['route'] == 'h' else 'dm'}" in (copy / "INPUT").read_text()
    assert not list(silicon_run.glob("guess"))


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("text = text.replace('init_chg = dm', 'init_chg = atomic')", "ignored the guess"),
        ("text = text.replace('-211.94', '-211.95') if guessed else text", "another state: -1.00e-02 eV"),
        ("sys.exit(3) if guessed else None", "exit code 3"),
        ("text = text.replace('!FINAL', '').replace('FINAL', '') if guessed else text", "left no energy"),
        (
            "text = text.replace('#SCF IS CONVERGED#', 'convergence has NOT been achieved') if guessed else text",
            "not converged after 1 iterations",
        ),
    ],
)
def test_a_run_that_goes_wrong_is_no_success(change, verdict, silicon_model, silicon_run):
    command = stand_in(silicon_run, change)
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", command, "--compare")
    assert code == 1
    assert verdict in run["verdict"], run["verdict"]
    assert run["use"].endswith("-slem-default")


def test_a_missing_program_and_a_missing_input_are_named(silicon_model, silicon_run, tmp_path):
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", "no-such-program-of-ours")
    assert code == 1
    assert "not found" in run["verdict"]
    assert "default start failed too" in run["verdict"]
    (tmp_path / "empty").mkdir()
    code, (run,) = run_scf(tmp_path / "empty", "--model", silicon_model, "--cmd", "true")
    assert code == 1
    assert "not run" in run["verdict"]


def test_a_run_that_the_model_does_not_know_is_started_as_ever(silicon_model, silicon_run):
    stru = (silicon_run / "STRU").read_text()
    (silicon_run / "STRU").write_text(stru.replace("Si_gga_6au_100Ry_2s2p1d.orb", "Si_gga_8au_100Ry_2s2p1d.orb"))
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", stand_in(silicon_run))
    assert code == 1
    assert "no guess" in run["verdict"]
    assert "Si_gga_8au" in run["verdict"]
    assert run["use"].endswith("-slem-default")


def test_the_same_command_goes_on_where_it_was(silicon_model, silicon_run):
    """What ended well is not run again; what failed is; another command needs to be told that copies may go."""
    command = stand_in(silicon_run, "(pathlib.Path(sys.argv[0]).parent / 'count').open('a').write('x')")
    count = silicon_run.parent / "count"
    first = run_scf(silicon_run, "--model", silicon_model, "--cmd", command)
    assert run_scf(silicon_run, "--model", silicon_model, "--cmd", command) == first
    assert len(count.read_text()) == 1
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", command, "--compare")
    assert (code, len(count.read_text())) == (0, 2)
    assert run["ratio"] == 1 / 8
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", command + " ")
    assert code == 1
    assert "--overwrite" in run["verdict"]
    record = silicon_run.parent / "run-slem-guess" / "slem-scf.json"
    record.write_text(record.read_text().replace('"returned": 0', '"returned": 1'))
    assert run_scf(silicon_run, "--model", silicon_model, "--cmd", command)[0] == 0
    assert len(count.read_text()) == 3


def test_a_start_that_is_no_better_than_the_default_is_called_so(silicon_model, silicon_run):
    change = "text = text.replace('deviation 5.3', 'deviation 9.3') if guessed else text"
    code, (run,) = run_scf(silicon_run, "--model", silicon_model, "--cmd", stand_in(silicon_run, change), "--compare")
    assert code == 0
    assert "first residual is 9.4e-10, that one's 5.4e-10" in run["weakness"]


def test_both_runs_end_by_their_energy_where_that_is_asked_for(silicon_model, silicon_run):
    command = stand_in(silicon_run)
    arguments = (silicon_run, "--model", silicon_model, "--cmd", command, "--compare", "--stop-at", "0.1meV")
    code, (run,) = run_scf(*arguments)
    assert code == 0, run
    assert any("ends by its energy alone" in note for note in run["notes"])
    assert run["tolerance"] == pytest.approx(10 * 1e-4 * 2)
    for kind in ("guess", "default"):
        given = (silicon_run.parent / f"run-slem-{kind}" / "INPUT").read_text()
        assert "scf_ene_thr        0.0002" in given
        assert "scf_thr            1e-2" in given
    assert "scf_ene_thr" not in (silicon_run / "INPUT").read_text()
    for wrong in ("0.1", "meV", "-1meV", "0eV"):
        done = CliRunner().invoke(scf_command, [*map(str, arguments[:-1]), wrong])
        assert done.exit_code == 2


def test_many_folders_run_at_once(silicon_model, silicon_run):
    """Two runs, each of which waits for the other to begin."""
    both = [silicon_run, silicon_run.parent / "other"]
    shutil.copytree(*both)
    wait = """
import time
place = pathlib.Path(sys.argv[0]).parent
(place / ("begun-" + pathlib.Path.cwd().name)).touch()
while len(list(place.glob("begun-*"))) < 2: time.sleep(0.05)
"""
    command = stand_in(silicon_run, wait)
    code, runs = run_scf(*both, "--model", silicon_model, "--cmd", command, "-j", "2", "--timeout", "60")
    assert code == 0, runs
    assert [run["folder"] for run in runs] == [str(folder) for folder in both]


QUEUE = """
import pathlib, subprocess, sys
place = pathlib.Path(sys.argv[0]).parent
if sys.argv[1] == "submit":
    (place / "submitted").open("a").write("x")
    subprocess.run(sys.argv[2:], check=True)
    (place / "held").write_text("waiting")
    print("2 nodes are free\\nSubmitted batch job 4711 of run-2.sh")
elif (place / "held").exists():
    (place / "asked").open("a").write("x")
    if (place / "asked").read_text().count("x") > 2:
        (place / "held").unlink()
    print("4711 R")
"""


def test_jobs_of_a_queue_are_waited_for_and_found_again(silicon_model, silicon_run, monkeypatch):
    """A queue that holds a job for three questions; the second call finds the job of the first and submits none."""
    command, place = stand_in(silicon_run), silicon_run.parent
    (place / "queue.py").write_text(QUEUE)
    queue = f"{sys.executable} {place / 'queue.py'}"
    arguments = (silicon_run, "--model", silicon_model, "--submit", f"{queue} submit {command}")
    arguments += ("--queue", f"{queue} ask {{job}}", "--every", "0.01")
    with monkeypatch.context() as patched:
        patched.setattr("workflows.scf.queues.Queue.holds", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        done = CliRunner().invoke(scf_command, [*map(str, arguments)])
    assert done.exit_code == 130
    assert "jobs in a queue go on" in done.stderr
    assert (place / "submitted").read_text() == "x"
    code, (run,) = run_scf(*arguments)
    assert code == 0, run
    assert run["guess"]["seconds"] is None
    assert (place / "submitted").read_text() == "x"
    assert len((place / "asked").read_text()) == 3


def test_a_queue_that_takes_no_job_says_why(silicon_model, silicon_run):
    arguments = (silicon_run, "--model", silicon_model, "--submit", "echo invalid partition >&2; false")
    code, (run,) = run_scf(*arguments)
    assert code == 1
    assert "invalid partition" in run["verdict"]


def test_a_run_that_takes_too_long_is_ended(silicon_model, silicon_run):
    arguments = (silicon_run, "--model", silicon_model, "--cmd", "sleep 20", "--timeout", "0.5")
    code, (run,) = run_scf(*arguments)
    assert code == 1
    assert "too long" in run["verdict"]


def test_seconds_of_the_processors_are_those_of_all_that_the_command_started(tmp_path):
    burn = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.3: pass'"
    ended = Here(f"{burn}; sleep 0.3; exit 3").wait(tmp_path, "", {}, lambda: None)
    assert ended.returned == 3
    assert 0.3 <= ended.cpu_seconds <= ended.seconds - 0.25


def test_an_scf_that_does_not_converge_is_said_before_its_exit_code(tmp_path):
    """SIESTA aborts after its last iteration, which says less than that it did not converge."""
    (tmp_path / "tio2.out").write_text(
        "Version         : 5.4.2\n        iscf     Eharris(eV)        E_KS(eV)\n"
        "   scf:    1    -9362.163368    -9362.969048    -9363.002517  1.444846  0.588388  2.991565\n"
        "SCF_NOT_CONV: SCF did not converge in maximum number of steps (required).\nABNORMAL_TERMINATION\n"
    )
    endless = Start("guess", 9.0, 134, restart_module("siesta").read_progress(tmp_path))
    assert judge(endless).startswith("not converged after 1 iterations, the command failed with exit code 134; see ")
    broken = Start("guess", 9.0, 134, Progress(1, -9.0))
    assert judge(broken).startswith("the command failed with exit code 134; see ")

    def beside(default):
        return compare(Outcome("run", judge(endless), guess=endless, default=default)).verdict

    assert beside(endless).endswith("; the default start did not converge either")
    assert beside(broken).endswith("; the default start failed too")


@pytest.mark.parametrize("repeated", [[0, 2, 0], []])
def test_a_refused_start_says_that_the_model_learned_images_in_DM(repeated, tmp_path, monkeypatch):
    """Its DM alone may be wrong then."""

    def export(_, staged, *__):
        staged.mkdir()
        return SimpleNamespace(agreement=Agreement(0.2, 5.0))

    monkeypatch.setattr("workflows.scf.run_folders.export", export)
    job = SimpleNamespace(request=SimpleNamespace(route="auto"))
    model = SimpleNamespace(history={"DM repeated at": repeated})
    work = Work(model, job, None, start=lambda _: None)
    with pytest.raises(Refused) as refused:
        work.put_guess(tmp_path, SimpleNamespace(labels_a=("Ti", "O")), None)
    assert "is not started: the predicted H and DM are 0.2 electrons apart (more than 0.15)" in str(refused.value)
    assert ("--dm-mesh auto, or name a route from H" in str(refused.value)) is bool(repeated)


def test_what_is_to_be_known_of_all_starts_is_said_once():
    runs = [
        Outcome("a", "ok", notes=("S is computed", "the mixer remembers 2 steps", "0.1 electrons apart")),
        Outcome("b", "no guess: another basis"),
        Outcome("c", "ok", notes=("the mixer remembers 2 steps", "S is computed", "0.2 electrons apart")),
    ]
    assert shared_notes(runs) == ["S is computed", "the mixer remembers 2 steps"]
    assert shared_notes(runs[:1]) == list(runs[0].notes)
    assert shared_notes(runs[1:2]) == []


def test_two_ends_of_an_scf_that_still_creeps_are_one_state():
    """The last energies that SIESTA printed for bcc iron at its default criterion, after 19 and 38 iterations."""
    guess = (-1559.57,) * 14 + (-1559.592865, -1559.592882, -1559.592899, -1559.592902, -1559.592911)
    own = (-1559.58,) * 28 + (
        -1559.593107,
        -1559.593070,
        -1559.593079,
        -1559.593062,
        -1559.593015,
        -1559.593039,
        -1559.593019,
        -1559.593004,
        -1559.592997,
        -1559.592997,
    )

    def judged(shift):
        guess_start, own_start = (
            Start("run", 1.0, 0, Progress(len(energies), energies[-1], True, (), True, energies=tuple(energies)))
            for energies in (np.array(guess) + shift, own)
        )
        return compare(Outcome("run", "ok", guess=guess_start, default=own_start, tolerance=4e-5, atoms=2))

    assert judged(0.0).ok
    assert 8.6e-5 < judged(0.0).tolerance < 2e-4
    assert "another state: +5.09e-03 eV" in judged(0.005).verdict


@pytest.mark.parametrize(
    ("code", "name", "moment", "absolute"),
    [
        ("siesta", "spin", 2.27291, None),
        ("siesta", "soc", 3.93005, None),
        ("siesta", "si2", None, None),
        ("openmx", "spin", 2.142111082, 2.142111082),
        ("openmx", "cluster_spinor", 1.0, 1.07046),
        ("openmx", "h2o", 0.0, 0.0),
        ("abacus", "spin_fe_f", 1.75879, 1.7638),
        ("abacus", "bad_spinor_o2", 1.99992048, 2.066),
    ],
)
def test_moments_are_those_that_the_codes_print(code, name, moment, absolute):
    """At the end of the run; of noncollinear spins the length of the vector."""
    progress = restart_module(code).read_progress(unpacked(code, name))
    for found, printed in ((progress.moment, moment), (progress.absolute, absolute)):
        assert found is None if printed is None else found == pytest.approx(printed, abs=1e-6)


def test_moments_of_an_antiferromagnet_in_openmx_do_not_cancel():
    """As OpenMX printed them for MnO, whose total moment is none."""
    printed = """  Total spin moment (muB)   0.000000000

                    Up spin      Down spin     Sum           Diff
      1  Mn1      9.235931169  4.872027839  14.107959007   4.363903330
      2  Mn2      4.873007646  9.237576243  14.110583889  -4.364568597
      3    O      3.443568188  3.447347847   6.890916034  -0.003779659
      4    O      3.447492998  3.443048072   6.890541070   0.004444926

 Sum of MulP: up   =    21.00000 down          =    21.00000
"""
    assert absolute_moment(printed) == pytest.approx(8.736696512)
    assert absolute_moment("  Total spin moment (muB)   0.000000000\n") is None


def test_the_first_residual_of_openmx_says_nothing_of_a_start():
    """It prints 1 after the first iteration of every run; each residual keeps the place of its iteration."""
    folder = unpacked("openmx", "spin")
    progress = restart_module("openmx").read_progress(folder)
    assert progress.residuals[:3] == (1.0, 1.243105653531, 1.019687273161)
    assert len(progress.residuals) == progress.iterations
    assert progress.first_residual == 1.243105653531
    near = replace(progress, residuals=(1.0, 0.02, 0.01))
    assert replace(near, residuals=(1.0,)).first_residual is None
    outcome = Outcome("run", "ok", guess=Start("a", 1.0, 0, near), default=Start("b", 1.0, 0, progress))
    assert outcome.weakness == ""
    assert (
        "the first residual is 1.2, that one's 0.02"
        in replace(outcome, guess=outcome.default, default=outcome.guess).weakness
    )


def test_moments_of_siesta_5_stand_behind_their_components(tmp_path):
    """As SIESTA 5 ended for hydrogen on graphene."""
    (tmp_path / "hg.out").write_text(
        "Version         : 5.4.2\n"
        "     spin moment: {S} , |S| = {        0.0        0.0    2.00000 }     2.00000\n"
        "     spin moment: {S} , |S| = {        0.0        0.0    0.99999 }     0.99999\n"
    )
    assert restart_module("siesta").read_progress(tmp_path).moment == 0.99999


def test_a_state_that_is_another_says_which_is_the_lower_and_their_moments():
    def judged(guess, own):
        starts = (Start("run", 1.0, 0, Progress(5, energy, True, moment=moment)) for energy, moment in (guess, own))
        found = compare(Outcome("run", "ok", guess=next(starts), default=next(starts), tolerance=1e-4, atoms=2))
        assert found.use == "run"
        return found.verdict

    assert judged((-10.0, 4.5), (-9.9, 0.0)).endswith(
        "moments 4.500 and 0.000; the start from the prediction ended in the lower of the two"
    )
    assert judged((-9.9, 0.0), (-10.0, 4.5)).endswith("moments 0.000 and 4.500")
    assert "moments" not in judged((-9.9, 0.0), (-10.0, 1e-4))


def test_a_default_start_that_fails_is_no_measure_of_a_gain():
    """It counts neither as slow, where it gave up after 100 iterations, nor as fast, where it broke off after one."""
    guess = Start("guess", 9.0, 0, Progress(20, -10.0, True))
    fine = Start("own", 10.0, 0, Progress(40, -10.0, True))
    endless = Start("own", 50.0, 0, Progress(100, -9.0, False))
    broken = Start("own", 1.0, 134, Progress(1, -9.0))

    def compared(default):
        return compare(Outcome("run", "ok", guess=guess, default=default, tolerance=1e-4, atoms=2))

    for default in (endless, broken):
        assert compared(default).ok
        assert compared(default).ratio is None
        assert compared(default).time_ratio is None
        assert "the default start did not converge" in compared(default).notes
    alone = "2 that ended well from the prediction alone: the default start did not"
    assert gain_of([compared(endless), compared(broken)]) == alone
    text = gain_of([compared(fine), compared(endless), compared(broken)])
    assert text.startswith("1 runs compared: 50% fewer iterations on average, 50% in the worst run; 10% less time")
    assert text.endswith(alone)
    hasty = Start("own", 6.0, 0, Progress(40, -10.0, True))
    assert gain_of([compared(hasty)]).endswith("50% in the worst run; 50% more time, everything counted")
