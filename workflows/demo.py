"""The demonstration: water with PySCF, from nothing to a model that predicts molecules it has not seen."""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

FRAMES, UNSEEN, STEPS = 24, 4, 1500
WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])


def run_demo(folder: Path, frames: int = FRAMES, steps: int = STEPS) -> int:
    """Run PySCF on rattled water molecules, convert, check, train, predict, and show the errors; returns the exit code."""
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
    click.echo(
        f"\nDone. {seen} holds H, S and DM of {frames} molecules in one convention, {model} a model of all three, and "
        f"{folder}/predicted.h5 what it says of {UNSEEN} molecules that it has not seen, with the errors above."
    )
    return 0


def run_water(folder: Path, random: np.random.Generator) -> float:
    """One PySCF run as a user would make it: a checkpoint file and a log in a folder; returns the energy."""
    from pyscf import dft, gto

    folder.mkdir(parents=True)
    positions = WATER + random.normal(0.0, 0.05, WATER.shape)
    molecule = gto.M(
        atom=list(zip("OHH", positions.tolist(), strict=True)),
        basis="def2-svp",
        verbose=4,
        output=str(folder / "water.log"),
    )
    mf = dft.RKS(molecule, xc="pbe")
    mf.chkfile = str(folder / "water.chk")
    energy = float(mf.kernel())
    molecule.stdout.close()
    return energy
