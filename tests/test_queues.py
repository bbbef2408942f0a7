"""Jobs of a queue, with programs that print what those of SLURM 22.05 printed to the same questions."""

import os
from threading import Event

import pytest

from converters.errors import Refused
from converters.starts.start import Progress
from workflows.campaign.runs import timed
from workflows.scf.judge import LOG, TOO_LONG
from workflows.scf.outcome import Start
from workflows.scf.queues import Queue, job_named_in

# Each call of a program takes the next of its answers; the last one is given again.
PROGRAM = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> $(basename "$0").asked
n=$(wc -l < $(basename "$0").asked)
while [ $n -gt 1 ] && [ ! -e $(basename "$0").$n ]; do n=$((n-1)); done
. ./$(basename "$0").$n
"""
THERE = 'echo "                 8      main   run.sh     root  R       0:09      1 vm"'
GONE, UNKNOWN = "exit 0", 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
NO_ANSWER = 'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1'
FORGOTTEN = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'


def fate(state, code):
    return f'echo "JobId=8 JobName=run.sh JobState={state} Reason=None Requeue=1 ExitCode={code} StdErr=/runs/slurm-8.out StdIn=/dev/null StdOut=/runs/slurm-8.out Power="'


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs with the answers that they are to give."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def answer(**answers):
        for name, texts in answers.items():
            (tmp_path / name).write_text(PROGRAM)
            (tmp_path / name).chmod(0o755)
            for n, text in enumerate(texts, 1):
                (tmp_path / f"{name}.{n}").write_text(text)
        return tmp_path

    return answer


def run_job(place, name="run"):
    copy = place / name
    copy.mkdir()
    queue = Queue("sbatch run.sh", every=0.001)
    return queue.wait(copy, queue.begin(copy, {}), {}, lambda: None), (copy / LOG).read_text()


def asked(place, name):
    return (place / f"{name}.asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("state", "code", "returned"),
    [("COMPLETED", "0:0", 0), ("FAILED", "3:0", 3), ("CANCELLED", "0:15", 143), ("CANCELLED", "0:0", 1), ("TIMEOUT", "0:15", TOO_LONG), ("NODE_FAIL", "1:0", 1)],
)  # fmt: skip
def test_the_queue_says_how_a_job_ended(slurm, state, code, returned):
    place = slurm(sbatch=["echo Submitted batch job 8"], squeue=[THERE, THERE, GONE], scontrol=[fate(state, code)])
    ended, log = run_job(place)
    assert ended.returned == returned
    assert f"the queue says: {state}, exit code {code}" in log
    assert "/runs/slurm-8.out" in log
    assert (place / "run" / LOG).stat().st_mtime <= (
        place / "scontrol.asked"
    ).stat().st_mtime  # still when it was handed over
    assert asked(place, "squeue") == ["--noheader --jobs 8"] * (3 if returned else 5)
    assert asked(place, "scontrol") == ["show job --oneliner 8"]


def test_a_job_goes_on_while_the_queue_does_not_answer(slurm):
    """slurmctld may be restarted for minutes: no job is gone for that."""
    place = slurm(
        sbatch=["echo Submitted batch job 8"],
        squeue=[THERE, *[NO_ANSWER] * 9, THERE, UNKNOWN],
        scontrol=[fate("COMPLETED", "0:0")],
    )
    ended, _ = run_job(place)
    assert ended.returned == 0
    assert len(asked(place, "squeue")) == 14


def test_a_job_that_is_not_taken_now_is_handed_over_later(slurm):
    """With more jobs than a user may have, and while slurmctld is away."""
    full = 'echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user\'s size and/or time limits)" >&2; exit 1'
    away = 'echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)" >&2; exit 1'
    place = slurm(
        sbatch=[full, full, away, "echo Submitted batch job 8"], squeue=[GONE], scontrol=[fate("COMPLETED", "0:0")]
    )
    assert run_job(place)[0].returned == 0
    assert len(asked(place, "sbatch")) == 4


def test_a_job_that_is_never_taken_says_why_at_once(slurm):
    wrong = 'echo "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)" >&2; exit 1'
    place = slurm(sbatch=[wrong])
    with pytest.raises(Refused, match="Requested time limit"):
        run_job(place)
    assert len(asked(place, "sbatch")) == 1


def test_a_job_that_the_queue_has_forgotten_is_judged_by_its_files(slurm):
    place = slurm(sbatch=["echo Submitted batch job 8"], squeue=[UNKNOWN], scontrol=[FORGOTTEN])
    ended, log = run_job(place)
    assert ended.returned == 0
    assert "queue says" not in log


def test_a_job_that_is_queued_again_is_waited_for(slurm):
    place = slurm(
        sbatch=["echo Submitted batch job 8"],
        squeue=[THERE, GONE, THERE, GONE],
        scontrol=[fate("PENDING", "0:0"), fate("FAILED", "2:0")],
    )
    assert run_job(place)[0].returned == 2


def test_a_queue_that_cannot_be_asked_is_named(slurm):
    place = slurm(sbatch=["echo Submitted batch job 8"], squeue=["exit 127"])
    with pytest.raises(Refused, match="squeue"):
        run_job(place)


def test_pbs_and_grid_engine_are_asked_each_in_its_way(tmp_path):
    assert Queue("qsub run.sh").query_for("8.server") == "qstat 8.server || qstat -j 8.server"


@pytest.mark.parametrize(
    ("said", "job"),
    [("Submitted batch job 8", "8"), ("8;cluster", "8"), ("12.server", "12.server"), ('Your job 7 ("run.sh") has been submitted', "7"), ("Job <5> is submitted to queue <normal>.", "5")],
)  # fmt: skip
def test_jobs_are_named_by_what_queues_print(said, job):
    assert job_named_in(said) == job


def test_watching_ends_where_it_is_told_to(slurm):
    place = slurm(sbatch=["echo Submitted batch job 8"], squeue=[THERE])
    stop = Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        Queue("sbatch run.sh", every=0.001, stop=stop).wait(place, "8", {}, lambda: None)


@pytest.mark.parametrize(("cpu", "known"), [(0.02, None), (30.0, 30.0)])
def test_a_command_that_only_waits_says_nothing_of_processors(tmp_path, cpu, known):
    """`srun siesta` and `sbatch --wait` take hardly any time themselves."""
    start = timed(Start(str(tmp_path), 100.0, 0, Progress(), cpu_seconds=cpu))
    assert (start.seconds, start.cpu_seconds) == (100.0, known)
