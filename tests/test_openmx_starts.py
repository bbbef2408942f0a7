"""Starts of OpenMX, made of its input and radial functions alone: the files that OpenMX wrote itself for the same runs."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from converters.errors import Refused
from converters.frames.frame import Frame
from converters.openmx import grid, restart
from converters.openmx.neighbour_order import layout_of
from converters.openmx.restart_files import atom_file, write_density
from converters.openmx.scfout import read_scfout
from converters.openmx.target import cell_of_molecule, moved_inside, read_target
from converters.runs import code_module, search
from converters.starts.start import Options
from converters.starts.targets import find_target
from tests.distributions import distributed
from tests.fixtures import frames_of, unpacked
from tests.test_export import exported

BOHR = 0.529177249
FIXTURES = ("h2o", "f_orb_h2o", "f_orb_h2o_rot", "spin", "soc", "si2_v38", "skew")


@pytest.fixture(scope="module")
def radii(tmp_path_factory):
    """.pao files that say where their orbitals end, and nothing else."""
    folder = tmp_path_factory.mktemp("pao")
    for name in ("O6.0", "H6.0", "Fe5.5H", "Ga7.0", "As7.0", "Si7.0"):
        (folder / f"{name}.pao").write_text(f"radial.cutoff.pao   {re.findall(r'[0-9.]+', name)[0]}\n")
    return folder


def layout_in(folder, radii):
    target = find_target(folder)
    files = restart.pao_files(target, Options(basis_dir=radii))
    return layout_of(target, {label: restart.read_cutoff(path) for label, path in files.items()})


def own_files(folder):
    """Name of the run, its .scfout, and its restart folder."""
    (path,) = folder.glob("*.scfout")
    return path.stem, read_scfout(path), folder / f"{path.stem}_rst"


@pytest.mark.parametrize("name", FIXTURES)
def test_h_files_are_openmx_own_byte_for_byte(name, radii):
    """With the numbers of .scfout, all but the 8 bytes of a band energy that OpenMX does not use, and DM, which 3.8 does not write."""
    folder = unpacked("openmx", name)
    label, stored, rst = own_files(folder)
    layout = layout_in(folder, radii)
    for a in range(len(stored.norb_a)):
        mine, own = atom_file(layout, stored.values, a), (rst / f"{label}.rst{a + 1}").read_bytes()
        unused = 4 * (10 + 6 * (int(layout.neighbours_a[a]) + 1))
        assert len(mine) == len(own) or name == "si2_v38"
        assert mine[:unused] == own[:unused]
        assert mine[unused + 8 : len(own)] == own[unused + 8 :]


@pytest.mark.parametrize("name", FIXTURES)
def test_a_frame_gives_these_files_too(name, radii, tmp_path):
    """Through a frame, which has one half of H and no spin-orbit part of its own, they differ as OpenMX's own two halves do."""
    (frame,), folder = frames_of("openmx", name), unpacked("openmx", name)
    done = exported(frame, tmp_path, find_target(folder), route="h", basis_dir=radii)
    label, _, rst = own_files(folder)
    for path in done.files[:-1]:
        own = (rst / path.name).read_bytes()
        count = np.frombuffer(own, "<i4", 10)[8] + 1
        reals = [
            np.frombuffer(content[: len(own)], "<f8", -1, 4 * (10 + 6 * count)) for content in (path.read_bytes(), own)
        ]
        np.testing.assert_allclose(reals[0][1:], reals[1][1:], atol=2e-9)
    own = (rst / f"{label}.crst_check").read_text().split()
    assert done.files[-1].read_text().split()[: len(own)] == own
    assert done.keywords["scf.restart"] == "on"
    assert all(path.parent.name == f"{label}_rst" for path in done.files)


