"""An atom may stand in any cell: moved by lattice vectors it is the same crystal, and every level, S and trace is the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from converters.physics.checks import check_frame
from converters.physics.kspace import eigenvalues
from converters.runs import code_module, search
from tests.contract import frames_of, unpacked

SHARED = Path(__file__).parents[2] / "shared" / "data" / "foreign"
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
