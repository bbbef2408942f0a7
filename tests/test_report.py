"""The report: one page that holds all it shows, for every kind of model."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from pyscf import gto

from converters.pyscf import frame_from_scf
from converters.starts.start import Progress
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from tests.test_exact_overlap import finished
from workflows.cli import main
from workflows.scf import Outcome, Start


def slem(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


class Page(HTMLParser):
    """Tags, pictures and words of a page; raises on tags that do not fit."""

    def __init__(self, text):
        super().__init__()
        self.open, self.pictures, self.headings, self.links = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(attributes)
        self.links += [value for key, value in attributes.items() if key in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of chains of four hydrogen atoms, and its dataset."""
    folder = tmp_path_factory.mktemp("trained")
    with DatasetWriter(folder / "data.h5") as writer:
        for bond in (0.74, 0.8, 0.86, 0.92):
            atoms = f"H 0 0 0; H 0 0 {bond}; H 0.2 {0.9 + bond} 0; H 1.4 0 {bond}"
            frame = frame_from_scf(finished(gto.M(atom=atoms, basis="def2-svp", verbose=0)))
            writer.append(frame)
    options = ("--steps", "20", "--validate", "1,3")
    assert slem("train", folder / "data.h5", "-o", folder / "model", *options)[0] == 0
    return folder


def test_a_report_is_one_page_with_everything_inside(trained, tmp_path):
    output = tmp_path / "report.html"
    code, out, err = slem("report", trained / "model", trained / "data.h5", "-o", output, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["frames"] == [1, 3]  # those that were kept for validation
    text = output.read_text()
    page = Page(text)
    assert {"Errors", "Levels and bands", "Learning curves", "Parity", "By shells and elements", "By distance"} < set(
        page.headings
    )
    assert {"Worst frames and blocks", "The dataset", "The model", "Cost and provenance"} < set(page.headings)
    assert len(page.pictures) == 8  # levels, learning curves; parity, shells and distances of H and DM, S is exact
    assert "occupied levels" in page.pictures[0]["alt"]
    for picture in page.pictures:
        assert len(picture["alt"]) > 20
        assert picture["src"].startswith("data:image/")
    assert all(link.startswith("data:") for link in page.links)
    assert "<script" not in text
    assert f"{facts['errors']['H']['mae'] * 1e3:.3g} meV" in re.sub(r"<[^>]+>", " ", text)
    assert "prefers-color-scheme" in text or "color-scheme: light dark" in text
    assert "@media print" in text


def test_frames_may_be_chosen(trained, tmp_path):
    output = tmp_path / "report.html"
    code, out, _ = slem("report", trained / "model", trained / "data.h5", "-o", output, "--frames", "0-2", "--json")
    assert (code, json.loads(out)["frames"]) == (0, [0, 1, 2])
    code, _, err = slem("report", trained / "model", trained / "data.h5", "-o", output, "--frames", "0-9")
    assert code == 1
    assert "there is no frame" in err


def test_a_dataset_of_another_basis_is_refused(trained, tmp_path):
    with DatasetWriter(tmp_path / "other.h5") as writer:
        writer.append(frame_from_scf(finished(gto.M(atom="O 0 0 0; H 0 0 1; H 0 1 0", basis="sto-3g", verbose=0))))
    code, _, err = slem("report", trained / "model", tmp_path / "other.h5", "-o", tmp_path / "report.html")
    assert code == 1
    assert "has the basis O 2s1p" in err


def test_names_in_files_do_not_become_tags(trained, tmp_path):
    """A path is text, whatever is in it."""
    from dataclasses import replace

    data = tmp_path / "data.h5"
    with Dataset(trained / "data.h5") as stored, DatasetWriter(data) as writer:
        frame = stored[0]
        writer.append(replace(frame, provenance=replace(frame.provenance, path="<script>alert(1)</script>")))
    assert slem("report", trained / "model", data, "-o", tmp_path / "report.html")[0] == 0
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_model_of_overlaps_alone_has_a_report(trained, tmp_path):
    options = ("--operators", "S", "--validate", "1")
    assert slem("train", trained / "data.h5", "-o", tmp_path / "model", *options)[0] == 0
    code, _, err = slem("report", tmp_path / "model", trained / "data.h5", "-o", tmp_path / "report.html")
    assert code == 0, err
    page = Page((tmp_path / "report.html").read_text())
    text = (tmp_path / "report.html").read_text()
    assert re.search(r"S is exact: of \d+ elements none is off by more than \de-1\d", text)
    assert "<strong>S exact</strong>" in text
    assert page.pictures == []
    assert "Levels and bands" not in page.headings
    assert "Learning curves" not in page.headings


def test_runs_from_predictions_are_drawn(trained, tmp_path):
    """Curves of the residuals that a code printed, from the prediction and from its own start."""

    def start(iterations, residuals, seconds):
        progress = Progress(iterations, -100.0, True, tuple(residuals), True)
        return Start("run-slem-guess", seconds, 0, progress)

    good = Outcome(
        "run<1>", "ok", "", "dm", 1.0, start(3, (1e-3, 1e-5, 1e-8), 4.0), start(6, 10.0 ** -np.arange(6), 9.0)
    )
    bad = Outcome("run2", "no guess: has no H", default=start(5, (), 8.0))
    (tmp_path / "scf.json").write_text(json.dumps({"runs": [good.as_dict(), bad.as_dict()]}))
    output = tmp_path / "report.html"
    words = (trained / "model", trained / "data.h5", "--frames", "1", "-o", output)
    assert slem("report", *words, "--scf", tmp_path / "scf.json")[0] == 0
    text = output.read_text()
    assert "SCF runs from predictions" in Page(text).headings
    assert "50% fewer iterations on average" in text
    assert "run&lt;1&gt;" in text
    assert "no guess: has no H" in text
    for content in ("{", "[]", '{"runs": [{}]}', '{"runs": [{"guess": 3}]}', '{"runs": 5}'):
        (tmp_path / "scf.json").write_text(content)
        code, _, err = slem("report", *words, "--scf", tmp_path / "scf.json")
        assert code == 1
        assert "is not what slem-scf -o writes" in err


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium to look at the page")
def test_a_browser_shows_the_page_on_a_phone_in_the_dark_and_in_print(trained, tmp_path):
    report = tmp_path / "report.html"
    assert slem("report", trained / "model", trained / "data.h5", "-o", report)[0] == 0

    def browse(*options):
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [f"--user-data-dir={tmp_path}/profile", *options, report.as_uri()]
        subprocess.run(command, capture_output=True, check=True, timeout=120)

    try:
        browse(f"--screenshot={tmp_path / 'first.png'}")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("Chromium does not start here")
    shades = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        picture = tmp_path / f"{name}.png"
        browse(f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}", "--window-size=390,3000")
        with Image.open(picture) as drawn:
            shades[name] = np.asarray(drawn.convert("L"), dtype=float)
        assert shades[name].std() > 20, "the page is not empty"
    left = {name: np.median(shade[:, :8]) for name, shade in shades.items()}  # the margin, where nothing stands
    assert left["dark"] < 60
    assert left["light"] > 240
    browse(f"--print-to-pdf={tmp_path / 'report.pdf'}")
    assert len(re.findall(rb"/Type */Page\b", (tmp_path / "report.pdf").read_bytes())) >= 3
