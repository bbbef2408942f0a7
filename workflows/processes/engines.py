"""Engines: where a function is run on many items, here or elsewhere; results come back in the order of the items.

An engine has `run(function, items)`, which gives (item, result) pairs, `leader` (whether this process makes the files that all work on)
and `share(value)` (the leader's value, in every process). Each is an existing machine of others: a process pool, the ranks of torchrun,
a dask cluster. What is run elsewhere is a function of a module with plain arguments.
"""

import gc
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from converters.errors import Kind, Refused

T = TypeVar("T")


class Lost:
    """The result of work whose process ended twice before it was done."""


class Engine:
    """This process alone; the others inherit and change what is different."""

    leader = True
    workers = 1
    together = 1  # items that are done in all processes for each one that this process hears of

    def run(self, function: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
        """Each item with what the function gives for it."""
        return ((item, function(item)) for item in items)

    def share(self, value: Any) -> Any:
        """The leader's value."""
        return value

    def close(self) -> None:
        """Let go of all workers."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Processes(Engine):
    """Processes of this machine, one thread each. An item whose process dies is tried once more, alone.

    `method` "fork" inherits what is imported already; "spawn" starts anew, as torch needs it.
    """

    def __init__(self, workers: int, method: str) -> None:
        self.workers = workers
        known = multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context(method if method in known else "spawn")
        self._pool = self._make_pool(workers)

    def _make_pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, mp_context=self._context, initializer=begin_work)

    def run(self, function: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
        rest = iter(items)
        waiting: deque[tuple[T, Future[Any]]] = deque()
        while True:
            new = islice(rest, 2 * self.workers - len(waiting))
            waiting.extend((item, self._submit(function, item)) for item in new)
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # One process died and took the pool along: do this item alone, the others again.
                result = self._run_alone(function, item)
                self._pool = self._make_pool(self.workers)
                waiting = deque((other, self._submit(function, other)) for other, _ in waiting)
            yield item, result

    def _submit(self, function: Callable[[T], Any], item: T) -> Future[Any]:
        """Hand an item to the pool, which may have broken since the last answer: then the item's own answer says so."""
        try:
            return self._pool.submit(function, item)
        except BrokenProcessPool as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def _run_alone(self, function: Callable[[T], Any], item: T) -> Any:
        with self._make_pool(1) as pool:
            try:
                return pool.submit(function, item).result()
            except BrokenProcessPool:
                return Lost()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Dask(Engine):
    """The workers of a dask.distributed cluster, which must see the same files; dask does again what a dead worker had."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise Refused(
                Kind.NOT_INSTALLED, "--dask", "needs dask.distributed; pip install 'slem-plugin[dask]' brings it"
            ) from error
        try:
            self._client = Client(address, set_as_default=False)
        except (OSError, ValueError) as error:
            raise Refused(Kind.NOT_INSTALLED, "--dask", f"cannot reach a scheduler at {address}: {error}") from error
        self.workers = max(1, sum(self._client.nthreads().values()))

    def run(self, function: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
        from distributed import KilledWorker

        rest = iter(items)
        waiting: deque[tuple[T, Any]] = deque()
        while True:
            new = islice(rest, 4 * self.workers - len(waiting))
            waiting.extend((item, self._client.submit(in_one_thread, function, item, pure=False)) for item in new)
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                yield item, future.result()
            except KilledWorker:
                yield item, Lost()

    def close(self) -> None:
        self._client.close()


class TorchRanks(Engine):
    """The processes that torchrun started: each does its share of the items and hears only of those; all wait for the last one."""

    def __init__(self) -> None:
        from slem_plugin.ranks import Ranks

        self._ranks = Ranks()
        self.leader = self._ranks.leader
        self.workers = self.together = self._ranks.count

    def run(self, function: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
        yield from super().run(function, list(items)[self._ranks.number :: self.workers])
        self.share(None)

    def share(self, value: Any) -> Any:
        return self._ranks.gather(value)[0]

    def close(self) -> None:
        self._ranks.close()


def choose_engine(workers: int, dask: str | None, method: str) -> Engine:
    """The engine that the options of a command ask for."""
    if dask is not None:
        return Dask(dask)
    return Processes(workers, method) if workers > 1 else Engine()


def in_one_thread(function: Callable[[T], Any], item: T) -> Any:
    """What a function gives; more threads only wait for each other where there are several workers."""
    with threadpool_limits(1):
        return function(item)


def begin_work() -> None:
    gc.freeze()  # what a fork inherits as garbage is the parent's to close: PySCF's own deletes its temporary files
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are loaded later
    threadpool_limits(1)
    Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent was killed; a pool's processes would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
