"""ABACUS: the same matrices in text, in binary files and in files of NumPy, and the ionic steps of all of them."""

import re
import shutil
import struct

import numpy as np
import pytest

from basis.spin import Spin
from converters.abacus import csr, numerals
from converters.abacus.convention import BOHR
from converters.abacus.dense import read_dense
from converters.abacus.npz import partner_of
from converters.abacus.structures import PRINTED_ANGSTROM
from converters.errors import Refused
from converters.physics.checks import check_frame
from slem_plugin.testing.codes import frames_in
from tests.fixtures import frames_of, unpacked
from tests.test_abacus import copy_of, edit, read_folder


def write_sparse(path, steps):
    """The records of out_hsr 2, from ABACUS's text."""
    with path.open("wb") as stream:
        for step in steps:
            rows = csr.rows_of_cells(step.matrix, step.norb)
            stream.write(struct.pack("<3i", step.number - 1, step.norb, len(step.matrix.R_tc)))
            for R_c, here, pointers in csr.blocks_of(rows, step.matrix.R_tc):
                value_e = rows.data[here]
                stream.write(struct.pack("<4i", *R_c, len(value_e)) + value_e.tobytes())
                stream.write(rows.indices[here].astype("<i4").tobytes() + np.array(pointers, dtype="<i8").tobytes())


def write_arrays(path, step, frame, orbitals):
    """The archive of out_hsr 3: whole blocks of atoms i <= j."""
    norb_a = frame.pairs.norb_a * (step.norb // frame.norb)
    start_a = np.concatenate([[0], np.cumsum(norb_a)])
    parts = {"lattice_vectors": (frame.cell_cv / BOHR).ravel()}
    fractional_ac = frame.positions_av @ np.linalg.inv(frame.cell_cv)
    parts["atom_info"] = np.column_stack([frame.species_a, frame.numbers_a, fractional_ac])
    parts |= {f"orbital_info_{s}": np.array(rows, dtype=float) for s, rows in enumerate(orbitals)}
    for t, (x, y, z) in enumerate(step.matrix.R_tc.tolist()):
        mine = step.matrix.t_e == t
        dense_MM = np.zeros((step.norb, step.norb), dtype=step.matrix.values_se.dtype)
        dense_MM[step.matrix.row_e[mine], step.matrix.column_e[mine]] = step.matrix.values_se[0, mine]
        for i in range(frame.natoms):
            for j in range(i, frame.natoms):
                block = dense_MM[start_a[i] : start_a[i + 1], start_a[j] : start_a[j + 1]]
                if block.any():
                    parts[f"mat_{i}_{j}_{x}_{y}_{z}"] = block
    np.savez(path, **parts)


def orbitals_of(frame):
    """n, l and m as ABACUS counts them."""
    found = []
    for species in frame.basis:
        rows = []
        for shell in species.shells:
            m_values = sorted(range(-shell.l, shell.l + 1), key=lambda m: (abs(m), -m))
            rows += [(shell.zeta - 1, shell.l, m) for m in m_values]
        found.append(rows)
    return found


def rewrite(folder, frame, kind):
    """Another form of the matrices of a run; DM of out_hsr 2 stays text, as ABACUS leaves it."""
    output = folder / "OUT.ABACUS"
    spins = 2 if frame.spin is Spin.COLLINEAR else 1
    names = {f"hrs{s + 1}_nao": (f"hrs{s + 1}_nao", f"output_HR{s}") for s in range(spins)}
    names |= {f"dmrs{s + 1}_nao": (f"dmrs{s + 1}_nao", f"output_DM{s}") for s in range(spins)}
    names["srs1_nao"] = ("sr_nao", "output_SR")
    for old, (new, beta) in names.items():
        source = output / f"{old}.csr"
        steps = csr.read_steps(source)
        if kind == "text":
            source.rename(output / f"{new}.csr")
        elif kind == "binary" and not old.startswith("dm"):
            write_sparse(output / f"{new}.dat", steps)
            source.unlink()
        elif kind in ("arrays", "arrays of the beta"):
            name = new if kind == "arrays" and not old.startswith("dm") else beta
            write_arrays(output / f"{name}.npz", steps[0], frame, orbitals_of(frame))
            source.unlink()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("si2", "text"),
        ("spin_fe_f", "binary"),
        ("spin_fe_f", "arrays of the beta"),
        ("soc_gaas", "binary"),
        ("soc_gaas", "arrays"),
    ],
)
def test_all_forms_hold_the_same_frame(name, kind, tmp_path):
    (frame,) = frames_of("abacus", name)
    folder = copy_of(name, tmp_path)
    rewrite(folder, frame, kind)
    (again,) = read_folder(folder)
    assert set(again.operators) == {"H", "S", "DM"}
    assert not any(file.startswith("srs1") for file in again.provenance.files)
    np.testing.assert_array_equal(again.pairs.R_pc, frame.pairs.R_pc)
    np.testing.assert_allclose(again.positions_av, frame.positions_av, atol=1e-12)
    for operator, matrix in frame.operators.items():
        np.testing.assert_allclose(again.operators[operator].values_sx, matrix.values_sx, rtol=0, atol=2e-11)


