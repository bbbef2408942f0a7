"""An atom may stand in any cell: moved by lattice vectors it is the same crystal, and every level, S and trace is the same.

The contract of codes asks this of what each of them writes and starts from; here are inputs and files that are moved by themselves.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pyscf.pbc import gto, scf

from converters import abacus
from converters.abacus import csr
from converters.physics.checks import check_frame
from converters.physics.kspace import eigenvalues
from converters.pyscf import frame_from_scf
from converters.runs import code_module, search
from converters.starts.fit import reorder_atoms
from tests.fixtures import frames_of, unpacked

SHARED = Path(os.environ.get("SLEM_DISTRIBUTIONS", "nowhere"), "foreign")
CELL = np.array([[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]])
MOVES = np.array([[0, 0, 0], [1, -2, 0], [0, 3, 1], [-1, 0, -1]])


def read_one(folder, code):
    (run,) = search(folder, [code])
    (frame,) = code_module(code).read_run(run)
    return frame


def assert_same_physics(moved, frame):
    """Both pass all checks that could be done, and have the same levels at Gamma."""
    for one in (moved, frame):
        assert [str(result) for result in check_frame(one) if result.ok is False] == []
    levels, others = (eigenvalues(one, np.zeros((1, 3))) for one in (moved, frame))
    np.testing.assert_allclose(levels, others, atol=1e-7)
    assert moved.folded == frame.folded


def move_in_siesta(folder, frame):
    """Atoms of a run at Gamma alone, whose matrices have no lattice vectors, moved in all files that have their places."""
    bohr = frame.provenance.form.bohr
    cell_cv, places_av = frame.cell_cv / bohr, frame.positions_av / bohr
    moved_av = places_av + np.resize(MOVES, places_av.shape) @ cell_cv
    for path in (*folder.glob("*.TSHS"), *folder.glob("*.HSX")):
        content = path.read_bytes()
        at = find_numbers(content, places_av.ravel())
        assert path.suffix != ".TSHS" or at is not None
        if at is not None:  # HSX of version 0 has no places
            content = content[:at] + moved_av.astype("<f8").tobytes() + content[at + 8 * moved_av.size :]
        path.write_bytes(content)
    for path in folder.glob("*.XV"):
        lines = path.read_text().splitlines()
        for n, moved in enumerate(moved_av):
            words = lines[4 + n].split()
            lines[4 + n] = " ".join([*words[:2], *(f"{x:.9f}" for x in moved), *words[5:]])
        path.write_text("\n".join(lines) + "\n")


def find_numbers(content, wanted):
    """Where doubles stand that are these to rounding; None where they do not."""
    for shift in range(8):
        whole = (len(content) - shift) // 8 * 8
        numbers = np.frombuffer(content[shift : shift + whole], "<f8")
        windows = np.lib.stride_tricks.sliding_window_view(numbers, len(wanted))
        near = np.isclose(windows, wanted, rtol=0, atol=1e-9).all(axis=1)
        if near.any():
            return shift + 8 * int(near.argmax())
    return None


@pytest.mark.parametrize("name", ["h2o", "nc_o2"])
def test_in_a_run_of_siesta_at_gamma(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    folder = shutil.copytree(unpacked("siesta", name), tmp_path / "run")
    for path in folder.glob("*.nc"):
        path.unlink()
    move_in_siesta(folder, read_one(folder, "siesta"))
    assert_same_physics(read_one(folder, "siesta"), frame)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folders of other people are not here")
@pytest.mark.parametrize(
    "name", ["benzene_4.1.5_gamma", "graphene_charges_end_5.1_gamma", "h2o_dipole_5.1_gamma_folded"]
)
def test_in_gamma_runs_of_others(name, tmp_path):
    folder = shutil.copytree(SHARED / "siesta" / name, tmp_path / "run")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    frame = read_one(folder, "siesta")
    move_in_siesta(folder, frame)
    assert_same_physics(read_one(folder, "siesta"), frame)


@pytest.mark.parametrize("name", ["si2", "h2o_gamma_only", "spin_fe_f"])
def test_in_the_stru_of_abacus(name, tmp_path):
    """ABACUS moves atoms into the cell first: for it this STRU is the one of the run."""
    (frame,) = frames_of("abacus", name)
    folder = shutil.copytree(unpacked("abacus", name), tmp_path / "run")
    lines = (folder / "STRU").read_text().splitlines()
    begin = lines.index(next(line for line in lines if line.startswith("ATOMIC_POSITIONS")))
    kind = next(line for line in lines[begin + 1 :] if line.strip()).split()[0].lower()
    lattice = float(lines[next(n for n, line in enumerate(lines) if "LATTICE_CONSTANT" in line) + 1].split()[0])
    unit = {"direct": np.eye(3), "cartesian": frame.cell_cv / (lattice * 0.529177210903)}[kind]
    count = 0
    for n, line in enumerate(lines[begin + 2 :], begin + 2):
        words = line.split()
        if len(words) >= 3 and all("." in word for word in words[:3]):
            moved = np.array(words[:3], dtype=float) + MOVES[(count + 1) % 4] @ unit
            lines[n] = " ".join([*map(repr, moved.tolist()), *words[3:]])
            count += 1
    assert count == frame.natoms
    (folder / "STRU").write_text("\n".join(lines) + "\n")
    moved = read_one(folder, "abacus")
    assert_same_physics(moved, frame)
    np.testing.assert_allclose(moved.positions_av, frame.positions_av, atol=1e-8)


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 2, 1)])
def test_in_a_crystal_of_pyscf(mesh):
    frames = []
    for moves in (np.zeros((2, 3)), MOVES[1:3]):
        cell = gto.Cell(verbose=0, a=CELL, basis="gth-szv", pseudo="gth-pade", mesh=[11] * 3)
        positions_av = np.array([[0.1, 0, 0], [0.7, 0.3, 0.2]]) + moves @ CELL
        cell.atom = [("H", place) for place in positions_av.tolist()]
        cell.build()
        mf = scf.KRHF(cell, cell.make_kpts(mesh)) if np.prod(mesh) > 1 else scf.RHF(cell)
        mf.kernel()
        frames.append(frame_from_scf(mf))
    frame, moved = frames
    for one in frames:
        assert [str(result) for result in check_frame(one) if result.ok is False] == []
    kpoints_kc = frame.spectrum.kpoints_kc
    np.testing.assert_allclose(eigenvalues(moved, kpoints_kc), eigenvalues(frame, kpoints_kc), atol=1e-5)
    assert len(moved.pairs) == len(frame.pairs)
    np.testing.assert_allclose(
        np.sort(np.abs(moved.vectors_pv).sum(axis=1)), np.sort(np.abs(frame.vectors_pv).sum(axis=1))
    )


@pytest.mark.parametrize("generation", ["3.11", "3.8"])
def test_in_what_is_written_for_abacus(generation, tmp_path):
    """Files of moved atoms are those of the atoms in the cell, element for element."""
    (frame,) = frames_of("abacus", "si2")
    moved = reorder_atoms(frame, np.arange(frame.natoms), MOVES[1:3])
    for name, one in (("own", frame), ("moved", moved)):
        (tmp_path / name).mkdir()
        written = abacus.write(one, tmp_path / name, generation=generation)
    for path in written:
        assert csr.read_steps(path)[0].matrix.values_se.size
        mine, theirs = (csr.read_steps(tmp_path / name / path.name)[0].matrix for name in ("moved", "own"))
        np.testing.assert_array_equal(mine.R_tc, theirs.R_tc)
        np.testing.assert_array_equal(mine.values_se, theirs.values_se)
