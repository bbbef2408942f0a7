"""The command line: one function for each verb, as `slem <verb>` and as `slem-<verb>`.

Exit codes: 0 all done, 1 something was refused (the rest is done), 2 wrong usage, 130 interrupted.
Only click is imported here; each command imports its work when it runs.
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

CODES = ("abacus", "deeph", "openmx", "pyscf", "siesta")
OF_THE_MODEL = ("torch", "safetensors", "tomli")
EXISTING = click.Path(exists=True, path_type=Path)


GO_ON = "all that was done is saved; run the same command again to go on"


def report_errors(function: Callable[..., int | None], interrupted: str) -> Callable[..., None]:
    """Turn what a command returns or raises into its exit code and one line; `--debug` shows where an error came from."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, debug: bool, **options: Any) -> None:
        try:
            from converters.interrupts import noticed

            with noticed() as came:
                try:
                    code = outcome_of(functools.partial(function, *args, **options), debug)
                except Exception:
                    if came:
                        raise KeyboardInterrupt from None
                    raise
                if came and code == 1:
                    raise KeyboardInterrupt
            sys.exit(code)
        except KeyboardInterrupt:
            click.echo(f"interrupted: {interrupted}", err=True)
            sys.exit(130)

    return run


def outcome_of(work: Callable[[], int | None], debug: bool) -> int:
    """The exit code of a command's work, and a line on stderr where it was refused."""
    from converters.errors import Refused
    from workflows.launch import rank_name

    try:
        return work() or 0
    except (Refused, OSError, MemoryError) as error:
        if debug:
            raise
        from workflows.cures import cure_of

        reason = error.reason if isinstance(error, Refused) else f"{error}".lower() or "too little memory"
        click.echo(f"error{rank_name()}: {error or type(error).__name__}\n  {cure_of(reason)}", err=True)
    except ModuleNotFoundError as error:
        if debug or error.name not in OF_THE_MODEL:
            raise
        click.echo(f"error: this command needs {error.name}; pip install 'slem-plugin[model]' brings it", err=True)
    return 1


def as_command(text: str, interrupted: str = GO_ON) -> Callable[[Callable[..., int | None]], click.Command]:
    """A command whose help ends with examples; `interrupted` says how to go on after Ctrl-C."""

    def make(function: Callable[..., int | None]) -> click.Command:
        name = function.__name__.removesuffix("_command").replace("_", "-")
        return click.command(name, epilog=f"\b\nExamples:\n{text}")(report_errors(function, interrupted))

    return make


ROUTE = click.option(
    "--route",
    type=click.Choice(["auto", "dm", "h", "h2dm", "charge"]),
    default="auto",
    show_default=True,
    help="What the run starts from: DM, H as it is, the DM of H's levels, the density on the grid.",
)
PURIFY = click.option(
    "--purify",
    type=click.Choice(["auto", "none", "scale", "clip", "fill"]),
    default="auto",
    show_default=True,
    help="What is done to DM: scale it to the electrons, bound or fill its natural occupations; auto: what the code likes best.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary on stdout.")
DASK = click.option("--dask", metavar="ADDRESS", help="Work on a dask.distributed cluster, such as tcp://host:8786.")
CODE = click.option(
    "--code", type=click.Choice(["auto", *CODES]), default="auto", show_default=True, help="DFT code of the folders."
)


