"""What people and programs see in the end: tables, or JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from converters.errors import Refused
from converters.json_text import json_text
from workflows.info import mixture
from workflows.terminal.cures import CURES
from workflows.terminal.debug import tracebacks_wanted

if TYPE_CHECKING:
    from workflows.check import Report
    from workflows.convert import InputOutcome
    from workflows.export import Exported
    from workflows.overlap import Made

COLOURS = {
    "converted": "green",
    "there already": "cyan",
    "refused": "red",
    "internal error": "magenta",
    "ok": "green",
    "FAILED": "red",
}
MOST_ROWS, MOST_ORIGINS, MOST_FAULTS = 40, 9, 10
# Of measurements: columns of a table that can be read in a terminal, and rows beside each other where there are more.
MOST_COLUMNS, SIDE_BY_SIDE = 12, 4


def console() -> Console:
    """Standard output; as wide as its text needs when it is not a terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=200)


def print_json(value: Any) -> None:
    click.echo(json_text(value))


def show_outcomes(outcomes: "Sequence[InputOutcome]", output: Path, left_out: Sequence[str] = ()) -> None:
    """Table of what became of each input; a long one shows the refused inputs and counts the rest. Then what is no run, and left out."""
    shown = [o for o in outcomes if o.refusal] if len(outcomes) > MOST_ROWS else outcomes
    table = Table("input", "code", "frames", "status", "reason", box=None, header_style="bold")
    for o, following in zip_longest(shown, shown[1:]):
        status = Text(o.status, style=COLOURS[o.status])
        reason = Text(o.reason, overflow="fold")
        if o.cure and (following is None or following.cure != o.cure):  # neighbours with one cure need it once
            reason.append(f"\n{o.cure}", style="dim")
        table.add_row(Text(o.path, overflow="fold"), o.code, str(o.frames or ""), status, reason)
    out = console()
    if shown:
        out.print(table)
    counts = Counter(o.status for o in outcomes)
    frames = sum(o.frames for o in outcomes)
    text = ", ".join(f"{counts[status]} {status}" for status in COLOURS if counts[status])
    where = f"in {output}" if output.exists() else f"({output} was not made)"
    out.print(f"{text}; {frames} new frames {where}", soft_wrap=True)
    for note in dict.fromkeys(o.note for o in outcomes if o.note):
        out.print(note, soft_wrap=True)
    for text in left_out:
        out.print(Text(f"left out: {text}"), soft_wrap=True)
    show_traces(out, [o.refusal for o in outcomes if o.refusal])
    if output.exists() and (mixed := mixture(output)):
        out.print(f"note: {output} mixes {', '.join(mixed)}; slem-info lists them", soft_wrap=True)


def show_traces(out: Console, refusals: Sequence[Refused]) -> None:
    """With --debug, the tracebacks of errors of this program."""
    if tracebacks_wanted():
        for refusal in refusals:
            if refusal.trace:
                out.print(Text(f"{refusal.place}\n{refusal.trace}"), soft_wrap=True)


def show_overlaps(made: Sequence["Made"], output: Path) -> None:
    """Table of the overlaps that were computed."""
    columns = ("structure", "atoms", "orbitals", "pairs", "lowest eigenvalue", "CPU s", "off the file's S")
    table = Table(*columns, box=None, header_style="bold")
    for one in made[:MOST_ROWS]:
        off = "" if one.difference is None else f"{one.difference:.1e}"
        numbers = (one.formula, str(one.orbitals), str(one.pairs), f"{one.lowest:.2e}", f"{one.seconds:.2f}", off)
        table.add_row(Text(one.structure, overflow="fold"), *numbers)
    out = console()
    out.print(table)
    more = f", the first {MOST_ROWS} of {len(made)} shown" if len(made) > MOST_ROWS else ""
    out.print(f"{output}{more}", soft_wrap=True)


