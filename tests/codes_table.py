"""The tables of codes in README.md and docs/codes.md, made from records and fixtures: `python -m tests.codes_table` writes them anew."""

from pathlib import Path

from converters.codes.known import KNOWN
from converters.physics.checks import check_frame
from tests.fixtures import frames_of
from tests.test_abacus import TestAbacus
from tests.test_openmx import TestOpenmx
from tests.test_siesta import TestSiesta

ROOT = Path(__file__).parent.parent
PAGE, README = ROOT / "docs" / "codes.md", ROOT / "README.md"
BEGIN, END = "<!-- table of fixtures: begin -->", "<!-- table of fixtures: end -->"
RECORDS_BEGIN, RECORDS_END = "<!-- table of codes: begin -->", "<!-- table of codes: end -->"
HEAD = "| code | version | fixture | basis | spin | read | levels, eV | DM - f(H, S) | Tr(DM S) - N | S two-centre |"


def rows():
    """Cells of each row: what does not depend on the machine, and what was measured."""
    for contract in (TestAbacus, TestOpenmx, TestSiesta):
        for name, expected in contract.good.items():
            (frame,) = frames_of(contract.code, name)
            found = {result.name: result.found for result in check_frame(frame)}
            basis = ", ".join(str(species) for species in frame.basis)
            fixed = [
                contract.code,
                frame.provenance.version,
                name,
                basis,
                str(frame.spin),
                ", ".join(sorted(frame.operators)),
            ]
            electrons = abs(found["Tr(DM S) = electrons"] - expected.electrons)
            measured = [
                found["eigenvalues against the printed ones"],
                found["DM against f(H, S)"],
                electrons,
                found["S two-centre"],
            ]
            yield fixed, ["folded" if value is None else f"{value:.0e}" for value in measured]


def table():
    lines = [HEAD, "|" + "---|" * 10]
    lines += ["| " + " | ".join([*fixed, *measured]) + " |" for fixed, measured in rows()]
    return "\n".join(lines)


def short_table():
    """What each code can do, for README.md; formats of models that are read, which no code starts from, share a row."""
    codes = [about for about in KNOWN.values() if not about.for_models]
    formats = [about for about in KNOWN.values() if about.for_models and about.layouts]
    lines = ["| code | read | write | spin |", "|---|---|---|---|"]
    for about in codes:
        written = about.writes or "nothing"
        lines.append(f"| {about.title} {about.versions} | {about.reads} | {written} | {about.spins} |")
    titles, of_models = (", ".join(one.title for one in some) for some in (formats, [f for f in formats if f.writes]))
    lines.append(f"| models | [data](docs/peers.md): {titles} | {of_models} | none, spinor |")
    return "\n".join(lines)


def long_table():
    """What each code can do, for docs/codes.md."""
    lines = ["| code | versions | read | write | spin | k-points | radial functions | starts from |", "|" + "---|" * 8]
    for about in KNOWN.values():
        functions, routes = ", ".join(about.functions) or "none", ", ".join(about.routes) or "no code"
        cells = [
            about.title,
            about.versions,
            about.reads,
            about.writes or "nothing",
            about.spins,
            about.kpoints,
            functions,
            routes,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def put(path, begin, end, text):
    before, rest = path.read_text().split(begin)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    put(README, RECORDS_BEGIN, RECORDS_END, short_table())
    put(PAGE, RECORDS_BEGIN, RECORDS_END, long_table())
    put(PAGE, BEGIN, END, table())
