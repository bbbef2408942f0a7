"""Formats of other tools: each is opened by the tool itself, or by a reader written from the description of its format, and has the levels that the code printed."""

import importlib.util
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import eigh

from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Outcome
from converters.physics.kspace import eigenvalues
from converters.siesta import transport
from converters.siesta.constants import LEGACY
from converters.starts.start import Options
from converters.starts.targets import find_target
from converters.tools import arrays, petsc, pythtb, sisl_file, wannier90
from converters.tools.orthogonal import between_points, orthogonal_orbitals
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from tests.fixtures import frames_of, unpacked
from workflows.export import Request, export

# k-points that no mesh has, as fractions.
GENERIC = np.array([[0.1, 0.2, -0.3], [0.37, 0.05, 0.21]])
LAYOUTS = (Spin.NONE, Spin.COLLINEAR, Spin.SPINOR)


def printed_levels(frame):
    """k-points of a run, and the levels that its code printed."""
    return frame.spectrum.kpoints_kc, frame.spectrum.energies_skn


def made(spin):
    """Two atoms of a skewed lattice, whose S is far from singular."""
    structure = random_structure(1, natoms=2, size=4.0, pbc=(True, True, False))
    return made_frame(structure, two_species("1s1p"), spin, seed=2)


def read_hr(path):
    """R, degeneracies and H(R) of a _hr.dat, as its description says: the row is the faster index."""
    words = path.read_text().split("\n", 1)[1].split()
    size, cells = int(words[0]), int(words[1])
    degeneracy_t = np.array(words[2 : 2 + cells], dtype=float)
    table = np.array(words[2 + cells :], dtype=float).reshape(cells, size * size, 7)
    assert (table[:, :, 3] == np.tile(np.arange(size) + 1, size)).all()
    H_tNN = (table[..., 5] + 1j * table[..., 6]).reshape(cells, size, size).swapaxes(1, 2)
    return table[:, 0, :3], H_tNN / degeneracy_t[:, None, None]


def levels_of_hr(path, kpoints_kc):
    R_tc, H_tNN = read_hr(path)
    H_kNN = np.einsum("kt,tij->kij", np.exp(2j * np.pi * kpoints_kc @ R_tc.T), H_tNN)
    return np.linalg.eigvalsh(H_kNN)


@pytest.mark.parametrize("spin", LAYOUTS)
def test_orthogonal_orbitals_have_the_levels_of_the_frame(spin):
    """On the mesh to rounding; between its points as far as the note says."""
    frame = made(spin)
    model = orthogonal_orbitals(frame, (5, 5, 1))
    mesh_kc = np.array([[0, 0, 0], [0.2, 0.6, 0], [0.4, 0.8, 0]])
    np.testing.assert_allclose(eigenvalues(model.frame, mesh_kc), eigenvalues(frame, mesh_kc), atol=1e-10)
    halfway_kc = np.array([[0.1, 0.1, 0]])
    error = np.abs(eigenvalues(model.frame, halfway_kc) - eigenvalues(frame, halfway_kc)).max()
    assert 1e-9 < error < 0.2
    assert "5 x 5 x 1 k-points" in model.notes[0]
    assert model.frame.S([0.1, 0.2, 0]) == pytest.approx(np.eye(len(model.frame.S())))


@pytest.mark.parametrize(("name", "mesh", "sizes"), [("si2", (3, 3, 3), (8, 18)), ("soc", (3, 3, 2), (12, 18))])
def test_a_minimal_set_has_the_levels_that_siesta_printed(name, mesh, sizes):
    """All levels up to 1 or 2 eV above the Fermi level."""
    (frame,) = frames_of("siesta", name)
    model = orthogonal_orbitals(frame, mesh, "minimal")
    assert model.frame.norb in sizes
    top = float(re.search(r"up to (-?[\d.]+) eV", model.notes[0])[1]) - 0.01
    printed = frame.spectrum
    assert frame.outcome.fermi < top <= frame.outcome.fermi + 2.5
    found_skn = eigenvalues(model.frame, printed.kpoints_kc)
    printed_skn = printed.energies_skn[..., : found_skn.shape[-1]]
    below = printed_skn < top
    np.testing.assert_allclose(found_skn[below], printed_skn[below], atol=2e-5)
    assert (found_skn[~below] > top - 1e-6).all()


