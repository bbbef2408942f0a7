"""FHI-aims: the contract over files in its format, which hold matrices of other codes and the levels that those printed."""

import functools
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from pyscf import gto

from basis.conventions import standard
from basis.spin import Spin
from converters.aims import read, write_matrices
from converters.errors import Kind, Refused
from converters.frames.frame import Outcome
from converters.physics.checks import two_centre_violation
from converters.starts.start import Options
from slem_plugin.testing.codes import CodeContract, Expected, frames_in
from tests.aims_files import HARTREE, write_bands, write_crystal, write_inputs, write_log, write_triangle
from tests.fixtures import frames_of, scratch
from tests.pyscf_runs import finished

WATER = "O 0.1 0.2 0.3; H 0.9 0.8 0.1; H -0.6 0.7 0.9"
MOVES = [(0, 0, 0), (1, -2, 0)]
GAMMA = "  K-point:       1 at    0.000000    0.000000    0.000000 (in units of recip. lattice)\n"


def molecule(folder):
    """The matrices of PySCF, whose p are x, y, z and whose d are m = -2..2; FHI-aims has -x and -xz."""
    mf = finished(gto.M(atom=WATER, basis="def2-svp", verbose=0))
    shells = {"O": [0, 0, 0, 1, 1, 2], "H": [0, 0, 1]}
    write_inputs(folder, ["O", "H", "H"], [8, 1, 1], mf.mol.atom_coords(unit="Angstrom"), None, shells)
    components = [component for *_, component in mf.mol.ao_labels(fmt=None)]
    order = np.argsort([n + {"x": 2, "y": -1, "z": -1}.get(component, 0) for n, component in enumerate(components)])
    signs = np.array([-1 if component in ("x", "xz") else 1 for component in components])
    fock, overlap = mf.get_fock(), mf.get_ovlp()
    for name, matrix in (("hamiltonian.out", fock), ("overlap-matrix.out", overlap)):
        write_triangle(folder / name, (matrix * np.outer(signs, signs))[np.ix_(order, order)])
    levels = mf.eig(fock, overlap)[0] * HARTREE
    write_log(folder, levels, Outcome(mf.e_tot * HARTREE, -3.0, 10, iterations=7))


@functools.cache
def runs():
    """The folder of each run."""
    place = scratch()[1] / "aims"
    (si,), (iron,), (water,) = (frames_of("abacus", name) for name in ("si2", "spin_fe_f", "h2o"))
    write_crystal(place / "si2", si, given=MOVES)
    levels, fermi = si.spectrum.energies_skn[0], si.outcome.fermi
    write_bands(place / "si2", si.spectrum.kpoints_kc, levels, fermi)
    write_log(place / "si2", levels[0], si.outcome, GAMMA)
    write_crystal(place / "iron", iron)
    write_log(place / "iron", [], iron.outcome)
    write_crystal(place / "water", water)
    write_log(place / "water", water.spectrum.energies_skn[0, 0], water.outcome, GAMMA)
    molecule(place / "molecule")
    return place


class TestAims(CodeContract):
    code = "aims"
    good = {  # noqa: RUF012 - the contract reads it
        "si2": Expected(("Si 2s2p1d",), 8, operators=("H", "S"), levels=1e-5, energy=-211.940753, iterations=8),
        "iron": Expected(
            ("Fe 4s2p2d1f",),
            16,
            Spin.COLLINEAR,
            ("H", "S"),
            levels=None,
            not_done=("eigenvalues against the printed ones",),
        ),
        "water": Expected(("O 2s2p1d", "H 2s1p"), 8, operators=("H", "S"), levels=1e-5),
        "molecule": Expected(("O 3s2p1d", "H 2s1p"), 10, operators=("H", "S"), levels=1e-5, iterations=7),
    }
    fuzzed = ("water", "molecule")
    not_written = tuple(good)

    def folder_of(self, name):
        return runs() / name

    @functools.cache  # noqa: B019 - it lives as long as the tests
    def frames_of(self, name):
        return frames_in(self.code, self.folder_of(name))


def frame_in(folder):
    (frame,) = frames_in("aims", folder)
    return frame


def assert_same_blocks(frame, other, moves=np.zeros((3, 3), dtype=int)):
    """Two frames of the same matrices, the atoms of the first moved by lattice vectors."""
    assert len(frame.pairs) == len(other.pairs)
    for i, j, R in zip(frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc, strict=True):
        for matrix in ("H", "S"):
            block = other.block(matrix, i, j, R + moves[j] - moves[i])
            np.testing.assert_allclose(frame.block(matrix, i, j, R), block, atol=1e-11)


def test_every_block_is_that_of_the_source():
    assert_same_blocks(frame_in(runs() / "si2"), frames_of("abacus", "si2")[0], np.array(MOVES))
    assert_same_blocks(frame_in(runs() / "iron"), frames_of("abacus", "spin_fe_f")[0])


@pytest.mark.parametrize(
    ("source", "move", "lower"),
    [
        ("h2o", (0, 0, 0), {(0, 0)}),  # all three atoms have x = 1/2, and one y = 1/2
        ("h2o", (0, 0, 0), {(1, 0), (2, 0), (0, 1)}),
        ("h2o", (0, 0, 0), {(0, 0), (1, 0), (2, 0)}),
        ("si2", (0.5, 0.25, 0.25), {(1, 1), (0, 0)}),
    ],
)
def test_the_overlap_tells_on_which_side_of_the_cell_an_atom_is(source, move, lower, tmp_path):
    """Rounding puts an atom on a face to either side; matrices are the same wherever the crystal stands."""
    (frame,) = frames_of("abacus", source)
    frame = replace(frame, positions_av=frame.positions_av + np.array(move) @ frame.cell_cv)
    write_crystal(tmp_path / "run", frame, lower=lower)
    assert_same_blocks(frame_in(tmp_path / "run"), frame)


