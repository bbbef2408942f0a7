"""Bands: chains whose bands are known, silicon, PySCF's own bands, and what is refused."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner
from pyscf.pbc import dft as pbcdft
from pyscf.pbc import gto as pbcgto
from scipy.integrate import trapezoid

from basis.shells import Species, parse_shells
from basis.spin import Spin
from basis.units import HARTREE
from converters.errors import Refused
from converters.frames.blocks import Operator, make_pairs
from converters.frames.frame import Frame, Outcome, Provenance
from converters.physics import kspace
from converters.physics.bands import Bands, make_path, mesh_for
from converters.pyscf import frame_from_scf
from converters.storage.writer import DatasetWriter
from tests.fixtures import frames_of
from workflows.cli import main
from workflows.pictures.bands import Request, bands_of, draw


def slem(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def chain(t1, t2, electrons=2.0, spin=Spin.NONE, shift=0.0):
    """Two s orbitals in a cell, t1 inside, t2 to the next cell; the levels are +-|t1 + t2 exp(ik)|."""
    basis = (Species("H", 1, parse_shells("1s"), "model"),)
    pairs = make_pairs(
        np.array([0, 1, 0, 1]),
        np.array([0, 1, 1, 0]),
        np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]),
        np.ones(2, int),
    )
    H = {(0, 0, 0): shift, (1, 1, 0): shift, (0, 1, 0): t1, (0, 1, -1): t2, (1, 0, 1): t2}
    keys = [(int(i), int(j), int(R[2])) for i, j, R in zip(pairs.i_p, pairs.j_p, pairs.R_pc, strict=True)]
    values = np.array([[H[key] for key in keys]] * (2 if spin is Spin.COLLINEAR else 1))
    if spin is Spin.SPINOR:
        values = np.stack([values[0], 0 * values[0], 0 * values[0], values[0]]).astype(complex)
    S = np.array([[float(key in ((0, 0, 0), (1, 1, 0))) for key in keys]])
    return Frame(
        np.diag([20.0, 20.0, 3.0]), np.array([False, False, True]), np.array([[0, 0, 0], [0, 0, 1.4]]), np.zeros(2, int), basis, pairs,
        spin, {"H": Operator(values), "S": Operator(S)}, outcome=Outcome(electrons=electrons), provenance=Provenance("model"),
    )  # fmt: skip


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize(("t1", "t2"), [(1.0, 0.6), (0.7, 1.1), (-1.0, 0.25)])
def test_a_dimerised_chain_has_its_gap(spin, t1, t2):
    frame = chain(t1, t2, spin=spin)
    bands = Bands.of(frame, make_path(frame, points=101))
    k = 2 * np.pi * bands.path.kpoints_kc[:, 2]
    exact = np.abs(t1 + t2 * np.exp(1j * k))
    np.testing.assert_allclose(bands.energies_skn[0].max(axis=1), exact, atol=1e-12)
    assert bands.edges.gap == pytest.approx(2 * abs(abs(t1) - abs(t2)), abs=1e-9)
    assert bands.edges.fermi == pytest.approx(0, abs=1e-9)
    energies = np.linspace(-4, 4, 4001)
    states = bands.density_of_states(energies, 0.05)
    assert trapezoid(states, energies) == pytest.approx(4, rel=1e-6)
    assert trapezoid(states[energies < 0], energies[energies < 0]) == pytest.approx(2, rel=1e-3)


def test_paths_stay_out_of_vacuum():
    """Codes repeat a box in all directions; levels change with k only along the wire, or in the layer."""
    boxed = replace(chain(1.0, 0.6), pbc_c=np.ones(3, dtype=bool))
    bands = Bands.of(boxed, make_path(boxed, points=101))
    assert bands.path.names == ("Γ", "X")
    assert not bands.path.kpoints_kc[:, :2].any()
    assert bands.edges.gap == pytest.approx(0.8, abs=1e-9)
    (layer,) = frames_of("siesta", "ptse2")
    assert layer.pbc_c.all()
    assert make_path(layer).names == ("Γ", "M", "K", "Γ")
    assert mesh_for(layer)[2] == 1
    across = kspace.eigenvalues(layer, np.array([[0.2, 0.1, 0.0], [0.2, 0.1, 0.4]]))
    np.testing.assert_allclose(across[:, 0], across[:, 1], atol=1e-9)
    assert "A" in make_path(layer, "GMLA").names


def test_an_even_chain_is_a_metal():
    bands = Bands.of(chain(1.0, 1.0), make_path(chain(1.0, 1.0)))
    assert bands.edges.gap == 0
    partly = chain(1.0, 0.5, electrons=1.0)
    edges = Bands.of(partly, make_path(partly)).edges
    assert edges.gap == 0
    assert edges.fermi == pytest.approx(-np.sqrt(1 + 0.25), abs=0.08)  # half of the lower band, where k is a quarter


def test_a_shift_of_all_levels_is_told_from_errors():
    one, other = (Bands.of(frame, make_path(frame)) for frame in (chain(1.0, 0.6), chain(1.0, 0.6, shift=0.025)))
    errors = other.compare(one)
    assert errors["shift"] == pytest.approx(25)
    assert errors["rms"] == pytest.approx(25)
    assert errors["rms without shift"] == pytest.approx(0, abs=1e-9)
    assert errors["error of the gap"] == pytest.approx(0, abs=1e-9)


def test_half_of_the_zone_is_all_of_it():
    """Sums over k and -k are the sums over the half with its weights."""
    (frame,) = frames_of("siesta", "si2")
    half_kc, weights_k = kspace.mesh_points(mesh_for(frame), frame.spin)
    whole_kc, equal_k = kspace.uniform_mesh(mesh_for(frame))
    assert len(half_kc) < 0.6 * len(whole_kc)
    assert weights_k.sum() == pytest.approx(1)
    means = [
        np.einsum("skn,k->n", kspace.eigenvalues(frame, k), w) for k, w in ((half_kc, weights_k), (whole_kc, equal_k))
    ]
    np.testing.assert_allclose(*means, atol=1e-10)


def test_silicon_has_the_gap_of_silicon():
    """PBE: 0.6 eV, indirect, the valence edge at Gamma; the levels there are those that SIESTA printed."""
    (frame,) = frames_of("siesta", "si2")
    path = make_path(frame, "XGL", 60)
    bands = Bands.of(frame, path)
    at_gamma = int(np.abs(path.kpoints_kc).sum(axis=1).argmin())
    printed = frame.spectrum.energies_skn[0, np.abs(frame.spectrum.kpoints_kc).sum(axis=1).argmin()]
    np.testing.assert_allclose(bands.energies_skn[0, at_gamma, : len(printed)], printed, atol=1e-5)
    assert bands.edges.valence == pytest.approx(printed[3], abs=1e-4)
    assert 0.5 < bands.edges.gap < 0.8
    assert path.names == ("X", "Γ", "L")


def test_a_path_that_jumps_has_both_names():
    (frame,) = frames_of("siesta", "si2")
    path = make_path(frame, "GX,KG", 30)
    assert path.names == ("Γ", "X|K", "Γ")
    with pytest.raises(Refused, match=r"is not one of this lattice; expected the points .*W"):
        make_path(frame, "GQ")


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "json"])
def test_pictures_of_every_kind(tmp_path, ending):
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(chain(1.0, 0.6))
    with DatasetWriter(tmp_path / "other.h5") as writer:
        writer.append(chain(1.01, 0.61))
    output = tmp_path / f"bands.{ending}"
    code, out, err = slem(
        "bands", tmp_path / "data.h5", "--compare", tmp_path / "other.h5", "-o", output, "--window=-4:4", "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["data.h5"]["gap (eV)"] == pytest.approx(0.8)
    assert 0 < facts["occupied bands (meV)"]["rms"] < 20
    content = output.read_bytes()
    if ending == "png":
        assert struct.unpack(">II", content[16:24])[0] > 1000
        assert b"gap 0.800 eV" in content
    elif ending == "svg":
        assert b"<svg" in content
        assert b"occupied bands" in content
    elif ending == "pdf":
        assert content.startswith(b"%PDF")
        assert b"/Title" in content
    elif ending == "json":
        assert len(json.loads(content)["bands"]["other.h5"][0]) == 200


@pytest.mark.parametrize(("spin", "electrons"), [(Spin.NONE, "^v"), (Spin.COLLINEAR, "^v"), (Spin.SPINOR, "oo")])
def test_a_molecule_has_levels(tmp_path, spin, electrons):
    """Two levels one eV below and above zero: drawn for each spin, with the electrons of the lower one, two eV apart."""
    frame = chain(1.0, 0.0, spin=spin)
    kept = frame.pairs.take(np.flatnonzero(~frame.pairs.R_pc.any(axis=1)))
    order = [int(frame.pairs.find(kept.i_p[n : n + 1], kept.j_p[n : n + 1], kept.R_pc[n : n + 1])[0]) for n in range(3)]
    values = {name: Operator(operator.values_sx[:, order]) for name, operator in frame.operators.items()}
    molecule = replace(frame, pbc_c=np.zeros(3, bool), pairs=kept, operators=values)
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(molecule)
    code, out, err = slem("bands", tmp_path / "data.h5", "-o", tmp_path / "levels.svg", "--json")
    assert code == 0, err
    assert json.loads(out)["data.h5"]["gap (eV)"] == pytest.approx(2.0)
    assert "Levels. data.h5: gap 2.000 eV" in (tmp_path / "levels.svg").read_text()
    levels, states = draw(bands_of(tmp_path / "data.h5", None, None, Request())).axes
    drawn = {round(end, 9) for group in levels.collections for line in group.get_segments() for end in line[:, 1]}
    assert drawn == {0.0, 2.0}  # above the highest occupied level
    marks = [(line.get_marker(), y) for line in levels.lines for y in line.get_ydata().round(9)]
    assert sorted(marks) == [(mark, 0.0) for mark in electrons]
    assert "2.00 eV" in [text.get_text().strip() for text in levels.texts]
    assert [label.get_text() for label in levels.get_xticklabels()] == ["data.h5"]
    assert states.lines[0].get_ydata().min() < -10


def hydrogen_chain(kpoints):
    """PySCF's run of a chain of molecules, on a mesh of so many k-points."""
    cell = pbcgto.M(
        atom="H 0 0 0; H 0 0 0.9", a=np.diag([7, 7, 2.2]), basis="gth-szv", pseudo="gth-pade", mesh=[31, 31, 15],
        verbose=0,
    )  # fmt: skip
    mf = pbcdft.KRKS(cell, cell.make_kpts([1, 1, kpoints]), xc="lda")
    mf.kernel()
    return mf


