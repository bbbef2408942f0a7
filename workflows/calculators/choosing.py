"""Which start the next calculation takes: what the last ones say, each kind tried now and then."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

# So many of the last calculations of a kind count; a kind that was seen so often is tried again after so many others.
REMEMBERED, TRIED_AGAIN = 4, 25
# Kinds of starts that densities of calculations before make, and those that a model makes.
LAST = "last"
PREDICTED = ("both", "predicted", "levels")


class Choice:
    """What the last calculations cost by the kind of their start: iterations, and those that would take as long as the prediction."""

    def __init__(self) -> None:
        self.seen: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self.count = 0
        self.when: dict[str, int] = {}

    @classmethod
    def remembered(cls, events: Sequence[Mapping[str, Any]]) -> "Choice":
        """That of a folder which is used again, by its journal."""
        choice = cls()
        for event in events:
            if event["event"] == "step" and event["iterations"]:
                taken = event["start"]
                choice.add_outcome(event.get("wanted", taken), taken, event.get("cost", event["iterations"]))
            elif event["event"] == "trained" and "refused" not in event:
                choice.forget(PREDICTED)
        return choice

    def next(self, kinds: Sequence[str]) -> str:
        """The best of the kinds that are possible now; one that has not been tried for long goes first.

        They are named from the likeliest; of two that are as good the later one is taken, which costs less.
        """
        untried = [kind for kind in kinds if len(self.seen[kind]) < 1]
        if untried:
            return untried[0]
        if self.is_of_more(kinds[0]):
            return kinds[0]
        old = [kind for kind in kinds if self.count - self.when[kind] > self.patience(kind, kinds)]
        return old[0] if old else min(reversed(kinds), key=self.mean)

    def patience(self, kind: str, kinds: Sequence[str]) -> float:
        """After so many others a kind is tried again: the later, the worse it is than the best, and the oftener it was tried."""
        worse = max(1.0, self.mean(kind) / min(map(self.mean, kinds)))
        return TRIED_AGAIN * (worse * len(self.seen[kind]) / REMEMBERED) ** 2

    def mean(self, kind: str) -> float:
        return sum(self.seen[kind]) / len(self.seen[kind])

    def is_of_more(self, kind: str) -> bool:
        """Whether there are twice as many calculations before as when a kind was tried, so that what it cost then says little of densities that are combined."""
        return kind == LAST and kind in self.when and self.count >= 2 * self.when[kind]

    def add(self, kind: str, cost: float) -> None:
        if self.is_of_more(kind):
            self.seen[kind].extend([cost] * len(self.seen[kind]))
        self.count += 1
        self.seen[kind].append(cost)
        self.when[kind] = self.count

    def add_outcome(self, wanted: str, taken: str, cost: float) -> None:
        """What a calculation cost; a start that could not be made costs what the one in its place did."""
        self.add(taken, cost)
        if wanted != taken:
            self.add(wanted, cost)

    def forget(self, kinds: Sequence[str]) -> None:
        """What was seen of some kinds counts no longer, as there is a new model."""
        for kind in kinds:
            self.seen.pop(kind, None)
