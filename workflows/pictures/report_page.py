"""The page of a report: one HTML file with its pictures inside, which needs no network, on a phone, in print and in the dark."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from basis.shells import LETTERS
from workflows.pictures.bands import bands_or_levels
from workflows.pictures.bands import draw as draw_bands
from workflows.pictures.canvas import canvas, plain_decades
from workflows.scf.outcome import ROUGHLY, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workflows.pictures.report_findings import Findings, Sample

UNITS = {"H": ("meV", 1e3), "S": ("\u00d7\u00a01e-3", 1e3), "DM": ("\u00d7\u00a01e-3", 1e3)}
# Errors below which a matrix is the code's own, to the digits that the code wrote.
EXACT = 1e-6
WIDTH = 7.2  # inches, of all pictures
STYLE = """
:root { color-scheme: light dark; --line: #8884; --card: #fff; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
figure { margin: 1rem 0; background: var(--card); border-radius: 6px; padding: .4rem; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; padding: .2rem .4rem; }
.wide { overflow-x: auto; margin: .8rem 0; } th { white-space: nowrap; } table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media print { body { max-width: none; font-size: 11pt; } h2 { break-after: avoid; } .wide { overflow: visible; } }
"""


def write_page(found: "Findings", title: str) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        headline(found),
        section("Errors", errors_table(found)),
        section("Levels and bands", bands_part(found)),
        section("Learning curves", curves_part(found)),
        section("SCF runs from predictions", runs_part(found.runs)),
        section("Parity", "".join(parity_figure(name, sample) for name, sample in found.samples.items())),
        section("By shells and elements", "".join(maps_of(found))),
        section(
            "By distance",
            "".join(
                distance_figure(name, sample) for name, sample in found.samples.items() if not is_exact(found, name)
            ),
        ),
        section("Worst frames and blocks", worst_tables(found)),
        section("The dataset", facts_table(found.data)),
        section("The model", facts_table(found.model)),
        section("Cost and provenance", facts_table({**found.cost, **found.provenance})),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def escape(text: object) -> str:
    return html.escape(str(text))


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def is_exact(found: "Findings", name: str) -> bool:
    """Whether an operator's errors are but the digits of the code, as of an S that is computed."""
    return float(found.errors[name]["max"]) < EXACT


def headline(found: "Findings") -> str:
    """The result in one sentence."""
    words = []
    for name, (unit, factor) in UNITS.items():
        if name in found.errors and is_exact(found, name):
            words.append(f"{name} exact")
        elif name in found.errors:
            words.append(f"{name} {number(found.errors[name]['mae'] * factor)} {unit}")
    if "bands" in found.errors:
        words.append(f"occupied levels {number(found.errors['bands']['occupied'] * 1e3)} meV")
    frames = f"{len(found.frames)} frame" + "s" * (len(found.frames) != 1)
    return f"<p>Mean absolute errors over {frames}: <strong>{escape(', '.join(words))}</strong>.</p>"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose numbers stand to the right."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def cell(value: object) -> str:
    if isinstance(value, (float, np.floating)) or value is None:
        return f'<td class="number">{number(None if value is None else float(value))}</td>'
    return f"<td>{escape(value)}</td>"


def facts_table(facts: dict[str, Any]) -> str:
    rows = []
    for name, value in facts.items():
        items = [f"{key}: {item}" for key, item in value.items()] if isinstance(value, dict) else value
        rows.append((name, ", ".join(map(str, items)) if isinstance(items, list) else items))
    return table(("", ""), rows)


def errors_table(found: "Findings") -> str:
    head = ("", "unit", "mean", "onsite", "hopping", "rms", "largest", "without mu S")
    keys = ("mae", "mae_onsite", "mae_hopping", "rmse", "max", "mae_without_shift")
    rows = []
    for name, (unit, factor) in UNITS.items():
        if name in found.errors:
            numbers = [found.errors[name].get(key) for key in keys]
            rows.append((name, unit, *(None if value is None else value * factor for value in numbers)))
    return table(head, rows)


def bands_part(found: "Findings") -> str:
    text = ""
    if "bands" in found.errors:
        levels = found.errors["bands"]
        rows = [(name.replace("_", " "), levels[name] * 1e3) for name in levels]
        text = (
            "<p>Levels of the predicted H with the reference's S, at a few k-points of each frame (meV).</p>"
            + table(("", "meV"), rows)
        )
    if found.bands:
        errors = found.bands[1].bands.compare(found.bands[0].bands)
        where = "" if found.bands[0].molecule else " along the path"
        caption = f"Frame {found.bands_frame}, the worst one: occupied {bands_or_levels(found.bands)} {number(errors['rms'])} meV rms apart{where}, {number(errors['rms without shift'])} meV without their common shift."
        text += figure(draw_bands(found.bands), caption)
    return text


def curves_part(found: "Findings") -> str:
    """Loss and errors against the step."""
    if len(found.curves) < 2:
        return ""
    drawn, (axes,) = canvas(WIDTH, 3.2)
    steps = [row["step"] for row in found.curves]
    for name in ("loss", *UNITS, "bands"):
        values = [row.get(name, np.nan) * (1 if name == "loss" else 1e3) for row in found.curves]
        if np.isfinite(values).any() and np.nanmax(values) > 1e-6:
            axes.plot(
                steps,
                values,
                marker="o",
                ms=3,
                lw=1,
                label={"loss": "loss", "H": "H (meV)", "bands": "levels (meV)"}.get(name, f"{name} (1e-3)"),
            )
    axes.set(yscale="log", xlabel="step")
    plain_decades(axes)
    axes.legend(fontsize=8)
    last = found.curves[-1]
    return figure(
        drawn,
        f"Errors of the validation frames during the training, which ended at step {last['step']:.0f} with a loss of {number(last.get('loss'))}.",
    )


def runs_part(runs: Sequence[Outcome]) -> str:
    """Iterations of each run, and its residuals from the prediction and from the code's own start."""
    if not runs:
        return ""
    from matplotlib.ticker import MaxNLocator

    drawn, (axes,) = canvas(WIDTH, 3.2)
    for starts, name, colour in (
        ([run.default for run in runs], "default start", "#888888"),
        ([run.guess for run in runs], "from the prediction", "#0072b2"),
    ):
        curves = [start.progress.residuals for start in starts if start is not None and start.progress.residuals]
        for n, residuals in enumerate(curves):
            label = name if n == 0 else None
            axes.plot(range(1, len(residuals) + 1), residuals, marker="o", ms=3, lw=1, label=label, color=colour)
    axes.set(yscale="log", xlabel="iteration", ylabel="residual that the code prints")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_decades(axes)
    if axes.lines:
        axes.legend(fontsize=8)
    ratios = [run.ratio for run in runs if run.ok and run.ratio is not None]
    saved = f"; {1 - sum(ratios) / len(ratios):.0%} fewer iterations on average" if ratios else ""
    caption = f"Residuals of {len(runs)} SCF run{'s' * (len(runs) != 1)} after each iteration, from the prediction and from the code's own start{saved}."
    head = (
        "run",
        "route",
        "iterations",
        "default",
        "until 1 meV an atom",
        "default",
        "seconds",
        "default",
        "energy less that of the default, eV",
        "verdict",
    )
    return figure(drawn, caption) + table(head, [run_row(run) for run in runs])


def run_row(run: Outcome) -> tuple[object, ...]:
    starts = (run.guess, run.default)
    iterations = ["" if start is None else start.progress.iterations or "?" for start in starts]
    verdict = f"ok, but {run.weakness}" if run.ok and run.weakness else run.verdict
    return (run.folder, run.route, *iterations, *run.until(ROUGHLY), *run.seconds, run.difference, verdict)


def parity_figure(name: str, sample: "Sample") -> str:
    """Predicted against expected elements, and the error against the size of the element; nothing to see of a matrix that is exact."""
    expected, found = np.concatenate(sample.expected), np.concatenate(sample.found)
    unit, factor = UNITS[name]
    worst = float(np.abs(found - expected).max())
    if worst < EXACT:
        return f"<p>{name} is exact: of {len(expected)} elements none is off by more than {worst:.1g}.</p>"
    drawn, (left, right) = canvas(WIDTH, 3.3, (1, 1))
    left.plot(expected, found, ".", ms=1.5, rasterized=True, color="#0072b2")
    edge = [min(expected.min(), found.min()), max(expected.max(), found.max())]
    left.plot(edge, edge, color="#888888", lw=0.7)
    left.set(xlabel=f"{name} of the code" + " (eV)" * (name == "H"), ylabel="predicted")
    size, error = np.abs(expected) + 1e-9, np.abs(found - expected) * factor + 1e-9
    right.loglog(size, error, ".", ms=1.5, rasterized=True, color="#d55e00")
    right.set(xlabel="size of the element" + " (eV)" * (name == "H"), ylabel=f"error ({unit})")
    plain_decades(right)
    caption = f"{name}: {len(expected)} elements; half of them are within {number(float(np.median(error)))} {unit}, 99 % within {number(float(np.quantile(error, 0.99)))} {unit}."
    return figure(drawn, caption, fmt="png")


def maps_of(found: "Findings") -> Iterable[str]:
    """Heat maps of the mean error by pair of shells, and tables by pair of elements."""
    for name, (unit, factor) in UNITS.items():
        if name not in found.errors or is_exact(found, name):
            continue
        shells = found.errors[name]["by_shells"]
        names = sorted({one for pair in shells for one in pair.split(" ")}, key=shell_order)
        values = np.full((len(names), len(names)), np.nan)
        for pair, error in shells.items():
            a, b = (names.index(one) for one in pair.split(" "))
            values[a, b] = values[b, a] = error * factor
        room = 0.15 + 0.1 * max(map(len, names))
        drawn, (axes, scale) = canvas(
            WIDTH,
            min(WIDTH, 1.7 + 0.42 * len(names)),
            (30, 1),
            left=room,
            right=0.75,
            bottom=room,
            top=0.3,
            between=0.15,
        )
        axes.set_anchor("E")
        image = axes.imshow(values, cmap="viridis")
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        if len(names) <= 12:
            label_cells(axes, values)
        drawn.colorbar(image, cax=scale, label=f"mean error ({unit})")
        worst = max(shells, key=lambda pair: shells[pair])
        yield figure(
            drawn,
            f"{name}: mean error by pair of shells; the worst is {worst} with {number(shells[worst] * factor)} {unit}.",
        )
        yield table(
            ("elements", f"{name} ({unit})"),
            [(pair, error * factor) for pair, error in found.errors[name]["by_elements"].items()],
        )


def shell_order(name: str) -> tuple[str, int, str]:
    """Elements one after the other, s before p before d."""
    element, shell = name.rsplit(":", 1)
    letter = next(mark for mark in shell if mark.isalpha())
    return element, LETTERS.index(letter), shell


def label_cells(axes: "Axes", values: Any) -> None:
    middle = np.nanmean(values)
    for (a, b), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(
                b,
                a,
                f"{value:.2g}" if value < 100 else f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value < middle else "black",
            )


def distance_figure(name: str, sample: "Sample") -> str:
    """Error and magnitude of the elements against the distance of their atoms."""
    unit, factor = UNITS[name]
    expected, found, distance = (np.concatenate(parts) for parts in (sample.expected, sample.found, sample.distance))
    bins = np.floor(distance / 0.5).astype(int)
    present = np.unique(bins)
    size, error = (
        [float(np.mean(values[bins == b])) for b in present]
        for values in (np.abs(expected) * factor, np.abs(found - expected) * factor)
    )
    drawn, (axes,) = canvas(WIDTH, 3.0)
    axes.semilogy(present * 0.5 + 0.25, np.maximum(size, 1e-12), marker="o", ms=3, label="size of the elements")
    axes.semilogy(present * 0.5 + 0.25, np.maximum(error, 1e-12), marker="o", ms=3, label="error")
    axes.set(xlabel="distance (Angstrom)", ylabel=f"mean ({unit})")
    plain_decades(axes)
    axes.legend(fontsize=8)
    return figure(
        drawn, f"{name}: mean size and mean error of the elements by distance of their atoms; onsite elements are at 0."
    )


def worst_tables(found: "Findings") -> str:
    names = [name for name in UNITS if name in found.errors]
    key = names[0] if names else ""
    frames = sorted(found.by_frame, key=lambda row: -row.get(key, 0.0))[:10]
    rows = [
        (
            row["frame"],
            row["formula"],
            *(row[name] * UNITS[name][1] for name in names),
            None if row["occupied levels"] is None else row["occupied levels"] * 1e3,
            row["path"],
        )
        for row in frames
    ]
    first = table(
        ("frame", "formula", *(f"{name} ({UNITS[name][0]})" for name in names), "occupied levels (meV)", "run"), rows
    )
    blocks = [
        (f"{b.error * UNITS[b.operator][1]:.3g} {UNITS[b.operator][0]}", b.operator, b.frame, b.atoms, b.distance)
        for b in found.blocks
    ]
    return first + table(("largest error", "operator", "frame", "atoms and cell (counted from 0)", "Angstrom"), blocks)


def figure(drawn: "Figure", caption: str, fmt: str = "svg") -> str:
    """A picture inside the page, with its caption as the text for those who do not see it."""
    stream = io.BytesIO()
    drawn.savefig(stream, format=fmt, dpi=150, metadata={"Date": None} if fmt == "svg" else None)
    kind = {"svg": "image/svg+xml", "png": "image/png"}[fmt]
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<figure><img alt="{escape(caption)}" src="data:{kind};base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