@pytest.mark.parametrize(("kpoints", "tolerance"), [(4, 1e-2), (6, 1e-5)])
def test_bands_of_a_k_mesh_are_those_of_pyscf_where_it_is_dense_enough(kpoints, tolerance, tmp_path):
    mf = hydrogen_chain(kpoints)
    frame = frame_from_scf(mf)
    bands = Bands.of(frame, make_path(frame, "GZ", 20))
    own, _ = mf.get_bands(mf.cell.get_abs_kpts(bands.path.kpoints_kc))
    error = np.abs(bands.energies_skn[0] - np.array(own) * HARTREE)[:, 0].max()
    assert error < tolerance
    assert error < 100 * bands.interpolation_error
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(frame)
    facts = json.loads(slem("bands", tmp_path / "data.h5", "--path", "GZ", "--points", "9", "--json")[1])
    assert facts["data.h5"]["error of S between the k-points"] == pytest.approx(bands.interpolation_error, rel=1e-3)


def test_a_molecule_in_a_cell_that_does_not_repeat_has_levels():
    cell = pbcgto.M(
        atom="H 0 0 0; H 0 0 0.9", a=np.eye(3) * 7, basis="gth-szv", pseudo="gth-pade", dimension=0, verbose=0
    )
    mf = pbcdft.RKS(cell, xc="lda").density_fit()
    mf.kernel()
    frame = frame_from_scf(mf)
    bands = Bands.of(frame, make_path(frame))
    assert bands.edges.gap == pytest.approx((mf.mo_energy[1] - mf.mo_energy[0]) * HARTREE, abs=1e-6)


