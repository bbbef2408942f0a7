"""Shares of atoms in levels against those of PySCF's own orbitals, and their pictures."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from pyscf import gto, scf

from basis.spin import Spin
from converters.pyscf import frame_from_scf
from converters.storage.writer import DatasetWriter
from tests.fixtures import frames_of
from workflows.cli import main
from workflows.spectrum import Wanted, describe_spectrum

HARTREE = 27.211386245988


@pytest.mark.parametrize("count", [3, 5])
def test_shares_are_those_of_the_orbitals_of_pyscf(count, tmp_path):
    mf = scf.UHF(gto.M(atom="N 0 0 0; O 0 0 1.15; He 0 2 4", basis="6-31g", spin=1, verbose=0))
    mf.kernel()
    with DatasetWriter(tmp_path / "no.h5") as writer:
        writer.append(frame_from_scf(mf))
    found = describe_spectrum(tmp_path / "no.h5", 0, Wanted(levels=count, near=-8.0, map=tmp_path / "no.npz"))
    with np.load(tmp_path / "no.npz") as file:
        levels, shares, numbers = file["levels"], file["shares"], file["numbers"]
    assert levels.tolist() == [level for spin in found["levels"] for level in spin]
    expected = []
    for energy_n, c_Mn in zip(mf.mo_energy * HARTREE, mf.mo_coeff, strict=True):
        nearest = np.sort(np.argsort(np.abs(energy_n + 8))[:count])
        weight_Mn = c_Mn * (mf.get_ovlp() @ c_Mn)
        ends = mf.mol.aoslice_by_atom()[:, 2:]
        expected += [[weight_Mn[start:end, n].sum() for start, end in ends] for n in nearest]
    assert numbers.tolist() == [7, 8, 2]
    assert shares == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize("name", ["si2", "spin", "soc"])
def test_pictures_of_states(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    with DatasetWriter(tmp_path / "d.h5") as writer:
        writer.append(frame)
    words = ["spectrum", str(tmp_path / "d.h5"), "--levels", "4", "--near", "-5", "--solver", "dense", "--map"]
    for ending in ("png", "npz"):
        result = CliRunner().invoke(main, [*words, str(tmp_path / f"map.{ending}"), "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["map"] == str(tmp_path / f"map.{ending}")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "map.npz") as file:
        assert file["shares"].shape == (8 if frame.spin is Spin.COLLINEAR else 4, frame.natoms)
        assert file["shares"].sum(axis=1) == pytest.approx(1)
    assert "no ending of a picture" in CliRunner().invoke(main, [*words, str(tmp_path / "map.txt")]).output
    assert "--levels" in CliRunner().invoke(main, ["spectrum", str(tmp_path / "d.h5"), "--map", "a.png"]).output
