"""Commands for models: train, predict, eval, report."""

from pathlib import Path
from typing import Any

import click

from workflows.commands.outputs import named_after, new_output
from workflows.commands.shared import DASK, EXISTING, JSON, OUTPUT, as_command


@as_command(
    """  slem-train data.h5
  slem-train data.h5 -o model --time 2h --operators H,DM
  slem-train data.h5 -o model --resume --time 4h
  slem-train more.h5 -o second --from model""",
    "the folder holds the state of the last evaluation; go on with --resume",
)
@click.argument("data", type=EXISTING)
@click.option(
    *OUTPUT, type=click.Path(path_type=Path), help="Folder for the model and its log; default: data.model for data.h5."
)
@click.option("--config", "config_path", type=EXISTING, help="TOML file; docs/training.md lists the keys.")
@click.option("--operators", help="Matrices to learn, such as H,S,DM; default: all that the data has.")
@click.option("--time", "duration", help="How long to train, such as 20m or 2h; default: 30m.")
@click.option("--steps", type=click.IntRange(1), help="How many steps to train, instead of a time.")
@click.option("--validate", help='Part of the frames kept for validation (0.15), or which ones ("32-39").')
@click.option("--seed", type=click.IntRange(0), help="Seed of the first weights and of the order of the frames.")
@click.option("--resume", is_flag=True, help="Go on with the training in the output folder.")
@click.option("--from", "before", type=EXISTING, help="Begin with what this model knows: its network and weights.")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="Processes that train together.")
@JSON
def train_command(
    data: Path,
    output: Path | None,
    config_path: Path | None,
    duration: str | None,
    resume: bool,
    before: Path | None,
    ranks: int,
    as_json: bool,
    **options: Any,
) -> int:
    """Learn H, S and DM from a dataset.

    Several ranks share the frames of each step: a batch that is set must be as large or larger. The folder gets best.safetensors (what slem-predict uses), last.safetensors (what --resume goes on from) and log.csv.
    """
    from slem_plugin.checkpoint import load_model
    from slem_plugin.config import read_config
    from slem_plugin.learning.further import config_like
    from slem_plugin.ranks import find_ranks
    from workflows import train
    from workflows.processes.torchrun import launch_ranks, launched
    from workflows.terminal.show_training import show_training

    output = output or named_after([data], ".model", "data")
    known = None if before is None else load_model(before)
    usual = config_like(known)
    changes = {key: value for key, value in options.items() if value is not None}
    if duration is not None:
        changes["time"] = duration
    elif "steps" in changes:
        changes["time"] = "0"
    config = train.start_config(output, read_config(config_path, usual) if config_path else usual, changes, resume)
    if ranks > 1 and not launched():
        train.require_batch(config, ranks)
        return launch_ranks(ranks)
    together = find_ranks()
    together.share(None)  # all have looked at the folder before anyone changes it

    def work(hooks: Any) -> None:
        train.train_folder(data, output, config, resume=resume, before=known, ranks=together, **hooks)

    show_training(work, output, as_json, shown=together.leader)
    return 0


@as_command(
    """  slem-predict data.model new.cif
  slem-predict model POSCAR trajectory.xyz -o pred.h5"""
)
@click.argument("model_path", metavar="MODEL", type=EXISTING)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@click.option(*OUTPUT, type=click.Path(path_type=Path), help="Dataset to make; default: new.predicted.h5 for new.cif.")
@click.option("--float64", "double", is_flag=True, help="Compute in double precision.")
@click.option(
    "--pieces", default="auto", show_default=True, help="Cut a structure into so many pieces; auto: by memory."
)
@click.option("--memory", default="4GB", show_default=True, help="Memory of each process.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that predict pieces, or whole structures of a file of many.",
)
@click.option(
    "--kmesh",
    "mesh",
    type=click.IntRange(1),
    nargs=3,
    help="k mesh on which predicted H and DM are compared; molecules need none.",
)
@DASK
@JSON
def predict_command(
    model_path: Path,
    paths: tuple[Path, ...],
    output: Path | None,
    double: bool,
    pieces: str,
    memory: str,
    workers: int,
    mesh: tuple[int, int, int] | None,
    dask: str | None,
    as_json: bool,
) -> int:
    """Predict the matrices of structures that nobody has computed.

    PATHS are files that ASE reads (xyz, cif, POSCAR ...), ABACUS STRU files, inputs or folders of runs, or datasets; files may hold many structures. A structure
    that does not fit into the memory, or has several workers, is predicted in pieces. The same command goes on where it was
    interrupted. Under torchrun each rank takes its share of the pieces.
    """
    from slem_plugin.config import parse_memory
    from workflows.predict import Cutting, parse_pieces, predict_files
    from workflows.processes.engines import TorchRanks, choose_engine
    from workflows.processes.torchrun import launched
    from workflows.terminal.progress import progress
    from workflows.terminal.show import print_json, show_predictions

    output = output or named_after(paths, ".predicted.h5", "data")
    cutting = Cutting(parse_pieces(pieces), parse_memory(memory, "--memory"))
    with TorchRanks() if launched() else choose_engine(workers, dask, "spawn") as engine:
        rows: list[dict[str, Any]] = []
        with progress("predicting", shown=engine.leader) as tell:
            for one in predict_files(
                model_path, list(paths), output, double=double, cutting=cutting, engine=engine, tell=tell, mesh=mesh
            ):
                rows.append(vars(one))
                tell(len(rows), None, one.formula)
        leader = engine.leader
    if leader and as_json:
        print_json({"output": str(output), "structures": rows})
    elif leader:
        show_predictions(rows, output)
    return 0


