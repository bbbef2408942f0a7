"""The command line: `slem <verb>` and `slem-<verb>`.

Exit codes: 0 all done, 1 something was refused (the rest is done), 2 wrong usage, 130 interrupted.
Only click is imported here; each command imports its work when it runs.
"""

import click

from workflows.commands.bench_and_demo import bench_command, demo_command
from workflows.commands.campaigns import campaign_command
from workflows.commands.data import check_command, convert_command, info_command, overlap_command
from workflows.commands.models import eval_command, predict_command, report_command, train_command
from workflows.commands.results import bands_command, export_command, scf_command, spectrum_command


@click.group()
@click.version_option(package_name="slem-plugin")
def main() -> None:
    """Machine-learned quantum operators for DFT codes."""


for verb in (
    convert_command,
    check_command,
    info_command,
    train_command,
    predict_command,
    eval_command,
    report_command,
    overlap_command,
    bands_command,
    spectrum_command,
    export_command,
    scf_command,
    campaign_command,
    bench_command,
    demo_command,
):
    main.add_command(verb)
