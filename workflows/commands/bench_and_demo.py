"""Commands that show what the program can do: bench, demo."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from workflows.commands.shared import CODES, EXISTING, JSON, OUTPUT, as_command


@as_command(
    """  slem-bench dataset
  slem-bench dataset --frames 100000 -o dataset.json
  slem-bench convert runs/
  slem-bench model --json
  slem-bench restart --cases water,nickel --folder starts
  slem-bench starts runs/* --cmd "siesta < si.fdf > si.out" --learn 10,30 --folder starts -o starts.json
  slem-bench cost si8 si64 --model model --cmd "siesta < si.fdf"  # in CPU seconds, beside an iteration"""
)
@click.argument(
    "what",
    type=click.Choice(
        [
            "dataset",
            "convert",
            "model",
            "overlap",
            "profile",
            "restart",
            "scale",
            "spectrum",
            "starts",
            "cost",
            "guard",
            "curve",
        ]
    ),
)
@click.argument("paths", nargs=-1, type=EXISTING)
@click.option(
    "--frames", type=click.IntRange(2), default=10_000, show_default=True, help="dataset: frames in the file."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write; default: a temporary folder.")
@click.option(
    "--cases",
    default="",
    help="restart: water, ethanol, nickel, chromium, silicon; scale: pieces, workers, ranks, data, convert; spectrum: levels, densities; default: all.",
)
@click.option(
    "--minutes",
    default="10",
    show_default=True,
    help="restart, starts, guard, curve: minutes of the processor for training; starts, curve: one for all, or one for each of --learn.",
)
@click.option("--cmd", "command", default="", help="starts, cost: the line that runs the code in its folder.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "auto"]),
    default="cpu",
    show_default=True,
    help="model, profile: where; on a GPU seconds are those of the clock.",
)
@click.option("--model", type=EXISTING, help="cost: the model that predicts the starts.")
@click.option(
    "--learn", default="30", show_default=True, help="starts, curve: numbers of runs or frames to learn from."
)
@click.option("--keep", type=click.IntRange(1), default=6, show_default=True, help="starts: runs that are kept back.")
@click.option("--sets", type=click.IntRange(1), default=1, show_default=True, help="starts: sets of so many runs.")
@click.option("--routes", default="auto,dm,h2dm", show_default=True, help="starts: routes that are tried.")
@click.option("-j", "at_once", type=click.IntRange(1), default=1, show_default=True, help="starts: runs at a time.")
@click.option(
    *OUTPUT, type=click.Path(path_type=Path), help="JSON file of the numbers, with command, date and machine."
)
@JSON
def bench_command(
    what: str,
    paths: tuple[Path, ...],
    frames: int,
    folder: Path | None,
    cases: str,
    minutes: str,
    command: str,
    device: str,
    model: Path | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure how fast this program is on this machine.

    Each number stands beside a floor that was measured in the same run.

    \b
    dataset  writes and reads a file of small frames
    convert  reads the runs below PATHS, one by one and with -j 2
    model    trains and predicts with one thread or a GPU, beside bare matrix
             products
    profile  shows where the time of a training step goes
    overlap  computes S of silicon, beside PySCF
    restart  makes PySCF runs, learns from them and starts others: hours,
             what is in the folder is kept
    starts   starts the last of your own runs (PATHS) from predictions of
             models that learned from the first ones; what is in the folder
             is kept
    cost     what a start of each of your runs (PATHS) from --model costs,
             beside one iteration of the code
    guard    starts PySCF runs of structures more and more unlike those
             learned: what the distance of predicted H and DM foretells
    curve    learns from more and more frames of molecular dynamics of water:
             errors, and the cycles that PySCF saves
    scale    predicts silicon of up to 20,000 atoms in pieces, with one
             process and two; trains with two ranks; converts PATHS over dask
    spectrum levels of the first frames of PATHS by each direct solver that is
             installed, beside SuperLU; moments of their densities of states
    """
    from workflows.terminal.progress import waiting
    from workflows.terminal.show import print_json, show_rows

    if what == "convert" and not paths:
        raise click.UsageError("convert needs run folders to read")
    if what == "spectrum" and not paths:
        raise click.UsageError("spectrum needs datasets or predictions")
    if what in ("starts", "cost") and not command:
        raise click.UsageError(f"{what} needs --cmd, the line that runs the code")
    if what == "cost" and model is None:
        raise click.UsageError("cost needs --model")
    lengths = minutes_of(minutes, options["learn"] if what in ("starts", "curve") else "")
    with nullcontext() if what == "starts" else waiting(f"measuring: {what}"):  # starts say how far they are
        if what == "starts":
            rows = measure_starts(list(paths), folder or Path("starts"), lengths, command=command, **options)
        elif what == "cost" and model is not None:
            from workflows.benchmarks.cost import bench_cost

            rows = bench_cost(list(paths), folder or Path("cost"), model, command)
        elif what == "curve":
            from workflows.benchmarks.curve import bench_curve

            rows = bench_curve(folder or Path("curve"), lengths, numbers_of(options["learn"]))
        else:
            chosen = [name for name in cases.split(",") if name]
            rows = measure(what, list(paths), frames, folder, chosen, lengths[0], device)
    if output is not None:
        from workflows.benchmarks.record import save_record

        save_record(output, rows, paths)
    if as_json:
        print_json(rows)
    else:
        show_rows(what, rows)
    return 0


def measure(
    what: str, paths: list[Path], frames: int, folder: Path | None, cases: list[str], minutes: float, device: str
) -> list[dict[str, Any]]:
    """The rows of one benchmark."""
    if what == "restart":
        from workflows.benchmarks.starts_of_cases import bench_restart

        return bench_restart(cases, folder or Path("starts"), minutes)
    if what == "guard":
        from workflows.benchmarks.guard import bench_guard

        return bench_guard(folder or Path("starts"), minutes)
    if what == "overlap":
        from workflows.benchmarks.overlap import bench_overlap

        return bench_overlap()
    if what == "spectrum":
        from workflows.benchmarks.spectrum import bench_spectrum

        return bench_spectrum(paths, cases)
    if what == "scale":
        from workflows.benchmarks.scale import bench_scale

        return bench_scale(paths, folder, cases)
    if what in ("model", "profile"):
        from workflows.benchmarks.model import bench_model, profile_step

        return bench_model(device) if what == "model" else profile_step(device)
    from workflows.benchmarks import conversion as bench

    return bench.bench_dataset(frames, folder) if what == "dataset" else bench.bench_convert(paths, list(CODES), folder)


def measure_starts(
    paths: list[Path], folder: Path, minutes: tuple[float, ...], learn: str, routes: str, **options: Any
) -> list[dict[str, Any]]:
    """The rows of the benchmark of starts."""
    from workflows.benchmarks.starts_of_runs import Plan, aloud, bench_starts, say_aloud

    counts = numbers_of(learn)
    plan = Plan(learn=counts, routes=tuple(routes.split(",")), minutes=minutes, stage=aloud, say=say_aloud, **options)
    return bench_starts(paths, folder, plan)


def numbers_of(text: str) -> tuple[int, ...]:
    """The numbers of a list such as 10,30, the smallest first."""
    try:
        return tuple(sorted(int(word) for word in text.split(",")))
    except ValueError:
        raise click.BadParameter(f'"{text}" is not numbers such as 10,30', param_hint="--learn") from None


def minutes_of(text: str, learn: str) -> tuple[float, ...]:
    """Minutes of training: one number, or one for each of those to learn from, in the order in which both were given."""
    count = len(numbers_of(learn)) if learn else 1
    try:
        minutes = [float(word) for word in text.split(",")]
    except ValueError:
        minutes = []
    if len(minutes) not in {1, count} or min(minutes) <= 0:
        wanted = f"one number, or {count}, one for each of --learn" if count > 1 else "one number"
        raise click.BadParameter(f'"{text}" is not {wanted}', param_hint="--minutes")
    if len(minutes) == 1:
        return tuple(minutes)
    return tuple(length for _, length in sorted(zip(map(int, learn.split(",")), minutes, strict=True)))


@as_command("  slem demo --folder demo")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
def demo_command(folder: Path) -> int:
    """Show the whole path on water with PySCF, in a few minutes.

    From runs to a dataset, a model, predictions and SCF runs that start from them; what was in the folder is removed first.
    """
    from workflows.demo import run_demo

    return run_demo(folder)