def test_partners_of_pauli_components_keep_their_components():
    block = np.arange(8.0).reshape(2, 4)  # one orbital and two, each with up and down
    expected = [[0, 1], [4, 5], [2, 3], [6, 7]]
    np.testing.assert_array_equal(partner_of(block, True), expected)
    np.testing.assert_array_equal(partner_of(block + 1j, False), block.T - 1j)


def test_of_several_forms_the_one_that_was_asked_for_is_read(tmp_path):
    (frame,) = frames_of("abacus", "h2o")
    folder = copy_of("h2o", tmp_path)
    for name, source in (("hrs1_nao", "hrs1_nao"), ("sr_nao", "srs1_nao")):
        write_sparse(folder / "OUT.ABACUS" / f"{name}.dat", csr.read_steps(folder / f"OUT.ABACUS/{source}.csr"))
    assert read_folder(folder)[0].origin("H").files == ("hrs1_nao.csr",)
    edit(folder / "INPUT", ("INPUT_PARAMETERS", "INPUT_PARAMETERS\nout_hsr 2"))
    (again,) = read_folder(folder)
    assert again.origin("H").files == ("hrs1_nao.dat",)
    np.testing.assert_array_equal(again.operators["H"].values_sx, frame.operators["H"].values_sx)


def gamma_steps(tmp_path, displacement_v):
    """An MD run at Gamma alone whose second step is the first, all atoms displaced: the same matrices."""
    (frame,) = frames_of("abacus", "h2o_gamma_only")
    folder = shutil.copytree(unpacked("abacus", "h2o_gamma_only"), tmp_path / "run")
    output = folder / "OUT.ABACUS"
    edit(folder / "INPUT", (re.search(r"calculation +scf", (folder / "INPUT").read_text())[0], "calculation md"))
    for name in ("hk_nao.txt", "sk_nao.txt"):
        first = (output / name).read_text()
        (output / name).write_text(first + first.replace("# ionic step 1", "# ionic step 2"))
    levels = (output / "eig_occ.txt").read_text()
    (output / "eig_occ.txt").write_text(levels + re.sub(r"\b1( +# ionic step)", r"2\1", levels))
    (output / "running_scf.log").rename(output / "running_md.log")
    log = (output / "running_md.log").read_text()
    begin = log.index("--> #ION MOVE#")
    again = re.sub(r"#ION MOVE#( +)1 ", r"#ION MOVE#\g<1>2 ", log[begin:]).replace("-466.05170", "-466.05171")
    (output / "running_md.log").write_text(log + again)
    dump = []
    for step in range(2):
        rows = (frame.positions_av + step * displacement_v) / (BOHR * PRINTED_ANGSTROM)
        cell = "\n".join(" ".join(f"{x:.12f}" for x in row) for row in frame.cell_cv)
        atoms = "\n".join(f"  {n}  X  " + " ".join(f"{x:.12f}" for x in row) + "  0 0 0" for n, row in enumerate(rows))
        dump.append(f"MDSTEP:  {step}\nLATTICE_CONSTANT: 1.0 Angstrom\nLATTICE_VECTORS\n{cell}\n")
        dump.append(f"INDEX    LABEL    POSITION (Angstrom)    FORCE (eV/Angstrom)\n{atoms}\n\n\n")
    (output / "MD_dump").write_text("".join(dump))
    return frame, folder


