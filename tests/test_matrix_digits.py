"""Levels of matrices that were printed with few digits: what those move is allowed, and nothing more."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg

from converters import abacus
from converters.abacus.csr import read_steps
from converters.frames.blocks import Operator
from converters.physics import kspace
from converters.physics.checks import check_frame
from converters.physics.matrix_digits import level_roundings
from converters.runs import search
from tests.fixtures import frames_of, unpacked

NAME = "eigenvalues against the printed ones"
GAMMA, GENERAL = np.zeros((1, 3)), np.array([[0.21, 0.13, -0.37]])
HS = ("hrs1_nao.csr", "srs1_nao.csr")


def printed_with(decimals, name, folder):
    """A run of ABACUS as it prints H and S with fewer digits."""
    shutil.copytree(unpacked("abacus", name), folder)
    for path in (found for file in HS for found in folder.rglob(file)):
        text = path.read_text()
        path.write_text(re.sub(r"-?\d\.\d+e[-+]\d\d", lambda word: f"{float(word[0]):.{decimals}e}", text))
    return folder


def read_folder(folder):
    (run,) = search(folder, ["abacus"])
    (frame,) = abacus.read_run(run)
    return frame


def result_of(frame):
    only = replace(frame, operators={name: frame.operators[name] for name in ("H", "S")})
    return {result.name: result for result in check_frame(only)}[NAME]


def with_matrix(frame, name, values_sx):
    return replace(frame, operators={**frame.operators, name: Operator(values_sx)})


def test_levels_of_few_digits_pass_and_wrong_ones_are_found(tmp_path):
    """Five digits of H and S move levels of silicon by some meV, three hundred times what the run's own criterion allows."""
    frame = read_folder(printed_with(4, "si2", tmp_path / "si2"))
    assert frame.spectrum.matrix_rounding == pytest.approx(5e-5)
    passed = result_of(frame)
    assert passed.ok, str(passed)
    assert "since the printed matrices may be off by 5e-05" in passed.expected
    assert passed.found > 100 * frame.spectrum.tolerance
    assert not result_of(replace(frame, spectrum=replace(frame.spectrum, matrix_rounding=0.0))).ok
    values_sx = frame.operators["H"].values_sx.copy()
    values_sx[0, np.abs(values_sx[0]).argmax()] *= 1.1
    assert not result_of(with_matrix(frame, "H", values_sx)).ok


def test_the_digits_are_those_in_the_file():
    """Twelve after the point, where out_mat_hs2 says 12."""
    frame, step = frames_of("abacus", "si2")[0], read_steps(next(unpacked("abacus", "si2").rglob(HS[0])))[-1]
    assert frame.spectrum.matrix_rounding == step.rounding == pytest.approx(5e-13)
    assert frames_of("siesta", "si2")[0].spectrum.matrix_rounding == 0


@pytest.mark.parametrize(("code", "name"), [("siesta", "si2"), ("abacus", "spin_fe_f")])
def test_no_level_moves_further_than_is_said_and_some_move_so_far(code, name):
    """At a point without degenerate levels; random errors of the elements move them less than those that all move one level the same way."""
    (frame,), off = frames_of(code, name), 1e-7
    most_n = level_roundings(frame, GENERAL, off)[0, 0]
    levels_n = kspace.eigenvalues(frame, GENERAL)[0, 0]
    random = np.random.default_rng(0)
    moved = frame
    for matrix in ("H", "S"):
        values_sx = frame.operators[matrix].values_sx
        moved = with_matrix(moved, matrix, values_sx * (1 + off * random.uniform(-1, 1, values_sx.shape)))
    ((H, S),) = next(kspace.hamiltonian_and_overlap(frame, GENERAL))[:1]
    ((moved_H, moved_S),) = next(kspace.hamiltonian_and_overlap(moved, GENERAL))[:1]
    assert (np.abs(linalg.eigh(moved_H, moved_S, eigvals_only=True) - levels_n) <= 1.01 * most_n + 1e-9).all()
    sizes = [
        with_matrix(
            frame, matrix, np.abs(frame.operators[matrix].values_sx).astype(frame.operators[matrix].values_sx.dtype)
        )
        for matrix in ("H", "S")
    ]
    size_H, size_S = (
        np.abs(next(kspace.hamiltonian_and_overlap(one, GAMMA))[0][place]) for place, one in enumerate(sizes)
    )
    c_Mn = linalg.eigh(H, S)[1]
    for n in (0, len(levels_n) // 2, len(levels_n) - 1):
        phase_MM = np.outer(c_Mn[:, n], c_Mn[:, n].conj())
        phase_MM /= np.maximum(np.abs(phase_MM), 1e-300)
        worst = linalg.eigh(
            H + off * size_H * phase_MM, S - off * np.sign(levels_n[n]) * size_S * phase_MM, eigvals_only=True
        )
        assert worst[n] - levels_n[n] == pytest.approx(most_n[n], rel=0.02, abs=1e-9)
