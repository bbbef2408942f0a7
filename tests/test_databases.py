"""QH9 and nablaDFT: databases written here as theirs are, of PySCF's own runs; and pickles, which are never read."""

import functools
import json
import shutil
import sqlite3
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from converters.errors import Refused
from converters.physics.checks import check_frame
from converters.physics.kspace import eigenvalues
from converters.pyscf import frame_from_scf
from converters.runs import code_module, search
from converters.storage.dataset import Dataset
from slem_plugin.testing.codes import Expected
from tests.fixtures import ContractOfFixtures, scratch
from workflows.cli import main

HARTREE, BOHR = 27.211386245988, 0.529177210903
ATOMS = {
    "hydrogen": [(1, (0.0, 0.0, 0.0)), (1, (0.0, 0.0, 0.74))],
    "water": [(8, (0.0, 0.0, 0.11)), (1, (0.0, 0.757, -0.47)), (1, (0.1, -0.757, -0.47))],
    "ammonia": [(7, (0.0, 0.0, 0.0)), (1, (0.94, 0.0, 0.38)), (1, (-0.47, 0.81, 0.38)), (1, (-0.47, -0.81, 0.38))],
}
# Psi4's places of PySCF's functions: p = z x y, d = z2 xz yz x2-y2 xy.
PSI4 = {1: [0], 3: [2, 0, 1], 5: [2, 3, 1, 4, 0]}


@functools.cache
def scf_of(name):
    from pyscf import dft, gto

    mf = dft.RKS(gto.M(atom=ATOMS[name], basis="def2svp", verbose=0))
    mf.xc, mf.conv_tol = "b3lyp", 1e-12
    mf.kernel()
    return mf


def invoke(*arguments):
    return CliRunner().invoke(main, arguments)


def numbers_and_places(mf):
    return mf.mol.atom_charges(), mf.mol.atom_coords() * BOHR


def write_qh9(path, names, moving=False):
    with sqlite3.connect(path) as data:
        extra = ", ekin FLOAT, epot FLOAT, etot FLOAT, time FLOAT" if moving else ""
        head = "id INTEGER NOT NULL, geo_id INTEGER NOT NULL" if moving else "id INTEGER NOT NULL PRIMARY KEY"
        tail = ", converged INT" if moving else ""
        data.execute(f"CREATE TABLE data ({head}, N INTEGER, Z BLOB, pos BLOB{extra}, Ham BLOB{tail})")
        for n, name in enumerate(names):
            mf = scf_of(name)
            Z, places = numbers_and_places(mf)
            atoms = (len(Z), Z.astype(np.int32).tobytes(), (places / (BOHR if moving else 1)).tobytes())
            Ham = mf.get_fock().tobytes()
            row = (7, n, *atoms, 0.01, mf.e_tot, mf.e_tot + 0.01, 50.0 * n, Ham, 1) if moving else (n, *atoms, Ham)
            data.execute(f"INSERT INTO data VALUES ({', '.join('?' * len(row))})", row)
    data.close()


