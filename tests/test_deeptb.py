"""DeePTB folders: written here as dftio does, from the numbers of OpenMX's own files; frames, trajectories, and dftio's mistakes."""

import functools
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import Trajectory

from basis.shells import format_shells
from basis.spin import Spin
from converters import deeptb
from converters.errors import Refused
from converters.openmx.scfout import read_scfout
from converters.physics.checks import Tolerances, check_frame
from converters.physics.kspace import eigenvalues
from converters.physics.repair import sound_without_bad_density
from converters.runs import search
from converters.starts.start import Options
from slem_plugin.testing.codes import Expected
from tests.conftest import make_random_frame
from tests.fixtures import ContractOfFixtures, frames_of, scratch, unpacked

HARTREE = 27.211386245988
# Where OpenMX has the functions m = -l..l of a shell: p = x y z, d = z2 x2-y2 xy xz yz.
PLACES = {1: [0], 3: [1, 2, 0], 5: [2, 4, 0, 3, 1]}
NOT_DONE = ("converged", "eigenvalues against the printed ones")


def order_of(species):
    """Places in OpenMX's order of the orbitals of an atom."""
    order = []
    for shell in species.shells:
        order += [len(order) + place for place in PLACES[2 * shell.l + 1]]
    return np.array(order)


def write_structure(folder, frame, repeat=1):
    np.savetxt(folder / "cell.dat", np.tile(frame.cell_cv, (repeat, 1)))
    np.savetxt(folder / "positions.dat", np.tile(frame.positions_av, (repeat, 1)))
    np.savetxt(folder / "atomic_numbers.dat", frame.numbers_a, fmt="%d")
    np.savetxt(folder / "pbc.dat", [True, True, True])
    shells = {species.name: format_shells(species.shells) for species in frame.basis}
    (folder / "basis.dat").write_text(str(shells))


@functools.cache
def dftio_folder(name):
    """What dftio would write of a run, in single precision, from the blocks that OpenMX wrote; do not write into it."""
    folder = scratch()[1] / "deeptb" / name
    folder.mkdir(parents=True)
    (frame,) = frames_of("openmx", name)
    write_structure(folder, frame)
    (path,) = unpacked("openmx", name).glob("*.scfout")
    stored = read_scfout(path)
    orders = [order_of(frame.basis[s]) for s in frame.species_a]
    ends = np.cumsum(stored.norb_a[stored.i_q] * stored.norb_a[stored.j_q])[:-1]
    for file, part, unit in (("hamiltonians.h5", "H", HARTREE), ("overlaps.h5", "S", 1)):
        values = np.asarray(stored.values[part]).reshape(-1, stored.values[part].shape[-1])[0]
        with h5py.File(folder / file, "w") as output:
            group = output.create_group("0")
            for i, j, R, block in zip(stored.i_q, stored.j_q, stored.R_qc, np.split(values, ends), strict=True):
                block = block.reshape(stored.norb_a[i], stored.norb_a[j])[np.ix_(orders[i], orders[j])] * unit
                group[f"{i}_{j}_{R[0]}_{R[1]}_{R[2]}"] = block.astype(np.float32)
    return folder


class TestDeeptb(ContractOfFixtures):
    code = "deeptb"
    good = {  # noqa: RUF012 - the contract reads it
        "h2o": Expected(("O 2s2p1d", "H 2s1p"), 8, operators=("H", "S"), levels=None, not_done=NOT_DONE),
        "si2_v38": Expected(("Si 2s2p1d",), 8, operators=("H", "S"), levels=None, not_done=NOT_DONE),
    }
    fuzzed = ("h2o",)
    written = 1e-12
    # No code starts from these folders.
    test_the_input_says_what_the_matrices_say = None
    test_every_route_makes_a_start_or_says_why_not = None

    def folder_of(self, name):
        return dftio_folder(name)

    def frames_of(self, name):
        return (read_folder(dftio_folder(name)),)


def read_folder(folder):
    (run,) = search(folder, ["deeptb"])
    (frame,) = deeptb.read_run(run)
    return frame


def copied(name, folder):
    return shutil.copytree(dftio_folder(name), folder / name)


