"""The page of a campaign: what it saved, its models, and each of its runs, as one HTML file that needs no network."""

from collections.abc import Mapping, Sequence

from workflows.campaign.campaign import Standing
from workflows.campaign.guide import words_of
from workflows.campaign.runs import Ran
from workflows.pictures.points import points_figure
from workflows.pictures.report_page import STYLE, escape, facts_table, section, table

HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'


def write_campaign_page(standing: Standing, facts: Mapping[str, str], title: str) -> str:
    """The whole page; `facts` are those of the terminal."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        facts_table(dict(facts)),
        section("Iterations", iterations_part(standing)),
        section("Models", models_part(standing)),
        section("Runs", runs_part(standing.done)),
    ]
    return (
        f'<!doctype html><html lang="en"><head>{HEAD}<title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def iterations_part(standing: Standing) -> str:
    """Iterations of each run in the order in which they ended."""
    known = [
        (n, ran.start.progress.iterations, ran.model)
        for n, ran in enumerate(standing.done, 1)
        if ran.start is not None and ran.start.progress.iterations is not None
    ]
    if not known:
        return ""
    models = sorted({model for *_, model in known})
    groups = {words_of(model): [(n, count) for n, count, by in known if by == model] for model in models}
    caption = "Iterations of each run, by what started it."
    return points_figure(groups, "run, in the order of their ends", "iterations", caption)


def models_part(standing: Standing) -> str:
    head = ("model", "frames", "steps", "runs started", "iterations", "H, meV", "DM, 1e-3")
    rows = []
    for event in standing.trained:
        mine = standing.ledger.of(event["model"])
        mean = sum(row.iterations for row in mine) / len(mine) if mine else None
        errors = event.get("errors", {})
        numbers = [errors[name] * 1e3 if name in errors else None for name in ("H", "DM")]
        rows.append((event["model"], event["frames"], event.get("steps", ""), len(mine), mean, *numbers))
    return table(head, rows) if rows else ""


def runs_part(done: Sequence[Ran]) -> str:
    head = ("run", "started by", "iterations", "CPU s", "energy, eV", "H - DM", "verdict", "go on with", "notes")
    rows = []
    for ran in done:
        start, outcome = ran.start, ran.outcome
        progress = None if start is None else start.progress
        energy = "" if progress is None or progress.energy is None else f"{progress.energy:.6f}"
        by = words_of(ran.model, ran.control)
        iterations = "" if progress is None or progress.iterations is None else progress.iterations
        seconds = None if start is None else start.cpu_seconds
        said = "; ".join(outcome.notes)
        rows.append(
            (outcome.folder, by, iterations, seconds, energy, outcome.apart, outcome.verdict, outcome.use, said)
        )
    return table(head, rows)
