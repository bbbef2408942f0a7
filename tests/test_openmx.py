"""OpenMX: the contract, both versions and byte orders, rotated real runs, and the restart files."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from basis.shells import format_shells
from basis.spin import Spin
from converters import openmx
from converters.errors import Refused
from converters.openmx.missing_neighbours import require_that_all_are_found
from converters.openmx.scfout import FIELD, read_scfout
from converters.openmx.text import parse_basis_name, place_kpoints
from converters.physics.checks import check_frame
from converters.runs import search
from converters.starts.fit import reorder_atoms
from slem_plugin.testing.codes import Expected
from slem_plugin.testing.frames import rotate_block
from tests.fixtures import ContractOfFixtures, frames_of, unpacked

HARTREE = 27.211386245988


class TestOpenmx(ContractOfFixtures):
    code = "openmx"
    good = {  # noqa: RUF012 - the contract reads it
        "h2o": Expected(("O 2s2p1d", "H 2s1p"), 8, density=1e-7),
        "f_orb_h2o": Expected(("O 2s2p1d1f", "H 2s1p"), 8, density=1e-7),
        "f_orb_h2o_rot": Expected(("O 2s2p1d1f", "H 2s1p"), 8, density=1e-7),
        "si2_v38": Expected(("Si 2s2p1d",), 8, density=1e-7),
        "spin": Expected(("Fe 3s2p1d",), 16, Spin.COLLINEAR, levels=2e-6, density=1e-6),
        "soc": Expected(
            ("Ga 2s2p1d", "As 2s2p1d"), 28, Spin.SPINOR, energy=-182.8955692481 * HARTREE, iterations=14, density=1e-7
        ),
        "cluster_spinor": Expected(("H 1s", "O 1s1p"), 7, Spin.SPINOR, levels=1e-7, density=1e-8),
    }
    fuzzed = ("h2o",)


def read_folder(folder):
    (run,) = search(folder, ["openmx"])
    (frame,) = openmx.read_run(run)
    return frame


def test_a_run_that_has_not_found_its_neighbours_is_refused():
    """Water whose atoms stand cells apart; OpenMX stops looking at the first shell of cells that adds no neighbour."""
    with pytest.raises(Refused, match="lacks 6 of the 6 neighbours within its cutoffs"):
        read_folder(unpacked("openmx", "h2o_apart"))


def test_a_run_that_will_not_find_its_neighbours_is_not_started():
    (frame,) = frames_of("openmx", "h2o")
    require_that_all_are_found("here", frame.pairs)
    apart = reorder_atoms(frame, np.arange(3), np.array([[0, 0, 0], [1, -2, 0], [0, 3, 1]]))
    with pytest.raises(Refused, match="does not find 3 of their 3 neighbours"):
        require_that_all_are_found("here", apart.pairs)
    for name in ("soc", "spin"):
        require_that_all_are_found(name, frames_of("openmx", name)[0].pairs)


def test_blocks_of_a_rotated_run_are_rotated_blocks():
    """The same molecule and cell, run again after a rotation: s to f, H, S and DM."""
    (frame,), (turned,) = frames_of("openmx", "f_orb_h2o"), frames_of("openmx", "f_orb_h2o_rot")
    Q = nearest_rotation(np.linalg.solve(frame.cell_cv, turned.cell_cv).T)
    place = turned.pairs.find(frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc)
    for name, tolerance in (("S", 1e-9), ("H", 2e-6), ("DM", 1e-6)):
        for p, q in enumerate(place):
            shells = [frame.basis[frame.species_a[a]].shells for a in (frame.pairs.i_p[p], frame.pairs.j_p[p])]
            expected = rotate_block(frame.block_of_pair(name, p), *shells, Q, frame.layout(name))
            assert np.abs(turned.block_of_pair(name, q) - expected).max() < tolerance, (name, p)


def nearest_rotation(matrix):
    U, _, V = np.linalg.svd(matrix)
    return U @ V


@pytest.mark.parametrize("name", ["h2o", "si2_v38", "spin", "soc", "f_orb_h2o"])
def test_what_is_written_is_read_back(name, tmp_path):
    (frame,) = frames_of("openmx", name)
    (template,) = unpacked("openmx", name).glob("*.scfout")
    openmx.write(frame, tmp_path, template, "guess")
    again = read_folder(tmp_path)
    for key in ("H", "S", "DM"):
        np.testing.assert_allclose(again.operators[key].values_sx, frame.operators[key].values_sx, rtol=0, atol=1e-13)


def test_a_template_of_another_structure_is_refused(tmp_path):
    (frame,) = frames_of("openmx", "h2o")
    (template,) = unpacked("openmx", "h2o").glob("*.scfout")
    moved = replace(frame, positions_av=frame.positions_av + np.array([[0.1, 0, 0], [0, 0, 0], [0, 0, 0]]))
    with pytest.raises(Refused, match="another structure: atoms differ by"):
        openmx.write(moved, tmp_path, template, "x")
    (other,) = unpacked("openmx", "spin").glob("*.scfout")
    with pytest.raises(Refused, match="spin layout collinear"):
        openmx.write(frame, tmp_path, other, "x")


def test_the_other_byte_order_reads_the_same(tmp_path):
    (path,) = unpacked("openmx", "h2o").glob("*.scfout")
    stored = read_scfout(path)
    raw = path.read_bytes()
    integers_end = stored.places["H"]
    swapped = bytearray()
    at = 0
    for kind, count in layout_of(stored):
        part = np.frombuffer(raw, kind, count, at)
        swapped += part.byteswap().tobytes() if kind != "u1" else part.tobytes()
        at += part.nbytes
    assert at == len(raw)
    assert integers_end < at
    (tmp_path / path.name).write_bytes(swapped)
    shutil.copy(path.with_suffix(".out"), tmp_path)
    (frame,), again = frames_of("openmx", "h2o"), read_folder(tmp_path)
    assert read_scfout(tmp_path / path.name).byte_order == ">"
    for key in ("H", "S", "DM"):
        np.testing.assert_array_equal(again.operators[key].values_sx, frame.operators[key].values_sx)


def layout_of(stored):
    """(type, count) of everything in a version 3 file, one after the other."""
    natoms, total = len(stored.norb_a), len(stored.i_q)
    cells = int.from_bytes(stored.path.read_bytes()[20:24], "little") + 1
    elements = stored.values["S"].size
    doubles = elements * (
        stored.spin_switch + 1 + 1 + 3 + 3 + stored.spin_switch + 1 + 2
    )  # H, S, positions, momenta, DM, iDM
    text = stored.path.stat().st_size
    head = [
        ("<i4", 7),
        ("<f8", 4 * cells),
        ("<i4", 4 * cells + 2 * natoms + 2 * total),
        ("<f8", 24 + 4 * natoms + doubles),
    ]
    tail = [("<i4", 1), ("<f8", 10), ("<i4", 1)]
    used = sum(np.dtype(kind).itemsize * count for kind, count in head + tail)
    assert (text - used) % FIELD == 0
    return [*head, *tail, ("u1", text - used)]


@pytest.mark.parametrize(
    ("name", "sizes", "shells"),
    [
        ("Si7.0-s2p2d1", {13}, "2s2p1d"),
        ("Mo7.0-s3p2d2f1", {26}, "3s2p2d1f"),
        ("C5.0-s4>1p4>2", {7}, "1s2p"),
        ("C5.0-s42p42", {8}, "2s2p"),
        ("C5.0-s2p2", {9}, None),
    ],
)
def test_basis_names_with_contractions(name, sizes, shells):
    found = parse_basis_name(name, sizes)
    assert (format_shells(found) if found else None) == shells


def test_kpoints_are_those_that_openmx_used():
    printed = np.array([[-0.25, -0.25, 0.0], [-0.25, 0.25, 0.0]])
    k, weights = place_kpoints(printed, np.array([2, 2, 1]))
    np.testing.assert_allclose(k, [[-0.25 + 1e-6, -0.25 - 1e-6, 0], [-0.25 + 1e-6, 0.25 - 1e-6, 0]], atol=1e-15)
    assert weights.tolist() == [0.5, 0.5]
    k, weights = place_kpoints(np.array([[-0.33333, 0, 0], [0.0, 0, 0]]), np.array([3, 1, 1]))
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3])


def test_without_the_output_the_frame_says_less(tmp_path):
    (path,) = unpacked("openmx", "h2o").glob("*.scfout")
    shutil.copy(path, tmp_path)
    frame = read_folder(tmp_path)
    assert (frame.spectrum, frame.outcome.converged, frame.outcome.energy) == (None, None, None)
    assert all(result.ok is not False for result in check_frame(frame))


def test_a_scfout_of_a_later_layout_is_named(tmp_path):
    (path,) = unpacked("openmx", "h2o").glob("*.scfout")
    raw = bytearray(path.read_bytes())
    raw[4:8] = (16).to_bytes(4, "little")
    (tmp_path / "h2o.scfout").write_bytes(raw)
    with pytest.raises(Refused, match=r"layout 4, of an OpenMX newer than those that are known; expected 0 to 3"):
        read_scfout(tmp_path / "h2o.scfout")


def test_a_scfout_cut_anywhere_says_what_is_missing(tmp_path):
    (path,) = unpacked("openmx", "h2o").glob("*.scfout")
    raw = path.read_bytes()
    for size in (0, 10, 24, 100, 2000, len(raw) // 2, len(raw) - 1):
        (tmp_path / "h2o.scfout").write_bytes(raw[:size])
        with pytest.raises(Refused, match=r"scfout byte \d+: has \d+ bytes left in the file; expected .* of \d+ bytes"):
            read_scfout(tmp_path / "h2o.scfout")


@pytest.mark.parametrize("word", ["b0.33333", "nan"])
def test_a_damaged_kpoint_is_refused(word, tmp_path):
    folder = shutil.copytree(unpacked("openmx", "si2_v38"), tmp_path / "run")
    path = folder / "si2.out"
    path.write_text(path.read_text().replace("k1=  -0.33333", f"k1=  {word}", 1))
    with pytest.raises(Refused, match="has a k-point that is not three numbers"):
        list(openmx.read_run(next(search(folder, ["openmx"]))))