def show_checks(reports: "Sequence[Report]") -> None:
    """Each check's worst number over all frames, where the matrices are from, then every failure."""
    out = console()
    table = Table("check", "frames", "worst", "unit", "failed", "not done", box=None, header_style="bold")
    for name in dict.fromkeys(result.name for report in reports for result in report.results):
        results = [result for report in reports for result in report.results if result.name == name]
        found = [result.found - (result.wanted or 0) for result in results if result.found is not None]
        worst = "" if not found else f"{min(found) if 'positive' in name else max(found, key=abs):.3g}"
        failed, undone = sum(r.ok is False for r in results), sum(r.ok is None for r in results)
        unit = max((result.unit for result in results), key=len)
        table.add_row(name, str(len(results)), worst, unit, Text(str(failed or ""), style="red"), str(undone or ""))
    if table.row_count:
        out.print(table)
    show_origins(out, [report.origins for report in reports])
    faults = [fault for report in reports for fault in report.faults]
    shown = faults[:MOST_FAULTS]
    for n, (fault, kind) in enumerate(shown, 1):
        out.print(Text(fault, style="red"), soft_wrap=True)
        if n == len(shown) or shown[n][1] is not kind:  # neighbours with one cure need it once
            out.print(Text(f"  {CURES[kind]}", style="dim"), soft_wrap=True)
    if len(faults) > len(shown):
        out.print(f"and {len(faults) - len(shown)} more; --json lists all", soft_wrap=True)
    show_traces(out, [report.refusal for report in reports if report.refusal])
    good = sum(report.ok for report in reports)
    out.print(f"{good} of {len(reports)} sound", soft_wrap=True)


