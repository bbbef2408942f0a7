"""Commands for datasets: convert, check, info, overlap."""

from pathlib import Path

import click

from converters.codes.known import KNOWN
from workflows.commands.outputs import dataset_of, named_after
from workflows.commands.shared import CODE, DASK, EXISTING, JSON, OUTPUT, among_codes, as_command


@as_command(
    """  slem-convert runs/
  slem-convert run1 run2 -o data.h5 -j 4 --code pyscf
  slem-convert runs/ --json > report.json"""
)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@click.option(
    *OUTPUT,
    type=click.Path(path_type=Path),
    help="Dataset to make or to add to; default: runs.h5 for runs/, else data.h5.",
)
@CODE
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that read.")
@DASK
@click.option("--strict", is_flag=True, help="Refuse also what could not be checked for lack of information.")
@click.option("--no-dm", is_flag=True, help="Leave DM out.")
@click.option(
    "--rebuild-dm", is_flag=True, help="Build DM from H and S where the code's own is missing, wrong or not whole."
)
@click.option(
    "--dm-mesh",
    "density_mesh",
    default="run",
    show_default=True,
    metavar="[run|auto|AxBxC]",
    help="k mesh of DM: the run's own; auto: where images of its supercell show, one on which DM is local.",
)
@click.option(
    "--basis-dir",
    "basis_folders",
    multiple=True,
    type=EXISTING,
    help=f"Folder of radial functions ({among_codes('basis_files')}) that do not lie where the runs say.",
)
@click.option("--no-basis", is_flag=True, help="Do not look for radial functions.")
@click.option(
    "--rows", default=":", metavar="A:B:STEP", help="Of databases of molecules: these rows, counted from 0, as 0:1000."
)
@JSON
def convert_command(
    paths: tuple[Path, ...],
    output: Path | None,
    code: str,
    jobs: int,
    dask: str | None,
    strict: bool,
    no_dm: bool,
    rebuild_dm: bool,
    density_mesh: str,
    basis_folders: tuple[Path, ...],
    no_basis: bool,
    rows: str,
    as_json: bool,
) -> int:
    """Turn run folders into one dataset of H, S and DM.

    Folders below PATHS are searched for runs, which are recognised by the contents of their files. Every run is checked;
    one that fails is refused with its reason and the others go on. Runs that the dataset has already are skipped, so an
    interrupted conversion is continued by the same command. Radial functions are stored where they are found, once the S computed
    from them is that of the run.
    """
    from converters.no_matrices import left_out
    from workflows import convert
    from workflows.info import mixture
    from workflows.processes.engines import choose_engine
    from workflows.terminal.progress import counted
    from workflows.terminal.show import print_json, show_outcomes

    if density_mesh not in ("run", "auto"):
        convert.mesh_named(density_mesh)
    output = output or dataset_of(paths)
    codes = list(KNOWN) if code == "auto" else [code]
    items = convert.find(list(paths), codes, slice_named(rows))
    options = convert.Options(
        strict=strict,
        rebuild_density=rebuild_dm,
        drop_density=no_dm,
        density_mesh=density_mesh,
        find_functions=not no_basis,
        basis_folders=basis_folders,
    )
    with choose_engine(jobs, dask, "fork") as engine, counted("converting", len(items)) as step:
        outcomes = convert.convert(items, output, options, engine, lambda _: step())
    refused = any(outcome.refusal for outcome in outcomes)
    others = left_out(paths, codes, items)
    if as_json:
        mixed = mixture(output) if output.exists() else []
        inputs = [outcome.as_dict() for outcome in outcomes]
        print_json({"output": str(output), "inputs": inputs, "left out": others, "mixed": mixed})
    else:
        show_outcomes(outcomes, output, others)
    return int(refused)


def slice_named(text: str) -> slice:
    """The rows that a text such as 0:1000:10 means."""
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= 3 or numbers[2:] == [0]:
        raise click.BadParameter(f'"{text}" is no range of rows such as 0:1000 or ::10', param_hint="--rows")
    return slice(*numbers)


@as_command(
    """  slem-check data.h5
  slem-check runs/
  slem-check data.h5 --json | jq .frames[0]"""
)
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@CODE
@JSON
def check_command(paths: tuple[Path, ...], code: str, as_json: bool) -> int:
    """Check the physics of datasets and run folders.

    Each check has the number that was found and the one that was expected.
    """
    from workflows import check
    from workflows.terminal.progress import counted
    from workflows.terminal.show import print_json, show_checks

    codes = list(KNOWN) if code == "auto" else [code]
    with counted("checking", check.count_frames(paths)) as step:
        reports = [report for path in paths for report in check.check_path(path, codes, step)]
    if as_json:
        print_json({"frames": [report.as_dict() for report in reports]})
    else:
        show_checks(reports)
    return int(any(not report.ok for report in reports))


@as_command(
    """  slem-info data.h5
  slem-info model --json
  slem-info data.h5 --frame 3
  slem-info data.h5 --frame 3 --pair 0 1 --R 0 0 1 --matrix H"""
)
@click.argument("path", type=EXISTING)
@click.option("--frame", "number", type=click.IntRange(0), help="One frame of a dataset, counted from 0.")
@click.option("--pair", type=int, nargs=2, help="Two atoms, counted from 0: the block between them is printed.")
@click.option("--R", "cell", type=int, nargs=3, default=(0, 0, 0), show_default=True, help="Cell of the second atom.")
@click.option(
    "--matrix", type=click.Choice(["H", "S", "DM"]), default="H", show_default=True, help="Matrix of the block."
)
@JSON
def info_command(
    path: Path,
    number: int | None,
    pair: tuple[int, int] | None,
    cell: tuple[int, int, int],
    matrix: str,
    as_json: bool,
) -> int:
    """Show what a dataset, a model, a frame or a block holds.

    A frame is shown with where each matrix is from and what its reader did to it; a block with the names of its orbitals, and
    their rows and signs in the code's own matrices where these are known.
    """
    from workflows.info import describe, describe_model, is_model
    from workflows.terminal.progress import waiting
    from workflows.terminal.show import print_json, show_facts

    if number is not None or pair is not None:
        from workflows.frame_info import look_at
        from workflows.terminal.show_frame import show_look

        seen = look_at(path, number or 0, pair, cell, matrix)
        if as_json:
            print_json(seen.as_dict())
        else:
            show_look(seen)
        return 0
    with waiting("looking at it"):
        facts = describe_model(path) if is_model(path) else describe(path)
    if as_json:
        print_json(facts)
    else:
        show_facts(str(path), facts)
    return 0


@as_command(
    """  slem-overlap structure.cif --basis Si_gga_6au_100Ry_2s2p1d.orb -o overlap.h5
  slem-overlap POSCAR --basis Si.ion.xml --basis O.ion.xml
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
    help=f"Where radial functions are: {among_codes('functions')}, a run, a dataset, a model.",
)
@click.option(*OUTPUT, type=click.Path(path_type=Path), help="Dataset to make; default: new.overlap.h5 for new.cif.")
@JSON
def overlap_command(paths: tuple[Path, ...], sources: tuple[str, ...], output: Path | None, as_json: bool) -> int:
    """Compute S of structures from their radial functions.

    No run of a DFT code is needed. PATHS are what slem-predict reads. An S that is not positive definite is refused with the atoms that cause it; for a dataset of
    the same basis the difference to its own S is shown.
    """
    from workflows.overlap import make_overlaps, read_bases, structures_of
    from workflows.terminal.progress import counted
    from workflows.terminal.show import print_json, show_overlaps

    output = output or named_after(paths, ".overlap.h5", "data")
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
