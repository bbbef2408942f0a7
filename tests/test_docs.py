"""The pages say what the program does."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from converters.codes.known import KNOWN
from converters.errors import Kind
from tests import benchmark_tables, codes_table, conventions_page
from tests.codes_table import BEGIN, END, PAGE, rows
from tests.messages import PAGE as MESSAGES_PAGE
from tests.messages import page as messages_page
from tests.messages import refusals
from tests.pages import FENCE, blocks_of, learn, prepare, run_page
from workflows.terminal.cures import CURES

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def test_the_table_of_codes_is_that_of_the_fixtures():
    text = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    stand = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.strip().splitlines()[2:]]
    assert [line[:6] for line in stand] == [fixed for fixed, _ in rows()]


def test_the_tables_of_what_codes_can_do_are_their_records():
    assert codes_table.short_table() in codes_table.README.read_text()
    assert codes_table.long_table() in PAGE.read_text()


@pytest.mark.parametrize("page", [path.name for path in PAGES])
def test_links_lead_somewhere(page):
    path = next(path for path in PAGES if path.name == page)
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 700


def test_every_dependency_has_its_reason():
    project = re.search(r"\ndependencies.*?\n\[project.scripts\]", (ROOT / "pyproject.toml").read_text(), re.S)[0]
    required = set(re.findall(r'"([a-z][\w-]*?)(?:[><=;][^"]*)?"', project)) - {"slem-plugin"}
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "dependencies.md").read_text(), re.M)
    explained = set(re.findall(r"[a-z][\w-]+", " ".join(rows)))
    assert len(required) > 20
    assert required <= explained, required - explained


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_named_files_and_folders_are_there(page):
    named = re.findall(r"`([\w./<>]+(?:\.py|\.json|/))`", (ROOT / page).read_text())
    assert len(named) > 10
    for name in named:
        assert any(ROOT.glob(name.replace("<code>", "*").rstrip("/"))), name


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """What the pages speak of, made once."""
    return prepare(tmp_path_factory.mktemp("pages") / "untrained")


@pytest.fixture(scope="module")
def trained(untrained, tmp_path_factory):
    return learn(shutil.copytree(untrained, tmp_path_factory.mktemp("pages") / "trained"))


@pytest.mark.parametrize("page", [path.name for path in PAGES])
def test_every_block_runs_or_says_why_not(page, untrained, trained, tmp_path, monkeypatch):
    path = next(path for path in PAGES if path.name == page)
    text = path.read_text()
    assert text.count("\n```") == 2 * len(blocks_of(text)), "a fence that is not understood"
    assert not re.search(r"^\n {4}\S", FENCE.sub("", text), re.M), "code is fenced, with its language"
    assert {block.language for block in blocks_of(text)} <= {"sh", "python", "text"}
    monkeypatch.syspath_prepend(str(tmp_path))
    if any(block.runs for block in blocks_of(text)):
        monkeypatch.chdir(tmp_path)
        if not page.startswith("tour"):  # a tour begins with nothing
            shutil.copytree(untrained if page == "README.md" else trained, tmp_path, dirs_exist_ok=True)
        with patch.dict(KNOWN):
            run_page(path)


def test_the_conventions_are_those_of_the_program():
    assert conventions_page.table() in conventions_page.PAGE.read_text()


def test_tables_of_measurements_are_those_of_their_files(tmp_path):
    stand = {}
    for page in benchmark_tables.PAGES:
        stand |= benchmark_tables.tables_of(page.read_text())
    assert sorted(stand) == benchmark_tables.names()
    for name, text in stand.items():
        assert text == benchmark_tables.table(name)
    benchmark_tables.draw(tmp_path / "starts.png")
    assert benchmark_tables.PICTURE.exists()


def test_every_kind_of_refusal_is_met_and_has_its_cure():
    assert set(CURES) == set(Kind)
    met = [kind for _, kind, _ in refusals()]
    assert len(met) > 300
    of_errors_and_checks = {"INTERNAL", "IN_USE", "NOT_THERE", "POOR_PREDICTION"}
    assert set(met) | of_errors_and_checks == {kind.name for kind in Kind}
    assert messages_page() in MESSAGES_PAGE.read_text()


def test_messages_of_the_library_name_no_option_of_the_command_line():
    for where, _, words in refusals():
        if not where.startswith("workflows/"):
            assert not re.search(r"--[a-z]", words), f"{where}: {words}"


def test_the_site_is_built(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "tour_silicon" / "index.html").exists()
    fetched = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))', (tmp_path / "index.html").read_text())
    assert fetched == [], "a page that is read fetches nothing"


def test_the_page_of_python_needs_one_import():
    blocks = [
        block.text for block in blocks_of((ROOT / "docs" / "python.md").read_text()) if block.language == "python"
    ]
    found = {name for text in blocks for name in re.findall(r"^(?:from|import) ([\w.]+)", text, re.M)}
    assert {name for name in found if name.split(".")[0] in ("basis", "converters", "slem_plugin", "workflows")} == {
        "slem_plugin"
    }
