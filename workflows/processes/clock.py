"""The time of a training as the processor counts it, so that what else runs on a machine does not shorten it."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slem_plugin.learning.learner import Progress


class Clock:
    """Seconds of the processor since the first step, as the time of a training; one that goes on has spent some already."""

    def __init__(self, spent: float = 0.0) -> None:
        self.spent = spent
        self.began: float | None = None

    def set(self, progress: "Progress", *_: object) -> None:
        if self.began is None:
            self.began = time.process_time() - self.spent
        progress.seconds = time.process_time() - self.began
