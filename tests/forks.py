"""Commands in processes of their own, forked from that of the tests: what this one has imported need not be imported again."""

import ctypes
import os
import signal
import subprocess
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor

# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux: the rights of the superuser to write and read everywhere.
RIGHTS_OVER_FILES = 1 << 1 | 1 << 2
CAPABILITIES_OF_64_BITS = 0x20080522


def in_a_fork(words, before=lambda: None):
    """Exit code and output of a command in a process that called `before` first."""
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        run_and_end(words, [end for _, end in pipes], before)
    for _, end in pipes:
        os.close(end)
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(read_all, [begin for begin, _ in pipes]))
    _, status = os.waitpid(child, 0)
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), *said)


def read_all(end):
    with open(end) as file:
        return file.read()


def run_and_end(words, ends, before):
    """Run a command as a process of its own would, with its output into these two ends, and end this process."""
    code = 99
    try:
        import torch
        from pyscf import lib

        from workflows.cli import main

        for stream, end in zip((1, 2), ends, strict=True):
            os.dup2(end, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.unraisablehook = sys.__unraisablehook__
        warnings.resetwarnings()  # as Python has them, and not as errors
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        torch.set_num_threads(1)  # threads do not survive a fork
        lib.num_threads(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        main(list(map(str, words)), prog_name="slem")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - a traceback is what is looked for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def obey_permissions():
    """Give up the rights of the superuser over the files of others; for a user it changes nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_OF_64_BITS, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; and the same of the upper 32 bits
    if libc.capget(header, held):
        raise OSError(ctypes.get_errno(), "the rights of this process cannot be read")
    for n in range(3):
        held[n] &= ~RIGHTS_OVER_FILES
    if libc.capset(header, held):
        raise OSError(ctypes.get_errno(), "the rights of this process cannot be given up")
