"""What people see of a campaign while it goes on, and at its end."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workflows.campaign.campaign import Standing
from workflows.campaign.guide import words_of
from workflows.campaign.worth import EARLIER, Ledger
from workflows.terminal.progress import SECONDS_BETWEEN_LINES
from workflows.terminal.show import console, error_text

MOST_FAILED = 20


@contextmanager
def campaign_table() -> Iterator[Callable[[Callable[[], Standing]], None]]:
    """A table that changes on a terminal; elsewhere a line now and then. How a campaign stands is asked for when it is shown."""
    err = Console(stderr=True, highlight=False)
    last = time.monotonic()
    with Live(console=err, transient=True, auto_refresh=False) as live:

        def tell(standing: Callable[[], Standing]) -> None:
            nonlocal last
            now = time.monotonic()
            if err.is_terminal and now - last > 1:
                last = now
                live.update(table_of(facts_of(standing())), refresh=True)
            elif not err.is_terminal and now - last > SECONDS_BETWEEN_LINES:
                last = now
                err.print("; ".join(f"{name} {value}" for name, value in facts_of(standing()).items()), soft_wrap=True)

        yield tell


def table_of(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return table


def facts_of(standing: Standing) -> dict[str, str]:
    """How a campaign stands, in words."""
    ledger, done = standing.ledger, len(standing.done)
    failed = sum(not ran.outcome.ok for ran in standing.done)
    facts = {"runs": f"{done} of {standing.total}" + (f", {failed} without success" if failed else "")}
    if standing.running:
        facts["now"] = standing.running
    facts["iterations"] = iterations_of(standing)
    facts["learned"] = f"{standing.frames} runs"
    if standing.trained:
        newest = standing.trained[-1]
        facts["model"] = f"number {newest['model']}, of {newest['frames']} frames  {error_text(newest['errors'])}"
    if (apart := apart_of(standing)) is not None:
        facts["H - DM"] = f"{apart:.2g} electrons"
    if ledger.predicted:
        facts["saved"] = (
            f"{ledger.saved:.3g} s, less {standing.training:.3g} s of training and {standing.own:.3g} s of this program: "
            f"{standing.saved:.3g} s of processors, {standing.share:.1%} of all from the default"
        )
    elif standing.training:
        facts["spent"] = f"{standing.training:.3g} s of training and {standing.own:.3g} s of this program"
    if standing.before < done < standing.total:
        each = standing.elapsed / (done - standing.before)
        facts["left"] = f"about {duration(each * (standing.total - done))}"
    if standing.said:
        facts["no training"] = standing.said
    if standing.refused:
        facts["not learned"] = f"{len(standing.refused)} runs: {standing.refused[-1]}"
    return {name: value for name, value in facts.items() if value}


def iterations_of(standing: Standing) -> str:
    """Iterations of the default start, from earlier runs and from the predictions of each model."""
    ledger = standing.ledger
    parts = [f"{name} {mean_of(counts):.1f} ({len(counts)})" for name, counts in defaults_of(ledger).items() if counts]
    for number in sorted({row.model for row in ledger.predicted}):
        rows = ledger.of(number)
        mean = sum(row.iterations for row in rows) / len(rows)
        parts.append(f"{words_of(number)} {mean:.1f} ({len(rows)})")
    return ", ".join(parts)


def defaults_of(ledger: Ledger) -> dict[str, list[int]]:
    """Iterations of the default start: of the first runs, which are the most unusual, and of the controls."""
    first = [row.iterations for row in ledger.of(0) if not row.control]
    return {"default": first, "default of controls": [row.iterations for row in ledger.controls]}


def apart_of(standing: Standing) -> float | None:
    """The distance of the predicted H and DM in the last runs."""
    found = [ran.outcome.apart for ran in standing.done if ran.outcome.apart is not None][-10:]
    return sum(found) / len(found) if found else None


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def show_campaign(standing: Standing, home: Path) -> None:
    """The end of a campaign: what stands, and each run that was no success."""
    out = console()
    out.print(table_of(facts_of(standing)))
    failed = [ran.outcome for ran in standing.done if not ran.outcome.ok]
    for outcome in failed[:MOST_FAILED]:
        out.print(Text(f"{outcome.folder}: {outcome.verdict}", style="red"), soft_wrap=True)
    if len(failed) > MOST_FAILED:
        out.print(f"and {len(failed) - MOST_FAILED} more; {home}/report.html has them all")
    made = [name for name in ("data.h5", "model", "report.html") if (home / name).exists()]
    out.print(f"{home}: {', '.join(made)}")


def summary_of(standing: Standing) -> dict[str, Any]:
    """The same for programs."""
    ledger = standing.ledger
    earlier = ledger.of(EARLIER)
    return {
        "runs": standing.total,
        "done": len(standing.done),
        "ok": sum(ran.outcome.ok for ran in standing.done),
        "frames": standing.frames,
        "default_iterations": ledger.default,
        "controls": {"runs": len(ledger.controls), "iterations": mean_of([row.iterations for row in ledger.controls])},
        "earlier_runs": {"runs": len(earlier), "iterations": mean_of([row.iterations for row in earlier])},
        "models": [
            {**newest, "runs": len(rows), "iterations": mean_of([row.iterations for row in rows])}
            for newest in standing.trained
            for rows in [ledger.of(newest["model"])]
        ],
        "seconds_of_an_iteration": ledger.seconds_of_iteration(),
        "saved_by_predictions": ledger.saved,
        "run_seconds": ledger.spent,
        "training_seconds": standing.training,
        "own_seconds": standing.own,
        "saved": standing.saved,
        "saved_share": standing.share,
        "said": standing.said,
        "outcomes": [ran.as_dict() for ran in standing.done],
    }


def mean_of(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
