"""The tables of the docs that were measured once, and the picture of starts, made from docs/benchmarks/*.json: `python -m tests.benchmark_tables`.

A file holds what `slem-bench ... --json` printed ("rows") with the command, date and machine. Measure again, put the rows into the file, and run this.
The files of the folder `starts_codes` are what `slem-bench starts -o` wrote, one for each kind of runs; they make one table.
"""

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "benchmarks.md", DOCS / "campaign.md", DOCS / "results.md", DOCS / "transport.md", DOCS / "campaign.md")
PICTURE = DOCS / "pictures" / "starts.png"
CURVE = DOCS / "pictures" / "curve.png"
# What the program calls its numbers, as a reader calls them.
HEADINGS = {
    "name": "work",
    "cpu_seconds": "CPU s",
    "floor_seconds": "floor, s",
    "floor_ms": "floor, ms",
    "peak_mib": "memory, MiB",
    "wall_s": "wall, s",
    "ms_per_atom": "ms per atom",
    "ms_per_step": "ms per step",
    "ratio": "ratio",
}
# Said once where several rows belong together.
ONCE = (
    "structures",
    "displacements",
    "answers learned from",
    "set",
    "learned from",
    "learned",
    "frames",
    "minutes",
    "H, meV",
    "DM",
)
# The table of starts of codes: its files in their order, what their runs are, and which of their numbers are shown.
CODES = "starts_codes"
KINDS = {
    "siesta_si8": "SIESTA, silicon, 8 atoms",
    "siesta_graphene": "SIESTA, graphene, 2 atoms",
    "siesta_gold": "SIESTA, Au(100), 3 layers and vacuum, 600 K",
    "siesta_mno": "SIESTA, antiferromagnetic MnO, 4 atoms",
    "siesta_tio2": "SIESTA, rutile TiO2 with a vacancy, 11 atoms, SCF.Mixer.History 6",
    "siesta_tio2_40": "the same vacancy, a model of 40 runs",
    "siesta_fe": "SIESTA, bcc iron, 2 atoms, collinear spin",
    "siesta_fe_history": "the same with SCF.Mixer.History 6, a model of 56 runs",
    "siesta5_mos2": "SIESTA 5, MoS2 monolayer, 3 atoms",
    "abacus_si8": "ABACUS, silicon, 8 atoms",
    "abacus_graphene": "ABACUS, graphene, 2 atoms",
    "abacus_mos2": "ABACUS, MoS2 monolayer, 3 atoms",
    "abacus_mos2_gg0": "the same model of MoS2, with mixing_gg0 0",
    "abacus_fe": "ABACUS, bcc iron, 2 atoms, nspin 2",
    "abacus_fe_mixing": "the same model of iron, with mixing_beta 1.0, mixing_beta_mag 1.6, mixing_gg0 0",
    "abacus_al": "ABACUS, Al(100), 4 layers and vacuum",
    "abacus_al_gg0": "the same model of Al(100), with mixing_gg0 0",
    "abacus_gaas": "ABACUS, GaAs, spin-orbit (nspin 4)",
    "openmx_si8": "OpenMX, silicon, 8 atoms",
    "openmx_fe": "OpenMX, bcc iron, 1 atom, collinear spin",
    "openmx_water": "OpenMX, one water molecule",
}
SHOWN = {
    "learned": "learned",
    "H, meV": "H, meV",
    "DM": "DM",
    "route": "start",
    "iterations": "iterations",
    "default": "default",
    "own matrices": "own matrices",
    "saved": "saved",
    "worst": "saved, worst",
    "first energy off, meV an atom": "first energy off, meV an atom",
    "CPU s": "CPU s",
    "wrong": "no success",
}


def read(name):
    """The content of a file of measurements, with the digits that stand in it."""
    return json.loads((DOCS / "benchmarks" / f"{name}.json").read_text(), parse_float=Decimal)


def names():
    """The tables that there are: each file, and the folder, is one."""
    return sorted([*(path.stem for path in (DOCS / "benchmarks").glob("*.json")), CODES])


def table(name):
    """The table of a file in Markdown, and a line that says how, when and where it was measured."""
    return table_of_codes() if name == CODES else table_of(read(name))


def table_of_codes():
    """Rows of all kinds of runs in one table, and the command of each."""
    files = {kind: read(f"{CODES}/{name}") for name, kind in KINDS.items()}
    rows = [
        {"structures": f"{kind} ({row['runs']})", **{heading: row[key] for key, heading in SHOWN.items()}}
        for kind, measured in files.items()
        for row in in_one_row(measured["rows"])
    ]
    first = next(iter(files.values()))
    days = sorted({measured["date"] for measured in files.values()})
    commands = "\n".join(
        f"- {kind}: {measured['runs']}. `{options_of(measured['command'])}`" for kind, measured in files.items()
    )
    return f"{table_of({**first, 'rows': rows, 'date': days}, commands)}"


def options_of(command):
    """What of a command differs from file to file."""
    return command[command.index("--learn") :]


def in_one_row(rows):
    """What was measured on several sets of kept-back runs side by side: "8.0, 8.3" where the sets differ."""
    together = {}
    for row in rows:
        together.setdefault((row["learned"], row["route"]), []).append(row)
    for same in together.values():
        shown = [
            {
                key: row[key] if key == "learned" else cell(row.get(key, "")) for key in [*SHOWN, "runs"]
            }  # some learn no DM
            for row in same
        ]
        runs = " + ".join(row.pop("runs") for row in shown)
        yield {key: ", ".join(dict.fromkeys(row[key] for row in shown)) for key in shown[0] if key != "learned"} | {
            "learned": same[0]["learned"],
            "runs": runs,
        }


