"""The pages say what the program does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.codes_table import BEGIN, END, PAGE, rows

ROOT = Path(__file__).parent.parent


def test_the_table_of_codes_is_that_of_the_fixtures():
    text = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    stand = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.strip().splitlines()[2:]]
    assert [line[:6] for line in stand] == [fixed for fixed, _ in rows()]


@pytest.mark.parametrize("page", sorted(path.name for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]))
def test_links_lead_somewhere(page):
    path = next(p for p in (ROOT / page, ROOT / "docs" / page) if p.exists())
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_commands_of_the_readme_exist():
    commands = set(re.findall(r"^\s+slem-(\w+)", (ROOT / "README.md").read_text(), re.M))
    assert commands
    for verb in commands:
        subprocess.run(
            [sys.executable, "-m", "workflows", verb, "--help"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
        )
