"""Ranks: the processes that train or predict together, as torchrun starts them; one process alone is the simplest case."""

import os
from typing import Any

import torch
from torch import Tensor, nn


class Alone:
    """One process."""

    number, count = 0, 1

    @property
    def leader(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.number == 0

    def share(self, value: Any) -> Any:
        """The leader's value, in every process."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in every process."""
        return [value]

    def total(self, values: Tensor) -> Tensor:
        """The sums over all processes, in every process."""
        return values

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are means over all processes."""
        return network

    def close(self) -> None:
        """Let go of the other processes."""


class Ranks(Alone):
    """The processes of one torchrun, over nccl where each has a GPU and else over gloo."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self._dist = dist
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend)
        self.number, self.count = dist.get_rank(), dist.get_world_size()

    def share(self, value: Any) -> Any:
        box = [value]
        self._dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.count
        self._dist.all_gather_object(values, value)
        return values

    def total(self, values: Tensor) -> Tensor:
        self._dist.all_reduce(values)
        return values

    def wrap(self, network: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(network)

    def close(self) -> None:
        self._dist.destroy_process_group()


def find_ranks() -> Alone:
    """The processes that torchrun started together with this one, or this one alone."""
    return Ranks() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
