"""torchrun: the same command again, as several ranks of torchrun on this machine."""

import logging
import os
import sys
import uuid

RANKS, RANK = "WORLD_SIZE", "RANK"  # torchrun tells each rank how many there are, and which it is


def launched() -> bool:
    """Whether this process is one of several ranks."""
    return int(os.environ.get(RANKS, "1")) > 1


def rank_name() -> str:
    """How a rank calls itself in its messages; empty for a process alone."""
    return f" (rank {os.environ[RANK]})" if launched() else ""


def launch_ranks(count: int) -> int:
    """Run this command as so many ranks, each with its part of the processors; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    verb = os.path.basename(sys.argv[0]).removeprefix("slem-")
    words = sys.argv[1:] if verb in ("slem", "__main__.py") else [verb, *sys.argv[1:]]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the ranks say what is wrong
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "workflows", *words)
    except ChildFailedError as error:
        return max(1, error.get_first_failure()[1].exitcode)
    return 0
