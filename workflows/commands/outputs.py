"""Names of outputs that the user does not name: in the current folder, after the input, never over something else."""

from collections.abc import Sequence
from pathlib import Path

import click


def stem_of(path: Path) -> str:
    """What a folder or a file is called, without the ending of a file."""
    return path.resolve().name if path.is_dir() else path.stem


def named_after(paths: Sequence[Path], ending: str, several: str) -> Path:
    """A name after the only input, such as silicon.h5 for silicon/; one for all that stands for several inputs."""
    output = Path(f"{stem_of(paths[0]) if len(paths) == 1 else several}{ending}")
    click.echo(f"writing into {output}; -o gives another name", err=True)
    return output


def new_output(paths: Sequence[Path], ending: str, several: str) -> Path:
    """The same for what is written anew each time: refused where something has the name already."""
    from converters.errors import Kind, Refused

    output = named_after(paths, ending, several)
    if output.exists():
        raise Refused(Kind.OUTPUT_EXISTS, output, "exists already; give another name with -o")
    return output


def dataset_of(paths: Sequence[Path]) -> Path:
    """The dataset for runs; one that is there already must have begun with a run of these."""
    from converters.errors import Kind, Refused
    from converters.storage.dataset import Dataset

    output = named_after(paths, ".h5", "data")
    if output.exists():
        with Dataset(output) as data:
            first = Path(data.outline(0).provenance.path) if len(data) else None
        if first is not None and not any(first.resolve().is_relative_to(path.resolve()) for path in paths):
            found = f"begins with {first}, which is none of these runs; say with -o that they are to be added"
            raise Refused(Kind.OUTPUT_EXISTS, output, found)
    return output