def write_nabladft(path, name, permute=True):
    mf = scf_of(name)
    Z, places = numbers_and_places(mf)
    order = []
    for shell in range(mf.mol.nbas):
        for _ in range(mf.mol.bas_nctr(shell)):
            size = 2 * mf.mol.bas_angular(shell) + 1
            order += [len(order) + place for place in (PSI4[size] if permute else range(size))]
    H, S, C = (M[np.ix_(order, order)].astype("f4") for M in (mf.get_fock(), mf.get_ovlp(), mf.get_hcore()))
    with sqlite3.connect(path) as data:
        data.execute(
            "CREATE TABLE data (id INTEGER NOT NULL PRIMARY KEY, Z BLOB, R BLOB, E FLOAT, F BLOB, H BLOB, S BLOB, C BLOB)"
        )
        blobs = [Z.astype("i4"), (places / BOHR).astype("f4"), mf.e_tot, np.zeros((len(Z), 3), "f4"), H, S, C]
        row = [blob if isinstance(blob, float) else np.ascontiguousarray(blob).tobytes() for blob in map(plain, blobs)]
        data.execute("INSERT INTO data VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (0, *row))
    data.close()


def plain(value):
    return float(value) if np.ndim(value) == 0 else value


@functools.cache
def folder_of(code, name):
    folder = scratch()[1] / code / name
    folder.mkdir(parents=True)
    if code == "qh9":
        write_qh9(folder / "one.db", [name])
    else:
        write_nabladft(folder / "one.db", name)
    return folder


def frames_below(folder, code):
    runs = list(search(folder, [code]))
    return [frame for run in runs for frame in code_module(code).read_run(run)]


class OfDatabases(ContractOfFixtures):
    fuzzed = ("hydrogen",)
    not_written = ("water",)
    good = {  # noqa: RUF012 - the contract reads it
        "water": Expected(
            ("O 3s2p1d", "H 2s1p"),
            10,
            operators=("H", "S"),
            levels=None,
            not_done=("converged", "eigenvalues against the printed ones"),
        )
    }
    # Nothing starts from these files, and none are written.
    test_the_input_says_what_the_matrices_say = None
    test_every_route_makes_a_start_or_says_why_not = None
    test_matrices_go_out_and_come_in_again = None

    def folder_of(self, name):
        return folder_of(self.code, name)

    def frames_of(self, name):
        return tuple(frames_below(folder_of(self.code, name), self.code))


class TestQh9(OfDatabases):
    code = "qh9"
    test_every_announced_quantity_is_read = None  # S is integrated


class TestNabladft(OfDatabases):
    code = "nabladft"
    test_every_announced_quantity_is_read = None  # the file is not digested for each of its rows


@pytest.mark.parametrize(("code", "tolerance"), [("qh9", 1e-9), ("nabladft", 5e-5)])
def test_levels_and_elements_are_those_of_pyscf(code, tolerance):
    """The row against the SCF itself: its levels, and the frame that our reader of SCF objects makes of it."""
    (frame,), mf = frames_below(folder_of(code, "water"), code), scf_of("water")
    known = frame_from_scf(mf)
    np.testing.assert_allclose(
        eigenvalues(frame, np.zeros((1, 3)))[0, 0], mf.mo_energy * HARTREE, atol=2e-6 + 20 * tolerance
    )
    np.testing.assert_allclose(frame["H"].values_sx[0], frame_of_fock(known, mf), atol=tolerance)
    np.testing.assert_allclose(frame["S"].values_sx, known["S"].values_sx, atol=1e-7)
    assert frame.outcome.electrons == 10
    results = {result.name: result for result in check_frame(frame)}
    assert results["S of the radial functions"].ok


def frame_of_fock(known, mf):
    """The Fock matrix that is stored, on the pairs and in the order of a frame of PySCF: p = x y z is y z x there."""
    order = []
    for shell in range(mf.mol.nbas):
        size = 2 * mf.mol.bas_angular(shell) + 1
        for _ in range(mf.mol.bas_nctr(shell)):
            order += [len(order) + place for place in ([1, 2, 0] if size == 3 else range(size))]
    return mf.get_fock()[np.ix_(order, order)][known.pairs.row_column_x] * HARTREE


def test_moving_molecules_are_in_bohr_and_say_whether_they_converged(tmp_path):
    write_qh9(tmp_path / "dynamic.db", ["water", "water"], moving=True)
    first, second = frames_below(tmp_path, "qh9")
    np.testing.assert_allclose(first.positions_av, numbers_and_places(scf_of("water"))[1], atol=1e-12)
    assert first.outcome.converged
    assert first.outcome.energy == pytest.approx(scf_of("water").e_tot * HARTREE)
    assert first.provenance.source != second.provenance.source


def test_rows_are_chosen_resumed_and_refused_one_by_one(tmp_path):
    """Row 1 has its positions in Bohr where they should be in Angstrom; the others are converted, once."""
    write_qh9(tmp_path / "stable.db", ["water", "water", "ammonia"])
    with sqlite3.connect(tmp_path / "stable.db") as data:
        (blob,) = data.execute("SELECT pos FROM data WHERE id = 1").fetchone()
        data.execute("UPDATE data SET pos = ? WHERE id = 1", ((np.frombuffer(blob) / BOHR).tobytes(),))
    data.close()
    output = tmp_path / "molecules.h5"
    arguments = [str(tmp_path / "stable.db"), "-o", str(output), "--json", "--rebuild-dm"]
    assert invoke("convert", *arguments, "--rows", "0:1").exit_code == 0
    result = invoke("convert", *arguments)
    found = json.loads(result.stdout)["inputs"]
    assert [one["status"] for one in found] == ["there already", "refused", "converted"]
    assert "the unit is another" in found[1]["reason"]
    assert found[1]["path"].endswith("stable.db row 1")
    with Dataset(output) as data:
        assert len(data) == 2
        assert set(data[1].operators) == {"H", "S", "DM"}
        np.testing.assert_allclose(
            eigenvalues(data[1], np.zeros((1, 3)))[0, 0], scf_of("ammonia").mo_energy * HARTREE, atol=2e-6
        )
    assert invoke("convert", *arguments, "--rows", "five").exit_code == 2


def test_another_order_of_orbitals_in_nabladft_is_seen(tmp_path):
    write_nabladft(tmp_path / "wrong.db", "water", permute=False)
    (frame,) = frames_below(tmp_path, "nabladft")
    failed = {result.name for result in check_frame(frame) if result.ok is False}
    assert {"S two-centre", "S of the radial functions"} <= failed


def test_pickles_are_refused_with_the_way_around(tmp_path):
    np.savez(tmp_path / "graph_data.npz", graph={0: "a graph"})
    np.savez(tmp_path / "plain.npz", graph=np.eye(3))
    (tmp_path / "QH9Stable.lmdb").mkdir()
    (tmp_path / "QH9Stable.lmdb" / "data.mdb").write_bytes(b"\0" * 64)
    runs = list(search(tmp_path, ["hamgnn"]))
    assert [run.main.name for run in runs] == ["graph_data.npz", "data.mdb"]
    for run, way in zip(runs, ("run folders of OpenMX", r"QH9's \.db"), strict=True):
        with pytest.raises(Refused, match=f"pickled Python objects.*{way}"):
            next(code_module("hamgnn").read_run(run))
    assert zipfile.is_zipfile(tmp_path / "graph_data.npz")
    shutil.rmtree(tmp_path / "QH9Stable.lmdb")
