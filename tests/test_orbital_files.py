"""Files of radial functions, and the S of runs that come with them: made files against PySCF, the codes' own S and kinetic energies."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pyscf import gto

from basis.conventions import to_standard
from basis.radial import TabulatedFunction, pack_functions, unpack_functions
from basis.shells import Species, cell_shells, parse_shells
from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters.abacus import orbitals as abacus
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.neighbours import Structure, structure_of
from converters.openmx import orbitals as openmx
from converters.physics import kspace
from converters.physics.overlap import Overlap
from converters.pyscf.molecule import convention, gaussian_species, make_basis, make_functions
from converters.runs import code_module, search
from converters.siesta import orbitals as siesta
from tests import radial_files
from tests.distributions import distributed
from tests.fixtures import unpacked
from tests.test_integrals import some_tables
from workflows.convert import best_functions


@pytest.mark.parametrize("kind", ["tables", "Gaussians"])
def test_functions_are_stored_as_they_are(kind):
    shells, functions = (found[1] for found in some_tables())
    if kind == "Gaussians":
        species, functions = gaussian_species("cc-pvdz", ["O"]).popitem()
        shells = species.shells
    about, rows = pack_functions([*functions, None])
    found, unknown = unpack_functions(about, rows, [shells, shells[:1]])
    assert unknown is None
    r = np.linspace(0.01, 5, 200)
    for mine, theirs in zip(functions, found, strict=True):
        np.testing.assert_array_equal(mine(r), theirs(r))
    with pytest.raises(ValueError, match="do not fit"):
        unpack_functions(about, rows, [shells])
    if kind == "Gaussians":
        with pytest.raises(ValueError, match="a shell of l = 2 has a radial function of l = 0"):
            unpack_functions(about, rows, [shells[::-1], shells[:1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r_g": np.array([0.0, 0.0, 1.0])}, "growing"),
        ({"values_g": np.array([0.0, np.nan, 1.0])}, "beyond all bounds"),
        ({"cutoff": 3.0}, "ends at 1"),
        ({"largest_wave": 0.0}, "cutoff"),
        ({"largest_wave": 1e9}, "claims 1e.09 waves"),
        ({"step": 1e-9}, "claims"),
    ],
)
def test_senseless_tables_are_refused(change, words):
    table = TabulatedFunction(np.linspace(0, 1, 3), np.ones(3), np.zeros(3), 1.0, 10.0)
    with pytest.raises(ValueError, match=words):
        replace(table, **change)


# Files
EXPONENTS = {(0, 1): 0.8, (0, 2): 0.35, (1, 1): 0.5, (2, 1): 0.9, (3, 1): 0.7}


POSITIONS = np.array([[0.0, 0, 0], [0.9, 0.8, -0.4], [2.1, 0.3, 1.5], [-1.0, 2.2, 0.8]])


def overlap_of_gaussians():
    """S of PySCF for four atoms of one species with the shells 2s1p1d1f, in our order."""
    shells = [[l, (a, 1.0)] for (l, _), a in sorted(EXPONENTS.items())]
    mol = gto.M(atom=[("Si", x) for x in POSITIONS], basis={"Si": shells}, verbose=0)
    species, species_a = make_basis(mol)
    order, signs = to_standard(cell_shells(species, species_a), convention)
    return mol.intor("int1e_ovlp")[np.ix_(order, order)] * signs[:, None] * signs


def dense_overlap(species, functions, bohr):
    structure = Structure(np.zeros((3, 3)), np.zeros(3, dtype=bool), POSITIONS / BOHR * bohr, np.zeros(4, dtype=int))
    frame = Overlap((species,), (functions,)).frame(structure, "test")
    return kspace.dense_at(frame, "S", np.zeros(3))[0]


def made_files(folder):
    plain = [(l, radial_files.gaussian(l, a)) for (l, _), a in sorted(EXPONENTS.items())]
    named = [
        (l, l + 1 + (n == 2), 1, False, R) for ((l, n), _), (_, R) in zip(sorted(EXPONENTS.items()), plain, strict=True)
    ]
    return {
        "abacus": abacus.read_species(radial_files.write_orb(folder / "Si_gga_10au.orb", plain)),
        "openmx": openmx.read_species(radial_files.write_pao(folder / "Si10.0.pao", plain), "s2p1d1f1"),
        "siesta xml": siesta.read_species(radial_files.write_ion_xml(folder / "Si.ion.xml", "Si", 14, named)),
        "siesta nc": siesta.read_species(radial_files.write_ion_nc(folder / "Si.ion.nc", "Si", 14, named)),
    }


@pytest.mark.parametrize("kind", ["abacus", "openmx", "siesta xml", "siesta nc"])
def test_made_files_have_the_overlaps_of_pyscf(tmp_path, kind):
    """Gaussians written in the format of each code are Gaussians when they are read."""
    species, functions = made_files(tmp_path)[kind]
    bohr = 0.529177249 if kind == "openmx" else 0.529177
    assert (species.name, species.number, species.size) == ("Si", 14, 17)
    atol = 2e-7 if kind == "openmx" else 2e-9  # OpenMX's way between the points of a table is a rougher one
    np.testing.assert_allclose(dense_overlap(species, functions, bohr), overlap_of_gaussians(), atol=atol)


def test_a_selection_takes_the_first_functions(tmp_path):
    plain = [(l, radial_files.gaussian(l, a)) for (l, _), a in sorted(EXPONENTS.items())]
    path = radial_files.write_pao(tmp_path / "Si10.0.pao", plain)
    species, functions = openmx.read_species(path, "s1p1")
    assert (species.radial, species.size, len(functions)) == ("Si10.0-s1p1", 4, 2)
    for selection, words in (
        ("s3", "has no s3"),
        ("g1", "has no pseudo.atomic.orbitals.L=4"),
        ("2s", "s2p2d1"),
        ("", "s2p2d1"),
    ):
        with pytest.raises(Refused, match=words):
            openmx.read_species(path, selection)
    with pytest.raises(Refused, match="contracted"):
        openmx.read_orbitals(path, Species("Si", 14, parse_shells("1s"), "Si10.0-s2>1"))


def read_made_file(path):
    if path.suffix == ".pao":
        return openmx.read_species(path, "s2p1d1f1")
    return {".orb": abacus, ".xml": siesta}[path.suffix].read_species(path)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("Si_gga_10au.orb", lambda text: text[: len(text) // 2], "numbers for l|others|cannot"),
        ("Si_gga_10au.orb", lambda text: text.replace("Mesh", "Masche"), "no Mesh"),
        ("Si_gga_10au.orb", lambda text: text.replace("Element", "Elephant"), "its element"),
        ("Si10.0.pao", lambda text: text.replace("radial.cutoff.pao", "radial"), "radial.cutoff.pao"),
        ("Si10.0.pao", lambda text: text.replace("-7.99", "x7.99", 1), "cannot be read"),
        ("Si.ion.xml", lambda text: text[: len(text) // 2], "not a complete ion file"),
        ("Si.ion.xml", lambda text: text.replace("<z>", "<y>").replace("</z>", "</y>"), "not a complete ion file"),
        ("Si.ion.xml", lambda text: text.replace("paos", "pais"), "no orbitals"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, damage, words):
    made_files(tmp_path)
    path = tmp_path / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(Refused, match=words):
        read_made_file(path)


def test_ion_files_that_are_cut_off_are_refused(tmp_path):
    made_files(tmp_path)
    path = tmp_path / "Si.ion.nc"
    whole = path.read_bytes()
    for length in (0, 2, 100, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused):
            siesta.read_species(path)


# The codes' own S
def with_functions(run, folders=()):
    """The frame of a run with the radial functions that are found."""
    frame = next(code_module(run.code).read_run(run))
    return best_functions(frame, {}, code_module(run.code).find_functions(run, frame, folders))[0]


@pytest.mark.parametrize("name", ["si2", "h2o"])
def test_siesta_has_our_overlap(name):
    """Of an .nc file alone, and of .ion.xml files; SIESTA's own tables are right to some 1e-9."""
    (run,) = search(unpacked("siesta", name), ["siesta"])
    frame = with_functions(run)
    assert Overlap.of_frame(frame).difference(frame)[0] < 5e-9