def test_all_steps_at_gamma_alone_are_frames_of_their_own_structures(tmp_path):
    displacement_v = np.array([0.3, -0.2, 0.1])
    frame, folder = gamma_steps(tmp_path, displacement_v)
    one, two = read_folder(folder)
    for again, step in ((one, 0), (two, 1)):
        np.testing.assert_allclose(again.positions_av, frame.positions_av + step * displacement_v, atol=1e-9)
        np.testing.assert_allclose(again.operators["H"].values_sx, frame.operators["H"].values_sx, atol=1e-12)
        results = {result.name: result for result in check_frame(again)}
        assert all(result.ok is not False for result in results.values())
        assert results["eigenvalues against the printed ones"].found < 1e-8
        assert again.provenance.step == step
        assert again.outcome.converged
        assert again.outcome.iterations == frame.outcome.iterations
    assert two.outcome.energy == pytest.approx(one.outcome.energy - 1e-5, abs=1e-9)
    assert "DM" in one.operators
    assert "DM" not in two.operators  # dmg2_nao.txt is not there


def test_steps_without_a_structure_are_named(tmp_path):
    _, folder = gamma_steps(tmp_path, np.zeros(3))
    (folder / "OUT.ABACUS" / "MD_dump").unlink()
    (one,) = read_folder(folder)
    assert one.provenance.notes[-1] == "ionic steps whose structure is in no file are not read: 2"
    edit(folder / "INPUT", ("INPUT_PARAMETERS", "INPUT_PARAMETERS\nmd_restart 1"))
    (one,) = read_folder(folder)  # the structure of step 1 is in dmg1_nao.txt
    (folder / "OUT.ABACUS" / "dmg1_nao.txt").unlink()
    with pytest.raises(Refused, match="does not carry the structure of its ionic steps"):
        read_folder(folder)


def test_dense_matrices_in_binary_files(tmp_path):
    (frame,) = frames_of("abacus", "h2o_gamma_only")
    folder = shutil.copytree(unpacked("abacus", "h2o_gamma_only"), tmp_path / "run")
    for stem in ("hk_nao", "sk_nao"):
        path = folder / "OUT.ABACUS" / f"{stem}.txt"
        M_MM = read_dense(path)[0].M_MM
        upper = M_MM[np.triu_indices(len(M_MM))]
        path.with_suffix(".dat").write_bytes(struct.pack("<i", len(M_MM)) + upper.tobytes())
        path.unlink()
    (again,) = read_folder(folder)
    for operator, matrix in frame.operators.items():
        np.testing.assert_array_equal(again.operators[operator].values_sx, matrix.values_sx)


def test_folded_sparse_matrices_of_a_run_at_gamma_alone(tmp_path):
    """Newer versions write H(R) and S(R) of gamma_only runs as one block at R = 0."""
    (frame,) = frames_of("abacus", "h2o_gamma_only")
    folder = shutil.copytree(unpacked("abacus", "h2o_gamma_only"), tmp_path / "run")
    output = folder / "OUT.ABACUS"
    for stem, new in (("hk_nao", "hrs1_nao"), ("sk_nao", "sr_nao"), ("dmg1_nao", None)):
        (one,) = read_dense(output / f"{stem}.txt")
        if new:
            write_sparse(output / f"{new}.dat", [one.as_step()])
        (output / f"{stem}.txt").unlink()
    (again,) = read_folder(folder)
    assert set(again.operators) == {"H", "S"}
    for operator in again.operators:
        np.testing.assert_array_equal(again.operators[operator].values_sx, frame.operators[operator].values_sx)
    shutil.copy(unpacked("abacus", "h2o") / "OUT.ABACUS" / "srs1_nao.csr", output)
    edit(folder / "INPUT", ("INPUT_PARAMETERS", "INPUT_PARAMETERS\nout_hsr 1"))
    with pytest.raises(Refused, match="has lattice vectors, and the run is at Gamma alone"):
        read_folder(folder)


