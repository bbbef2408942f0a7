"""The demonstration: water with PySCF, from nothing to a model that starts the SCF of molecules it has not seen."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from workflows.scf_cases import WATER, Case, rattled, run_scf

if TYPE_CHECKING:
    from ase import Atoms

FRAMES, UNSEEN, STEPS = 24, 6, 1500


def one_water(random: np.random.Generator) -> "Atoms":
    from ase import Atoms

    return rattled(Atoms("OHH", WATER), random)


MOLECULE = Case("water", FRAMES, one_water)


def run_demo(folder: Path, frames: int = FRAMES, steps: int = STEPS) -> int:
    """Run PySCF on rattled water molecules, convert, check, train, predict, show the errors and restart; returns the exit code."""
    if folder.exists():
        shutil.rmtree(folder)
    seen, unseen, model = folder / "water.h5", folder / "unseen.h5", folder / "model"
    click.echo(f"1. PySCF: {frames + UNSEEN} water molecules, PBE, def2-SVP, into {folder}/runs and {folder}/unseen")
    for n in range(frames + UNSEEN):
        place = folder / ("runs" if n < frames else "unseen") / f"water_{n}"
        energy = run_scf(MOLECULE, one_water(np.random.default_rng(n)), place).e_tot
        click.echo(f"   water_{n}: {energy:.6f} Hartree")
    commands = (
        ["convert", folder / "runs", "-o", seen],
        ["convert", folder / "unseen", "-o", unseen],
        ["check", seen],
        ["info", seen],
        ["train", seen, "-o", model, "--steps", steps],
        ["predict", model, unseen, "-o", folder / "predicted.h5"],
        ["eval", model, unseen],
        ["report", model, unseen, "-o", folder / "report.html"],
        ["export", folder / "predicted.h5", "--into", folder / "unseen" / f"water_{frames}", "-o", folder / "start"],
    )
    for number, command in enumerate(commands, 2):
        words = [str(word) for word in command]
        click.echo(f"\n{number}. slem-{' '.join(words)}")
        code = subprocess.run([sys.executable, "-m", "workflows", *words], check=False).returncode
        if code:
            return code
    click.echo("\n11. PySCF again, on the molecules that the model has not seen: mf.kernel(dm0=pyscf_guess(mf, model))")
    show_starts(model, [one_water(np.random.default_rng(n)) for n in range(frames, frames + UNSEEN)])
    click.echo(
        f"\nDone. {seen} holds H, S and DM of {frames} molecules in one convention, {model} a model of all three, and "
        f"{folder}/predicted.h5 what it says of {UNSEEN} molecules that it has not seen; open {folder}/report.html to see how well."
    )
    return 0


def show_starts(model_path: Path, molecules: "list[Atoms]") -> None:
    """A table of SCF cycles from PySCF's own start, from the predicted DM and H, and from the converged density."""
    from slem_plugin.checkpoint import load_model
    from workflows.bench_restart import STARTS, start_structure, summarise
    from workflows.show import show_rows

    model = load_model(model_path)
    show_rows("", summarise(MOLECULE.title, [start_structure(MOLECULE, atoms, model, STARTS) for atoms in molecules]))
