"""The structures and settings of the restart benchmark: runs of PySCF that any machine can repeat, made from a seed."""

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basis import Array

if TYPE_CHECKING:
    from ase import Atoms

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
RATTLE = 0.05  # Angstrom, of each coordinate

Random = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One kind of structure: how many to learn from, and what to restart.

    `foreign` makes structures unlike those that are learned from: larger ones, or others.
    """

    title: str
    learned: int
    make: Callable[[Random], "Atoms"]
    foreign: Callable[[Random], "Atoms"] | None = None
    foreign_title: str = ""
    unpaired: int = 0
    unseen: int = 10
    mesh: tuple[int, int, int] | None = None


def rattled(atoms: "Atoms", random: Random) -> "Atoms":
    atoms.positions += random.normal(0.0, RATTLE, atoms.positions.shape)
    return atoms


def water_cluster(random: Random, least: int, most: int) -> "Atoms":
    """Rattled molecules in random directions, neighbours about 2.8 Angstrom apart and nothing closer than 1.7."""
    from ase import Atoms
    from scipy.spatial.transform import Rotation

    count, positions = int(random.integers(least, most + 1)), np.empty((0, 3))
    centres = np.empty((0, 3))
    while len(centres) < count:
        centre = np.zeros(3)
        if len(centres):
            direction = random.normal(size=3)
            centre = random.choice(centres) + direction / np.linalg.norm(direction) * random.uniform(2.7, 3.1)
        molecule = Rotation.random(random_state=random).apply(WATER) + centre
        molecule += random.normal(0.0, RATTLE, molecule.shape)
        if far_apart(positions, molecule, 1.7) and far_apart(centres, centre[None], 2.6):
            positions, centres = np.concatenate([positions, molecule]), np.concatenate([centres, centre[None]])
    return Atoms("OHH" * count, positions)


def far_apart(some: Array, others: Array, distance: float) -> bool:
    between = np.linalg.norm(some[:, None] - others, axis=-1)
    return bool((between > distance).all())


def alcohol(name: str) -> Callable[[Random], "Atoms"]:
    def make(random: Random) -> "Atoms":
        from ase.build import molecule

        return rattled(molecule(name), random)

    return make


def butanol(random: Random) -> "Atoms":
    """1-butanol: a staggered chain of carbons with tetrahedral angles."""
    from ase import Atoms

    up, along, out = 0.514, 1.257, 0.890  # half the height and the period of the chain, hydrogens out of its plane
    chain = [[along * n, up * (-1) ** n / 2, 0.0] for n in range(5)]
    heavy = np.array(chain)
    symbols, positions = ["C"] * 4 + ["O"], list(heavy)
    for n in range(4):
        for side in (1, -1):
            symbols.append("H")
            positions.append(heavy[n] + [0.0, 0.63 * (-1) ** n, side * out])
    symbols += ["H", "H"]
    positions += [heavy[0] + [-0.89, -0.63, 0.0], heavy[4] + [0.78, -0.55, 0.0]]
    return rattled(Atoms(symbols, np.array(positions)), random)


def nickel_tetracarbonyl(random: Random) -> "Atoms":
    from ase import Atoms

    towards = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) / np.sqrt(3)
    positions = np.concatenate([np.zeros((1, 3)), 1.84 * towards, 2.98 * towards])
    return rattled(Atoms("NiC4O4", positions), random)


def chromium_fluoride(random: Random) -> "Atoms":
    """CrF3, three unpaired electrons."""
    from ase import Atoms

    angles = np.deg2rad([0.0, 120.0, 240.0])
    ring = 1.73 * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
    return rattled(Atoms("CrF3", np.concatenate([np.zeros((1, 3)), ring])), random)


def silicon(random: Random) -> "Atoms":
    from ase.build import bulk

    return rattled(bulk("Si", cubic=True, a=5.43), random)


# The case of the benchmark of the guard, which makes its own structures to start.
GUARD = "guard"

CASES = {
    "water": Case(
        "water, 1 to 3 molecules",
        240,
        lambda random: water_cluster(random, 1, 3),
        lambda random: water_cluster(random, 6, 10),
        "water, 6 to 10 molecules",
    ),
    "ethanol": Case("ethanol", 60, alcohol("CH3CH2OH"), butanol, "1-butanol"),
    "nickel": Case("Ni(CO)4", 24, nickel_tetracarbonyl),
    "chromium": Case("CrF3, 3 unpaired electrons", 40, chromium_fluoride, unpaired=3),
    GUARD: Case("water, 1 to 3 molecules", 80, lambda random: water_cluster(random, 1, 3), unseen=0),
    "silicon": Case("silicon, 8 atoms, 2x2x2 k-points", 24, silicon, mesh=(2, 2, 2)),
}


def make_scf(case: Case, atoms: "Atoms", **options: Any) -> Any:
    """The PySCF object of a structure: PBE in def2-SVP with density fitting, crystals in GTH-DZVP."""
    atom = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    if case.mesh is None:
        from pyscf import dft, gto

        molecule = gto.M(atom=atom, basis="def2-svp", spin=case.unpaired, **options)
        return (dft.UKS if case.unpaired else dft.RKS)(molecule, xc="pbe").density_fit()
    from pyscf.pbc import dft, gto

    cell = gto.M(atom=atom, a=atoms.cell.array, basis="gth-dzvp-molopt-sr", pseudo="gth-pbe", **options)
    mf = dft.KRKS(cell, kpts=cell.make_kpts(case.mesh), xc="pbe")
    return mf.multigrid_numint()


def structures(case: Case, part: str) -> list["Atoms"]:
    """The structures to learn from ("learned"), to restart ("unseen"), and unlike them ("foreign")."""
    make, count, first = {
        "learned": (case.make, case.learned, 0),
        "unseen": (case.make, case.unseen, 10_000),
        "foreign": (case.foreign, case.unseen // 2, 20_000),
    }[part]
    return [] if make is None else [make(np.random.default_rng(first + n)) for n in range(count)]


def run_scf(case: Case, atoms: "Atoms", folder: Path, guess: Callable[[Any], Any] | None = None) -> Any:
    """One run as a user would make it: a checkpoint file and a log in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with redirect_stdout(StringIO()):  # PySCF prints the name of each log
        mf = make_scf(case, atoms, verbose=4, output=str(folder / "run.log"))
    mf.chkfile = str(folder / "run.chk")
    mf.kernel(dm0=None if guess is None else guess(mf))
    mf.mol.stdout.close()
    return mf