def test_a_density_of_versions_before_3_9(tmp_path):
    """SPIN1_DM has the structure first, then spin, Fermi energy and size."""
    (frame,) = frames_of("abacus", "h2o_gamma_only")
    folder = shutil.copytree(unpacked("abacus", "h2o_gamma_only"), tmp_path / "run")
    path = folder / "OUT.ABACUS" / "dmg1_nao.txt"
    text = path.read_text()
    structure = text[text.index(" user_defined") :].split("\n\n", 1)
    size = len(read_dense(path)[0].M_MM)
    old = f"none\n{structure[0].split(chr(10), 1)[1]}\n\n 1\n -0.19 (fermi energy)\n  {size} {size}\n\n{structure[1]}"
    (folder / "OUT.ABACUS" / "SPIN1_DM").write_text(old)
    path.unlink()
    (again,) = frames_in("abacus", folder)
    np.testing.assert_array_equal(again.operators["DM"].values_sx, frame.operators["DM"].values_sx)


@pytest.mark.parametrize(
    ("name", "energies"),
    [
        ("h2o_gamma_md", [-466.0455901734, -466.0396024, -465.9885477271]),
        ("h2o_gamma_relax", [-466.0455901734, None, -466.0613786108]),
    ],
)
def test_steps_of_real_runs_at_gamma_alone(name, energies, tmp_path):
    """MD has its structures in DM and in MD_dump, which agree; the relaxation, without DM, in the log."""
    folder = shutil.copytree(unpacked("abacus", name), tmp_path / "run")
    frames = read_folder(folder)
    assert len(frames) == 3
    for number, (frame, energy) in enumerate(zip(frames, energies, strict=True)):
        results = {result.name: result for result in check_frame(frame)}
        assert [str(result) for result in results.values() if result.ok is False] == []
        assert results["eigenvalues against the printed ones"].found < 1e-10
        assert frame.provenance.step == number
        assert frame.outcome.converged
        assert energy is None or frame.outcome.energy == pytest.approx(energy, abs=1e-6)
    assert np.abs(frames[1].positions_av - frames[0].positions_av).max() > 1e-3
    for path in folder.glob("OUT.ABACUS/dm*"):
        path.unlink()
    for frame, again in zip(frames, read_folder(folder), strict=True):
        np.testing.assert_allclose(again.positions_av, frame.positions_av, atol=1e-11)


@pytest.mark.parametrize("digits", [8, 12])
def test_numbers_are_written_as_python_writes_them(digits):
    """Up to the last digit, next to powers of ten too; numbers of other sizes are left to Python."""
    random = np.random.default_rng(0)
    near_ten = [
        sign * 10.0**n * (1 + step)
        for n in range(-89, 90, 7)
        for step in (0, 1e-16, -2e-16, 1e-9, -1e-14)
        for sign in (1, -1)
    ]
    values = np.concatenate([near_ten, random.normal(size=999) * 10.0 ** random.integers(-40, 4, 999)])
    written = "\n".join(numerals.lines_of(numerals.words_of(values, digits), 6)).split("\n")
    assert {len(row.split()) for row in written[:-1]} == {6}
    words = [word for row in written for word in row.split()]
    assert all(re.fullmatch(rf"-?[1-9]\.\d{{{digits}}}e[+-]\d\d", word) for word in words)
    np.testing.assert_allclose(np.array(words, dtype=float), values, rtol=0.51 * 10.0**-digits)
    same = sum(word == f"{value:.{digits}e}" for word, value in zip(words, values, strict=True))
    assert same > 0.99 * len(words)
    odd = np.array([0.0, 1e-120, 1.0, -2.0, 3e99, 5.0, 6.0])
    assert " ".join(numerals.lines_of(numerals.words_of(odd, digits), 6)).split() == [
        f"{value:.{digits}e}" for value in odd
    ]


@pytest.mark.parametrize("count", [1, 5, 130])
def test_whole_numbers_are_written_as_they_are(count):
    written = "\n".join(numerals.lines_of(numerals.numbers_below(count), 4)).split("\n")
    assert [int(word) for row in written for word in row.split()] == list(range(count))
    assert {len(row.split()) for row in written[:-1]} <= {4}