@pytest.mark.parametrize("mesh", [None, (2, 1, 1), (1, 1, 1)])
def test_pyscf_has_our_overlap(mesh):
    """A molecule, and crystals whose blocks are folded over a mesh; the lattice sums of PySCF are what is compared with."""
    from pyscf.pbc.gto import Cell

    from converters.pyscf import frame_from_scf

    if mesh is None:
        mf = gto.M(atom="O 0 0 0; H 0.8 0.6 0; H -0.8 0.6 0", basis="cc-pvdz", verbose=0).RHF()
    else:
        cell = Cell(
            a=np.diag([2.6, 3.2, 3.4]), atom="He 0 0 0; H 0.3 1.6 0.4; H 1.3 0 1.7", basis="gth-dzvp", verbose=0
        )
        cell.build(pseudo="gth-pade", mesh=[9] * 3)
        kpoints = cell.make_kpts(mesh)
        mf = cell.KRKS(kpts=kpoints) if len(kpoints) > 1 else cell.RKS()
    mf.max_cycle = 1
    mf.kernel()
    mf._chkfile.close()
    frame = frame_from_scf(mf)
    frame = replace(frame, functions=make_functions(mf.mol))
    assert frame.folded == (mesh is not None)
    assert Overlap.of_frame(frame).difference(frame)[0] < 1e-9


