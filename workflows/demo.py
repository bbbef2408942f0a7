"""The demonstration: water with PySCF, from nothing to a model that predicts molecules it has not seen."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from basis import Array

FRAMES, UNSEEN, STEPS = 24, 4, 1500
WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])


def run_demo(folder: Path, frames: int = FRAMES, steps: int = STEPS) -> int:
    """Run PySCF on rattled water molecules, convert, check, train, predict, show the errors and restart; returns the exit code."""
    if folder.exists():
        shutil.rmtree(folder)
    seen, unseen, model = folder / "water.h5", folder / "unseen.h5", folder / "model"
    click.echo(f"1. PySCF: {frames + UNSEEN} water molecules, PBE, def2-SVP, into {folder}/runs and {folder}/unseen")
    for n in range(frames + UNSEEN):
        energy = run_water(folder / ("runs" if n < frames else "unseen") / f"water_{n}", np.random.default_rng(n))
        click.echo(f"   water_{n}: {energy:.6f} Hartree")
    commands = (
        ["convert", folder / "runs", "-o", seen],
        ["convert", folder / "unseen", "-o", unseen],
        ["check", seen],
        ["info", seen],
        ["train", seen, "-o", model, "--steps", steps],
        ["predict", model, unseen, "-o", folder / "predicted.h5"],
        ["eval", model, unseen],
    )
    for number, command in enumerate(commands, 2):
        words = [str(word) for word in command]
        click.echo(f"\n{number}. slem-{' '.join(words)}")
        code = subprocess.run([sys.executable, "-m", "workflows", *words], check=False).returncode
        if code:
            return code
    click.echo("\n9. PySCF again, on the molecules that the model has not seen")
    show_restarts(folder / "predicted.h5")
    click.echo(
        f"\nDone. {seen} holds H, S and DM of {frames} molecules in one convention, {model} a model of all three, and "
        f"{folder}/predicted.h5 what it says of {UNSEEN} molecules that it has not seen, with the errors above."
    )
    return 0


def run_water(folder: Path, random: np.random.Generator) -> float:
    """One PySCF run as a user would make it: a checkpoint file and a log in a folder; returns the energy."""
    folder.mkdir(parents=True)
    mf = water_scf(WATER + random.normal(0.0, 0.05, WATER.shape), verbose=4, output=str(folder / "water.log"))
    mf.chkfile = str(folder / "water.chk")
    energy = float(mf.kernel())
    mf.mol.stdout.close()
    return energy


def water_scf(positions: Array, **options: Any) -> Any:
    """A PySCF object for one water molecule."""
    from pyscf import dft, gto

    atoms = list(zip("OHH", positions.tolist(), strict=True))
    return dft.RKS(gto.M(atom=atoms, basis="def2-svp", **options), xc="pbe")


def show_restarts(predicted: Path) -> None:
    """SCF cycles of PySCF from its own guess and from each predicted density."""
    from converters.dataset import Dataset
    from converters.pyscf import starting_density

    with Dataset(predicted) as frames:
        for frame in frames:
            default, guessed = (
                count_cycles(water_scf(frame.positions_av, verbose=0), guess)
                for guess in (None, starting_density(frame))
            )
            click.echo(
                f"   {default[0]} cycles from PySCF's own guess, {guessed[0]} from the predicted density; "
                f"the energies differ by {abs(default[1] - guessed[1]):.0e} Hartree"
            )


def count_cycles(mf: Any, guess: Array | None) -> tuple[int, float]:
    """Cycles to convergence and the energy."""
    cycles = 0

    def count(_: dict[str, Any]) -> None:
        nonlocal cycles
        cycles += 1

    mf.callback = count
    energy = float(mf.kernel(dm0=guess))
    return cycles, energy
