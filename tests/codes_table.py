"""The table of docs/codes.md, made from the fixtures: `python -m tests.codes_table` writes it anew."""

from pathlib import Path

from converters.physics.checks import check_frame
from tests.contract import frames_of
from tests.test_abacus import TestAbacus
from tests.test_openmx import TestOpenmx
from tests.test_siesta import TestSiesta

PAGE = Path(__file__).parent.parent / "docs" / "codes.md"
BEGIN, END = "<!-- table of fixtures: begin -->", "<!-- table of fixtures: end -->"
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


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")
