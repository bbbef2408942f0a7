"""X2C runs of PySCF over spinors are those of its GHF over real harmonics; what does not fit is refused for its own reason."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from pyscf import gto, scf, x2c

from basis.spin import Spin
from converters.errors import Refused
from converters.pyscf.levels import LEVEL_TOLERANCE, Levels
from converters.pyscf.read import frame_from_scf
from slem_plugin.testing.codes import frames_in

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An X2C run over spinors with its checkpoint file, and one over real harmonics, of a molecule that has p functions."""
    mol = gto.M(atom="Cl 0 0 0; H 0.3 0.4 1.1", basis="sto-3g", verbose=0)
    spinors, harmonics = x2c.UHF(mol), scf.GHF(mol).x2c1e()
    spinors.chkfile = str(tmp_path_factory.mktemp("x2c") / "x2c.chk")
    for run in (spinors, harmonics):
        run.conv_tol = 1e-12
        run.kernel()
    return spinors, harmonics


def test_spinors_are_read_in_real_harmonics(runs):
    spinors, harmonics = runs
    expected = frame_from_scf(harmonics)
    (stored,) = frames_in("pyscf", Path(spinors.chkfile))
    assert abs(spinors.e_tot - harmonics.e_tot) < 1e-9
    for frame in (frame_from_scf(spinors), stored):
        for name, limit in (("S", 1e-12), ("H", 1e-4), ("DM", 1e-6)):
            difference = np.abs(frame[name].values_sx - expected[name].values_sx).max()
            assert difference < limit, (name, difference)


def test_four_components_are_refused(runs, tmp_path):
    spinors, _ = runs
    path = shutil.copy(spinors.chkfile, tmp_path / "dhf.chk")
    n = 2 * len(spinors.mo_energy)
    with h5py.File(path, "r+") as file:
        for name, array in (("mo_coeff", np.eye(n)), ("mo_energy", np.arange(n)), ("mo_occ", np.zeros(n))):
            del file[f"scf/{name}"]
            file[f"scf/{name}"] = array
    with pytest.raises(Refused, match="has the four components of a Dirac-Hartree-Fock run; expected the two of X2C"):
        frames_in("pyscf", path)


def test_other_numbers_of_orbitals_at_other_kpoints_are_linear_dependencies(runs, tmp_path):
    spinors, _ = runs
    path = shutil.copy(spinors.chkfile, tmp_path / "kpoints.chk")
    with h5py.File(path, "r+") as file:
        for name in ("mo_coeff", "mo_energy", "mo_occ"):
            del file[f"scf/{name}"]
            for k, size in enumerate((4, 3)):
                file[f"scf/{name}__from_list__/{k:06d}"] = np.eye(4)[:, :size] if name == "mo_coeff" else np.zeros(size)
    with pytest.raises(Refused, match="lacks linearly dependent orbitals at some k-points"):
        frames_in("pyscf", path)


@pytest.mark.parametrize(("rounding", "same"), [(1e-13, True), (1e-6, False)])
def test_orbitals_of_a_nearly_singular_overlap_may_miss_more(rounding, same):
    """S with 1e-8 as its smallest eigenvalue: what rounds it by 1e-13 leaves orbitals 1e-5 from orthonormal, and is no other S."""
    Q_MM, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    eigenvalues_n = np.array([1e-8, 0.1, 1, 1, 2, 3])
    S_MM = (Q_MM * eigenvalues_n) @ Q_MM.T
    levels = Levels(
        Spin.NONE, (Q_MM / np.sqrt(eigenvalues_n))[None, None], np.arange(6.0)[None, None] - 2, np.ones((1, 1, 6))
    )
    found = levels.tolerance((S_MM + rounding * np.outer(Q_MM[:, 0], Q_MM[:, 0]))[None])
    assert (found > LEVEL_TOLERANCE) == same