@as_command(
    """  slem-convert runs/ -o data.h5
  slem-convert run1 run2 -o data.h5 -j 4 --code pyscf
  slem-convert runs/ -o data.h5 --json > report.json"""
)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Dataset to make or to add to.")
@CODE
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that read.")
@DASK
@click.option("--strict", is_flag=True, help="Refuse also what could not be checked for lack of information.")
@click.option("--rebuild-dm", is_flag=True, help="Build DM from H and S where the code's own is wrong or not whole.")
@click.option(
    "--basis-dir",
    "basis_folders",
    multiple=True,
    type=EXISTING,
    help="Folder of radial functions (.orb, .pao, .ion.xml, .ion.nc) that do not lie where the runs say.",
)
@click.option("--no-basis", is_flag=True, help="Do not look for radial functions.")
@JSON
def convert_command(
    paths: tuple[Path, ...],
    output: Path,
    code: str,
    jobs: int,
    dask: str | None,
    strict: bool,
    rebuild_dm: bool,
    basis_folders: tuple[Path, ...],
    no_basis: bool,
    as_json: bool,
) -> int:
    """Turn run folders into one dataset of H, S and DM.

    Folders below PATHS are searched for runs, which are recognised by the contents of their files. Every run is checked;
    one that fails is refused with its reason and the others go on. Runs that the dataset has already are skipped, so an
    interrupted conversion is continued by the same command. Radial functions are stored where they are found, once the S computed
    from them is that of the run.
    """
    from workflows import convert
    from workflows.engines import choose_engine
    from workflows.info import mixture
    from workflows.progress import counted
    from workflows.show import print_json, show_outcomes

    items = convert.find(list(paths), list(CODES) if code == "auto" else [code])
    options = convert.Options(
        strict=strict, rebuild_density=rebuild_dm, find_functions=not no_basis, basis_folders=basis_folders
    )
    with choose_engine(jobs, dask, "fork") as engine, counted("converting", len(items)) as step:
        outcomes = convert.convert(items, output, options, engine, lambda _: step())
    refused = any(outcome.status == "refused" for outcome in outcomes)
    if as_json:
        mixed = mixture(output) if output.exists() else []
        print_json({"output": str(output), "inputs": [outcome.as_dict() for outcome in outcomes], "mixed": mixed})
    else:
        show_outcomes(outcomes, output)
    return int(refused)


@as_command(
    """  slem-check data.h5
  slem-check runs/
  slem-check data.h5 --json | jq .frames[0]"""
)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@CODE
@JSON
def check_command(paths: tuple[Path, ...], code: str, as_json: bool) -> int:
    """Check the physics of datasets and run folders, with the numbers found and expected."""
    from workflows import check
    from workflows.progress import counted
    from workflows.show import print_json, show_checks

    codes = list(CODES) if code == "auto" else [code]
    with counted("checking", check.count_frames(paths)) as step:
        reports = [report for path in paths for report in check.check_path(path, codes, step)]
    if as_json:
        print_json({"frames": [report.as_dict() for report in reports]})
    else:
        show_checks(reports)
    return int(any(not report.ok for report in reports))


@as_command(
    """  slem-info data.h5
  slem-info model --json"""
)
@click.argument("path", type=EXISTING)
@JSON
def info_command(path: Path, as_json: bool) -> int:
    """Show at a glance what a dataset or a model holds."""
    from workflows.info import describe, describe_model, is_model
    from workflows.show import print_json, show_facts

    facts = describe_model(path) if is_model(path) else describe(path)
    if as_json:
        print_json(facts)
    else:
        show_facts(str(path), facts)
    return 0