def test_a_coarse_k_mesh_has_no_bands():
    frame = frame_from_scf(hydrogen_chain(2))
    with pytest.raises(Refused, match=r"too coarse for bands: .* S is off by 0\.05"):
        Bands.of(frame, make_path(frame, "GZ", 20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folded": True}, "folded over a k mesh"),
        ({"outcome": Outcome()}, "does not say how many electrons"),
        ({"operators": {}}, "holds no H and no S"),
    ],
)
def test_what_has_no_bands_is_refused(tmp_path, change, words):
    frame = replace(chain(1.0, 0.6), **change)
    with pytest.raises(Refused, match=words):
        Bands.of(frame, make_path(frame))


def test_wrong_requests_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "data.h5") as writer:
        writer.append(chain(1.0, 0.6))
    with DatasetWriter(tmp_path / "moved.h5") as writer:
        writer.append(replace(chain(1.0, 0.6), positions_av=np.array([[0, 0, 0], [0, 0, 1.6]])))
    bulk("Si").write(tmp_path / "si.xyz")
    data = tmp_path / "data.h5"
    for words, said in [
        ((data, "--frame", 3), "there is no frame 3"),
        ((tmp_path / "si.xyz",), "a structure needs --model"),
        ((data, "--window", "3"), "two energies"),
        ((data, "--window", "3:1"), "the lower energy first"),
        ((data, "-o", tmp_path / "b.gif"), "no ending of a picture"),
        ((data, "--compare", tmp_path / "moved.h5"), "of another structure"),
    ]:
        code, _, err = slem("bands", *words)
        assert code == 1
        assert said in err


