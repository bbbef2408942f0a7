"""Cycles and CPU seconds of dynamics of eight water molecules with slem.Learning: `python -m tests.ase_waters md --steps 300`.

Positions are those of a file of ASE (`--frames`), else of dynamics of the same code in a minimal basis. At some of the steps the
default and the density of the step before are run too, which is not counted. The same command goes on after an end.
"""

import argparse
import json
import os

import numpy as np
from ase import units
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from pyscf import gto, scf

from basis.units import HARTREE
from slem_plugin import Learning, PySCF
from tests.ase_starts import ring

KELVIN, WARMING = 300.0, 100
OTHERS = ("default", "step before")


def seconds_of_all():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def hartree_fock(atoms, basis="def2-svp"):
    atom = list(zip(atoms.symbols, atoms.positions, strict=True))
    return scf.RHF(gto.M(atom=atom, basis=basis, verbose=0)).density_fit()


def two_rings():
    """Four molecules above four others."""
    below, above = ring(4), ring(4)
    above.positions[:, 2] *= -1
    above.positions += [0, 0, 2.9]
    above.rotate(90, "z")
    return below + above


def frames_of_dynamics(steps):
    """Positions of each femtosecond near 300 K, in a minimal basis."""
    atoms, generator = two_rings(), np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * KELVIN, rng=generator)
    atoms.calc = PySCF(lambda moved: hartree_fock(moved, "sto-3g"))
    atoms.calc.kind = "last"
    dynamics = Langevin(atoms, units.fs, temperature_K=KELVIN, friction=0.01 / units.fs, rng=generator)
    return [atoms.copy() for n, _ in enumerate(dynamics.irun(WARMING + steps)) if n >= WARMING][:steps]


def compare(step, atoms, before, energy):
    """Cycles, seconds and the error of the energy (eV) of other starts at the positions of a step."""
    rows = []
    for kind, start in zip(OTHERS, (None, before), strict=True):
        began, mf = seconds_of_all(), hartree_fock(atoms)
        found = mf.kernel(dm0=start) * HARTREE
        rows.append((step, kind, mf.cycles, seconds_of_all() - began, found - energy))
    return rows


def measure(folder, frames, every):
    """What the steps of some frames take that the folder does not have yet."""
    others, aside = [], 0.0
    with Learning(PySCF(hartree_fock), folder, steps=len(frames)) as learning:
        first, before = learning.before, None
        learning.steps = len(frames) - first
        for n, atoms in enumerate(frames[first:], first):
            energy, began = learning.get_potential_energy(atoms), seconds_of_all()
            if before is not None and n % every == 0:
                others += compare(n, atoms, before, energy)
            before = learning.inner.mf.make_rdm1()
            aside += seconds_of_all() - began
        iterations = [step["iterations"] for step in learning.journal.of("step")]
        summary = learning.summary()
    return {
        "steps": len(iterations),
        "cycles": round(float(np.mean(iterations)), 2),
        "starts": summary["starts"],
        "CPU s of this call": round(seconds_of_all() - aside, 1),
        **{
            kind: {"cycles": round(float(cycles), 2), "CPU s": round(float(seconds), 2), "worst energy, eV": worst}
            for kind in OTHERS
            if (found := [row for row in others if row[1] == kind])
            for cycles, seconds in [np.mean([row[2:4] for row in found], axis=0)]
            for worst in [max(abs(row[4]) for row in found)]
        },
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--frames")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=25)
    options = parser.parse_args()
    frames = read(options.frames, f":{options.steps}") if options.frames else frames_of_dynamics(options.steps)
    print(json.dumps(measure(options.folder, frames, options.every), indent=1))


if __name__ == "__main__":
    main()
