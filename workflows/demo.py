"""The demonstration: water with PySCF, from nothing to checked matrices, with the commands a user would type."""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

FRAMES = 6
WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])


def run_demo(folder: Path) -> int:
    """Run PySCF on rattled water molecules, convert, check, show; returns the exit code."""
    runs, data = folder / "runs", folder / "water.h5"
    if runs.exists():
        shutil.rmtree(runs)
    data.unlink(missing_ok=True)
    click.echo(f"1. PySCF: {FRAMES} water molecules, PBE, def2-SVP, into {runs}/")
    for n in range(FRAMES):
        energy = run_water(runs / f"water_{n}", np.random.default_rng(n))
        click.echo(f"   water_{n}: {energy:.6f} Hartree")
    for number, command in enumerate(
        (["convert", str(runs), "-o", str(data)], ["check", str(data)], ["info", str(data)]), 2
    ):
        click.echo(f"\n{number}. slem-{' '.join(command)}")
        code = subprocess.run([sys.executable, "-m", "workflows", *command], check=False).returncode
        if code:
            return code
    click.echo(
        f"\nDone. {data} holds H, S and DM of {FRAMES} molecules in one convention; docs/dataset.md tells how to read it."
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
