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
    "siesta_gold_history": "such a slab of gold with SCF.Mixer.History 6",
    "siesta_mno": "SIESTA, antiferromagnetic MnO, 4 atoms",
    "siesta_mno_30": "the same MnO, a model of 30 runs",
    "siesta_tio2": "SIESTA, rutile TiO2 with a vacancy, 11 atoms, SCF.Mixer.History 6",
    "siesta_tio2_40": "the same vacancy, a model of 40 runs",
    "siesta_fe": "SIESTA, bcc iron, 2 atoms, collinear spin",
    "siesta_fe_history": "the same with SCF.Mixer.History 6, a model of 56 runs",
    "siesta_ptse2": "SIESTA, PtSe2 monolayer, 3 atoms, spin-orbit",
    "siesta_ptse2_history": "the same model of PtSe2, with SCF.Mixer.History 6",
    "siesta_fept": "SIESTA, FePt, 2 atoms, a magnet with spin-orbit",
    "siesta_fept_history": "the same model of FePt, with SCF.Mixer.History 6",
    "siesta_liquid": "SIESTA, liquid water, boxes of 32 and of 16 molecules",
    "siesta5_mos2": "SIESTA 5, MoS2 monolayer, 3 atoms",
    "abacus_si8": "ABACUS, silicon, 8 atoms",
    "abacus_graphene": "ABACUS, graphene, 2 atoms",
    "abacus_liquid": "ABACUS, liquid water, boxes of 32 and of 16 molecules",
    "abacus_mos2": "ABACUS, MoS2 monolayer, 3 atoms",
    "abacus_mos2_gg0": "the same model of MoS2, with mixing_gg0 0",
    "abacus_fe": "ABACUS, bcc iron, 2 atoms, nspin 2",
    "abacus_fe_mixing": "the same model of iron, with mixing_beta 1.0, mixing_beta_mag 1.6, mixing_gg0 0",
    "abacus_al": "ABACUS, Al(100), 4 layers and vacuum",
    "abacus_al_gg0": "the same model of Al(100), with mixing_gg0 0",
    "abacus_gaas": "ABACUS, GaAs, spin-orbit (nspin 4)",
    "abacus_tio2": "ABACUS, rutile TiO2 with a vacancy, 11 atoms",
    "abacus_tio2_gg0": "the same model of TiO2, with mixing_gg0 0",
    "openmx_si8": "OpenMX, silicon, 8 atoms",
    "openmx_gaas": "OpenMX, GaAs, 2 atoms, spin-orbit",
    "openmx_fe": "OpenMX, bcc iron, 1 atom, collinear spin",
    "openmx_mno": "OpenMX, antiferromagnetic MnO, 4 atoms",
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
    """Errors, and cycles saved, against the frames that were learned from: of PySCF by minutes and start, and of all codes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = read("curve")["rows"]
    figure, ((left, right), (errors, codes)) = pyplot.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for minutes, style in zip(sorted({row["minutes"] for row in rows}), ("-", "--", ":"), strict=False):
        for start, colour, matrix, unit in (("h", "tab:blue", "H, meV", 1), ("dm", "tab:orange", "DM", 1e3)):
            mine = [row for row in rows if (row["start"], row["minutes"]) == (start, minutes)]
            time = round(60 * minutes)
            name = matrix if unit == 1 else f"{matrix}, 1e-3"
            left.loglog(*curve_of(mine, matrix, unit), f"o{style}", color=colour, label=f"{name} ({time} s)")
            right.semilogx(*curve_of(mine, "saved"), f"o{style}", color=colour, label=f"start from {start} ({time} s)")
    for runs, style, colour, mine in curves_of_codes():
        errors.loglog(*curve_of(mine, "H, meV"), style, color=colour, label=runs)
        codes.semilogx(*curve_of(mine, "saved"), style, color=colour)
    left.set(title="PySCF, water", ylabel="mean absolute error", ylim=(None, 100))
    right.set(title="PySCF, water")
    errors.set(title="all codes", ylabel="mean absolute error of H, meV")
    codes.set(title="all codes, the best of their starts")
    for axes in (right, codes):
        for part in (100 / 3, 50, 75):
            axes.axhline(part, color="0.8", zorder=0)
        axes.set(ylabel="SCF cycles saved, %", ylim=(0, 100))
    frames = sorted({row["frames"] for row in rows})
    for axes in (left, right, errors, codes):
        axes.set_xlabel("frames learned from")
        axes.set_xticks(frames, map(str, frames))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=7, ncols=2, loc="upper right")
    right.legend(frameon=False, fontsize=7, ncols=2, loc="lower right")
    figure.legend(*errors.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def curve_of(rows, key, unit=1):
    """Frames and a number of some rows."""
    return [row["frames"] for row in rows], [unit * float(str(row[key]).rstrip("%")) for row in rows]


def curves_of_codes():
    """One curve for each code and kind of runs: its name, style and colour, and its rows of the start that is best where most was learned."""
    styles = {"silicon, 8 atoms": "s--", "water, coarse mesh": "^:", "water, mixing_gg0 0": "^:"}
    water = [row for row in read("curve")["rows"] if (row["minutes"], row["start"]) == (2, "h")]
    curves, colours = [("PySCF, water", "o-", "C0", water)], {}
    rows = read("curve_codes")["rows"]
    for runs in dict.fromkeys(row["runs"] for row in rows):
        mine = [row for row in rows if row["runs"] == runs]
        best = min(mine, key=lambda row: (-row["frames"], row["iterations"]))["start"]
        name = runs.partition(" (")[0]
        code, _, kind = name.partition(", ")
        colour = colours.setdefault(code, f"C{len(colours) + 1}")
        curves.append((name, styles.get(kind, "o-"), colour, [row for row in mine if row["start"] == best]))
    return curves


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
    draw(PICTURE)
    draw_curve(CURVE)