@pytest.mark.parametrize("folded", [False, True], ids=["molecule", "folded"])
def test_a_minimal_set_of_a_molecule_says_how_far_its_levels_go(folded):
    (frame,) = frames_of("siesta", "h2o")
    frame = replace(frame, folded=True) if folded else replace(frame, pbc_c=np.zeros(3, dtype=bool))
    model = orthogonal_orbitals(frame, None, "minimal")
    assert f"{model.frame.norb} orthogonal functions for {frame.norb} orbitals" in model.notes[0]
    assert ("k-points of the run" in model.notes[0]) == folded
    top = float(re.search(r"levels up to (-?[\d.]+) eV", model.notes[0])[1])
    printed = frame.spectrum.energies_skn[0, 0]
    found = eigenvalues(model.frame, np.zeros((1, 3)))[0, 0]
    below = printed < top
    assert below.sum() >= frame.outcome.electrons / 2
    np.testing.assert_allclose(found[: below.sum()], printed[below], atol=2e-5)
    assert (found[below.sum() :] > top).all()
    assert orthogonal_orbitals(frame, None).notes == () or folded


def test_a_minimal_set_is_right_between_the_points_where_all_orbitals_are_not():
    """Si2 has directions of S of 8e-5, which make orthogonal orbitals of all long."""
    (frame,) = frames_of("siesta", "si2")
    halfway_kc, errors = between_points((5, 5, 5)), {}
    for functions in ("all", "minimal"):
        levels_kn = eigenvalues(orthogonal_orbitals(frame, (5, 5, 5), functions).frame, halfway_kc)[0, :, :4]
        errors[functions] = np.abs(levels_kn - eigenvalues(frame, halfway_kc)[0, :, :4]).max()
    assert errors["minimal"] < 0.05 < 0.5 < errors["all"]


def test_a_denser_mesh_is_taken_where_levels_are_not_right():
    frame = made(Spin.NONE)
    model = orthogonal_orbitals(frame, None)
    assert model.mesh_c[2] == 1
    error = np.abs(eigenvalues(model.frame, GENERIC) - eigenvalues(frame, GENERIC)).max()
    assert error < 1e-2 or "WARNING" in model.notes[-1]


@pytest.mark.parametrize("name", ["h2o", "si2"])
def test_wannier90_files_have_the_levels_that_siesta_printed(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    kpoints_kc, printed_skn = printed_levels(frame)
    written = wannier90.write(frame, tmp_path, Options(mesh=(3, 3, 3) if name == "si2" else None))
    assert {path.name for path in written.files} == {"slem_hr.dat", "slem_centres.xyz", "slem.win"}
    found_kn = levels_of_hr(tmp_path / "slem_hr.dat", kpoints_kc)
    np.testing.assert_allclose(found_kn, eigenvalues(frame, kpoints_kc)[0], atol=1e-8)
    np.testing.assert_allclose(found_kn, printed_skn[0], atol=2e-4)


@pytest.mark.parametrize("name", ["spin", "soc"])
def test_wannier90_files_of_spins(name, tmp_path):
    """A file for each collinear spin; spinors with up and down of one orbital after the other, as the spin of their pairs shows."""
    (frame,) = frames_of("siesta", name)
    kpoints_kc, printed_skn = printed_levels(frame)
    mesh = {"spin": (5, 5, 5), "soc": (3, 3, 2)}[name]  # those of the runs
    wannier90.write(frame, tmp_path, Options(mesh=mesh))
    seeds = ["slem.up", "slem.dn"] if name == "spin" else ["slem"]
    for seed, printed_kn in zip(seeds, printed_skn, strict=True):
        found_kn = levels_of_hr(tmp_path / f"{seed}_hr.dat", kpoints_kc)
        np.testing.assert_allclose(found_kn, printed_kn, atol=2e-5)
    if name == "soc":
        model = orthogonal_orbitals(frame, mesh).frame
        R_tc, H_tNN = read_hr(tmp_path / "slem_hr.dat")
        ours_RtC, ours_tsMM = model.to_dense("H")
        assert ours_RtC.tolist() == R_tc.tolist()
        for s, part in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            np.testing.assert_allclose(H_tNN[:, part[0] :: 2, part[1] :: 2], ours_tsMM[:, s], atol=1e-11)


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR])
def test_sisl_opens_the_files_of_wannier90(spin, tmp_path):
    sisl = pytest.importorskip("sisl")
    frame = made(spin)
    wannier90.write(frame, tmp_path, Options(mesh=(5, 5, 1)))
    k_c = np.array([0.2, 0.4, 0.0])
    for s, seed in enumerate(["slem"] if spin is Spin.NONE else ["slem.up", "slem.dn"]):
        theirs = sisl.get_sile(tmp_path / f"{seed}.win").read_hamiltonian(cutoff=0.0)
        np.testing.assert_allclose(theirs.eigh(k=k_c), eigenvalues(frame, k_c[None])[s, 0], atol=1e-8)
        np.testing.assert_allclose(theirs.cell[:2], frame.cell_cv[:2], atol=1e-8)
        np.testing.assert_allclose(theirs.xyz[frame.pairs.orbital_start_a[:-1]], frame.positions_av, atol=1e-8)


