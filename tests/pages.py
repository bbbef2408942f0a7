"""The commands and Python blocks of a page of the documentation, run one after the other as a reader would.

A fence is `sh`, `python`, or `text` for what is no command. A comment before it says what is not run, and why:
`<!-- not run: it takes hours -->`, or for some lines `<!-- not run (pip, mpirun): they need the network and a code -->`.
`<!-- file: run.py -->` makes a file of the fence, and `<!-- output -->` says that the commands before print these lines, but for their numbers. Trainings are cut to a few steps. The commands of a page run in a folder with finished runs, a dataset, a model and structures,
and `slem`, the repository.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from converters.starts.targets import find_target
from tests.fixtures import unpacked
from workflows.cli import main

ROOT = Path(__file__).parent.parent
FENCE = re.compile(
    r"^(?:<!-- (?:file: (?P<file>\S+)|(?P<output>output)|not run(?: \((?P<words>[^)]*)\))?: (?P<reason>.*?)) -->\n)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
STEPS = "--steps 3"


@dataclass(frozen=True)
class Block:
    """A fence of a page; `reason` says why it, or its lines with one of `words`, are not run; `output`: the commands before print it."""

    language: str
    text: str
    words: tuple[str, ...]
    reason: str
    file: str
    output: bool
    line: int

    @property
    def runs(self):
        return bool(self.file) or (self.language in ("sh", "python") and (not self.reason or bool(self.words)))


def blocks_of(text):
    return [
        Block(
            found["language"],
            found["text"],
            tuple(word.strip() for word in (found["words"] or "").split(",") if word.strip()),
            found["reason"] or "",
            found["file"] or "",
            bool(found["output"]),
            text[: found.start()].count("\n") + 1,
        )
        for found in FENCE.finditer(text)
    ]


def run_page(path):
    """Run all blocks of a page in the current folder."""
    Path("slem").symlink_to(ROOT)
    names, printed = {"__name__": "page"}, ""
    for block in filter(lambda block: block.runs or block.output, blocks_of(path.read_text())):
        where = f"{path.name}:{block.line}"
        if block.output:
            missing = set(shapes_of(block.text)) - set(shapes_of(printed))
            assert not missing, f"{where}: {missing} is not printed:\n{printed}"
        elif block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, where, "exec"), names)
        else:
            printed = ""
            for line in commands_of(block.text):
                if not any(word in line for word in block.words):
                    code, output = run_line(line)
                    assert code == 0, f"{where}: {line}\n{output}"
                    printed += output


def shapes_of(text):
    """Lines of an output without their numbers and the width of their columns."""
    return [
        re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", " ".join(line.split())) for line in text.splitlines() if line.strip()
    ]


def commands_of(text):
    """The lines of a shell block, with continued ones joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def run_line(line):
    """Exit code and output of a line: our own commands in this process, all others in a shell."""
    words = shlex.split(line, comments=True)
    if not words[0].startswith("slem-"):
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(line, shell=True, capture_output=True, text=True, env=environment, check=False)
        return done.returncode, done.stdout + done.stderr
    target = None
    if ">" in words:
        target, words = words[words.index(">") + 1], words[: words.index(">")]
    words = [place for word in words for place in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
    result = CliRunner().invoke(main, [words[0].removeprefix("slem-"), *shortened(words)[1:]])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if target:
        Path(target).write_text(result.stdout)
    return result.exit_code, result.stdout + result.stderr


def shortened(words):
    """A command whose training takes a few steps, and whose trial runs of our own Python use this one."""
    words = [word.replace("python run.py", f"{sys.executable} run.py") for word in words]
    if words[0] != "slem-train":
        return words
    if "--time" in words:
        at = words.index("--time")
        words = words[:at] + words[at + 2 :]
    return words if "--steps" in words else [*words, *STEPS.split()]


def prepare(folder):
    """The folder with what the pages begin with: runs of silicon, structures, and files of radial functions."""
    from ase.build import molecule

    from tests.radial_files import gaussian, write_ion_xml, write_orb, write_pao

    shutil.copytree(unpacked("siesta", "si8"), folder / "runs")
    (folder / "run").mkdir()
    shutil.copy(folder / "runs" / "frame_2" / "si8.fdf", folder / "run")
    shells = [(0, gaussian(0, 0.8)), (1, gaussian(1, 0.5))]
    (folder / "PAO").mkdir()
    write_orb(folder / "Si.orb", shells, step=0.02)
    write_pao(folder / "PAO" / "Si7.0.pao", shells, points=400)
    write_ion_xml(folder / "Si.ion.xml", "Si", 14, [(l, l + 1, 1, False, R) for l, R in shells], points=400)
    for name in ("new.cif", "new.xyz", "device.xyz", "electrode.xyz", "POSCAR"):
        find_target(folder / "run").atoms.write(folder / name)
    molecule("H2O").write(folder / "water.xyz")
    return folder


def learn(folder):
    """The folder with a dataset of its runs, a model and predictions too."""
    before = Path.cwd()
    os.chdir(folder)
    for line in ("convert runs/ -o data.h5", "train data.h5 -o model --validate 2", "predict model new.xyz -o pred.h5"):
        code, output = run_line(f"slem-{line}")
        assert code == 0, f"{line}\n{output}"
    os.chdir(before)
    return folder
