"""Crystals of docs/pyscf.md: `python -m tests.crystals_table` compares their levels with PySCF's, at the k-points of the mesh and between them."""

import numpy as np
from pyscf.pbc import dft, gto

from basis.units import HARTREE
from converters.physics import kspace
from converters.physics.bands import interpolation_error
from converters.pyscf import frame_from_scf


def cubic(a):
    return [[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]


GRAPHENE = {"atom": "C 0 0 0; C 0 1.42 0", "a": [[2.46, 0, 0], [1.23, 2.1304, 0], [0, 0, 12]], "ke_cutoff": 80}
SILICON = {"atom": "Si 0 0 0; Si 1.3575 1.3575 1.3575", "a": cubic(5.43)}
CRYSTALS = [
    ("graphene", GRAPHENE, "gth-szv", (4, 4, 1), 0.01),
    ("graphene", GRAPHENE, "gth-szv", (6, 6, 1), 0.01),
    ("aluminium", {"atom": "Al 0 0 0", "a": cubic(4.04)}, "gth-szv", (4, 4, 4), 0.02),
    ("LiH", {"atom": "Li 0 0 0; H 2.04 0 0", "a": cubic(4.08), "ke_cutoff": 100}, "gth-szv", (4, 4, 4), 0.0),
    ("silicon", SILICON, "gth-szv", (4, 4, 4), 0.0),
    ("silicon", SILICON, "gth-szv", (5, 5, 5), 0.0),
    ("silicon", SILICON, "gth-dzvp-molopt-sr", (4, 4, 4), 0.0),
]


def compare(place, basis, mesh, width):
    """Largest error of the levels at the mesh (eV), error of S between its points, largest and mean error of occupied levels there."""
    cell = gto.M(**place, basis=basis, pseudo="gth-pbe", verbose=0)
    mf = dft.KRKS(cell, cell.make_kpts(mesh, time_reversal_symmetry=True), xc="pbe")
    if width:
        mf = mf.smearing(sigma=width, method="fermi")
    mf.kernel()
    frame, whole = frame_from_scf(mf), mf.to_khf()
    at_mesh = np.abs(kspace.eigenvalues(frame, frame.spectrum.kpoints_kc)[0] - np.array(whole.mo_energy) * HARTREE)
    kpoints_kc = np.random.default_rng(0).random((8, 3)) * (np.array(mesh) > 1)
    own, _ = whole.get_bands(cell.get_abs_kpts(kpoints_kc))
    occupied = -(-cell.tot_electrons() // 2)
    error = interpolation_error(frame)
    try:
        between = (kspace.eigenvalues(frame, kpoints_kc)[0] - np.array(own) * HARTREE)[:, :occupied]
    except np.linalg.LinAlgError:  # S is not positive there
        between = np.array([np.inf])
    return at_mesh.max(), error, np.abs(between).max(), np.sqrt(np.mean(between**2))


if __name__ == "__main__":
    print(
        "| crystal, basis, mesh | at the mesh, eV | error of S | occupied, largest, eV | rms |\n|---|---|---|---|---|"
    )
    for name, place, basis, mesh, width in CRYSTALS:
        numbers = " | ".join(f"{number:.1e}" for number in compare(place, basis, mesh, width))
        print(f"| {name}, {basis}, {'x'.join(map(str, mesh))} | {numbers} |", flush=True)
