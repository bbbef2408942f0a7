"""Magnets with spinors: their moments point along an axis that no structure says, so its matrices are learned along it and turned to where a run begins."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from basis.spin import Spin, from_pauli, to_pauli
from converters.errors import Refused
from converters.frames.moments import UP, along, along_one_axis, moments_of, onsite_moments
from converters.frames.neighbours import structure_of
from converters.starts.magnetism import (
    are_opposed,
    asked_of,
    found_along,
    names_of_both_signs,
    other_order,
    turned_to_input,
)
from converters.starts.targets import find_target
from slem_plugin.checkpoint import load_checkpoint, save_checkpoint
from slem_plugin.config import Config
from slem_plugin.learning.lessons import make_lesson
from slem_plugin.learning.samples import make_model
from slem_plugin.prediction import predict
from slem_plugin.testing.frames import made_frame, random_rotation, random_structure, two_species
from tests.fixtures import frames_of, unpacked
from workflows.export import Request, require_order

AXIS = along(40.0, 110.0)


def magnet(axis_v=AXIS, seed=0, across=0.0, sign_a=None, natoms=6):
    """A made-up spinor frame with moments along an axis: what time reversal allows, and a collinear splitting of its spins times the axis."""
    basis, structure = two_species("1s1p1d"), random_structure(seed, natoms, size=5.0 * (natoms / 6) ** (1 / 3))
    frame, split = (
        made_frame(structure, basis, Spin.SPINOR, seed=seed),
        made_frame(structure, basis, Spin.NONE, seed=seed),
    )
    operators = dict(frame.operators)
    row_x, column_x = frame.pairs.row_column_x
    diagonal_x = frame.pairs.onsite_p[frame.pairs.pair_x] & (row_x == column_x)
    sign_x = 1.0 if sign_a is None else np.array(sign_a)[frame.pairs.i_p[frame.pairs.pair_x]]
    for name, sign in (("H", -1), ("DM", 1)):
        O_sx = to_pauli(frame.operators[name].values_sx)
        size_x = sign * (0.2 * split.operators[name].values_sx[0] + 2.0 * diagonal_x * sign_x)
        other_v = np.cross(axis_v, [0.3, 0.8, -0.5])
        O_sx[1:] += np.outer(axis_v, size_x) + across * np.outer(other_v, np.roll(size_x, 1) * ~diagonal_x)
        operators[name] = replace(frame.operators[name], values_sx=from_pauli(O_sx))
    return replace(frame, operators=operators)


def small_model(frames):
    return make_model(frames, Config(channels="8x0e+4x1o+4x1e+4x2e", layers=1, latent=16, waves=6))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_axis_of_moments_is_found(seed):
    found = moments_of(magnet(seed=seed))
    np.testing.assert_allclose(found.axis_v, AXIS, atol=1e-9)
    assert found.across < 1e-7
    assert moments_of(magnet(across=0.2)).across > 0.05
    assert moments_of(made_frame(random_structure(), two_species("1s1p"), Spin.SPINOR)) is None
    assert moments_of(made_frame(random_structure(), two_species("1s1p"), Spin.NONE)) is None


def test_the_first_species_has_its_moments_up_however_the_run_turned_them():
    """The axis of an antiferromagnet is that of the first species, whose moment may be the smaller one."""
    sign_a = [1, -3] * 3
    for axis_v in (AXIS, -AXIS):
        found = moments_of(magnet(axis_v, sign_a=sign_a))
        np.testing.assert_allclose(found.axis_v, axis_v, atol=1e-6)
        moment_a = onsite_moments(magnet(axis_v, sign_a=sign_a), axis_v)
        assert (moment_a[::2] > 0).all()
        assert (moment_a[1::2] < 0).all()


def test_models_learn_the_moments_along_the_axis_of_each_run(tmp_path):
    """The same magnet in four directions is one and the same lesson, but for the lattice that spin-orbit coupling feels."""
    frames = [magnet(axis_v) for axis_v in (AXIS, UP, along(90, 0), along(150, 300))]
    model = small_model(frames)
    assert model.blueprint.aligned
    assert model.blueprint.moments == "along an axis"
    lessons = [make_lesson(frame, model) for frame in frames]
    for name in ("H", "DM"):
        for lesson in lessons[1:]:
            for mine, first in zip(lesson.targets[name].rest, lessons[0].targets[name].rest, strict=True):
                np.testing.assert_allclose(mine, first, atol=1e-5)
    save_checkpoint(tmp_path / "model.safetensors", model, {})
    assert load_checkpoint(tmp_path / "model.safetensors")[0].blueprint == model.blueprint


def test_predictions_point_where_they_are_asked_to():
    frame = magnet()
    model = small_model([frame])
    asked = predict(model, structure_of(frame))
    np.testing.assert_allclose(moments_of(asked).axis_v, AXIS, atol=1e-6)
    up = predict(model, replace(structure_of(frame), axis_v=None))
    np.testing.assert_allclose(np.abs(moments_of(up).axis_v), UP, atol=1e-6)
    run = find_target(unpacked("siesta", "soc"))
    sign = np.sign(onsite_moments(up).sum())
    turned = turned_to_input(up, replace(run, moments_av=sign * 2.5 * np.tile(AXIS, (up.natoms, 1))))
    for name in ("H", "DM"):
        np.testing.assert_allclose(turned.operators[name].values_sx, asked.operators[name].values_sx, atol=1e-6)
    over = turned_to_input(up, replace(run, moments_av=-sign * 2.5 * np.tile(AXIS, (up.natoms, 1))))
    np.testing.assert_allclose(onsite_moments(over, AXIS), -onsite_moments(turned, AXIS), atol=1e-6)
    assert turned_to_input(up, replace(run, moments_av=None)) is up
    asked_z = replace(run, moments_av=np.outer(np.ones(frame.natoms), UP))
    assert turned_to_input(frame, asked_z) is frame  # not a prediction: its moments are its own
    np.testing.assert_allclose(onsite_moments(turned_to_input(asked, asked_z)), np.abs(onsite_moments(up)), atol=1e-6)
    bare = replace(up, operators={"S": up.operators["S"]})
    assert turned_to_input(bare, asked_z) is bare


def test_a_turned_structure_with_its_axis_has_turned_matrices():
    frame = magnet()
    model, Q = small_model([frame, magnet(seed=1)]), random_rotation(3)
    structure = structure_of(frame)
    turned = replace(
        structure, cell_cv=structure.cell_cv @ Q.T, positions_av=structure.positions_av @ Q.T, axis_v=Q @ AXIS
    )
    here, there = predict(model, structure), predict(model, turned)
    for name in ("H", "DM"):
        mine, other = (np.sort(np.linalg.eigvalsh(whole(one, name))) for one in (here, there))
        np.testing.assert_allclose(mine, other, atol=1e-5)


def whole(frame, name):
    """The matrix at Gamma."""
    return frame.H((0, 0, 0)) if name == "H" else frame.DM((0, 0, 0))


def test_remains_of_the_scf_are_no_moments():
    """Runs begin with moments, and end with as much as their criterion lets pass; a field shows in H without spin."""
    frame = made_frame(random_structure(), two_species("1s1p"), Spin.SPINOR)
    for part, size, broken in ((3, 5e-4, False), (3, 0.1, True), (0, 1e-4, True)):
        O_sx = to_pauli(frame.operators["H"].values_sx)
        O_sx[part] += size * (1j if part == 0 else 1.0)
        H = replace(frame.operators["H"], values_sx=from_pauli(O_sx))
        model = small_model([replace(frame, operators={**frame.operators, "H": H})])
        assert model.blueprint.time_reversal is not broken, (part, size)


def test_orders_of_moments_along_an_axis():
    run = find_target(unpacked("siesta", "soc"))
    frame = magnet(sign_a=[1, -1] * 3)
    found_a = found_along(frame, AXIS)
    assert names_of_both_signs([magnet(), magnet(-AXIS)]) == names_of_both_signs([magnet()])
    same, turned = (replace(run, moments_av=np.outer(sign * found_a, AXIS)) for sign in (1, -1))
    assert other_order(frame, same) == other_order(frame, turned) == ""
    clear = int(np.abs(found_a).argmax())
    wrong_a = found_a.copy()
    wrong_a[clear] *= -1
    wrong = replace(run, moments_av=np.outer(wrong_a, AXIS))
    with pytest.raises(Refused, match="another magnetic order"):
        require_order(frame, wrong, Request())


def test_moments_that_a_prediction_lacks_are_told():
    run, bare = (
        find_target(unpacked("siesta", "soc")),
        made_frame(random_structure(), two_species("1s1p1d"), Spin.SPINOR),
    )
    asked_a = np.array([3.0, 0.2, 0, 0, 0, 0])
    asked = replace(run, moments_av=np.outer(asked_a, AXIS))
    (note,) = require_order(bare, asked, Request())
    begins = "fept.fdf begins with moments (-0.7 +1.8 +2.3) on the atoms 1"
    assert note == f"{begins}; the prediction has none, and the run starts without"
    assert require_order(magnet(), asked, Request()) == []
    assert require_order(bare, replace(run, moments_av=0.1 * asked.moments_av), Request()) == []


def test_moments_of_an_input_that_point_elsewhere():
    """Of one order in another direction it is told; inputs with moments in several directions turn no prediction, and are another order."""
    run, frame = find_target(unpacked("siesta", "soc")), magnet()
    elsewhere = replace(run, moments_av=np.tile(2.0 * along(130.0, 110.0), (frame.natoms, 1)))
    (note,) = require_order(frame, elsewhere, Request())
    assert "has them along another axis" in note
    crossed_av = 2.0 * np.array([along(90, 0), UP] * 3)
    crossed = replace(run, moments_av=crossed_av)
    assert turned_to_input(frame, crossed) is frame
    with pytest.raises(Refused, match="another magnetic order"):
        require_order(frame, crossed, Request())


def test_the_axis_does_not_depend_on_how_many_atoms_there_are():
    """Small opposed moments of many atoms of the first species do not say which end is up."""
    for natoms in (6, 24):
        frame = magnet(sign_a=[-0.05, 1] * (natoms // 2), natoms=natoms)
        np.testing.assert_allclose(moments_of(frame).axis_v, AXIS, atol=1e-6)


def test_a_frame_with_hardly_any_moments_does_not_spoil_a_model():
    """What an SCF leaves has no direction, and is small beside the moments of the other frames; large moments across the axis count."""
    frames = [magnet(along(20 * n, 30), seed=n) for n in range(3)]
    leftover = made_frame(random_structure(5), two_species("1s1p1d"), Spin.SPINOR, seed=5)
    O_sx = to_pauli(leftover.operators["H"].values_sx)
    row_x, column_x = leftover.pairs.row_column_x
    diagonal_x = leftover.pairs.onsite_p[leftover.pairs.pair_x] & (row_x == column_x)
    O_sx[1:] += diagonal_x * np.random.default_rng(0).normal(scale=3e-3, size=(3, O_sx.shape[1]))
    H = replace(leftover.operators["H"], values_sx=from_pauli(O_sx))
    leftover = replace(leftover, operators={**leftover.operators, "H": H})
    assert moments_of(leftover).across > 0.3
    assert small_model([*frames, leftover]).blueprint.moments == "along an axis"
    assert small_model([*frames, magnet(across=1.0)]).blueprint.moments == "in any direction"


def test_densities_whose_moments_point_elsewhere_are_not_combined():
    frame, near = magnet(), magnet(along(48.0, 110.0))
    for other, opposed in ((frame, False), (near, False), (magnet(UP), True), (magnet(-AXIS), True)):
        assert are_opposed(frame, other) is opposed
    assert not are_opposed(frame, made_frame(random_structure(), two_species("1s1p1d"), Spin.SPINOR))


def test_moments_of_a_run_with_spin_orbit_coupling_point_where_its_input_says():
    """FePt in SIESTA; its moments are those that began, but for a few degrees that the SCF turned them by."""
    run, (frame,) = find_target(unpacked("siesta", "soc")), frames_of("siesta", "soc")
    axis_v, moments_a = along_one_axis(asked_of(run))
    assert moments_a.tolist() == pytest.approx([3.0, 0.5])
    found = moments_of(frame)
    assert found.axis_v @ axis_v > 0.99
    assert found.across < 0.05
    assert found_along(frame, found.axis_v)[0] > 2


@pytest.mark.parametrize(
    ("behind", "moments"),
    [
        ("mag 2.0", [0, 0, 2]),
        ("mag +2.0", [0, 0, 2]),
        ("mag 1 0 -2", [1, 0, -2]),
        ("mag 2.0 angle1 90 angle2 90", [0, 2, 0]),
        ("mag 0 -3 4 angle1 90", [5, 0, 0]),
        ("angle1 180 mag 0 0 2", [0, 0, -2]),
    ],
)
def test_the_vectors_of_a_stru(behind, moments, tmp_path):
    folder = shutil.copytree(unpacked("abacus", "soc_gaas"), tmp_path / "run", ignore=shutil.ignore_patterns("OUT*"))
    lines = (folder / "STRU").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.split()[:1] == ["ATOMIC_POSITIONS"])
    at = next(n for n in range(first + 2, len(lines)) if len(lines[n].split()) >= 3)
    lines[at] = " ".join([*lines[at].split()[:3], behind])
    (folder / "STRU").write_text("\n".join(lines) + "\n")
    along_z = find_target(folder)  # with noncolin 0
    assert along_z.nonmagnetic is (abs(moments[2]) < 1e-3)
    given = (folder / "INPUT").read_text()
    (folder / "INPUT").write_text(re.sub(r"noncolin +0", "noncolin 1", given))
    found = find_target(folder).moments_av
    np.testing.assert_allclose(found[0], moments, atol=1e-12)
    if along_z.nonmagnetic:
        assert along_z.moments_av is None
    else:
        np.testing.assert_allclose(along_z.moments_av[0], found[0] * UP, atol=1e-12)


def test_spinors_of_abacus_are_without_magnetism_where_their_stru_says_so(tmp_path):
    """ABACUS ends iron with noncolin 0 in a magnet, and begins with moments of its own where all are 0."""
    folder = shutil.copytree(unpacked("abacus", "soc_gaas"), tmp_path / "run", ignore=shutil.ignore_patterns("OUT*"))
    given = find_target(folder)
    assert given.nonmagnetic
    assert given.moments_av is None
    stru = (folder / "STRU").read_text()
    (folder / "STRU").write_text(stru.replace(" mag 0.0 0.0 0.0001", ""))
    silent = find_target(folder)
    assert not silent.nonmagnetic
    assert silent.moments_av is None


def test_the_vectors_of_a_dat(tmp_path):
    folder = shutil.copytree(unpacked("openmx", "soc"), tmp_path / "run")
    (dat,) = folder.glob("*.dat")
    text = dat.read_text()
    assert find_target(folder).moments_av is None
    dat.write_text(text.replace("6.5 6.5 0.0 0.0", "7.5 5.5 90.0 0.0"))
    np.testing.assert_allclose(find_target(folder).moments_av, [[2, 0, 0], [0, 0, 0]], atol=1e-12)
    dat.write_text(text.replace("6.5 6.5 0.0 0.0", "7.5 5.5 Ga atom"))
    np.testing.assert_allclose(find_target(folder).moments_av, [[0, 0, 2], [0, 0, 0]], atol=1e-12)
