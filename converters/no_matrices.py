"""What folders hold in place of runs: pointers of Git LFS, and inputs whose runs left no matrices."""

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.storage.files import starts_with

POINTER, LONGEST_POINTER = b"version https://git-lfs", 1024
NAMED = 3


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
    names = ", ".join(missed[:NAMED]) + (f" and {len(missed) - NAMED} more" if len(missed) > NAMED else "")
    found = f"has pointers of Git LFS in place of {names}"
    return [Refused(Kind.MISSING_FILES, folder, found, "the files themselves (git lfs pull)")]


def nothing_to_read(path: Path, codes: list[str]) -> Refused:
    """Why nothing was found at or below a path; an input of a code tells what its run needs to leave matrices."""
    for code in codes:
        about = KNOWN[code]
        if about.matrices_from and about.load_restart is not None:
            is_input = about.load_restart().is_input
            for pattern in about.inputs:
                inputs = [path] if path.is_file() and fnmatch(path.name, pattern) else sorted(path.rglob(pattern))
                for found in inputs:
                    if found.is_file() and is_input(found):
                        name = found.name if path.is_file() else str(found.relative_to(path))
                        what = f"holds nothing to read: {name} is an input of {about.title}, whose run left no matrices"
                        return Refused(Kind.NO_RUN, path, what, f"a run with {about.matrices_from}")
    return Refused(Kind.NO_RUN, path, "holds nothing to read", f"runs of {' or '.join(codes)}")