def test_u_of_zero_makes_openmx_take_h(radii, tmp_path):
    folder = shutil.copytree(unpacked("openmx", "si2_v38"), tmp_path / "run")
    (dat,) = folder.glob("*.dat")
    dat.write_text(dat.read_text() + "\n<Hubbard.U.values\n Si 1s 5.0\nHubbard.U.values>\nscf.restart.filename old\n")
    (frame,) = frames_of("openmx", "si2_v38")
    done = exported(frame, tmp_path / "start", find_target(folder), route="h", basis_dir=radii)
    text = done.patched.read_text()
    assert re.search(r"^scf.Hubbard.U +on$", text, re.M)
    assert re.findall(r"^ Si 1s.*", text, re.M) == [" Si 1s 0.0 2s 0.0 1p 0.0 2p 0.0 1d 0.0"]
    assert len(re.findall(r"^ *\d+ +Si .* off$", text, re.M)) == 2
    assert re.search(r"^scf.restart.filename +si2$", text, re.M)


def test_runs_that_take_h_are_started_from_h_alone(radii, tmp_path):
    (frame,), target = frames_of("openmx", "soc"), find_target(unpacked("openmx", "soc"))
    assert restart.choose_route(frame, target, Options()).name == "h"
    with pytest.raises(Refused, match="diagonalises the H"):
        exported(frame, tmp_path, target, route="charge", basis_dir=radii)
    (frame,), target = frames_of("openmx", "spin"), find_target(unpacked("openmx", "spin"))
    with_u = replace(target, settings={**target.settings, "scf.hubbard.u": "on"})
    assert restart.choose_route(frame, with_u, Options()).name == "h"
    assert "scf.Hubbard.U" not in restart.write_guess(frame, "h", tmp_path, with_u, Options(basis_dir=radii)).keywords


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("orbitalopt.method", "species", "contracts"),
        ("scf.eigenvaluesolver", "negf", "leads"),
        ("esm.switch", "on1", "grid"),
    ],
)
def test_runs_that_do_not_take_the_files_are_refused(keyword, value, reason, radii, tmp_path):
    (frame,), target = frames_of("openmx", "h2o"), find_target(unpacked("openmx", "h2o"))
    other = replace(target, settings={**target.settings, keyword: value})
    with pytest.raises(Refused, match=reason):
        restart.write_guess(frame, "charge", tmp_path, other, Options(basis_dir=radii))
    with pytest.raises(Refused, match="input of the run"):
        restart.write_guess(frame, "charge", tmp_path, None, Options())


def test_a_density_comes_from_the_levels_of_h_where_they_are_known():
    (frame,), target = frames_of("openmx", "si2_v38"), find_target(unpacked("openmx", "si2_v38"))
    assert restart.choose_route(frame, target, Options()).name == "h2dm"
    density = replace(frame, operators={name: frame.operators[name] for name in ("S", "DM")})
    assert restart.choose_route(density, target, Options()).name == "charge"


def test_mixers_that_lose_a_guess_are_named():
    target = find_target(unpacked("openmx", "spin"))
    assert any("StartPulay 6" in note for note in restart.advice(target))
    loose = replace(target, settings={**target.settings, "scf.criterion": "1e-6"})
    assert any("iteration 2" in note for note in restart.advice(loose))


# The grid


@pytest.mark.parametrize(
    ("height", "cutoff", "points"),
    [
        (2.05537, 100, 12),
        (3.25048, 300, 35),
        (5.43, 160, 42),
        (7.13400, 180, 56),
        (10.0, 180, 81),
        (28.7, 180, 225),
        (68.16, 180, 560),
    ],
)
def test_points_of_a_grid_are_products_of_small_primes(height, cutoff, points):
    """Numbers that OpenMX printed in the examples of its distribution: Angstrom, Ry."""
    assert grid.closest(height / BOHR * np.sqrt(cutoff) / np.pi) == points


def test_fractional_coordinates_are_moved_into_the_cell():
    found = moved_inside(np.array([[-0.25, 1.0, 1.75], [0.5, 0.0, -2.5]]))
    np.testing.assert_allclose(found, [[0.75, 1.0, 0.75], [0.5, 0.0, 0.5]])


