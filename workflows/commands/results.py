"""Commands for what matrices are wanted for: bands, spectrum, export, scf."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import click

from workflows.commands.outputs import new_output
from workflows.commands.shared import CODES, EXISTING, GRID, JSON, OUTPUT, PURIFY, ROUTE, TOOLS, as_command


@as_command(
    """  slem-bands data.h5 --frame 3 -o bands.png
  slem-bands data.h5 --frame 3 --model model -o bands.svg
  slem-bands new.cif --model model --path GXWKGLUWLK -o bands.png -o bands.json
  slem-bands data.h5 --compare pred.h5 --json
  slem-bands large.h5 --levels 20 --near -4.1 --path GX --points 10 -o bands.png"""
)
@click.argument("source", metavar="DATA_OR_STRUCTURE", type=EXISTING)
@click.option(*OUTPUT, "outputs", multiple=True, type=click.Path(path_type=Path), help=".png, .svg, .pdf or .json.")
@click.option(
    "--model", "model_path", type=EXISTING, help="Model that predicts the structure; beside the frame of a dataset."
)
@click.option("--compare", "other", type=EXISTING, help="Another dataset with the same structure.")
@click.option(
    "--frame", "number", type=click.IntRange(0), default=0, show_default=True, help="Which frame or structure."
)
@click.option("--path", help="Special points, such as GXWKGLUWLK; default: those of the lattice, in ASE's order.")
@click.option("--points", type=click.IntRange(2), default=200, show_default=True, help="k-points along the path.")
@click.option(
    "--window", help="Energies in the picture, eV from the valence edge; default: -15:8, about the gap for a molecule."
)
@click.option("--electrons", type=float, help="Electrons of the cell, where the frame does not say.")
@click.option(
    "--levels", type=click.IntRange(1), help="Of large frames: so many levels next to an energy at each k-point."
)
@click.option("--near", type=float, help="That energy, eV; default: the Fermi level of the frame.")
@JSON
def bands_command(
    source: Path,
    outputs: tuple[Path, ...],
    model_path: Path | None,
    other: Path | None,
    window: str | None,
    levels: int | None,
    near: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Draw band structures and densities of states.

    Of a frame, of a prediction, or of both in one picture. Two of them are compared: error of the occupied bands, gap, Fermi level. A molecule has its levels.
    """
    from workflows.pictures.bands import Request, bands_of, facts_of, parse_window, save_bands
    from workflows.terminal.progress import progress
    from workflows.terminal.show import print_json, show_facts

    limits = parse_window(window) if window else None
    if levels is not None:
        if model_path or other or options["electrons"]:
            raise click.UsageError("--levels is for one frame of a dataset, without --model, --compare and --electrons")
        from workflows.pictures.bands_near import Nearest, bands_near, facts_near, save_near

        with progress("k-points") as tell:
            wanted = Nearest(levels, near)
            found = bands_near(source, options["number"], options["path"], options["points"], wanted, tell)
        for output in outputs:
            save_near(found, output, limits)
        (print_json if as_json else partial(show_facts, str(source)))(facts_near(found))
        return 0
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
  slem-spectrum pred.h5 --gap --window=-5:-3.5
  slem-spectrum pred.h5 --levels 20 --near -4.1 --map states.png
  slem-spectrum pred.h5 --dos -20:10:601 --atoms 0,17 --json > dos.json
  slem-spectrum pred.h5 --matrices matrices/ -k 0.5,0,0"""
)
@click.argument("path", metavar="DATA", type=EXISTING)
@click.option("--frame", "number", type=click.IntRange(0), default=0, show_default=True, help="Which frame.")
@click.option("-k", "kpoint", default="0,0,0", show_default=True, help="k-point, fractions of the reciprocal vectors.")
@click.option("--levels", type=click.IntRange(1), help="Find so many levels next to an energy.")
@click.option("--near", type=float, help="That energy, eV; default: the Fermi level.")
@click.option(
    "--map",
    type=click.Path(path_type=Path),
    help="Where the states of --levels are: the share of each atom in them, as .png, .svg, .pdf or .npz.",
)
@click.option("--gap", is_flag=True, help="Find highest occupied and lowest empty level by exact counts.")
@click.option("--count", help="Count the levels from one energy to another, eV: low:high.")
@click.option("--window", help="Find all levels from one energy to another, eV: low:high; their number is proven.")
@click.option(
    "--solver",
    type=click.Choice(["auto", "pardiso", "mumps", "superlu", "dense"]),
    default="auto",
    show_default=True,
    help="What factors the matrices; auto: the best that is installed.",
)
@click.option("--dos", help="Density of states from a lowest to a highest energy, eV: low:high or low:high:points.")
@click.option(
    "--atoms", default="", help="Atoms (from 0) whose Mulliken share of the states is wanted too, such as 0,17."
)
@click.option(
    "--moments",
    type=click.IntRange(2),
    default=400,
    show_default=True,
    help="Chebyshev moments of the density of states; the more, the sharper.",
)
@click.option(
    "--vectors",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Random vectors that stand for all states; the more, the surer.",
)
@click.option(
    "--matrices", type=click.Path(path_type=Path), help="Folder for H(k) and S(k), for scipy.sparse.load_npz."
)
@JSON
def spectrum_command(
    path: Path,
    number: int,
    kpoint: str,
    dos: str | None,
    atoms: str,
    levels: int | None,
    count: str | None,
    window: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Find electrons, levels and densities of states of large frames.

    H and S are read from the file piece by piece into sparse matrices. Without options only the electrons are counted.
    """
    from workflows.spectrum import Wanted, describe_spectrum
    from workflows.terminal.progress import waiting
    from workflows.terminal.show import print_json, show_spectrum

    if options["map"] is not None and not levels:
        raise click.UsageError("--map shows the states of --levels")
    wanted = Wanted(
        kpoint=numbers_of(kpoint, ",", "-k", (3, 3)),
        levels=levels or 0,
        dos=numbers_of(dos, ":", "--dos", (2, 3)) if dos else None,
        count=numbers_of(count, ":", "--count", (2, 2)) if count else None,
        window=numbers_of(window, ":", "--window", (2, 2)) if window else None,
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


def energy_of(text: str, option: str) -> float:
    """An energy (eV) with its unit, such as 0.1meV."""
    found = re.fullmatch(r"(\d+\.?\d*(?:[eE][-+]?\d+)?) *(m?eV)", text.strip())
    if not found or not float(found[1]) > 0:
        raise click.BadParameter(f'"{text}" is no energy with its unit, such as 0.1meV', param_hint=option)
    return float(found[1]) * (1e-3 if found[2] == "meV" else 1.0)


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
    """  slem-export pred.h5 --into run/
  slem-export structure.cif --model model --into run/ -o start/ --route h2dm
  slem-export pred.h5 --frame 3 --format siesta -o start/
  slem-export pred.h5 --format wannier90 -o tight_binding/"""
)
@click.argument("source", metavar="INPUT", type=EXISTING)
@click.option(*OUTPUT, type=click.Path(path_type=Path), help="Folder for the files; default: pred.start for pred.h5.")
@click.option("--model", "model_path", type=EXISTING, help="Predict INPUT, a structure, with this model first.")
@click.option("--frame", "number", type=click.IntRange(0), default=0, show_default=True, help="Which frame of INPUT.")
@click.option(
    "--format",
    "code",
    type=click.Choice([*CODES, *TOOLS]),
    help="Code or tool to write for; default: the code of the run or data.",
)
@click.option("--target-version", "version", default="", help="Version of the code that will read, such as 3.8.")
@ROUTE
@PURIFY
@click.option(
    "--into", type=EXISTING, help="The run to start: its folder or input file, which is read and never changed."
)
@click.option("--overlap", type=EXISTING, help="A run of the code to take S from, in place of the predicted one.")
@click.option(
    "--basis-dir", type=EXISTING, help="Folder of the radial functions, where the input of the run does not name it."
)
@GRID
@click.option(
    "--mesh",
    type=click.IntRange(1),
    nargs=3,
    help="k-points at which orbitals are made orthogonal, for tools that need it.",
)
@click.option(
    "--functions",
    type=click.Choice(["all", "minimal"]),
    default="all",
    show_default=True,
    help="For the same tools: one function for each orbital, or for each valence orbital.",
)
@click.option(
    "-k", "kpoint", default="0,0,0", show_default=True, help="k-point, fractions, for tools that take H(k) and S(k)."
)
@click.option(
    "--fermi", type=float, help="Fermi level, eV, for tools that count from it; default: that of the run, or of H."
)
@click.option("--electrons", type=float, help="Electrons that DM is to hold; default: those of the run.")
@click.option("--non-magnetic", "nonmagnetic", is_flag=True, help="Remove the spin density of spinor matrices.")
@JSON
def export_command(
    source: Path,
    output: Path | None,
    model_path: Path | None,
    number: int,
    code: str | None,
    into: Path | None,
    route: str,
    purify: str,
    overlap: Path | None,
    electrons: float | None,
    nonmagnetic: bool,
    kpoint: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Write files for the next SCF of a code or for another tool.

    INPUT is a file of slem-predict, a dataset, or with --model a structure. The folder gets the files and, with --into, a
    changed copy of the run's input; both belong into the folder of the run.
    """
    from converters.starts.start import Options
    from workflows.export import Request, export, run_to_start
    from workflows.export_in_parts import export_stored
    from workflows.terminal.progress import waiting
    from workflows.terminal.show import print_json, show_export

    output = output or new_output([source], ".start", "data")
    options["kpoint"] = numbers_of(kpoint, ",", "-k", (3, 3))
    request = Request(code or "", route, purify, electrons, into, overlap, nonmagnetic, Options(**options))
    with waiting("writing the start"):
        if model_path is None:
            done = export_stored(source, number, output, request)
        else:
            from slem_plugin.checkpoint import load_model
            from workflows.predict import predict_one

            frame = predict_one(load_model(model_path), source, number)
            done = export(frame, output, request, run_to_start(frame, into, request.format))
    if as_json:
        print_json(done.as_dict())
    else:
        show_export(done)
    return 0


@as_command(
    """  slem-scf run/ --model model --cmd "mpirun -np 4 abacus"
  slem-scf runs/* --model model --cmd "siesta < si.fdf > si.out" --compare -j 4
  slem-scf runs/* --model model --submit "sbatch run.sh" -j 50
  slem-scf run/ --model model --cmd "python run.py" --compare -o scf.json""",
    "what ran here was ended, jobs in a queue go on; the same command goes on from there",
)
@click.argument("folders", metavar="RUN_DIR...", nargs=-1, required=True, type=EXISTING)
@click.option("--model", "model_path", required=True, type=EXISTING, help="Model that predicts the start.")
@click.option("--cmd", "command", help="The line that runs the code in its folder.")
@click.option("--submit", help='The line that hands a run over to a queue, such as "sbatch run.sh", in place of --cmd.')
@click.option("--queue", default="", help='How to ask for a job ("squeue -h -j {job}"); known for sbatch, qsub, bsub.')
@click.option(
    "--every", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds between two looks at a queue."
)
@click.option("-j", "at_once", type=click.IntRange(1), default=1, show_default=True, help="Runs or jobs at a time.")
@click.option("--compare", is_flag=True, help="Run the default start too.")
@click.option("--stop-at", help="End each SCF once its energy changes by less than this for each atom, such as 0.1meV.")
@click.option("--overwrite", is_flag=True, help="Replace the copies of an earlier call.")
@click.option("--timeout", type=float, help="Longest time of one run, seconds; only with --cmd.")
@ROUTE
@PURIFY
@click.option(
    "--basis-dir", type=EXISTING, help="Folder of the radial functions, where the input of the run does not name it."
)
@click.option("--target-version", "version", default="", help="Version of the code, such as 3.8.")
@click.option(*OUTPUT, type=click.Path(path_type=Path), help="JSON of all runs, for slem-report --scf.")
@JSON
def scf_command(
    folders: tuple[Path, ...],
    model_path: Path,
    command: str | None,
    submit: str | None,
    queue: str,
    every: float,
    at_once: int,
    compare: bool,
    stop_at: str | None,
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
    named. The same command again runs only what is not finished. PySCF: the script says mf.kernel(dm0=pyscf_guess(mf)) with
    pyscf_guess from slem_plugin.
    """
    from converters.json_text import json_text
    from converters.starts.start import Options
    from converters.storage.files import write_whole
    from workflows.export import Request
    from workflows.scf.queues import Engine, Here, Queue
    from workflows.scf.run_folders import Job, run_folders
    from workflows.terminal.progress import progress
    from workflows.terminal.show import print_json
    from workflows.terminal.show_scf import show_starts

    line = submit or command
    if line is None or (submit and command):
        raise click.UsageError("say either --cmd or --submit")
    engine: Engine = Queue(line, queue, every) if submit else Here(line, timeout)
    stop = energy_of(stop_at, "--stop-at") if stop_at else None
    request = Request(route=route, purify=purify, stop_at=stop, options=Options(**options))
    job = Job(engine, line, model_path, compare, overwrite, at_once, request)
    with progress("SCF runs") as tell:
        outcomes = run_folders(folders, job, tell)
    done = {"command": line, "runs": [outcome.as_dict() for outcome in outcomes]}
    if output is not None:
        write_whole(output, json_text(done).encode())
    if as_json:
        print_json(done)
    else:
        show_starts(outcomes)
    return int(any(not outcome.ok for outcome in outcomes))