@as_command(
    """  slem-train data.h5 -o model
  slem-train data.h5 -o model --time 2h --operators H,DM
  slem-train data.h5 -o model --resume --time 4h""",
    "the folder holds the state of the last evaluation; go on with --resume",
)
@click.argument("data", type=EXISTING)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the model and its log."
)
@click.option("--config", "config_path", type=EXISTING, help="TOML file; docs/training.md lists the keys.")
@click.option("--operators", help="Matrices to learn, such as H,S,DM; default: all that the data has.")
@click.option("--time", "duration", help="How long to train, such as 20m or 2h; default: 30m.")
@click.option("--steps", type=click.IntRange(1), help="How many steps to train, instead of a time.")
@click.option("--validate", help='Part of the frames kept for validation (0.15), or which ones ("32-39").')
@click.option("--seed", type=click.IntRange(0), help="Seed of the first weights and of the order of the frames.")
@click.option("--resume", is_flag=True, help="Go on with the training in the output folder.")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="Processes that train together.")
@JSON
def train_command(
    data: Path,
    output: Path,
    config_path: Path | None,
    duration: str | None,
    resume: bool,
    ranks: int,
    as_json: bool,
    **options: Any,
) -> int:
    """Learn H, S and DM from a dataset.

    Several ranks share the frames of each step, so batch must be as many or more. The folder gets best.safetensors (what slem-predict uses), last.safetensors (what --resume goes on from) and log.csv.
    """
    from workflows.launch import launched

    if ranks > 1 and not launched():
        from workflows.launch import launch_ranks

        return launch_ranks(ranks)
    from slem_plugin.config import Config, read_config
    from slem_plugin.ranks import find_ranks
    from workflows import train
    from workflows.show_training import show_training

    changes = {key: value for key, value in options.items() if value is not None}
    if duration is not None:
        changes["time"] = duration
    elif "steps" in changes:
        changes["time"] = "0"
    config = train.start_config(output, read_config(config_path) if config_path else Config(), changes, resume)
    together = find_ranks()
    together.share(None)  # all have looked at the folder before anyone changes it

    def work(hooks: Any) -> None:
        train.train_folder(data, output, config, resume=resume, ranks=together, **hooks)

    show_training(work, output, as_json, shown=together.leader)
    return 0


@as_command(
    """  slem-predict model structure.cif -o pred.h5
  slem-predict model POSCAR trajectory.xyz -o pred.h5"""
)
@click.argument("model_path", metavar="MODEL", type=EXISTING)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Dataset to make.")
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
@DASK
@JSON
def predict_command(
    model_path: Path,
    paths: tuple[Path, ...],
    output: Path,
    double: bool,
    pieces: str,
    memory: str,
    workers: int,
    dask: str | None,
    as_json: bool,
) -> int:
    """Predict the matrices of structures that nobody has computed.

    PATHS are files that ASE reads (xyz, cif, POSCAR ...), ABACUS STRU files, inputs or folders of runs, or datasets; files may hold many structures. A structure
    that does not fit into the memory, or has several workers, is predicted in pieces. The same command goes on where it was
    interrupted. Under torchrun each rank takes its share of the pieces.
    """
    from slem_plugin.config import parse_memory
    from workflows.engines import TorchRanks, choose_engine
    from workflows.launch import launched
    from workflows.predict import Cutting, parse_pieces, predict_files
    from workflows.progress import progress
    from workflows.show import print_json, show_predictions

    cutting = Cutting(parse_pieces(pieces), parse_memory(memory, "--memory"))
    with TorchRanks() if launched() else choose_engine(workers, dask, "spawn") as engine:
        rows: list[dict[str, Any]] = []
        with progress("predicting", shown=engine.leader) as tell:
            for one in predict_files(
                model_path, list(paths), output, double=double, cutting=cutting, engine=engine, tell=tell
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
    """Measure the errors of a model on a dataset, over the elements that the code stored.

    By operator, onsite and hopping, by elements, shells and distance; levels of the predicted H with the exact S.
    """
    import torch

    from slem_plugin.checkpoint import load_model
    from slem_plugin.config import parse_frames
    from workflows.predict import evaluate_dataset
    from workflows.progress import progress
    from workflows.show import print_json, show_errors

    model = load_model(model_path, torch.float64 if double else None)
    with progress("evaluating") as tell:
        errors = evaluate_dataset(model, data, parse_frames(frames) if frames else None, bands, tell)
    if as_json:
        print_json(errors)
    else:
        show_errors(errors)
    return 0


@as_command(
    """  slem-report model data.h5 -o report.html
  slem-report model data.h5 --frames 32-39 -o report.html
  slem-report model data.h5 --scf scf.json -o report.html"""
)
@click.argument("model_path", metavar="MODEL", type=EXISTING)
@click.argument("data", type=EXISTING)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="HTML file to make.")
@click.option(
    "--frames", "frames", help='Frames to look at, such as "32-39,45"; default: those that were kept for validation.'
)
@click.option(
    "--scf", "runs_path", type=EXISTING, help="What slem-scf -o wrote: SCF runs from the model's predictions."
)
@JSON
def report_command(
    model_path: Path, data: Path, output: Path, frames: str | None, runs_path: Path | None, as_json: bool
) -> int:
    """Write all about a model on a dataset into one HTML page, with pictures: errors, levels, worst blocks, provenance.

    The page needs no network and no other file.
    """
    from converters.files import write_whole
    from slem_plugin.config import parse_frames
    from workflows.progress import progress, waiting
    from workflows.report import examine
    from workflows.report_page import write_page
    from workflows.show import print_json, show_facts

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


