"""Cycles of the starts of slem.PySCF along one trajectory of water: `python -m tests.ase_starts --waters 1 --steps 12 [--model model]`.

Each start is made at the same positions from the same earlier calculations; the trajectory itself goes on from "last". "step before" is the
density of the last step alone, "ASPC" Kolafa's predictor of four steps, on the contra-covariant product of density and overlap.
"""

import argparse
import json
import time

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from pyscf import dft, gto

from converters.starts.whole import as_projector
from slem_plugin import PySCF, load_model
from workflows.scf.answering import predict_for

ASPC = (-0.2, 1.2, -2.8, 2.8)
# Between oxygens (Angstrom).
APART = 2.85


def ring(count):
    """Water molecules in a ring, each with one hydrogen towards the next."""
    angles = 2 * np.pi * np.arange(count) / count
    radius = APART / (2 * np.sin(np.pi / count)) if count > 1 else 0.0
    oxygens = radius * np.array([np.cos(angles), np.sin(angles), 0 * angles]).T
    positions = []
    for n, oxygen in enumerate(oxygens):
        along = oxygens[(n + 1) % count] - oxygen if count > 1 else np.array([1.0, 0, 0])
        along /= np.linalg.norm(along)
        other = -0.25 * along + np.sqrt(1 - 0.25**2) * np.array([0, 0, (-1.0) ** n])
        positions += [oxygen, oxygen + 0.97 * along, oxygen + 0.97 * other]
    return Atoms("OHH" * count, positions)


def scf(atoms, basis="def2-svp"):
    atom = list(zip(atoms.symbols, atoms.positions, strict=True))
    mf = dft.RKS(gto.M(atom=atom, basis=basis, verbose=0), xc="pbe")
    return mf.density_fit() if len(atoms) > 3 else mf


class Measured(PySCF):
    """Goes on from "last", and tries all other starts before."""

    def __init__(self, make, ask):
        super().__init__(make)
        self.ask, self.rows = ask, {}

    def solve(self):
        past = list(self.earlier)
        if len(past) >= len(ASPC):
            for kind in ("default", "step before", "ASPC", *(("predicted", "both") if self.ask else ())):
                self.measure(kind, past)
        self.earlier, self.kind = past, "last"
        self.measure("last", past)

    def measure(self, kind, past):
        self.earlier, began = list(past), time.process_time()
        if kind in ("step before", "ASPC"):
            mf = self.make(self.atoms)
            mf.kernel(dm0=past[-1].rho if kind == "step before" else aspc(past[-len(ASPC) :], mf.get_ovlp()))
            cycles = mf.cycles
        else:
            self.kind = kind
            super().solve()
            cycles, kind = self.iterations, self.taken
            self.frame()  # what "both" compares predictions with
        if len(past) >= len(ASPC):
            self.rows.setdefault(kind, []).append((cycles, time.process_time() - began))


def aspc(past, S):
    product = sum(weight * one.rho @ one.S for weight, one in zip(ASPC, past, strict=True))
    rho = np.linalg.solve(S, product.T).T
    return as_projector((rho + rho.T) / 2, S, past[-1].rho, past[-1].S)


def measure(atoms, make, steps, ask=None, step=0.5):
    """Mean cycles and CPU seconds of each start."""
    atoms.calc = Measured(make, ask)
    VelocityVerlet(atoms, step * units.fs).run(steps)
    return [
        {"start": kind, "cycles": round(float(cycles), 2), "CPU s of an SCF": round(float(seconds), 2)}
        for kind, found in atoms.calc.rows.items()
        for cycles, seconds in [np.mean(found, axis=0)]
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--waters", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--kelvin", type=float, default=300.0)
    parser.add_argument("--model")
    options = parser.parse_args()
    model = options.model and load_model(options.model)
    atoms = ring(options.waters)
    MaxwellBoltzmannDistribution(atoms, temperature_K=options.kelvin, rng=np.random.default_rng(0))
    rows = measure(atoms, scf, options.steps, (lambda question: predict_for(model, question)) if model else None)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
