"""The demonstration: water with PySCF, from nothing to a model that starts the SCF of molecules it has not seen."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from converters.errors import Kind, Refused
from workflows.benchmarks.start_cases import WATER, Case, rattled, run_scf

if TYPE_CHECKING:
    from ase import Atoms

FRAMES, UNSEEN, RESTARTED, CAMPAIGN, STEPS = 24, 6, 2, 12, 800
# What a user would run, with the one line of slem-plugin in it.
SCRIPT = """
from ase.io import read
from pyscf import dft, gto
from slem_plugin import pyscf_guess

atoms = read("water.xyz")
atom = [(symbol, tuple(place)) for symbol, place in zip(atoms.symbols, atoms.positions)]
mf = dft.RKS(gto.M(atom=atom, basis="def2-svp", verbose=4, output="pyscf.log"), xc="pbe").density_fit()
mf.chkfile = "water.chk"
mf.kernel(dm0=pyscf_guess(mf))
"""


def one_water(random: np.random.Generator) -> "Atoms":
    from ase import Atoms

    return rattled(Atoms("OHH", WATER), random)


MOLECULE = Case("water", FRAMES, one_water)


def run_command(words: list[str]) -> int:
    """The exit code of a command of ours, which prints what it prints."""
    return subprocess.run([sys.executable, "-m", "workflows", *words], check=False).returncode


def scripted(folder: Path, n: int) -> Path:
    """A folder with a molecule and the script that runs it."""
    place = folder / f"water_{n}"
    place.mkdir(parents=True)
    one_water(np.random.default_rng(n)).write(place / "water.xyz")
    (place / "run.py").write_text(SCRIPT)
    return place


def run_demo(
    folder: Path,
    frames: int = FRAMES,
    steps: int = STEPS,
    unseen_frames: int = UNSEEN,
    restarted: int = RESTARTED,
    more: int = CAMPAIGN,
) -> int:
    """Run PySCF on rattled water molecules, convert, check, train, predict, show the errors, restart and run a campaign; returns the exit code."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "runs" / "water_0").is_dir():
            raise Refused(Kind.OUTPUT_EXISTS, folder, "holds something else than an earlier demonstration")
        shutil.rmtree(folder)
    seen, unseen, model = folder / "water.h5", folder / "unseen.h5", folder / "model"
    click.echo(
        f"1. PySCF: {frames + unseen_frames} water molecules, PBE, def2-SVP, into {folder}/runs and {folder}/unseen"
    )
    for n in range(frames + unseen_frames):
        place = folder / ("runs" if n < frames else "unseen") / f"water_{n}"
        energy = run_scf(MOLECULE, one_water(np.random.default_rng(n)), place).e_tot
        click.echo(f"   water_{n}: {energy:.6f} Hartree")
    again = [scripted(folder / "scf", n) for n in range(frames, frames + restarted)]
    new = [scripted(folder / "new", n) for n in range(frames + unseen_frames, frames + unseen_frames + more)]
    command = f"{sys.executable} run.py"
    commands = (
        ["convert", folder / "runs", "-o", seen],
        ["convert", folder / "unseen", "-o", unseen],
        ["check", seen],
        ["info", seen],
        ["train", seen, "-o", model, "--steps", steps],
        ["predict", model, unseen, "-o", folder / "predicted.h5"],
        ["eval", model, unseen],
        ["scf", *again, "--model", model, "--cmd", command, "--compare", "-o", folder / "scf.json"],
        ["campaign", *new, "--model", model, "--cmd", command, "-o", folder / "campaign", "-j", 2],
        ["report", model, unseen, "--scf", folder / "scf.json", "-o", folder / "report.html"],
        ["export", folder / "predicted.h5", "--into", folder / "unseen" / f"water_{frames}", "-o", folder / "start"],
    )
    for number, given in enumerate(commands, 2):
        words = [str(word) for word in given]
        click.echo(f"\n{number}. slem-{' '.join(words)}")
        if code := run_command(words):
            return code
    click.echo(
        f"\nDone. {seen} holds H, S and DM of {frames} molecules in one convention, {model} a model of all three, and "
        f"{folder}/predicted.h5 what it says of {unseen_frames} molecules that it has not seen; open {folder}/report.html to see how well, and {folder}/campaign/report.html to see how {more} more molecules ran."
    )
    return 0