@as_command(
    """  slem-overlap structure.cif --basis Si_gga_6au_100Ry_2s2p1d.orb -o overlap.h5
  slem-overlap POSCAR --basis Si.ion.xml --basis O.ion.xml -o overlap.h5
  slem-overlap POSCAR --basis DFT_DATA19/PAO/Si7.0-s2p2d1 -o overlap.h5
  slem-overlap water.xyz --basis def2-svp -o overlap.h5
  slem-overlap data.h5 --basis data.h5 -o overlap.h5"""
)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@click.option(
    "--basis",
    "sources",
    multiple=True,
    required=True,
    help="Where radial functions are: .orb, .ion.xml, .ion.nc, PAO/Si7.0-s2p2d1, a Gaussian basis, a run, a dataset, a model.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Dataset to make.")
@JSON
def overlap_command(paths: tuple[Path, ...], sources: tuple[str, ...], output: Path, as_json: bool) -> int:
    """Compute S of structures from the radial functions of their basis, with no run of a DFT code.

    PATHS are what slem-predict reads. An S that is not positive definite is refused with the atoms that cause it; for a dataset of
    the same basis the difference to its own S is shown.
    """
    from workflows.overlap import make_overlaps, read_bases, structures_of
    from workflows.progress import counted
    from workflows.show import print_json, show_overlaps

    given = [atoms for _, atoms, _ in structures_of(paths)]
    basis = read_bases(sources, given)
    with counted("overlaps", len(given)) as step:
        made = []
        for one in make_overlaps(basis, structures_of(paths), output):
            made.append(one)
            step()
    if as_json:
        print_json({"output": str(output), "structures": [vars(one) for one in made]})
    else:
        show_overlaps(made, output)
    return 0