def table_of(measured, commands=""):
    """The table of some rows, and a line that says how, when and where they were measured."""
    rows = measured["rows"]
    lines = [line_of([HEADINGS.get(key, key) for key in rows[0]]), "|" + "---|" * len(rows[0])]
    for before, row in zip([{}, *rows], rows, strict=False):
        repeats = all(before.get(key) == row.get(key) for key in ONCE)
        lines.append(line_of("" if repeats and key in ONCE else cell(row[key]) for key in row))
    days = [measured["date"]] if isinstance(measured["date"], str) else measured["date"]
    when = f"{' to '.join(dict.fromkeys(map(spelled, (days[0], days[-1]))))}, {measured['machine']}."
    return "\n".join([*lines, "", f"{when}\n\n{commands}" if commands else f"`{measured['command']}`, {when}"])


def spelled(day):
    return f"{date.fromisoformat(day).day} {date.fromisoformat(day):%B %Y}"


def line_of(cells):
    return "| " + " | ".join(cells) + " |"


def cell(value):
    """What was measured, with three digits where the file has more than four; counts with all of theirs."""
    if isinstance(value, Decimal):
        digits = len(value.as_tuple().digits)
        if 0 < abs(value) < 1e-3:
            return f"{value:.{min(digits, 3) - 1}e}"
        return f"{value:.3g}" if digits > 4 else f"{value:g}"
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def marks(name):
    return f"<!-- table {name}: begin -->\n", f"\n<!-- table {name}: end -->"


def tables_of(text):
    """Name and content of each table that stands in a page."""
    return {found[1]: found[2] for found in re.finditer(r"<!-- table (\w+): begin -->\n(.*?)\n<!-- table", text, re.S)}


def with_tables(text):
    """The page with all its tables made anew."""
    for name, stands in tables_of(text).items():
        begin, end = marks(name)
        text = text.replace(begin + stands + end, begin + table(name) + end)
    return text


def draw(path):
    """SCF cycles from the default start and from the predictions that the guard lets through, the smallest gain first."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = read("starts")["rows"]
    titles = list(dict.fromkeys(row["structures"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for start, label, colour, shift in (
        ("default", "PySCF's default start", "0.65", -0.2),
        ("pyscf_guess", "start from a prediction", "tab:blue", 0.2),
    ):
        cycles = [float(row["cycles"]) for row in rows if row["start"] == start]
        bars = axes.barh([n + shift for n in range(len(titles))], cycles, 0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.set_xlabel("SCF cycles, mean over structures that the model has not seen")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def draw_curve(path):
    """Errors, and cycles saved by each start, against the frames that were learned from."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = read("curve")["rows"]
    figure, (left, right, codes) = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    frames = sorted({row["frames"] for row in rows})
    for minutes, style in zip(sorted({row["minutes"] for row in rows}), ("-", "--", ":"), strict=False):
        for start, colour, matrix, unit in (("h", "tab:blue", "H, meV", 1), ("dm", "tab:orange", "DM", 1e3)):
            mine = [row for row in rows if (row["start"], row["minutes"]) == (start, minutes)]
            learned, label = [row["frames"] for row in mine], f"{round(60 * minutes)} s"
            errors = [unit * float(row[matrix]) for row in mine]
            saved = [int(row["saved"].rstrip("%")) for row in mine]
            name = matrix if unit == 1 else f"{matrix}, 1e-3"
            left.loglog(learned, errors, f"o{style}", color=colour, label=f"{name} ({label})")
            right.semilogx(learned, saved, f"o{style}", color=colour, label=f"start from {start} ({label})")
    for runs, start, colour, mine in curves_of_codes():
        learned = [row["frames"] for row in mine]
        saved = [int(row["saved"].rstrip("%")) for row in mine]
        codes.semilogx(learned, saved, "o-", color=colour, label=f"{runs} ({start})")
    left.set_ylabel("mean absolute error")
    left.set_ylim(top=100)
    for axes in (right, codes):
        for part in (100 / 3, 50, 75):
            axes.axhline(part, color="0.8", zorder=0)
        axes.set_ylabel("SCF cycles saved, %")
        axes.set_ylim(0, 100)
    for axes in (left, right, codes):
        axes.set_xlabel("frames learned from")
        axes.set_xticks(frames, map(str, frames))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=7, ncols=2, loc="upper right")
    right.legend(frameon=False, fontsize=7, ncols=2, loc="lower right")
    codes.legend(frameon=False, fontsize=7, loc="upper left")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def curves_of_codes():
    """One curve for each code: its runs, the best of its starts where most was learned, a colour, and its rows."""
    water = [row for row in read("curve")["rows"] if (row["minutes"], row["start"]) == (2, "h")]
    curves = [("PySCF, water", "h", water)]
    rows = read("curve_codes")["rows"]
    for runs in dict.fromkeys(row["runs"] for row in rows):
        mine = [row for row in rows if row["runs"] == runs]
        best = min(mine, key=lambda row: (-row["frames"], row["iterations"]))["start"]
        curves.append((runs.partition(",")[0] + ", silicon", best, [row for row in mine if row["start"] == best]))
    return [(*curve[:2], f"C{n}", curve[2]) for n, curve in enumerate(curves)]


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
    draw(PICTURE)
    draw_curve(CURVE)