@pytest.mark.parametrize("name", TestDeeptb.good)
def test_levels_are_those_that_openmx_printed(name):
    """And each block is that of the run itself: order, signs, which pair, eV; in single precision, which moves levels far above."""
    frame, (run,) = read_folder(dftio_folder(name)), frames_of("openmx", name)
    printed = run.spectrum
    found_skn = eigenvalues(frame, printed.kpoints_kc)[..., : printed.energies_skn.shape[-1]]
    near = printed.energies_skn < 10
    assert near.sum() > 4 * len(printed.kpoints_kc)
    np.testing.assert_allclose(found_skn[near], printed.energies_skn[near], atol=2e-5)
    place = frame.pairs.find(run.pairs.i_p, run.pairs.j_p, run.pairs.R_pc)
    assert (place >= 0).all()
    assert len(frame.pairs) == len(run.pairs)
    for matrix, tolerance in (("H", 1e-5), ("S", 1e-7)):
        for p, q in enumerate(place.tolist()):
            np.testing.assert_allclose(
                frame.block_of_pair(matrix, q), run.block_of_pair(matrix, p), atol=tolerance, rtol=0
            )


def test_half_of_the_pairs_atoms_from_1_and_dm_in_its_older_file(tmp_path):
    """What Gaussian's parser leaves out, and what older files of DeePTB look like."""
    (frame,) = frames_of("openmx", "h2o")
    deeptb.write_matrices(frame, tmp_path, Options())
    for name in ("hamiltonians", "overlaps", "density_matrices"):
        with h5py.File(tmp_path / f"{name}.h5", "r+") as file:
            group, renumbered = file["0"], file.create_group("1")
            for key in group:
                i, j, *R = map(int, key.split("_"))
                if i <= j:
                    renumbered["_".join(map(str, (i + 1, j + 1, *R)))] = group[key][()]
            del file["0"]
    (tmp_path / "density_matrices.h5").rename(tmp_path / "DM.h5")
    again = read_folder(tmp_path)
    assert set(again.operators) == {"H", "S", "DM"}
    for name in again.operators:
        np.testing.assert_array_equal(again[name].values_sx, frame[name].values_sx)


def test_frames_of_a_trajectory_without_those_that_did_not_converge(tmp_path):
    """Three frames along a line: H of the second is twice that of the first, and the third did not converge."""
    folder = copied("h2o", tmp_path)
    (run,) = frames_of("openmx", "h2o")
    for name in ("positions.dat", "cell.dat", "atomic_numbers.dat", "pbc.dat"):
        (folder / name).unlink()
    with Trajectory(folder / "xdat.traj", "w") as trajectory:
        for n in range(3):
            shifted = run.positions_av + np.array([0.1 * n, 0, 0])
            trajectory.write(Atoms(numbers=run.numbers_a, positions=shifted, cell=run.cell_cv, pbc=True))
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(folder / name, "r+") as file:
            for n in (1, 2):
                for key, block in file["0"].items():
                    file[f"{n}/{key}"] = block[()] * (1 + n * (name[0] == "h"))
    np.savetxt(folder / "total_energy.dat", [-10.0, -11.0])
    (folder / "unconverged_frames.dat").write_text("# Frame indices that did not converge during MD/RELAX\n2\n")
    (found,) = search(folder, ["deeptb"])
    first, second = deeptb.read_run(found)
    assert [frame.provenance.step for frame in (first, second)] == [0, 1]
    assert [frame.outcome.energy for frame in (first, second)] == [-10, -11]
    assert "frames 2 are left out" in first.provenance.notes[0]
    np.testing.assert_allclose(second["H"].values_sx, 2 * first["H"].values_sx)
    np.testing.assert_allclose(second.positions_av - first.positions_av, [[0.1, 0, 0]] * 3, atol=1e-12)
    np.testing.assert_allclose(first.positions_av, run.positions_av, atol=1e-12)


