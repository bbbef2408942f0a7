"""What all commands share: exit codes, errors in one line with their cure, examples in the help, common options."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from converters.codes.known import KNOWN, ROUTES
from converters.tools import known

CODES, TOOLS = tuple(KNOWN), tuple(known.TOOLS)
OF_THE_MODEL = ("torch", "safetensors", "tomli")
EXISTING = click.Path(exists=True, path_type=Path)
GO_ON = "all that was done is saved; run the same command again to go on"


def report_errors(function: Callable[..., int | None], interrupted: str) -> Callable[..., None]:
    """Turn what a command returns or raises into its exit code and one line; `--debug` shows where an error came from."""

    @click.option("--debug", is_flag=True, help="Show where an error came from: its traceback.")
    @functools.wraps(function)
    def run(*args: Any, debug: bool, **options: Any) -> None:
        try:
            from converters.interrupts import noticed
            from workflows.terminal.debug import want_tracebacks

            want_tracebacks(debug)

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
    from converters.errors import Refused, kind_of
    from workflows.processes.torchrun import rank_name

    try:
        return work() or 0
    except (Refused, OSError, MemoryError) as error:
        if debug:
            raise
        from workflows.terminal.cures import CURES

        kind = error.kind if isinstance(error, Refused) else kind_of(error)
        click.echo(f"error{rank_name()}: {error or type(error).__name__}\n  {CURES[kind]}", err=True)
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
    type=click.Choice(["auto", *ROUTES]),
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
OUTPUT = ("-o", "--output")


def by_code(what: str) -> str:
    """Help for an option that means something else to each code, as their records say it."""
    return "; ".join(f"{about.title}: {words}" for about in KNOWN.values() if (words := getattr(about, what)))


def among_codes(what: str) -> str:
    """All that the records of the codes list under a name."""
    return ", ".join(dict.fromkeys(word for about in KNOWN.values() for word in getattr(about, what)))


GRID = click.option("--grid", type=int, nargs=3, help=f"{by_code('grid')}.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary on stdout.")
DASK = click.option("--dask", metavar="ADDRESS", help="Work on a dask.distributed cluster, such as tcp://host:8786.")
CODE = click.option(
    "--code", type=click.Choice(["auto", *CODES]), default="auto", show_default=True, help="DFT code of the folders."
)
