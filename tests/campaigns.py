"""What tests of campaigns and of calculators that learn share."""

from ase import Atoms
from pyscf import gto, scf

from converters.storage.dataset import Dataset
from workflows.campaign.campaign import Plan
from workflows.campaign.kept import Kept


def hydrogen(atoms):
    return scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g", verbose=0))


def plan_of(folders, command, home, **more):
    return Plan(folders, command, Kept(command), home, **more)


def silent(_):
    pass


def energies(home):
    with Dataset(home / "data.h5") as data:
        return sorted(round(frame.outcome.energy, 9) for frame in data)


def water_along(t):
    return Atoms("OHH", [[0, 0, 0], [0, 0.05 * t, 0.96 + 0.04 * t], [0, 0.95 - 0.03 * t**2, -0.3 + 0.1 * t]])