def test_the_way_in_which_a_version_integrates_is_found_by_its_overlap(tmp_path):
    """ABACUS may end its tables at the wave vector of lcao_ecut; the S of the run decides."""
    folder = tmp_path / "run"
    shutil.copytree(unpacked("abacus", "si2"), folder)
    (run,) = search(folder, ["abacus"])
    frame = next(code_module("abacus").read_run(run))
    shells = [(0, 0.8), (0, 0.35), (1, 0.5), (1, 1.2), (2, 0.9)]
    sharp = [(l, lambda r, l=l, a=a: radial_files.gaussian(l, a)(r) * (1 - r / 6.0)) for l, a in shells]
    radial_files.write_orb(folder / frame.basis[0].radial, sharp, cutoff=6.0)
    possible = list(code_module("abacus").find_functions(run, frame, ()))
    whole, cut = (one.functions for one in possible)
    assert cut[frame.basis[0]][0].largest_wave == pytest.approx(np.sqrt(50) / 0.529177)  # ecutwfc of the run
    for functions in (whole, cut):
        overlap = Overlap(frame.basis, [functions[species] for species in frame.basis])
        own = replace(frame, operators={"S": Operator(overlap.like(frame)[None])})
        found, files, difference, _ = best_functions(own, {}, possible)
        assert [file.name for file in files] == [frame.basis[0].radial]
        assert difference < 1e-12
        assert found.functions[0] is functions[frame.basis[0]]


ARCHIVES = {
    "abacus": (["si2", "h2o", "h2o_gamma_only", "soc_gaas", "spin_fe_f"], 2e-7),
    "openmx": (["h2o", "si2", "mos2", "soc", "spin", "f_orb_h2o", "f_orb_h2o_rot", "si2_v38"], 2e-7),
    "siesta": (["h2o", "si2", "ptse2", "spin", "soc", "nc_o2"], 5e-9),
}


@pytest.mark.parametrize("code", list(ARCHIVES))
def test_all_codes_have_our_overlap(code):
    """S, and the occupied levels of (H, our S), of all runs."""
    folder = distributed(code)
    names, tolerance = ARCHIVES[code]
    for name in names:
        for run in search(folder / name, [code]):
            frame = with_functions(run, [folder / "orb", folder / "pao"])
            overlap = Overlap.of_frame(frame)
            assert overlap is not None, name
            found, where = overlap.difference(frame)
            assert found < tolerance, f"{name}: {found:.2g} for {where}"
            assert largest_level_shift(frame, overlap) < 1e-3, name


def largest_level_shift(frame, overlap):
    """How far occupied levels (eV) move when the S of the run is replaced by ours."""
    changed = replace(frame, operators={**frame.operators, "S": Operator(overlap.like(frame)[None])})
    kpoints = frame.spectrum.kpoints_kc[:4]
    here, there = (kspace.eigenvalues(one, kpoints) for one in (frame, changed))
    most = 2 if frame.spin is Spin.NONE else 1
    occupied = int(frame.outcome.electrons / most / (2 if frame.spin is Spin.COLLINEAR else 1))
    return np.abs(here - there)[..., :occupied].max()


@pytest.mark.parametrize(
    ("code", "name", "folder_of"),
    [
        ("siesta", "h2o", lambda code: unpacked(code, "h2o").parent),
        ("siesta", "si2", lambda code: unpacked(code, "si2").parent),
        ("siesta", "ptse2", distributed),
        ("openmx", "h2o", distributed),
        ("openmx", "mos2", distributed),
        ("openmx", "spin", distributed),
    ],
)
def test_kinetic_energies_are_those_that_the_codes_printed(code, name, folder_of):
    """Tr(DM T), in the constants of the code."""
    folder = folder_of(code)
    (run,) = search(folder / name, [code])
    frame = with_functions(run, [folder / "pao"])
    T_x = Overlap.of_frame(frame).values(structure_of(frame), frame.pairs, kinetic=True)
    weight_x = np.where(frame.pairs.onsite_p, 1.0, 2.0)[frame.pairs.pair_x]
    found = float((frame.operators["DM"].values_sx.sum(axis=0) * T_x * weight_x).sum())
    printed = next(run.folder.glob("*.out")).read_text()
    if code == "siesta":
        expected = float(re.findall(r"^siesta: Ekin\s+=\s+(\S+)", printed, re.M)[-1])
        found *= (13.60580 * 0.529177**2) / (HARTREE / 2 * BOHR**2)
    else:
        expected = float(re.findall(r"Ukin\.\s+(\S+)", printed)[-1]) * HARTREE
        found *= 0.529177249**2 / BOHR**2
    assert found == pytest.approx(expected, rel=5e-7)
