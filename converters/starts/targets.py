"""Runs that are to start: which code's they are, and what their input says."""

from fnmatch import fnmatchcase
from pathlib import Path

from converters.codes.about import About
from converters.codes.known import KNOWN
from converters.codes.protocols import Restart, Script
from converters.errors import Kind, Refused
from converters.starts.start import Target


def restart_module(code: str) -> Restart:
    """What starts the runs of a code; imported when it is asked for."""
    load = KNOWN[code].load_restart if code in KNOWN else None
    if load is None:
        raise Refused(Kind.UNSUPPORTED, code, "has no runs that could be started", " or ".join(startable()))
    return load()


def is_scripted(code: str) -> bool:
    """Whether the runs of a code are scripts, which ask for their start themselves."""
    return code in KNOWN and KNOWN[code].load_script is not None


def script_module(code: str) -> Script:
    """What makes the starts of a code's scripts."""
    load = KNOWN[code].load_script if code in KNOWN else None
    if load is None:
        raise Refused(Kind.UNSUPPORTED, code, "has no scripts that could be started")
    return load()


def startable() -> list[str]:
    """Codes whose runs read files to start from."""
    return [name for name, about in KNOWN.items() if about.load_restart is not None]


def find_target(path: Path) -> Target:
    """The run of an input file or of a folder, of whichever code reads it."""
    code = code_of_input(path)
    if code is None:
        wanted = ", ".join(pattern for name in startable() for pattern in KNOWN[name].inputs)
        raise Refused(Kind.NO_RUN, path, "holds no input of a run", f"a folder or file of {wanted}")
    return restart_module(code).read_target(path)


def code_of_input(path: Path) -> str | None:
    """The code of an input file, or of the inputs in a folder; None where there are none.

    Names decide where only one code has files of such a name, else their contents.
    """
    if path.is_file():
        return next((name for name in startable() if inputs_among([path], KNOWN[name])), None)
    files = sorted(file for file in path.iterdir() if file.is_file())
    named = {name: found for name in startable() if (found := inputs_among(files, KNOWN[name]))}
    if len(named) > 1:
        named = {name: found for name, found in named.items() if any(map(restart_module(name).is_input, found))}
    if len(named) > 1:
        raise Refused(Kind.AMBIGUOUS, path, f"holds inputs of {' and '.join(named)}", "one; name its file")
    return next(iter(named), None)


def code_of_scripts(path: Path) -> str | None:
    """The code whose scripts lie in a folder, where no other code has an input there."""
    if not path.is_dir() or code_of_input(path) is not None:
        return None
    files = [file for file in path.iterdir() if file.is_file()]
    return next((name for name in filter(is_scripted, KNOWN) if inputs_among(files, KNOWN[name])), None)


def inputs_among(files: list[Path], about: About) -> list[Path]:
    """Files that are named like inputs of a code."""
    return [file for file in files if any(fnmatchcase(file.name, pattern) for pattern in about.inputs)]