def test_text_of_several_frames_and_fractional_positions(tmp_path):
    folder = copied("si2_v38", tmp_path)
    (run,) = frames_of("openmx", "si2_v38")
    write_structure(folder, run, repeat=2)
    fractional = run.positions_av @ np.linalg.inv(run.cell_cv)
    np.savetxt(folder / "positions.dat", np.concatenate([fractional, fractional]))
    (tmp_path / "info.json").write_text('{"nframes": 2, "pos_type": "frac", "pbc": true}')
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(folder / name, "r+") as file:
            file.copy("0", "1")
    (found,) = search(folder, ["deeptb"])
    first, second = deeptb.read_run(found)
    for frame in (first, second):
        np.testing.assert_allclose(frame.positions_av, run.positions_av, atol=1e-10)
        assert all(result.ok is not False for result in check_frame(frame))


def test_a_dm_whose_blocks_are_mixed_up_is_left_out(tmp_path):
    """dftio filters the keys of SIESTA's DM and not its blocks: zeros get into the file, and the rest moves."""
    (run,) = frames_of("openmx", "si2_v38")
    deeptb.write_matrices(run, tmp_path, Options())
    whole = read_folder(tmp_path)
    assert not whole.origin("DM").doubt
    with h5py.File(tmp_path / "density_matrices.h5", "r+") as file:
        key = next(key for key in file["0"] if not key.startswith("0_0"))
        file["0"][key][...] = 0
    frame, _ = sound_without_bad_density(read_folder(tmp_path), Tolerances())
    assert set(frame.operators) == {"H", "S"}
    assert "blocks of zeros" in frame.provenance.notes[0] or "Hermitian" in frame.provenance.notes[0]


def test_spinors_and_shells_in_another_order_go_out_and_come_in(tmp_path):
    """Shells s p s of an atom are written as s s p, as DeePTB sorts them."""
    frame = replace(make_random_frame(3, Spin.SPINOR), positions_av=3 * np.eye(3))
    deeptb.write_matrices(frame, tmp_path, Options())
    again = read_folder(tmp_path)
    assert again.spin is Spin.SPINOR
    order = {"Si": list(range(10)), "O": [0, 4, 1, 2, 3]}
    place = again.pairs.find(frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc)
    assert {str(species) for species in frame.basis} == {"Si 2s1p1d", "O 1s1p1s"}
    assert {str(species) for species in again.basis} == {"Si 2s1p1d", "O 2s1p"}
    for name in frame.operators:
        for p, q in enumerate(place.tolist()):
            rows, columns = (
                order[frame.basis[frame.species_a[a]].name] for a in (frame.pairs.i_p[p], frame.pairs.j_p[p])
            )
            expected = frame.block_of_pair(name, p)[:, rows][:, :, columns]
            np.testing.assert_array_equal(again.block_of_pair(name, q), expected)


def test_h_of_a_molecule_is_left_out(tmp_path):
    """Only Gaussian's parser makes molecules, and its H is in Hartree, the core Hamiltonian or the Fock matrix."""
    folder = copied("h2o", tmp_path)
    np.savetxt(folder / "pbc.dat", [False, False, False])
    np.savetxt(folder / "cell.dat", np.zeros((3, 3)))
    frame = read_folder(folder)
    assert set(frame.operators) == {"S"}
    assert "core Hamiltonian" in frame.provenance.notes[0]


def test_what_cannot_be_right_is_refused(tmp_path):
    folder = copied("h2o", tmp_path)
    (run,) = frames_of("openmx", "h2o")
    np.savetxt(folder / "cell.dat", np.eye(3))
    with pytest.raises(Refused, match=r"0\.33 cubic Angstrom for each atom"):
        read_folder(folder)
    np.savetxt(folder / "cell.dat", run.cell_cv)
    np.savetxt(folder / "positions.dat", run.positions_av / 1.889726)
    with pytest.raises(Refused, match="Angstrom apart"):
        read_folder(folder)
    np.savetxt(folder / "positions.dat", run.positions_av)
    (folder / "basis.dat").write_text("{'O': '2s2p1d'}")
    with pytest.raises(Refused, match="no shells of H"):
        read_folder(folder)
    (folder / "basis.dat").unlink()
    with pytest.raises(Refused, match=r"basis\.dat: is not there"):
        read_folder(folder)
    with pytest.raises(Refused, match="no collinear spin"):
        deeptb.write_matrices(frames_of("openmx", "spin")[0], tmp_path, Options())
