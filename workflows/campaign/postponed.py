"""Runs whose frames nobody waits for: these go into the dataset in a thread of their own, so that the next runs need not wait either."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from workflows.campaign.runs import Ran


class Postponed:
    """Runs that wait, and those that are being learned; `learn` says of each why it cannot be, or nothing."""

    def __init__(self, learn: Callable[[Sequence[Ran]], list[str]]) -> None:
        self.learn, self.pool = learn, ThreadPoolExecutor(1)
        self.waiting: dict[Path, Ran] = {}
        self.begun: dict[Path, Ran] = {}
        self.answer: Future[list[str]] | None = None

    def __len__(self) -> int:
        return len(self.waiting) + len(self.begun)

    def add(self, folder: Path, ran: Ran) -> None:
        self.waiting[folder] = ran

    def begin(self) -> None:
        """Learn all that wait, unless others are being learned."""
        if self.answer is None and self.waiting:
            self.begun, self.waiting = self.waiting, {}
            self.answer = self.pool.submit(self.learn, [*self.begun.values()])

    def take_ended(self, *, wait: bool) -> list[tuple[Path, Ran, str]]:
        """The runs that were learned since the last question."""
        if self.answer is None or not (wait or self.answer.done()):
            return []
        reasons, begun = self.answer.result(), self.begun
        self.begun, self.answer = {}, None
        return [(folder, ran, reason) for (folder, ran), reason in zip(begun.items(), reasons, strict=True)]

    def close(self) -> None:
        self.pool.shutdown()
