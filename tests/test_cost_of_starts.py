"""What a start costs, measured beside a code of which one iteration is known."""

import math
import shutil
import sys

import pytest
from click.testing import CliRunner

from converters.starts.targets import find_target
from tests.fixtures import frames_of, unpacked
from workflows.benchmarks.cost import bench_cost, cost_of_iteration
from workflows.cli import main
from workflows.processes.threads import FEW_ATOMS, threads_for

# Converges after six iterations, if it is allowed as many, and takes 0.05 CPU seconds for each after a set-up of 0.1.
SLOW_CODE = """
import re, time
most = min(6, int(re.search(r"^MaxSCFIterations +(\\d+)", open("si2.fdf").read(), re.M)[1]))
while time.process_time() < 0.1 + 0.05 * most:
    pass
print("Version : 5.0")
for n in range(1, most + 1):
    print(f"   scf: {n} -1.000000 -1.000000 -1.000000 0.000001 -1.000000 0.000001")
"""


def test_a_start_is_compared_with_one_iteration_of_the_code(tmp_path, monkeypatch, capsys):
    (frame,) = frames_of("siesta", "si2")
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(unpacked("siesta", "si2") / "si2.fdf", run)
    (tmp_path / "code.py").write_text(SLOW_CODE)
    monkeypatch.setattr("slem_plugin.checkpoint.load_model", lambda path: "a model")
    monkeypatch.setattr("slem_plugin.prediction.predict", lambda model, atoms: frame)
    monkeypatch.setattr("workflows.benchmarks.cost.cost_alone", lambda *_: 3.0)
    command = f"{sys.executable} {tmp_path / 'code.py'} > si2.out"
    (row,) = bench_cost([run], tmp_path / "cost", tmp_path / "model", command)
    assert (row["code"], row["atoms"], row["orbitals"], row["start"]) == ("SIESTA", 2, frame.norb, "h2dm")
    assert row["predicted"] == ""  # the frame is what SIESTA computed
    assert row["iteration"] == pytest.approx(0.05, abs=0.02)
    assert row["start / iteration"] == pytest.approx((row["prediction"] + row["export"]) / row["iteration"])
    assert sorted(path.name for path in run.iterdir()) == ["si2.fdf"]
    assert capsys.readouterr().err == f"{run}: starts of 2 atoms, then runs of 1 and of at most 8 iterations\n"


def test_iterations_that_take_no_time_have_none(tmp_path, monkeypatch, capsys):
    """A short one drowns in what the set-up takes, which is no reason for a start that costs nothing, or for an error at the end."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(unpacked("siesta", "si2") / "si2.fdf", run)
    (tmp_path / "code.py").write_text(SLOW_CODE.replace("0.05 * most", "0.4 / most"))
    command = f"{sys.executable} {tmp_path / 'code.py'} > si2.out"
    assert math.isnan(cost_of_iteration(find_target(run), tmp_path, command))
    assert capsys.readouterr().err == f"{run}: 6 iterations took no longer than 1; the time of one is not known\n"


def test_the_command_asks_for_what_it_needs(tmp_path):
    for words, told in ((["cost"], "cost needs --cmd"), (["cost", "--cmd", "true"], "cost needs --model")):
        done = CliRunner().invoke(main, ["bench", *words])
        assert done.exit_code == 2
        assert told in done.output


def test_small_structures_have_one_thread():
    from threadpoolctl import threadpool_info

    def most():
        return max(library["num_threads"] for library in threadpool_info())

    before = most()
    with threads_for(FEW_ATOMS):
        assert most() == before
    with threads_for(FEW_ATOMS - 1):
        assert most() == 1
    assert most() == before
