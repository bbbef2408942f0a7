"""Cycles of a band of images with and without slem.Learning, for the inversion of ammonia: `python -m tests.ase_barrier`.

"default" is PySCF's own start, "image" the last density of each image, "learning" one slem.Learning that all images share.
"""

import json
import time
from tempfile import TemporaryDirectory

from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import NEB
from ase.optimize import BFGS
from pyscf import gto, scf

from slem_plugin import Learning, PySCF


def ammonia(atoms):
    atom = list(zip(atoms.symbols, atoms.positions, strict=True))
    return scf.RHF(gto.M(atom=atom, basis="def2-svp", verbose=0))


class Counted(PySCF):
    """Counts its cycles and the seconds of its SCF."""

    def __init__(self, make, start):
        super().__init__(make)
        self.start, self.cycles, self.calculations, self.seconds = start, 0, 0, 0.0

    def solve(self):
        began = time.process_time()
        if self.start == "image":
            self.kind, self.earlier = "last", self.earlier[-1:]
        super().solve()
        self.seconds += time.process_time() - began
        self.cycles += self.iterations
        self.calculations += 1


def barrier(start, images=5, steps=15):
    """The barrier (eV), and what it took."""
    with TemporaryDirectory() as folder:
        made = []

        def calculator():
            made.append(Counted(ammonia, start))
            return made[-1]

        shared = Learning(calculator(), folder) if start == "learning" else None
        began = time.process_time()
        first = molecule("NH3")
        first.calc = shared or calculator()
        BFGS(first, logfile=None).run(fmax=0.02)
        last = first.copy()
        last.positions[:, 2] = 2 * first.positions[0, 2] - first.positions[:, 2]
        last.calc = first.calc
        for end in (first, last):
            end.calc = SinglePointCalculator(end, energy=end.get_potential_energy(), forces=end.get_forces())
        band = NEB(
            [first, *(first.copy() for _ in range(images)), last],
            climb=True,
            allow_shared_calculator=True,
            method="improvedtangent",
        )
        band.interpolate()
        for image in band.images[1:-1]:
            image.calc = shared or calculator()
        BFGS(band, logfile=None).run(fmax=0.05, steps=steps)
        energies = [image.get_potential_energy() for image in band.images]
        if shared:
            shared.close()
    return {
        "start": start,
        "calculations": sum(one.calculations for one in made),
        "cycles": sum(one.cycles for one in made),
        "barrier, eV": round(max(energies) - energies[0], 5),
        "CPU s of SCF": round(sum(one.seconds for one in made), 1),
        "CPU s": round(time.process_time() - began, 1),
    }


if __name__ == "__main__":
    print(json.dumps([barrier(start) for start in ("default", "image", "learning")], indent=1))
