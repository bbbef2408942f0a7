"""Memory that the program gives back is kept for what it asks for next, as far as the C library has a setting for it.

The arrays of a prediction or of a training step are larger than those that glibc keeps by itself. It returns their pages to the kernel, which clears
new ones every time: a fifth of the time of a prediction.
"""

import ctypes
import os
import platform
from functools import cache

# Settings of glibc's mallopt and their values (bytes): up to how much free memory at the end of the heap is kept, and from which size on
# arrays stand outside of it, which is the largest that it allows.
M_TRIM_THRESHOLD, KEPT = -1, 1 << 30
M_MMAP_THRESHOLD, IN_THE_HEAP = -3, 32 << 20


@cache
def keep_memory() -> None:
    """Once in each process; other C libraries have no such setting, and what a user sets for glibc stays."""
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & set(os.environ)
    if platform.libc_ver()[0] != "glibc" or chosen:
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    libc.mallopt(M_MMAP_THRESHOLD, IN_THE_HEAP)
