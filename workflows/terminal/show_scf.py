"""What people see of SCF runs that were started from predictions."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from workflows.scf.outcome import CLOSELY, ROUGHLY, Outcome
from workflows.terminal.show import console

# Energies an atom (eV) whose iterations are shown.
NEAR = {"to 1 meV": ROUGHLY, "to 0.01 meV": CLOSELY}


def show_starts(outcomes: Sequence[Outcome]) -> None:
    """Iterations, times and energies of each folder beside those of the default start, and what all of them gained."""
    out = console()
    near = {name: size for name, size in NEAR.items() if any(any(outcome.until(size)) for outcome in outcomes)}
    columns = ["run", "route", "H - DM"]
    for name in ("iterations", *near, "seconds"):
        columns += [name, "default"]
    magnetic = any(outcome.moments is not None for outcome in outcomes)
    columns += ["moment", "default"] * magnetic
    table = Table(*columns, "difference, eV", "verdict", box=None, header_style="bold")
    for outcome in outcomes:
        cells = [
            "" if start is None else str(start.progress.iterations or "?") for start in (outcome.guess, outcome.default)
        ]
        for size in near.values():
            cells += ["" if count is None else str(count) for count in outcome.until(size)]
        cells += ["" if seconds is None else f"{seconds:.1f}" for seconds in outcome.seconds]
        if magnetic:
            cells += [f"{moment:.3f}" for moment in outcome.moments or ()] or ["", ""]
        table.add_row(
            Text(outcome.folder, overflow="fold"),
            outcome.route,
            "" if outcome.apart is None else f"{outcome.apart:.2g}",
            *cells,
            "" if outcome.difference is None else f"{outcome.difference:+.1e}",
            verdict_of(outcome),
        )
    out.print(table)
    for line in [*explanations(outcomes, near), *(f"- {note}" for note in shared_notes(outcomes))]:
        out.print(Text(line), soft_wrap=True)
    for outcome in outcomes:
        if outcome.use:
            out.print(Text(f"{outcome.folder}: go on with {outcome.use}"), soft_wrap=True)
    if gain := gain_of(outcomes):
        out.print(gain)


def explanations(outcomes: Sequence[Outcome], near: Mapping[str, float]) -> list[str]:
    """What the columns mean that do not say it."""
    lines = []
    if any(outcome.apart is not None for outcome in outcomes):
        lines.append('"H - DM": electrons between the predicted DM and the density of the predicted H')
    if near:
        lines.append('"to 1 meV": iterations after which the energy stays within so much an atom of its end')
    return lines


def shared_notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What is to be known of all starts alike, such as a setting of the code that wastes iterations; the JSON file has what is said of single runs."""
    noted = [outcome.notes for outcome in outcomes if outcome.notes]
    return [note for note in dict.fromkeys(noted[0] if noted else ()) if all(note in notes for notes in noted)]


def verdict_of(outcome: Outcome) -> Text:
    if outcome.ok and outcome.weakness:
        return Text(f"ok, but {outcome.weakness}", style="yellow", overflow="fold")
    return Text(outcome.verdict, style="green" if outcome.ok else "red", overflow="fold")


def gain_of(outcomes: Sequence[Outcome]) -> str:
    """Iterations and time that all runs together saved, and how many have no default start to compare with; empty where none was run."""
    compared = [outcome for outcome in outcomes if outcome.ok and outcome.ratio is not None]
    ratios = [outcome.ratio for outcome in compared if outcome.ratio is not None]
    alone = sum(outcome.ok and outcome.default is not None and not outcome.default_ended for outcome in outcomes)
    parts = []
    if ratios:
        saved, least = 1 - sum(ratios) / len(ratios), 1 - max(ratios)
        parts = [f"{len(ratios)} runs compared: {saved:.0%} fewer iterations on average, {least:.0%} in the worst run"]
    times = [outcome.time_ratio for outcome in compared if outcome.time_ratio is not None]
    if times:
        longer = sum(times) / len(times) - 1
        parts.append(f"{abs(longer):.0%} {'more' if longer > 0 else 'less'} time, everything counted")
    if alone:
        parts.append(f"{alone} that ended well from the prediction alone: the default start did not")
    return "; ".join(parts)