@as_command(
    """  slem-eval model data.h5
  slem-eval model data.h5 --frames 32-39 --json"""
)
@click.argument("model_path", metavar="MODEL", type=EXISTING)
@click.argument("data", type=EXISTING)
@click.option("--frames", "frames", help='Frames to look at, such as "32-39,45"; default: all.')
@click.option("--bands/--no-bands", default=True, show_default=True, help="Compare levels too.")
@click.option("--float64", "double", is_flag=True, help="Compute in double precision.")
@JSON
def eval_command(model_path: Path, data: Path, frames: str | None, bands: bool, double: bool, as_json: bool) -> int:
    """Measure the errors of a model on a dataset.

    Over the elements that the code stored: by operator, onsite and hopping, by elements, shells and distance; levels of the predicted H with the exact S.
    """
    import torch

    from slem_plugin.checkpoint import load_model
    from slem_plugin.config import parse_frames
    from workflows.predict import evaluate_dataset
    from workflows.terminal.progress import progress
    from workflows.terminal.show import print_json, show_errors

    model = load_model(model_path, torch.float64 if double else None)
    with progress("evaluating") as tell:
        errors = evaluate_dataset(model, data, parse_frames(frames) if frames else None, bands, tell)
    if as_json:
        print_json(errors)
    else:
        show_errors(errors)
    return 0


@as_command(
    """  slem-report model data.h5
  slem-report model data.h5 --frames 32-39 -o report.html
  slem-report model data.h5 --scf scf.json -o report.html"""
)
@click.argument("model_path", metavar="MODEL", type=EXISTING)
@click.argument("data", type=EXISTING)
@click.option(
    *OUTPUT, type=click.Path(path_type=Path), help="HTML page to make; default: data.report.html for data.h5."
)
@click.option(
    "--frames", "frames", help='Frames to look at, such as "32-39,45"; default: those that were kept for validation.'
)
@click.option(
    "--scf", "runs_path", type=EXISTING, help="What slem-scf -o wrote: SCF runs from the model's predictions."
)
@JSON
def report_command(
    model_path: Path, data: Path, output: Path | None, frames: str | None, runs_path: Path | None, as_json: bool
) -> int:
    """Show how good a model is on a dataset, as one HTML page.

    With pictures: errors, levels, worst blocks, provenance. The page needs no network and no other file.
    """
    from converters.storage.files import write_whole
    from slem_plugin.config import parse_frames
    from workflows.pictures.report_findings import examine
    from workflows.pictures.report_page import write_page
    from workflows.terminal.progress import progress, waiting
    from workflows.terminal.show import print_json, show_facts

    output = output or new_output([data], ".report.html", "data")
    with progress("looking at frames") as tell:
        found = examine(model_path, data, parse_frames(frames) if frames else None, runs_path, tell)
    with waiting("drawing"):
        write_whole(output, write_page(found, f"{model_path.name} on {data.name}").encode())
    facts = {"report": str(output), "frames": found.frames, "errors": found.errors, "cost": found.cost}
    if as_json:
        print_json(facts)
    else:
        show_facts(str(output), {"frames": len(found.frames), **found.cost})
    return 0