@as_command(
    """  slem-bands data.h5 --frame 3 -o bands.png
  slem-bands data.h5 --frame 3 --model model -o bands.svg
  slem-bands new.cif --model model --path GXWKGLUWLK -o bands.png -o bands.json
  slem-bands data.h5 --compare pred.h5 --json"""
)
@click.argument("source", metavar="DATA_OR_STRUCTURE", type=EXISTING)
@click.option(
    "-o", "--output", "outputs", multiple=True, type=click.Path(path_type=Path), help=".png, .svg, .pdf or .json."
)
@click.option(
    "--model", "model_path", type=EXISTING, help="Model that predicts the structure; beside the frame of a dataset."
)
@click.option("--compare", "other", type=EXISTING, help="Another dataset with the same structure.")
@click.option(
    "--frame", "number", type=click.IntRange(0), default=0, show_default=True, help="Which frame or structure."
)
@click.option("--path", help="Special points, such as GXWKGLUWLK; default: those of the lattice, in ASE's order.")
@click.option("--points", type=click.IntRange(2), default=200, show_default=True, help="k-points along the path.")
@click.option("--window", default="-15:8", show_default=True, help="Energies in the picture, eV from the valence edge.")
@click.option("--electrons", type=float, help="Electrons of the cell, where the frame does not say.")
@JSON
def bands_command(
    source: Path,
    outputs: tuple[Path, ...],
    model_path: Path | None,
    other: Path | None,
    window: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Band structure and density of states of a frame, a prediction, or both in one picture.

    Two of them are compared: error of the occupied bands, gap, Fermi level. A molecule has its levels.
    """
    from workflows.bands import Request, bands_of, facts_of, parse_window, save_bands
    from workflows.progress import progress
    from workflows.show import print_json, show_facts

    limits = parse_window(window)
    with progress("k-points") as tell:
        lines = bands_of(source, model_path, other, Request(**options), tell)
    for output in outputs:
        save_bands(lines, output, limits)
    if as_json:
        print_json(facts_of(lines))
    else:
        show_facts(str(source), facts_of(lines))
    return 0


@as_command(
    """  slem-spectrum pred.h5
  slem-spectrum pred.h5 --levels 20 --near -4.1
  slem-spectrum pred.h5 --dos -20:10:601 --atoms 0,17 --json > dos.json
  slem-spectrum pred.h5 --matrices matrices/ -k 0.5,0,0"""
)
@click.argument("path", metavar="DATA", type=EXISTING)
@click.option("--frame", "number", type=click.IntRange(0), default=0, show_default=True, help="Which frame.")
@click.option("-k", "kpoint", default="0,0,0", show_default=True, help="k-point, fractions of the reciprocal vectors.")
@click.option("--levels", type=click.IntRange(1), help="Find so many levels next to an energy.")
@click.option("--near", type=float, help="That energy, eV; default: the Fermi level.")
@click.option("--dos", help="Density of states from a lowest to a highest energy, eV: low:high or low:high:points.")
@click.option(
    "--atoms", default="", help="Atoms (from 0) whose Mulliken share of the states is wanted too, such as 0,17."
)
@click.option("--moments", type=click.IntRange(2), default=400, show_default=True, help="The more, the sharper.")
@click.option("--vectors", type=click.IntRange(1), default=4, show_default=True, help="The more, the surer.")
@click.option(
    "--matrices", type=click.Path(path_type=Path), help="Folder for H(k) and S(k), for scipy.sparse.load_npz."
)
@JSON
def spectrum_command(
    path: Path, number: int, kpoint: str, dos: str | None, atoms: str, levels: int | None, as_json: bool, **options: Any
) -> int:
    """Electrons, levels and densities of states of a frame of any size.

    H and S are read from the file piece by piece into sparse matrices. Without options only the electrons are counted.
    """
    from workflows.progress import waiting
    from workflows.show import print_json, show_spectrum
    from workflows.spectrum import Wanted, describe_spectrum

    wanted = Wanted(
        kpoint=numbers_of(kpoint, ",", "-k", (3, 3)),
        levels=levels or 0,
        dos=numbers_of(dos, ":", "--dos", (2, 3)) if dos else None,
        atoms=[int(a) for a in numbers_of(atoms, ",", "--atoms", (1, 10_000))] if atoms else (),
        **options,
    )
    with waiting("looking at the spectrum"):
        found = describe_spectrum(path, number, wanted)
    if as_json:
        print_json(found)
    else:
        show_spectrum(found)
    return 0


def numbers_of(text: str, separator: str, option: str, counts: tuple[int, int]) -> Any:
    """The numbers of a text such as "0.5,0,0"."""
    try:
        numbers = tuple(float(word) for word in text.split(separator))
    except ValueError:
        numbers = ()
    if not counts[0] <= len(numbers) <= counts[1]:
        raise click.BadParameter(
            f'"{text}" is not {counts[0]} or more numbers with "{separator}" between them', param_hint=option
        )
    return numbers


@as_command(
    """  slem-export pred.h5 --into run/ -o start/
  slem-export structure.cif --model model --into run/ -o start/ --route h2dm
  slem-export pred.h5 --frame 3 --format siesta -o start/"""
)
@click.argument("source", metavar="INPUT", type=EXISTING)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--model", "model_path", type=EXISTING, help="Predict INPUT, a structure, with this model first.")
@click.option("--frame", "number", type=click.IntRange(0), default=0, show_default=True, help="Which frame of INPUT.")
@click.option("--format", "code", type=click.Choice(CODES), help="Code to write for; default: that of the run or data.")
@click.option("--target-version", "version", default="", help="Version of the code that will read, such as 3.8.")
@ROUTE
@PURIFY
@click.option(
    "--into", type=EXISTING, help="The run to start: its folder or input file, which is read and never changed."
)
@click.option("--overlap", type=EXISTING, help="A run of the code to take S from, in place of the predicted one.")
@click.option("--template", type=EXISTING, help="OpenMX: .scfout file of a cheap run of the same structure.")
@click.option(
    "--basis-dir", type=EXISTING, help="Folder of the radial functions (.orb, .pao), for densities on a grid."
)
@click.option("--grid", type=int, nargs=3, help="ABACUS: points of the FFT grid; default: those of the run.")
@click.option("--electrons", type=float, help="Electrons that DM is to hold; default: those of the run.")
@click.option("--non-magnetic", "nonmagnetic", is_flag=True, help="Remove the spin density of spinor matrices.")
@JSON
def export_command(
    source: Path,
    output: Path,
    model_path: Path | None,
    number: int,
    code: str | None,
    into: Path | None,
    route: str,
    purify: str,
    overlap: Path | None,
    electrons: float | None,
    nonmagnetic: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Write matrices as files from which a code's next SCF starts.

    INPUT is a file of slem-predict, a dataset, or with --model a structure. The folder gets the files and, with --into, a
    changed copy of the run's input; both belong into the folder of the run.
    """
    from converters.restart import Options, find_target
    from workflows.export import Request, export, read_frame
    from workflows.progress import waiting
    from workflows.show import print_json, show_export

    request = Request(code or "", route, purify, electrons, into, overlap, nonmagnetic, Options(**options))
    with waiting("writing the start"):
        if model_path is None:
            frame = read_frame(source, number)
        else:
            from slem_plugin.checkpoint import load_model
            from workflows.predict import predict_one

            frame = predict_one(load_model(model_path), source, number)
        target = find_target(into) if into is not None and "pyscf" not in (code, frame.provenance.code) else None
        done = export(frame, output, request, target)
    if as_json:
        print_json(done.as_dict())
    else:
        show_export(done)
    return 0


@as_command(
    """  slem-scf run/ --model model --cmd "mpirun -np 4 abacus"
  slem-scf runs/* --model model --cmd "siesta < si.fdf > si.out" --compare
  slem-scf run/ --model model --cmd "python run.py" --compare -o scf.json""",
    "the command was ended, and its copies of the run folder stay; --overwrite makes them anew",
)
@click.argument("folders", metavar="RUN_DIR...", nargs=-1, required=True, type=EXISTING)
@click.option("--model", "model_path", required=True, type=EXISTING, help="Model that predicts the start.")
@click.option("--cmd", "command", required=True, help="The line that runs the code in its folder.")
@click.option("--compare", is_flag=True, help="Run the default start too.")
@click.option("--overwrite", is_flag=True, help="Replace the copies of an earlier call.")
@click.option("--timeout", type=float, help="Longest time of one run, seconds.")
@ROUTE
@PURIFY
@click.option("--template", type=EXISTING, help="OpenMX: .scfout file of a cheap run of the same structure.")
@click.option("--basis-dir", type=EXISTING, help="Folder of the radial functions, for densities on a grid.")
@click.option("--target-version", "version", default="", help="Version of the code, such as 3.8.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON of all runs, for slem-report --scf.")
@JSON
def scf_command(
    folders: tuple[Path, ...],
    model_path: Path,
    command: str,
    compare: bool,
    overwrite: bool,
    timeout: float | None,
    route: str,
    purify: str,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run SCFs that start from a model's prediction.

    Each folder is copied to FOLDER-slem-guess (and FOLDER-slem-default), the guess is put there, and the command is run there.
    A guess that fails, is ignored or, with --compare, ends in another energy is no success: the default start is run and
    named. PySCF: the script says mf.kernel(dm0=pyscf_guess(mf)) with pyscf_guess from slem_plugin.
    """
    from converters.files import write_whole
    from converters.restart import Options
    from workflows.export import Request
    from workflows.progress import progress
    from workflows.scf import Job, run_folders
    from workflows.show import print_json, show_starts

    request = Request(route=route, purify=purify, options=Options(**options))
    job = Job(command, model_path, compare, overwrite, timeout, request)
    with progress("SCF runs") as tell:
        outcomes = run_folders(folders, job, tell)
    done = {"command": command, "runs": [outcome.as_dict() for outcome in outcomes]}
    if output is not None:
        write_whole(output, json.dumps(done, indent=2).encode())
    if as_json:
        print_json(done)
    else:
        show_starts(outcomes)
    return int(any(not outcome.ok for outcome in outcomes))


@as_command(
    """  slem-bench dataset
  slem-bench dataset --frames 100000 --json
  slem-bench convert runs/
  slem-bench model --json
  slem-bench restart --cases water,nickel --folder starts"""
)
@click.argument("what", type=click.Choice(["dataset", "convert", "model", "overlap", "profile", "restart", "scale"]))
@click.argument("paths", nargs=-1, type=EXISTING)
@click.option(
    "--frames", type=click.IntRange(2), default=10_000, show_default=True, help="dataset: frames in the file."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write; default: a temporary folder.")
@click.option(
    "--cases",
    default="",
    help="restart: water, ethanol, nickel, chromium, silicon; scale: pieces, workers, ranks, data, convert; default: all.",
)
@click.option("--minutes", type=float, default=10.0, show_default=True, help="restart: how long each model is trained.")
@JSON
def bench_command(
    what: str, paths: tuple[Path, ...], frames: int, folder: Path | None, cases: str, minutes: float, as_json: bool
) -> int:
    """Measure this program on this machine, each number beside a floor measured in the same run.

    "dataset" writes and reads a file of small frames; "convert" reads the runs below PATHS, one by one and with -j 2;
    "model" trains and predicts with one thread, beside the bare matrix products; "overlap" computes S of silicon, beside PySCF; "profile" shows where a step's time goes;
    "restart" makes PySCF runs, learns from them, and starts others (hours; what is in the folder is kept); "scale" predicts
    silicon of up to 20,000 atoms in pieces, with one process and two, trains with two ranks, and converts PATHS over dask.
    """
    from workflows.show import print_json, show_rows

    if what == "convert" and not paths:
        raise click.UsageError("convert needs run folders to read")
    if what == "restart":
        from workflows.bench_restart import bench_restart

        rows = bench_restart([name for name in cases.split(",") if name], folder or Path("starts"), minutes)
    elif what == "overlap":
        from workflows.bench_overlap import bench_overlap

        rows = bench_overlap()
    elif what == "scale":
        from workflows.bench_scale import bench_scale

        rows = bench_scale(list(paths), folder, [name for name in cases.split(",") if name])
    else:
        rows = measure(what, list(paths), frames, folder)
    if as_json:
        print_json(rows)
    else:
        show_rows(what, rows)
    return 0


def measure(what: str, paths: list[Path], frames: int, folder: Path | None) -> list[dict[str, Any]]:
    """The rows of one benchmark."""
    if what in ("model", "profile"):
        from workflows import bench_model

        return bench_model.bench_model() if what == "model" else bench_model.profile_step()
    from workflows import bench

    if what == "dataset":
        return bench.bench_dataset(frames, folder)
    return bench.bench_convert(paths, list(CODES), folder)


@as_command("  slem demo --folder demo")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
def demo_command(folder: Path) -> int:
    """Run the whole path on water with PySCF."""
    from workflows.demo import run_demo

    return run_demo(folder)


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
    bench_command,
    demo_command,
):
    main.add_command(verb)
