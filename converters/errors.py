"""What a user is told when an input cannot be used: the kind of error, the place, what was found and what was expected.

What to do about a kind stands in `workflows.terminal.cures`; nothing here knows a command line.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from traceback import format_exception


class Kind(Enum):
    """The kinds of refusals, with the title of each in the list of cures."""

    IN_USE = "the file is in use"
    NO_ACCESS = "the disk is full, or a place may not be written or read"
    NOT_THERE = "a file or folder is not there"
    DAMAGED_JOURNAL = "the journal of a dataset is damaged"
    NOT_OURS = "not a file of this program"
    NEWER_PROGRAM = "a newer program wrote it"
    NO_STRUCTURE = "not a structure that can be read"
    NO_RUN = "no run was found"
    OTHER_MODEL = "the model does not fit"
    COARSE_MESH = "the k mesh is too coarse for bands"
    UNSUPPORTED = "this program does not do that"
    MISSING_FILES = "files of a run are missing"
    AMBIGUOUS = "it is not clear which run is meant"
    UNFINISHED_SCF = "the SCF has not ended well"
    FAULTY_VERSION = "a version of the code with a known fault"
    PARTIAL_DENSITY = "DM is not that of H"
    SINGULAR_OVERLAP = "S is not positive definite"
    OTHER_DATASET = "frames do not belong in one dataset"
    WRONG_FUNCTIONS = "radial functions do not fit"
    POOR_PREDICTION = "a predicted matrix is not a density"
    BAD_PHYSICS = "a check of the physics failed"
    OUTPUT_EXISTS = "the output holds something else"
    OTHER_STRUCTURE = "prediction and run do not agree"
    ELECTRONS = "the number of electrons is not known"
    MISSING_MATRIX = "a matrix is missing"
    NO_START = "no start can be made from it"
    NO_BANDS = "bands cannot be drawn"
    NO_SUCH_CHOICE = "a number or a name that was asked for"
    CONFIGURATION = "the configuration"
    TOO_LITTLE_MEMORY = "too little memory, or a process died"
    NOT_INSTALLED = "something has to be installed or started"
    TRAINING_FAILED = "the training failed"
    PIECES_DISAGREE = "pieces disagree"
    INTERNAL = "an error of this program"
    DAMAGED = "the file is damaged, cut off, of other files than its neighbours, or of a version that we do not know"


class Refused(Exception):
    """An input that is not used: its place, what was found there and what was expected, in one line.

    `trace` is the traceback of an error of this program, and empty for all that is foreseen.
    """

    def __init__(self, kind: Kind, place: str | Path, found: str, expected: str = "", trace: str = "") -> None:
        self.kind, self.place, self.found, self.expected, self.trace = kind, str(place), found, expected, trace
        super().__init__(f"{place}: {self.reason}")

    @property
    def reason(self) -> str:
        """What was found and what was expected."""
        return f"{self.found}; expected {self.expected}" if self.expected else self.found

    def __reduce__(self) -> tuple[type, tuple[Kind, str, str, str, str]]:
        return type(self), (self.kind, self.place, self.found, self.expected, self.trace)


IN_USE = "is in use by another process; wait for it to end, or write elsewhere"
# The kinds of what an operating system says; anything else is a file that cannot be read.
KINDS_OF_ERRNO = {
    errno.ENOENT: Kind.NOT_THERE,
    errno.ENOTDIR: Kind.NOT_THERE,
    errno.EISDIR: Kind.NOT_THERE,
    errno.EACCES: Kind.NO_ACCESS,
    errno.EPERM: Kind.NO_ACCESS,
    errno.EROFS: Kind.NO_ACCESS,
    errno.ENOSPC: Kind.NO_ACCESS,
    errno.EDQUOT: Kind.NO_ACCESS,
    errno.EFBIG: Kind.NO_ACCESS,
    errno.ENOMEM: Kind.TOO_LITTLE_MEMORY,
}


def kind_of(error: OSError | RuntimeError | MemoryError, otherwise: Kind = Kind.DAMAGED) -> Kind:
    """The kind of an error of the operating system or of HDF5; `otherwise` where it says nothing that we know."""
    text = str(error)
    if isinstance(error, MemoryError):
        return Kind.TOO_LITTLE_MEMORY
    if "unable to lock file" in text:
        return Kind.IN_USE
    if "file signature not found" in text:
        return Kind.NOT_OURS
    said = re.search(r"errno = (\d+)", text)
    number = int(said[1]) if said else getattr(error, "errno", None)
    return KINDS_OF_ERRNO.get(number, otherwise) if number is not None else otherwise


def refused_by_system(
    place: str | Path, error: OSError | RuntimeError | MemoryError, failed: str = "", otherwise: Kind = Kind.DAMAGED
) -> Refused:
    """What the operating system or HDF5 refuses, as a refusal of ours; `failed` says what could not be done."""
    reason = reason_of(error)
    return Refused(kind_of(error, otherwise), place, f"{failed}: {reason}" if failed else reason)


@contextmanager
def reading(place: str | Path) -> Iterator[None]:
    """Around work on somebody's files: only what is foreseen is a refusal, anything else is reported as our own error."""
    try:
        yield
    except Refused:
        raise
    except (OSError, MemoryError) as error:
        raise refused_by_system(place, error, "cannot be read") from error
    except Exception as error:
        found = f"made this program fail ({type(error).__name__}: {error}); this is a bug of slem"
        raise Refused(Kind.INTERNAL, place, found, trace="".join(format_exception(error))) from error


def reason_of(error: OSError | RuntimeError | MemoryError) -> str:
    """The operating system's or HDF5's message, in few words."""
    text = str(error)
    if isinstance(error, MemoryError):
        return "there is too little memory"
    if "unable to lock file" in text:
        return IN_USE
    if said := re.search(r"error message = '([^']*)'", text):
        return said[1].lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if "file signature not found" in text:
        return "is not an HDF5 file"
    if "truncated file" in text:
        return "is cut off: " + text[text.index("truncated file") :].rstrip(")")
    return text
