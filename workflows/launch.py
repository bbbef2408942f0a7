"""Launch: the same command again, as several ranks of torchrun on this machine."""

import os
import subprocess
import sys

RANKS = "WORLD_SIZE"  # torchrun tells each rank how many there are


def launched() -> bool:
    """Whether this process is one of several ranks."""
    return int(os.environ.get(RANKS, "1")) > 1


def launch_ranks(count: int) -> int:
    """Run this command as so many ranks, each with its part of the processors; returns the exit code."""
    verb = os.path.basename(sys.argv[0]).removeprefix("slem-")
    words = sys.argv[1:] if verb in ("slem", "__main__.py") else [verb, *sys.argv[1:]]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    runner = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "workflows"]
    command = [sys.executable, "-m", *runner, *words]
    return subprocess.run(command, env={"OMP_NUM_THREADS": threads, **os.environ}, check=False).returncode