@pytest.mark.parametrize("name", ["si2", "spin", "soc"])
def test_levels_next_to_an_energy_are_those_of_all_bands(name, tmp_path):
    (frame,) = frames_of("siesta", name)
    with DatasetWriter(tmp_path / "d.h5") as writer:
        writer.append(frame)
    path = make_path(frame, points=5)
    exact_skn = kspace.eigenvalues(frame, path.kpoints_kc)
    near = frame.outcome.fermi
    words = (
        "bands",
        tmp_path / "d.h5",
        "--levels",
        12,
        "--points",
        5,
        "-o",
        tmp_path / "b.json",
        "-o",
        tmp_path / "b.png",
    )
    code, printed, error = slem(*words, "--json")
    assert code == 0, error
    found = json.loads((tmp_path / "b.json").read_text())
    for levels_kn, below_k, exact_kn in zip(found["levels"], found["levels below"], exact_skn, strict=True):
        assert below_k == (exact_kn < near).sum(axis=1).tolist()
        for levels_n, exact_n in zip(levels_kn, exact_kn, strict=True):
            assert levels_n == pytest.approx(np.sort(exact_n[np.argsort(np.abs(exact_n - near))[:12]]), abs=1e-8)
    facts = json.loads(printed)["d.h5"]
    if name == "si2":
        filled = round(frame.outcome.electrons / 2)
        edges = exact_skn[0, :, filled - 1].max(), exact_skn[0, :, filled].min()
        assert (facts["valence edge (eV)"], facts["conduction edge (eV)"]) == pytest.approx(edges, abs=1e-8)
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert slem("bands", tmp_path / "d.h5", "--levels", 12, "--compare", tmp_path / "d.h5")[0] == 2


def test_bands_of_a_prediction_with_ghost_states_say_so(tmp_path):
    """10 meV of noise on H of a nearly singular basis make levels hundreds of eV below all of silicon's."""
    (frame,) = frames_of("siesta", "si2")
    H = frame.operators["H"].values_sx
    noise = np.random.default_rng(0).normal(0, 0.0136, H.shape)
    for factor, told in ((1, True), (1e-4, False)):
        noisy = replace(frame, operators={**frame.operators, "H": Operator(H + factor * noise)})
        noisy = replace(noisy, provenance=replace(noisy.provenance, predicted=True))
        with DatasetWriter(tmp_path / f"{told}.h5") as writer:
            writer.append(noisy)
        code, out, _ = slem("bands", tmp_path / f"{told}.h5", "--path", "GX", "--points", 3)
        assert (code, "ghost states" in out) == (0, told)