def test_a_molecule_has_the_cell_that_openmx_makes(radii, tmp_path):
    """Water without Atoms.UnitVectors has 64 x 60 x 54 points at 150 Ry, as OpenMX printed for cutoffs of 6 Bohr."""
    places_av = np.array([[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
    sides_c = np.diag(cell_of_molecule(places_av, np.full(3, 6.0 * BOHR), 150))
    np.testing.assert_allclose(sides_c / (np.pi / np.sqrt(150.001) * BOHR), [64, 60, 54])
    folder = shutil.copytree(unpacked("openmx", "h2o"), tmp_path / "run")
    (dat,) = folder.glob("*.dat")
    shutil.copytree(radii, folder / "data/PAO")
    without = re.sub(r"<Atoms.UnitVectors.*Atoms.UnitVectors>", "", dat.read_text(), flags=re.S)
    dat.write_text(re.sub(r"DATA.PATH.*", "DATA.PATH data", without))
    target = read_target(dat)
    step = np.pi / np.sqrt(150.001) * BOHR
    np.testing.assert_allclose(np.diag(target.cell_cv) / step, grid.points_of(target))
    dat.write_text(dat.read_text().replace("Cluster", "Band"))
    with pytest.raises(Refused, match=r"three Atoms\.UnitVectors"):
        read_target(dat)


def test_fractional_coordinates_begin_where_the_grid_does():
    """A skew cell and atoms outside of it; OpenMX printed where it put them and its grid."""
    folder = unpacked("openmx", "skew")
    target = find_target(folder)
    np.testing.assert_allclose(target.positions_av / BOHR, read_scfout(folder / "skew.scfout").positions_av, atol=1e-12)
    moved = replace(target, settings={**target.settings, "scf.fixed.grid": "0.3 0.4 -0.7"})
    assert (folder / "skew_rst/skew.crst_check").read_text() == "1 9 10 12 1"
    assert grid.grid_of(target).shape_c == (9, 10, 12)
    np.testing.assert_allclose(grid.grid_of(target).origin_v, 0)
    np.testing.assert_allclose(grid.grid_of(moved).origin_v / BOHR, [0.3, 0.4, -0.7])


def test_the_grid_is_where_openmx_printed_it():
    printouts = [*sorted(distributed("openmx").glob("*/*.std")), unpacked("openmx", "skew") / "skew.std"]
    assert len(printouts) > 6
    for std in printouts:
        printed = re.search(r"Grid_Origin\s+(\S+)\s+(\S+)\s+(\S+)", std.read_text())
        found = grid.grid_of(read_target(std.with_suffix(".dat")))
        np.testing.assert_allclose(found.origin_v / BOHR, np.array(printed.groups(), dtype=float), atol=1e-11)


# The density


def frame_in(folder) -> Frame:
    (run,) = search(folder, ["openmx"])
    (frame,) = code_module("openmx").read_run(run)
    return frame


def test_densities_are_those_that_openmx_wrote(tmp_path):
    files = distributed("openmx")
    for folder in (*(files / name for name in ("si2", "spin", "mos2", "si2_v38")), unpacked("openmx", "skew")):
        frame, name = frame_in(folder), folder.name
        done = exported(frame, tmp_path / name, find_target(folder), route="charge", basis_dir=files / "pao")
        _, _, rst = own_files(folder)
        charges = [path for path in done.files if path.name.endswith("_0_0")]
        assert len(charges) == frame.spin.components
        for path in charges:
            assert np.abs(np.fromfile(path) - np.fromfile(rst / path.name)).max() < 2e-7, name  # of up to 0.4
        levels = exported(frame, tmp_path / "auto" / name, find_target(folder), basis_dir=files / "pao")
        assert levels.route.name == "h2dm"
        for path in [path for path in levels.files if path.name.endswith("_0_0")]:
            assert np.abs(np.fromfile(path) - np.fromfile(rst / path.name)).max() < 1e-4, name


def test_spinor_densities_are_those_that_openmx_wrote(tmp_path):
    files = distributed("openmx")
    frame, target = frame_in(files / "soc"), find_target(files / "soc")
    sources = [files / "pao" / f"{name}.pao" for name in ("Ga7.0", "As7.0")]
    paths = write_density(
        frame, grid.grid_of(target), sources, restart.electrons_of_atoms(frame, target), tmp_path, "gaas"
    )
    for path in paths:
        assert np.abs(np.fromfile(path) - np.fromfile(files / "soc/gaas_rst" / path.name)).max() < 2e-7