def show_origins(out: Console, origins: Sequence[Mapping[str, str]]) -> None:
    """Where matrices are from and what was done to them, each once with how many there are; the most frequent of many."""
    counts = Counter(item for one in origins for item in one.items())
    for (name, said), count in counts.most_common(MOST_ORIGINS):
        out.print(Text(f"{name} of {count} frame{'s' * (count > 1)}: {said}"), soft_wrap=True)
    if len(counts) > MOST_ORIGINS:
        out.print(f"({len(counts) - MOST_ORIGINS} other origins; --json lists those of each frame)", soft_wrap=True)


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Two columns: what, and how much."""
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        items = [f"{key}: {plain(item)}" for key, item in value.items()] if isinstance(value, dict) else value
        text = "\n".join(map(plain, items)) if isinstance(items, list) else plain(items)
        table.add_row(Text(name, style="bold"), Text(text, overflow="fold"))
    out = console()
    out.print(Text(title, style="bold"), soft_wrap=True)
    out.print(table)


def plain(value: Any) -> str:
    """A number with the digits that people read; all else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def show_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Tables of measurements, one for each kind of rows; where a row has many numbers they stand below each other."""
    for columns, group in groupby(rows, key=tuple):
        lines = [[as_text(value) for value in row.values()] for row in group]
        if len(columns) <= MOST_COLUMNS:
            show_table(title, columns, lines)
            continue
        for first in range(0, len(lines), SIDE_BY_SIDE):
            some = list(zip(columns, *lines[first : first + SIDE_BY_SIDE], strict=True))
            show_table(title, some[0], some[1:])


def show_table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, title=title, box=None, header_style="bold")
    for line in lines:
        table.add_row(*line)
    console().print(table)


def as_text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def error_text(errors: Mapping[str, float]) -> str:
    """Errors in the units in which people think of them: meV of H and of levels, plain numbers of DM and S."""
    energies = {"H", "bands"}
    texts = (f"{value * 1e3:.4g} meV" if name in energies else f"{value:.2e}" for name, value in errors.items())
    return "  ".join(f"{name} {text}" for name, text in zip(errors, texts, strict=True))


def show_predictions(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """What was predicted."""
    table = Table("structure", "formula", "pairs", "H - DM", "status", box=None, header_style="bold")
    for row in rows[:MOST_ROWS]:
        pairs, apart = str(row["pairs"] or ""), "" if row["apart"] is None else f"{row['apart']:.2g}"
        table.add_row(Text(str(row["structure"]), overflow="fold"), row["formula"], pairs, apart, row["status"])
    out = console()
    out.print(table)
    if any(row["apart"] is not None for row in rows):
        out.print(
            '"H - DM": electrons between the predicted DM and the density of the predicted H; above 0.15 do not trust H'
        )
    notes = [f"{row['structure']}: {note}" for row in rows for note in row["notes"]]
    for note in notes[:MOST_ROWS]:
        out.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    operators = rows[0]["operators"] if rows else "nothing"
    out.print(f"{operators} of {len(rows)} structures in {output}", soft_wrap=True)
    if rows and rows[0]["overlap"]:
        out.print(f"S is {rows[0]['overlap']}", soft_wrap=True)


def show_errors(errors: Mapping[str, Any]) -> None:
    """Errors by operator, then by elements, shells and distance, and of the levels."""
    out = console()
    table = Table("", "mean", "onsite", "hopping", "rms", "largest", "without mu S", box=None, header_style="bold")
    names = [name for name in errors if name not in ("bands", "agreement")]
    for name in names:
        numbers = errors[name]
        unit = "meV" if name == "H" else "1e-3"
        keys = ("mae", "mae_onsite", "mae_hopping", "rmse", "max", "mae_without_shift")
        table.add_row(f"{name} ({unit})", *(f"{numbers[key] * 1e3:.4g}" if key in numbers else "" for key in keys))
    out.print(table)
    for kind in ("elements", "shells", "distance"):
        parts = Table(f"mean error by {kind}", *names, box=None, header_style="bold")
        labels = sorted({label for name in names for label in errors[name][f"by_{kind}"]})
        for label in labels:
            values = [errors[name][f"by_{kind}"].get(label) for name in names]
            parts.add_row(label, *("" if value is None else f"{value * 1e3:.4g}" for value in values))
        out.print(parts)
    if "bands" in errors:
        bands = errors["bands"]
        out.print(
            f"levels of the predicted H with the exact S: occupied {bands['occupied'] * 1e3:.3g} meV "
            f"(largest {bands['occupied_max'] * 1e3:.3g}, without their mean shift {bands['occupied_without_shift'] * 1e3:.3g}), "
            f"all {bands['all'] * 1e3:.3g} meV",
            soft_wrap=True,
        )
    if "agreement" in errors:
        found = errors["agreement"]
        out.print(
            f"predicted H and DM are {found['electrons_apart']:.2g} electrons apart (largest {found['max']:.2g}); "
            "this needs no reference",
            soft_wrap=True,
        )


def show_spectrum(found: Mapping[str, Any]) -> None:
    """Electrons, levels and the density of states; the curves of atoms only as JSON."""
    out = console()
    facts = {
        key: value
        for key, value in found.items()
        if key not in ("density of states", "levels", "window", "atoms", "frame")
    }
    show_facts(found["frame"], facts)
    for levels in [*found.get("window", []), *found.get("levels", [])]:
        out.print("levels (eV): " + " ".join(f"{level:.6f}" for level in levels), soft_wrap=True)
    if "density of states" in found:
        density = found["density of states"]
        error = density["statistical error of a moment"]
        sure = "" if error is None else f", statistical error of a moment {error:.1e} of the states"
        out.print(f"density of states: resolution {density['resolution (eV)']:.2g} eV{sure}", soft_wrap=True)
        table = Table("energy, eV", *(f"states/eV {n}" for n in range(len(density["states per eV"]))), box=None)
        rows = list(zip(density["energies"], *density["states per eV"], strict=True))
        for row in rows[:: max(1, len(rows) // MOST_ROWS)]:
            table.add_row(*(f"{value:.4g}" for value in row))
        out.print(table)


def show_export(done: "Exported") -> None:
    """What was written, why this, and what to do with it."""
    out = console()
    out.print(f"{done.format}, route {done.route.name}: {done.route.why}", soft_wrap=True)
    for note in done.notes:
        out.print(Text(f"- {note}"), soft_wrap=True)
    for check in done.checks:
        out.print(Text(f"- {check}"), soft_wrap=True)
    for path in done.files[:MOST_ROWS]:
        out.print(Text(f"  {path}"), soft_wrap=True)
    if len(done.files) > MOST_ROWS:
        out.print(f"  and {len(done.files) - MOST_ROWS} more")
    if done.patched is not None:
        out.print(Text(f"  {done.patched}: the input with these lines"), soft_wrap=True)
    for key, value in done.keywords.items():
        out.print(Text(f"    {key} {value}"), soft_wrap=True)
