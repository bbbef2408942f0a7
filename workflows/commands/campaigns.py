"""The command for many runs: campaign."""

from pathlib import Path
from typing import Any

import click

from workflows.commands.shared import EXISTING, JSON, OUTPUT, PURIFY, ROUTE, as_command


@as_command(
    """  slem-campaign runs/* --cmd "siesta < si.fdf > si.out" -o campaign
  slem-campaign runs/* --cmd "mpirun -np 4 abacus" -o campaign -j 4 --budget 12h
  slem-campaign runs/* --submit "sbatch run.sh" -o campaign -j 50
  slem-campaign runs/* --cmd "python run.py" --model start.model -o campaign""",
    "what ran here was ended, jobs in a queue go on; the same command goes on from there",
)
@click.argument("folders", metavar="RUN_DIR...", nargs=-1, required=True, type=EXISTING)
@click.option("--cmd", "command", help="The line that runs the code in its folder.")
@click.option("--submit", help='The line that hands a run over to a queue, such as "sbatch run.sh", in place of --cmd.')
@click.option("--queue", default="", help='How to ask for a job ("squeue -h -j {job}"); known for sbatch, qsub, bsub.')
@click.option(
    "--every", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds between two looks at a queue."
)
@click.option(
    *OUTPUT,
    "home",
    type=click.Path(path_type=Path),
    default="campaign",
    show_default=True,
    help="Folder of the campaign: its journal, dataset, model and report.",
)
@click.option("--model", "model_path", type=EXISTING, help="A model to begin with.")
@click.option("-j", "at_once", type=click.IntRange(1), default=1, show_default=True, help="Runs or jobs at a time.")
@click.option("--budget", help="Begin no run after this time, such as 12h.")
@click.option("--timeout", type=float, help="Longest time of one run, seconds; only with --cmd.")
@click.option("--again", is_flag=True, help="Run again what was no success.")
@ROUTE
@PURIFY
@click.option(
    "--basis-dir", type=EXISTING, help="Folder of the radial functions, where the input of the run does not name it."
)
@click.option("--target-version", "version", default="", help="Version of the code, such as 3.8.")
@JSON
def campaign_command(
    folders: tuple[Path, ...],
    command: str | None,
    submit: str | None,
    queue: str,
    every: float,
    home: Path,
    model_path: Path | None,
    at_once: int,
    budget: str | None,
    timeout: float | None,
    again: bool,
    route: str,
    purify: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Run many SCFs of one kind; the first teach the rest.

    Each folder is copied as slem-scf does, and the command is run in the copy. The first runs start from the code's default; a model is trained beside them
    as soon as and as long as that pays. The input must make the code write H, S or DM. The same command goes on where it was ended or killed, and
    runs nothing twice.
    """
    from converters.durations import parse_time
    from converters.starts.start import Options
    from converters.storage.files import write_whole
    from workflows.campaign.campaign import Plan, run_campaign
    from workflows.campaign.kept import Kept
    from workflows.export import Request
    from workflows.pictures.campaign_page import write_campaign_page
    from workflows.scf.queues import Engine, Queue
    from workflows.terminal.show import print_json
    from workflows.terminal.show_campaign import campaign_table, facts_of, show_campaign, summary_of

    line = submit or command
    if line is None or (submit and command):
        raise click.UsageError("say either --cmd or --submit")
    engine: Engine = Queue(line, queue, every) if submit else Kept(line, timeout)
    request = Request(route=route, purify=purify, options=Options(**options))
    seconds = parse_time(budget) if budget else None
    plan = Plan(folders, line, engine, home, at_once, model_path, seconds, again, request)
    with campaign_table() as tell:
        standing = run_campaign(plan, tell)
    write_whole(home / "report.html", write_campaign_page(standing, facts_of(standing), f"Campaign {home}").encode())
    if as_json:
        print_json(summary_of(standing))
    else:
        show_campaign(standing, home)
    return int(any(not ran.outcome.ok for ran in standing.done) or len(standing.done) < standing.total)
