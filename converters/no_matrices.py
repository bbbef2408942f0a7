"""What folders hold in place of runs: pointers of Git LFS, packed files, links to other folders, and inputs whose runs left no matrices."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.storage.files import PACKED, starts_with

POINTER, LONGEST_POINTER = b"version https://git-lfs", 1024
NAMED = 3
LARGEST_INPUT = 2**24  # bytes; what is larger is no input
OF_ANYTHING = ("*.dat", "*.txt", "*.log", "*.json")  # packed or not, they say nothing of a code


def is_pointer(path: Path) -> bool:
    """True for the few lines that Git LFS leaves in place of a file that was not fetched."""
    try:
        return path.stat().st_size < LONGEST_POINTER and starts_with(path, POINTER)
    except OSError:
        return False


def without_pointers(run: Run) -> Run | None:
    """The run with the files that are there; nothing where no matrix is."""
    matrices = tuple(path for path in run.matrices if not is_pointer(path))
    others = tuple(path for path in run.others if not is_pointer(path))
    return replace(run, matrices=matrices, others=others) if matrices else None


def refused_pointers(folder: Path, files: Iterable[Path], codes: Iterable[str]) -> list[Refused]:
    """One refusal for all pointers in a folder that stand for files of these codes."""
    patterns = [pattern for code in codes for pattern in (*KNOWN[code].files, *KNOWN[code].basis_files)]
    missed = [path.name for path in files if any(fnmatch(path.name, f"*{p.removeprefix('*')}") for p in patterns)]
    if not missed:
        return []
    found = f"has pointers of Git LFS in place of {some(map(Path, missed))}"
    return [Refused(Kind.MISSING_FILES, folder, found, "the files themselves (git lfs pull)")]


def nothing_to_read(path: Path, codes: list[str]) -> Refused:
    """Why nothing was found at or below a path: files are packed, or an input of a code tells what its run needs to leave matrices."""
    apart = list(packed_and_links([path], codes))
    for code in codes if not apart else ():
        folders = [path.parent] if path.is_file() else (Path(name) for name, _, _ in os.walk(path))
        for found in (one for folder in folders for one in inputs_of(code, folder) if path in (one, *one.parents)):
            name = found.name if path.is_file() else str(found.relative_to(path))
            what = f"holds nothing to read: {name} is an input of {KNOWN[code].title}, whose run left no matrices"
            return Refused(Kind.NO_RUN, path, what, ended_run_of(code))
    what = "; ".join(["holds nothing to read", *apart])
    return Refused(Kind.NO_RUN, path, what, f"runs of {' or '.join(codes)}")


def left_out(paths: Iterable[Path], codes: list[str], items: Iterable[Run | Refused]) -> list[str]:
    """What stands among the runs and is none, and so is in no dataset: a line for each kind."""
    items = list(items)
    empty = {Path(item.place) for item in items if isinstance(item, Refused) and item.kind is Kind.NO_RUN}
    paths = [path for path in dict.fromkeys(paths) if path.is_dir() and path not in empty]
    of_runs = {
        place for run in items if isinstance(run, Run) for place in (run.folder, run.folder.parent, *run.claimed)
    }
    of_runs |= {place.with_name(place.name.partition("-slem-")[0]) for place in of_runs if place.name}  # ran in a copy
    refused = {parent for item in items if isinstance(item, Refused) for parent in places_of(item)}
    without: dict[str, dict[Path, None]] = {}
    for folder in (Path(name) for path in paths for name, _, _ in os.walk(path)):
        if folder not in of_runs and folder not in refused:
            for code in codes:
                without.setdefault(code, {}).update(dict.fromkeys(one.parent for one in inputs_of(code, folder)))
    lines = []
    for code, folders in without.items():
        if folders:
            lines.append(
                f"input of {KNOWN[code].title} without matrices in {some(folders)}; expected {ended_run_of(code)}"
            )
    return [*lines, *packed_and_links(paths, codes)]


def places_of(refusal: Refused) -> tuple[Path, ...]:
    place = Path(refusal.place)
    return place, place.parent


def inputs_of(code: str, folder: Path) -> list[Path]:
    """Inputs of a code in a folder, of whose runs matrices could be read."""
    about = KNOWN[code]
    if not about.matrices_from or about.load_restart is None:
        return []
    found = [one for pattern in about.inputs for one in sorted(folder.glob(pattern)) if os.access(one, os.R_OK)]
    if not (found := [one for one in found if one.is_file() and one.stat().st_size < LARGEST_INPUT]):
        return []
    is_input = about.load_restart().is_input
    return [one for one in found if is_input(one)]


def ended_run_of(code: str) -> str:
    return f"a run with {KNOWN[code].matrices_from} that has ended"


def packed_and_links(paths: Iterable[Path], codes: Iterable[str]) -> Iterator[str]:
    """Files of codes that are packed, and links to folders outside of those that are searched."""
    paths = list(paths)
    patterns = {pattern for code in codes for pattern in KNOWN[code].files} - {*OF_ANYTHING}
    packed: dict[Path, None] = {}
    links: dict[Path, None] = {}
    for name, folders, files in (step for path in paths for step in os.walk(path)):
        for file in files:
            stem, suffix = os.path.splitext(file)
            if suffix in PACKED and any(fnmatch(stem, pattern) for pattern in patterns):
                packed[Path(name, file)] = None
        for folder in folders:
            link = Path(name, folder)
            if link.is_symlink() and not any(
                path.resolve() in (one, *one.parents) for path in paths for one in [link.resolve()]
            ):
                links[link] = None
    if packed:
        yield f"packed files are not read (unpack them): {some(packed)}"
    if links:
        yield f"links to other folders are not followed (name them too): {some(links)}"


def some(places: Iterable[Path]) -> str:
    """The first of many places, and how many more there are."""
    names = sorted(map(str, places))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
