"""Whether training pays: what predictions have saved, what they may still save, and how many seconds a training may take.

All seconds are of processors: those of runs, as far as they are known, else on the clock; those of trainings, always.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Iterations that the first model is hoped to save, as a part of those of the default start (docs/results.md has a quarter to a half).
HOPE = 0.3
# The part of what may be saved that a training may cost, and the part of all runs that may be risked before anything was saved: no campaign loses much more.
SHARE, RISK = 0.5, 0.03
# Shorter trainings (seconds) teach nothing that lasts.
SHORTEST = 10.0
# Seconds that a training takes besides its steps, imports and preparations, as long as none has told.
BESIDES = 6.0
# A run's seconds besides its iterations, as a part of all, as long as no runs tell. It is known to a third of a run's time, runs
# are to a tenth, so that it counts as so much of a run.
GUESSED, OF_A_RUN = 0.3, 0.1
# Stands for the runs before, in place of a model's number, where they made a start; how many of the last such starts count, as more runs make better ones.
EARLIER, RECENT = -1, 6
# So many runs say what a model saves; the iterations that even the best start takes.
ENOUGH, BEST = 3, 1.0
# The first run and the first control are enough to say how long the default takes.
FEWEST_DEFAULTS = 2
# Of the runs that a model could start, one in so many starts from the default all the same, for comparison; the first of them is the tenth.
CONTROL, FIRST_CONTROL = 20, 10


@dataclass(frozen=True)
class Row:
    """A finished run: iterations, seconds (None: nobody knows), the model that started it (0: the default, EARLIER: the runs before), seconds lost by a failed start.

    `before` are seconds that making the start took. A control could have begun from a prediction; `refused` is the model whose prediction was not trusted.
    """

    iterations: int
    seconds: float | None
    model: int = 0
    lost: float = 0.0
    control: bool = False
    refused: int = 0
    before: float = 0.0


def trials(otherwise: float) -> float:
    """Seconds that a new model may cost until it is known: its first starts save nothing, where each could have saved so many otherwise."""
    return ENOUGH * max(otherwise, 0.0)


def is_control(offered: int) -> bool:
    """Whether the next run is a control: so many runs before it could have begun from a prediction."""
    return offered % CONTROL == FIRST_CONTROL - 1


@dataclass(frozen=True)
class Decision:
    """Seconds that the next training may take, and why so many; 0: none."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Ledger:
    """What the runs of a campaign say about costs."""

    rows: Sequence[Row]

    def of(self, model: int) -> list[Row]:
        return [row for row in self.rows if row.model == model]

    @property
    def predicted(self) -> list[Row]:
        return [row for row in self.rows if row.model]

    @property
    def of_models(self) -> list[Row]:
        return [row for row in self.rows if row.model > 0]

    @property
    def default(self) -> float | None:
        """Iterations of the default start: those of the controls once they are enough, since the first runs are the most unusual ones."""
        rows = self.controls if len(self.controls) >= ENOUGH else self.of(0)
        return float(np.mean([row.iterations for row in rows])) if rows else None

    @property
    def controls(self) -> list[Row]:
        return [row for row in self.rows if row.control]

    @property
    def beginning(self) -> float:
        """Seconds of a run besides its iterations: where the line of seconds over iterations begins.

        While all runs take as many iterations nothing but a guess says where, which weighs little once they do not.
        """
        known = [(row.iterations, row.seconds) for row in self.rows if row.seconds is not None]
        if not known:
            return 0.0
        n, seconds = np.array([*known, (0.0, GUESSED * float(np.mean([s for _, s in known])))], dtype=float).T
        _, constant = np.polyfit(n, seconds, 1, w=np.sqrt([*np.ones(len(known)), OF_A_RUN]))
        return float(np.clip(constant, 0.0, 0.9 * seconds[:-1].min()))

    def seconds_of_iteration(self) -> float | None:
        """Seconds of one iteration; None where no time is known."""
        known = [(row.iterations, row.seconds) for row in self.rows if row.seconds is not None]
        if not known:
            return None
        n, seconds = np.array(known, dtype=float).T
        return float(np.maximum(seconds - self.beginning, 0).sum() / n.sum())

    @property
    def saved(self) -> float:
        """Seconds that predictions have saved, less what failed starts have cost."""
        default, each = self.default, self.seconds_of_iteration()
        if default is None or each is None:
            return 0.0
        return sum((default - row.iterations) * each - row.lost for row in self.predicted)

    @property
    def spent(self) -> float:
        """Seconds of all runs, failed starts among them."""
        return sum((row.seconds or 0.0) + row.lost for row in self.rows)

    def gain(self, model: int) -> float | None:
        """Seconds that each run with a model, or from the runs before, saves, none where its start was refused; None while too few have had one."""
        gain = self.gain_by_iterations(model)
        if gain is None:
            return None
        by_clock = self.gain_by_clock([row for row in self.asked(model) if row.model == model])
        return gain if by_clock is None else min(gain, by_clock)

    def asked(self, model: int) -> list[Row]:
        """The runs that a model was to start, or the last ones of those that earlier runs were to start."""
        mine = [row for row in self.rows if model in (row.model, row.refused)]
        return mine[-RECENT:] if model == EARLIER else mine

    def gain_by_iterations(self, model: int) -> float | None:
        """The same as if seconds were those of iterations alone."""
        default, each, mine = self.default, self.seconds_of_iteration(), self.asked(model)
        if default is None or each is None or len(mine) < ENOUGH:
            return None
        found = [
            (default - row.iterations) * each - row.lost - row.before if row.model == model else 0.0 for row in mine
        ]
        return float(np.mean(found))

    def gain_by_clock(self, mine: Sequence[Row]) -> float | None:
        """The same by the seconds of whole runs, which see what a start costs within its run; None while too few are known."""
        default = self.controls if len(self.controls) >= ENOUGH else [row for row in self.of(0) if not row.refused]
        theirs = [row.seconds for row in default if row.seconds is not None]
        ours = [row.seconds + row.before + row.lost for row in mine if row.seconds is not None]
        if len(theirs) < FEWEST_DEFAULTS or len(ours) < ENOUGH:
            return None
        return float(np.median(theirs) - np.median(ours))

    @property
    def without_model(self) -> float:
        """Seconds that each run saves without any model, from the runs before."""
        return max(self.gain(EARLIER) or 0.0, 0.0)

    @property
    def still_better(self) -> bool:
        """Whether earlier runs make better and better starts: the last few took fewer iterations than as many before, or there are not so many yet."""
        taken = [row.iterations for row in self.of(EARLIER)]
        before, now = taken[-2 * ENOUGH : -ENOUGH], taken[-ENOUGH:]
        return self.without_model > 0 and (len(before) < ENOUGH or sum(now) < sum(before))

    def is_due(self) -> bool:
        """Whether starts of earlier runs, which have saved nothing, should be tried again: there are twice as many runs as then."""
        tried = [n for n, row in enumerate(self.rows, 1) if EARLIER in (row.model, row.refused)]
        return bool(tried) and len(self.rows) >= 2 * tried[-1]

    def refusals(self, model: int) -> int:
        return sum(row.refused == model for row in self.rows)

    def decide(self, left: int, invested: float, newest: int, besides: float = BESIDES) -> Decision:
        """Whether to train now: `left` runs are yet to begin, trainings have taken `invested` seconds and made `newest` models.

        `besides` are seconds that a training takes besides its steps.
        """
        default, each = self.default, self.seconds_of_iteration()
        if default is None or each is None:
            return Decision(0.0, "no run has said how long it takes")
        promising = any(row.iterations < default for row in self.of(EARLIER))
        if promising and self.gain(EARLIER) is None:
            return Decision(0.0, "earlier runs have started too few runs to say whether a model would save more")
        already = self.without_model
        if self.still_better:
            why = f"earlier runs save {already:.3g} s a run, and more of them save more; what a model could add is not known yet"
            return Decision(0.0, why)
        whole = (left + len(self.rows)) * default * each
        risk = RISK * whole
        if not newest or (not self.of_models and self.refusals(newest) >= ENOUGH):  # a model that is not ready yet
            # By iterations on both sides: what else slows runs that begin from earlier ones slows those of a model too.
            hoped = max(HOPE * default * each - max(self.gain_by_iterations(EARLIER) or 0.0, 0.0), 0.0) * left
            seconds = min(SHARE * hoped, risk - invested) - besides - trials(already)
            why = f"{left} runs are left, whose iterations take {default * each:.3g} s each from the default start"
            why += f", of which earlier runs save {already:.3g} s" if already else ""
            return self.decided(seconds, why)
        gain = self.gain(newest)
        if gain is None:
            return Decision(0.0, "the newest model has started too few runs")
        most, more = (default - BEST) * each - max(gain, already), max(gain - already, 0.0)
        worth = max(most, 0.0) * left * self.progress(newest)
        saved = sum((default - row.iterations) * each - already - row.lost for row in self.of_models)
        limit = max(saved + more * left, risk) - invested
        seconds = min(SHARE * worth, limit) - besides - trials(max(gain, already))
        return self.decided(
            seconds, f"{left} runs are left, each start saves {gain:.3g} s of at most {max(gain, already) + most:.3g} s"
        )

    def progress(self, newest: int) -> float:
        """The part of what can still be saved that the next training is hoped to save: half as much as the last one did, or a little."""
        before = self.gain(newest - 1) if newest > 1 else self.without_model
        now, default, each = self.gain(newest), self.default, self.seconds_of_iteration()
        if before is None or now is None or default is None or each is None:
            return 0.1
        possible = (default - BEST) * each - before
        return float(np.clip(0.5 * (now - before) / possible, 0.02, 0.5)) if possible > 0 else 0.0

    @staticmethod
    def decided(seconds: float, why: str) -> Decision:
        if seconds < SHORTEST:
            return Decision(
                0.0, f"{why}: {max(seconds, 0):.2g} s of training would pay, and {SHORTEST:g} s is the least"
            )
        return Decision(seconds, why)