def test_the_other_signs_and_the_other_direction_are_found(monkeypatch):
    monkeypatch.setattr(read, "convention", lambda l: tuple(standard(l)))
    assert two_centre_violation(frame_in(runs() / "si2")) > 0.1
    monkeypatch.undo()
    monkeypatch.setattr(read, "cells_of_atoms", lambda fractions_ac, *rest: np.zeros(fractions_ac.shape, dtype=int))
    assert two_centre_violation(frame_in(runs() / "si2")) > 0.1


def test_the_files_of_hdf5_hold_the_same(tmp_path):
    folder = shutil.copytree(runs() / "iron", tmp_path / "run")
    for name, other in (
        ("rs_overlap", "rs_overlap"),
        ("rs_hamiltonian_up", "rs_hamiltonian_up"),
        ("rs_hamiltonian_dn", "rs_hamiltonian_down"),
    ):
        with h5py.File(folder / f"{other}.h5", "w") as file:
            file["sparse_matrix"] = np.loadtxt(folder / f"{name}.out")
        (folder / f"{name}.out").unlink()
    frame, text = frame_in(folder), frame_in(runs() / "iron")
    for matrix in ("H", "S"):
        np.testing.assert_array_equal(frame[matrix].values_sx, text[matrix].values_sx)
    assert frame.origin("H").files == ("rs_indices.out", "rs_hamiltonian_up.h5", "rs_hamiltonian_down.h5")


def two_logs(folder):
    (folder / "older.log").write_text((folder / "aims.out").read_text() + "of another run\n")
    (folder / "aims.out").rename(folder / "newer.log")


def test_copies_of_a_log_count_once(tmp_path):
    folder = shutil.copytree(runs() / "water", tmp_path / "run")
    shutil.copy(folder / "aims.out", folder / "total.log")
    assert frame_in(folder).outcome == frame_in(runs() / "water").outcome


def append(name, line):
    return lambda folder: (folder / name).write_text((folder / name).read_text() + line)


@pytest.mark.parametrize(
    ("run", "change", "kind"),
    [
        ("water", append("control.in", "  relax_geometry bfgs 1e-2\n"), Kind.UNSUPPORTED),
        ("water", append("geometry.in", "empty 0 0 0 H\n"), Kind.UNSUPPORTED),
        ("water", lambda folder: (folder / "basis-indices.out").unlink(), Kind.MISSING_FILES),
        ("water", lambda folder: (folder / "rs_overlap.out").unlink(), Kind.MISSING_FILES),
        ("water", lambda folder: (folder / "control.in").unlink(), Kind.MISSING_FILES),
        ("water", append("control.in", "  spin collinear\n"), Kind.DAMAGED),
        ("water", two_logs, Kind.AMBIGUOUS),
        ("water", append("rs_overlap.out", " 0.1\n"), Kind.DAMAGED),
        ("molecule", lambda folder: (folder / "hamiltonian.out").unlink(), Kind.MISSING_FILES),
        ("molecule", append("hamiltonian.out", "     1     1   0.1\n"), Kind.DAMAGED),
        (
            "molecule",
            append("geometry.in", "lattice_vector 9 0 0\nlattice_vector 0 9 0\nlattice_vector 0 0 9\n"),
            Kind.UNSUPPORTED,
        ),
        ("molecule", append("geometry.in", "lattice_vector 9 0 0\n"), Kind.DAMAGED),
    ],
)
def test_what_cannot_be_read_is_refused(run, change, kind, tmp_path):
    folder = shutil.copytree(runs() / run, tmp_path / "run")
    change(folder)
    with pytest.raises(Refused) as refused:
        frame_in(folder)
    assert refused.value.kind is kind


def test_levels_with_spin_orbit_coupling_are_not_those_of_h(tmp_path):
    folder = shutil.copytree(runs() / "water", tmp_path / "run")
    append("control.in", "  include_spin_orbit\n")(folder)
    frame = frame_in(folder)
    assert "without spin-orbit" in frame.provenance.notes[0]
    assert frame.spectrum.energies_skn.size == 0
    assert frame.spectrum.weights_k.sum() == pytest.approx(1)


def test_equal_words_make_equal_functions(tmp_path):
    names = [frame_in(runs() / name).basis[0].radial for name in ("water", "molecule")]
    folder = shutil.copytree(runs() / "water", tmp_path / "run")
    control = (folder / "control.in").read_text()
    (folder / "control.in").write_text(
        control.replace("l_hartree    4", "l_hartree    6").replace("k_grid             3 3 3", "k_grid 9 9 9")
    )
    assert frame_in(folder).basis[0].radial == names[0] != names[1]
    (folder / "control.in").write_text(control.replace("valence      1  s", "valence      2  s"))
    assert frame_in(folder).basis[0].radial != names[0]


def test_nothing_is_written(tmp_path):
    with pytest.raises(Refused, match="read and not written"):
        write_matrices(frame_in(runs() / "water"), tmp_path, Options())