def solved(tb, k_c):
    """Levels of a model of pythtb 1.8 or 2."""
    return np.ravel(tb.solve_ham(np.reshape(k_c, (1, -1)))) if hasattr(tb, "solve_ham") else tb.solve_one(k_c)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pythtb_opens_the_files_of_wannier90(tmp_path):
    theirs = pytest.importorskip("pythtb")
    frame = made(Spin.NONE)
    wannier90.write(frame, tmp_path, Options(mesh=(5, 5, 1)))
    reader = theirs.W90 if hasattr(theirs, "W90") else theirs.w90
    tb = reader(str(tmp_path), "slem").model(min_hopping_norm=1e-12)
    k_c = np.array([0.2, 0.4, 0.0])
    np.testing.assert_allclose(solved(tb, k_c), eigenvalues(frame, k_c[None])[0, 0], atol=1e-8)


def load_script(path):
    name = f"slem_pythtb_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spin", LAYOUTS)
def test_pythtb_has_the_same_levels(spin, tmp_path):
    pytest.importorskip("pythtb")
    frame = made(spin)
    pythtb.write(frame, tmp_path, Options(mesh=(3, 3, 1)))
    make = load_script(tmp_path / "slem_pythtb.py").model
    k_c = np.array([1 / 3, 2 / 3, 0.0])
    for s, levels in enumerate(eigenvalues(frame, k_c[None])[:, 0]):
        np.testing.assert_allclose(np.sort(solved(make(spin=s), k_c[:2])), levels, atol=1e-8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pythtb_has_the_levels_of_a_molecule(tmp_path):
    pytest.importorskip("pythtb")
    (frame,) = frames_of("siesta", "h2o")
    pythtb.write(replace(frame, pbc_c=np.zeros(3, dtype=bool)), tmp_path, Options())
    tb = load_script(tmp_path / "slem_pythtb.py").model()
    levels = tb.solve_ham() if hasattr(tb, "solve_ham") else tb.solve_all()
    np.testing.assert_allclose(np.ravel(levels), frame.spectrum.energies_skn[0, 0], atol=2e-5)


@pytest.mark.parametrize("name", ["si2", "spin", "soc"])
def test_sisl_opens_its_file(name, tmp_path):
    sisl = pytest.importorskip("sisl")
    pytest.importorskip("netCDF4")
    (frame,) = frames_of("siesta", name)
    sisl_file.write(frame, tmp_path, Options())
    theirs = sisl.get_sile(tmp_path / "slem.nc").read_hamiltonian()
    printed = frame.spectrum
    for s, levels_kn in enumerate(printed.energies_skn):
        spin = {"spin": s} if len(printed.energies_skn) > 1 else {}
        found = theirs.eigh(k=printed.kpoints_kc[1], **spin)
        np.testing.assert_allclose(found, levels_kn[1], atol=2e-4 if name == "si2" else 2e-5)


@pytest.mark.parametrize("name", ["si2", "spin", "soc"])
def test_plain_arrays_need_numpy_alone(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    arrays.write(frame, tmp_path, Options())
    with np.load(tmp_path / "slem.npz", allow_pickle=False) as file:
        data = dict(file)
    norb = len(data["orbital_atom"])
    k_c = frame.spectrum.kpoints_kc[2]

    def at_k(values_e):
        """What a reader writes who has the description of the file alone."""
        R_ec = np.repeat(data["R"], np.diff(data["start"]), axis=0)
        phased_e = np.exp(2j * np.pi * (R_ec @ k_c)) * values_e
        return sparse.coo_array((phased_e, (data["row"], data["column"])), shape=(norb, norb)).toarray()

    S_MM, H_sMM = at_k(data["S"][0]), [at_k(values_e) for values_e in data["H"]]
    if len(H_sMM) == 4:
        S_MM, H_sMM = np.kron(np.eye(2), S_MM), [np.block([H_sMM[:2], H_sMM[2:]])]
    for H_MM, levels in zip(H_sMM, frame.spectrum.energies_skn[:, 2], strict=True):
        np.testing.assert_allclose(eigh(H_MM, S_MM, eigvals_only=True), levels, atol=2e-5)
    assert [name for name in data["orbital_name"][:2]] == [str(orbital) for orbital in frame.orbitals[:2]]


def read_petsc(path, kind):
    """A matrix as MatLoad reads it: big-endian, classid, rows, columns, elements, then lengths of rows, columns, values."""
    content = path.read_bytes()
    classid, rows, columns, elements = np.frombuffer(content, ">i4", 4)
    assert classid == 1211216
    lengths = np.frombuffer(content, ">i4", rows, 16)
    places = np.frombuffer(content, ">i4", elements, 16 + 4 * rows)
    values = np.frombuffer(content, kind, elements, 16 + 4 * (rows + elements))
    assert 16 + 4 * (rows + elements) + values.nbytes == len(content)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array((values.astype(kind.replace(">", "<")), places, indptr), shape=(rows, columns)).toarray()


@pytest.mark.parametrize("name", ["si2", "spin", "soc"])
def test_petsc_matrices_have_the_printed_levels(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    k = 1
    petsc.write(frame, tmp_path, Options(kpoint=tuple(frame.spectrum.kpoints_kc[k])))
    names = ["H_up", "H_down"] if name == "spin" else ["H"]
    S_MM = read_petsc(tmp_path / "S_complex.petsc", ">c16")
    for one, levels in zip(names, frame.spectrum.energies_skn[:, k], strict=True):
        H_MM = read_petsc(tmp_path / f"{one}_complex.petsc", ">c16")
        np.testing.assert_allclose(eigh(H_MM, S_MM, eigvals_only=True), levels, atol=2e-5)
    assert not (tmp_path / "H_real.petsc").exists()


def test_petsc_matrices_of_builds_with_real_numbers(tmp_path):
    (frame,) = frames_of("siesta", "h2o")
    petsc.write(frame, tmp_path, Options())
    H_MM, S_MM = (read_petsc(tmp_path / f"{name}_real.petsc", ">f8") for name in ("H", "S"))
    np.testing.assert_allclose(eigh(H_MM, S_MM, eigvals_only=True), frame.spectrum.energies_skn[0, 0], atol=2e-5)
    np.testing.assert_array_equal(read_petsc(tmp_path / "H_complex.petsc", ">c16"), H_MM)


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    frame = made(Spin.NONE)
    with pytest.raises(Refused, match="holds no S") as refusal:
        wannier90.write(replace(frame, operators={"H": frame["H"]}), tmp_path, Options())
    assert refusal.value.kind is Kind.MISSING_MATRIX
    left = replace(frame, cell_cv=frame.cell_cv * [[1], [1], [-1]])
    with pytest.raises(Refused, match="left-handed"):
        pythtb.write(left, tmp_path, Options())
    with pytest.raises(Refused, match="too many for dense matrices"):
        wannier90.write(frame, tmp_path, Options(mesh=(999, 999, 1)))
    singular = replace(frame["S"], values_sx=np.ones_like(frame["S"].values_sx))
    with pytest.raises(Refused, match="smallest eigenvalue"):
        wannier90.write(replace(frame, operators={"H": frame["H"], "S": singular}), tmp_path, Options(mesh=(3, 3, 1)))
    with pytest.raises(Refused, match="no matrix"):
        arrays.write(replace(frame, operators={}), tmp_path, Options())


def test_export_says_how_right_the_levels_are(tmp_path):
    frame = replace(made(Spin.NONE), outcome=Outcome())
    done = export(frame, tmp_path, Request("wannier90", options=Options(mesh=(5, 5, 1))))
    assert done.as_dict()["format"] == "wannier90"
    assert "between them off by at most" in done.notes[0]
    assert len(done.files) == 3
    with pytest.raises(Refused, match="starts no run"):
        export(frame, tmp_path, Request("npz"), find_target(unpacked("siesta", "h2o")))


def test_tbtrans_gets_the_fermi_level_of_the_run_or_of_its_levels(tmp_path):
    """sisl, as tbtrans does, counts all energies from the Fermi level in the file."""
    sisl = pytest.importorskip("sisl")
    (frame,) = frames_of("siesta", "spin")
    predicted = replace(frame, outcome=replace(frame.outcome, fermi=None), spectrum=None)
    k, fermi = 3, frame.outcome.fermi
    for one, options, wanted, tolerance in (
        (frame, Options(), fermi, 1e-9),
        (predicted, Options(fermi=-3.0), -3.0, 1e-9),
        (predicted, Options(), fermi, 0.15),  # the run had another mesh
    ):
        (note,) = transport.write(one, tmp_path, options).notes
        theirs = sisl.get_sile(tmp_path / "slem.TSHS")
        scale = LEGACY.rydberg / sisl.unit.siesta.unit_convert("Ry", "eV")
        written = theirs.read_fermi_level() * scale
        assert written == pytest.approx(wanted, abs=tolerance)
        assert f"{written:.4f} eV" in note
        H = theirs.read_hamiltonian()
        for s, levels_kn in enumerate(frame.spectrum.energies_skn):
            found = H.eigh(k=frame.spectrum.kpoints_kc[k], spin=s) * scale + written
            np.testing.assert_allclose(found, levels_kn[k], atol=5e-5)


def test_tbtrans_needs_a_fermi_level(tmp_path):
    (frame,) = frames_of("siesta", "h2o")
    with pytest.raises(Refused, match="no Fermi level"):
        transport.write(replace(frame, outcome=Outcome()), tmp_path, Options())
