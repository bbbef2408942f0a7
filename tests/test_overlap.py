"""Overlaps from radial functions: analytic integrals, PySCF, and the codes' own S."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from pyscf import gto
from scipy.integrate import trapezoid

from basis.conventions import to_standard
from basis.radial import GaussianFunction, TabulatedFunction, pack_functions, reach, table_of_points, unpack_functions
from basis.rotations import wigner
from basis.shells import Shell, Species, cell_shells, parse_shells
from basis.spin import Spin
from basis.twocentre import KINETIC, TwoCentre, gaunt
from basis.units import BOHR, HARTREE
from converters.abacus import orbitals as abacus
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.neighbours import Structure, structure_of
from converters.openmx import orbitals as openmx
from converters.physics import kspace
from converters.physics.overlap import LARGEST_DENSE, Overlap, require_positive
from converters.pyscf.molecule import convention, gaussian_species, make_basis, make_functions
from converters.runs import code_module, search
from converters.siesta import orbitals as siesta
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.testing.frames import random_rotation
from tests import radial_files
from tests.conftest import make_random_frame
from tests.contract import unpacked
from tests.distributions import distributed
from tests.oracles import real_harmonics, sphere_grid
from workflows.convert import best_functions

# Integrals


def slater(n, exponent, points=1000):
    """Normalised r^(n-1) exp(-z r), lengths and exponent in Angstrom."""
    from math import factorial

    norm = (2 * exponent) ** (n + 0.5) / np.sqrt(factorial(2 * n))
    r = np.linspace(0, 35 / exponent, points)
    values = norm * r ** (n - 1) * np.exp(-exponent * r)
    slopes = norm * np.exp(-exponent * r) * ((n - 1) * r ** max(n - 2, 0) - exponent * r ** (n - 1))
    return TabulatedFunction(r, values, slopes, float(r[-1]), 60.0 * exponent)


@pytest.mark.parametrize("exponent", [0.9, 2.5])
def test_slater_functions_have_their_closed_forms(exponent):
    shells = (Shell(0), Shell(1))
    functions = (slater(1, exponent), slater(2, exponent))
    r = np.array([0.0, 0.3, 0.77, 1.9, 4.2])
    p = exponent * r
    along_z = np.outer(r, [0, 0, 1.0])
    S = TwoCentre([shells], [functions]).blocks(0, 0, along_z)
    np.testing.assert_allclose(S[:, 0, 0], np.exp(-p) * (1 + p + p**2 / 3), atol=1e-9)
    pi_pi = np.exp(-p) * (1 + p + 2 * p**2 / 5 + p**3 / 15)
    np.testing.assert_allclose(S[:, 1, 1], pi_pi, atol=1e-9)  # y
    np.testing.assert_allclose(S[:, 3, 3], pi_pi, atol=1e-9)  # x
    sigma = np.exp(-p) * (1 + p + p**2 / 5 - 2 * p**3 / 15 - p**4 / 15)
    np.testing.assert_allclose(S[:, 2, 2], sigma, atol=1e-9)  # z, both pointing the same way
    T = TwoCentre([shells], [functions], KINETIC).blocks(0, 0, along_z)
    # Its waves fall off slowly where the function has a cusp.
    exact = HARTREE * (exponent * BOHR) ** 2 / 2 * np.exp(-p) * (1 + p - p**2 / 3)
    np.testing.assert_allclose(T[:, 0, 0], exact, rtol=1e-4, atol=1e-5)


def test_gaunt_coefficients_are_integrals():
    points, weights = sphere_grid(12)
    for l1, l2, L in [(0, 0, 0), (1, 1, 0), (1, 1, 2), (2, 1, 1), (3, 2, 5), (4, 4, 4), (2, 4, 2)]:
        Y = [real_harmonics(l, points) for l in (l1, l2, L)]
        exact = np.einsum("g,ga,gb,gc->abc", weights, *Y)
        np.testing.assert_allclose(gaunt(l1, l2, L), exact, atol=1e-12)


H_SHELL = {"O": [[0, (0.9, 1.0)], [5, (1.3, 1.0)]], "H": [[1, (0.8, 1.0)]], "C": [[4, (0.5, 1.0)]]}


@pytest.mark.parametrize("basis", ["def2-svp", "cc-pvqz", H_SHELL], ids=str)
def test_gaussians_are_those_of_pyscf(basis):
    """Up to h functions, atoms in touch, near each other, and a pair that is far."""
    mol = gto.M(
        atom="O 0 0 0; H 0.3 0.9 0.1; H -.7 .1 .5; C 2.5 1 -3; O 0.1 0.2 0.05; H 9 9 0",
        basis=basis,
        verbose=0,
        spin=None,
    )
    species, species_a = make_basis(mol)
    functions = make_functions(mol)
    shells = [one.shells for one in species]
    order, signs = to_standard(cell_shells(species, species_a), convention)
    positions_av = mol.atom_coords() * BOHR

    def dense(make, components=()):
        size_a = [species[s].size for s in species_a]
        ends = np.cumsum([0, *size_a])
        matrix = np.zeros((*components, ends[-1], ends[-1]))
        for i, a in enumerate(species_a):
            for j, b in enumerate(species_a):
                block = make(a, b, (positions_av[j] - positions_av[i])[None])[0]
                matrix[..., ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
        return matrix

    def ours(matrix):
        return matrix[..., order, :][..., order] * signs[:, None] * signs

    overlap, kinetic = TwoCentre(shells, functions), TwoCentre(shells, functions, KINETIC)
    np.testing.assert_allclose(dense(overlap.blocks), ours(mol.intor("int1e_ovlp")), atol=1e-10)
    np.testing.assert_allclose(dense(kinetic.blocks), ours(mol.intor("int1e_kin")) * HARTREE, atol=1e-8)
    # PySCF differentiates the electron's coordinate of the first function.
    np.testing.assert_allclose(dense(overlap.gradients, (3,)), ours(mol.intor("int1e_ipovlp")) / BOHR, atol=2e-9)


def some_tables(seed=0):
    """Two species with s to g, whose functions end smoothly or with a kink at different radii (Angstrom)."""
    random = np.random.default_rng(seed)
    shells, functions = (parse_shells("2s1p1d1f1g"), parse_shells("1s2p1d")), []
    for species in shells:
        mine = []
        for shell in species:
            cutoff = random.uniform(2.5, 4.0)
            r = np.linspace(0, cutoff, 400)
            values = r**shell.l * np.exp(-random.uniform(0.5, 1.5) * r**2) * (1 - r / cutoff) ** random.integers(1, 4)
            values /= np.sqrt(trapezoid(values**2 * r**2, r))
            mine.append(table_of_points(r, values, cutoff, 150.0, 0.0))
        functions.append(tuple(mine))
    return shells, functions


def vectors(count, seed=0):
    random = np.random.default_rng(seed)
    found = random.normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True) * random.uniform(0.2, 7.5, (count, 1))


@pytest.mark.parametrize("kind", [(0, 0), (0, 1), (1, 0)])
def test_blocks_turn_with_their_vectors(kind):
    """Turned and mirrored, from s to g."""
    shells, functions = some_tables()
    integrals = TwoCentre(shells, functions)
    there = vectors(30)
    for improper in (False, True):
        Q = random_rotation(3, improper)
        D = [np.zeros((sum(s.size for s in shells[k]),) * 2) for k in kind]
        for matrix, k in zip(D, kind, strict=True):
            at = 0
            for shell in shells[k]:
                matrix[at : at + shell.size, at : at + shell.size] = wigner(shell.l, Q)
                at += shell.size
        turned = np.einsum("ab,pbc,dc->pad", D[0], integrals.blocks(*kind, there), D[1])
        np.testing.assert_allclose(integrals.blocks(*kind, there @ Q.T), turned, atol=1e-12)


def test_blocks_and_gradients_of_both_directions_agree():
    shells, functions = some_tables()
    integrals = TwoCentre(shells, functions)
    there = np.concatenate([vectors(20), np.zeros((1, 3)), [[0, 0, 8.1]]])
    for a, b in ((0, 0), (0, 1), (1, 1)):
        np.testing.assert_allclose(
            integrals.blocks(a, b, there), integrals.blocks(b, a, -there).swapaxes(1, 2), atol=1e-13
        )
        step = 1e-4
        for v, direction in enumerate(np.eye(3) * step):
            numbers = (integrals.blocks(a, b, there + direction) - integrals.blocks(a, b, there - direction)) / (
                2 * step
            )
            np.testing.assert_allclose(integrals.gradients(a, b, there)[:, v], numbers, atol=2e-7)


def test_tables_of_gaussians_have_the_closed_form():
    """Sums over waves against formulas, s to g, from touching atoms to far ones."""
    shells = parse_shells("1s1p1d1f1g")
    exact, tables = [], []
    for shell, exponent in zip(shells, (2.0, 1.5, 1.1, 2.5, 1.7), strict=True):
        R = radial_files.gaussian(shell.l, exponent)
        exact.append(
            GaussianFunction(shell.l, np.array([exponent]), np.array([R(np.array([1.0]))[0] * np.exp(exponent)]))
        )
        r = np.linspace(0, 6, 3000)
        tables.append(table_of_points(r, R(r), 6.0, 60.0, 0.0))
    for operator, atol in (((0, 1.0), 1e-10), (KINETIC, 1e-7)):
        one, two = (TwoCentre([shells], [tuple(f)], operator) for f in (exact, tables))
        np.testing.assert_allclose(two.blocks(0, 0, vectors(50)), one.blocks(0, 0, vectors(50)), atol=atol)


def test_sampling_is_the_sum_over_the_sampled_points():
    """S_ii of a sampled function is the sum over its points, as its code would find it."""
    shells, functions = some_tables()
    step = 0.03
    sampled = tuple(replace(f, step=step, largest_wave=np.pi / step) for f in functions[0])
    S = TwoCentre([shells[0]], [sampled]).blocks(0, 0, np.zeros((1, 3)))[0]
    for n, function in enumerate(sampled[:2]):
        r = np.arange(0, function.cutoff, step)
        assert S[n, n] == pytest.approx((function(r) ** 2 * r**2).sum() * step, abs=1e-9)


def test_nothing_overlaps_beyond_the_cutoffs():
    shells, functions = some_tables()
    integrals = TwoCentre(shells, functions)
    farthest = integrals.reach_ss[0, 1]
    assert farthest == max(reach(f, g) for f in functions[0] for g in functions[1])
    assert not integrals.blocks(0, 1, np.array([[0, 0, farthest + 1e-9]])).any()
    assert np.abs(integrals.blocks(0, 1, np.array([[0, 0, farthest - 0.05]]))).max() < 1e-3


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


# Structures


def silicon_overlap():
    shells, functions = some_tables()
    return Overlap((Species("Si", 14, shells[1], "made"),), (functions[1],))


def structure_from(atoms, species_a=None):
    species_a = np.zeros(len(atoms), dtype=int) if species_a is None else species_a
    return Structure(np.array(atoms.cell), np.array(atoms.pbc), np.array(atoms.positions), species_a)


def test_a_supercell_has_the_overlap_of_its_cell():
    overlap = silicon_overlap()
    small = overlap.frame(structure_from(bulk("Si")), "test")
    large = overlap.frame(structure_from(bulk("Si") * (2, 1, 1)), "test")
    k = np.array([0.1, 0.3, -0.2])
    there = np.concatenate(
        [np.linalg.eigvalsh(kspace.dense_at(small, "S", k / (2, 1, 1) + (n / 2, 0, 0))[0]) for n in (0, 1)]
    )
    np.testing.assert_allclose(np.linalg.eigvalsh(kspace.dense_at(large, "S", k)[0]), np.sort(there), atol=1e-12)


def with_strong_bond(frame, p):
    """The frame with twice the overlap of one pair, as no functions can have it."""
    values_sx = frame.operators["S"].values_sx.copy()
    values_sx[:, frame.pairs.start_p[p] : frame.pairs.start_p[p + 1]] *= 2.5
    return replace(frame, operators={"S": Operator(values_sx)})


@pytest.mark.parametrize("cells", [(1, 1, 1), (3, 3, 2)])
def test_an_impossible_overlap_names_its_atoms(cells):
    """By diagonalising, and of a large matrix by Lanczos steps."""
    frame = silicon_overlap().frame(structure_from(bulk("Si", cubic=True) * cells), "test")
    assert (frame.norb > LARGEST_DENSE) == (cells != (1, 1, 1))
    lowest = require_positive(frame)
    exact = np.linalg.eigvalsh(kspace.dense_at(frame, "S", np.zeros(3))[0])[0]
    assert 0 < lowest < 2 * exact + 0.05
    bonds = np.where(frame.pairs.onsite_p, np.inf, np.linalg.norm(frame.vectors_pv, axis=1))
    p = int(np.flatnonzero(bonds < bonds.min() + 1e-3)[3])
    names = rf"Si {frame.pairs.i_p[p]} and Si {frame.pairs.j_p[p]} \(counted from 0\), 2.35"
    with pytest.raises(Refused, match=f"not positive definite .* {names}"):
        require_positive(with_strong_bond(frame, p))


def test_a_pair_that_a_frame_lacks_is_noticed():
    overlap = silicon_overlap()
    frame = overlap.frame(structure_from(bulk("Si")), "test")
    assert overlap.difference(frame)[0] < 1e-14
    nearest = int(np.where(frame.pairs.onsite_p, np.inf, np.linalg.norm(frame.vectors_pv, axis=1)).argmin())
    kept = np.delete(np.arange(len(frame.pairs)), nearest)
    pairs = frame.pairs.take(kept)
    less = replace(frame, pairs=pairs, operators={"S": Operator(overlap.values(structure_of(frame), pairs)[None])})
    found, where = overlap.difference(less)
    assert found > 0.01
    assert "leaves out" in where


# In datasets


def frame_with_functions(seed=0, scale=1.0):
    frame = make_random_frame(seed)
    functions = []
    for species in frame.basis:
        tables = []
        for shell in species.shells:
            r = np.linspace(0, 3, 50)
            values = scale * r**shell.l * (1 - r / 3) ** 2
            tables.append(table_of_points(r, values, 3.0, 50.0, 0.0))
        functions.append(tuple(tables))
    return replace(frame, functions=tuple(functions))


def test_a_dataset_keeps_radial_functions(tmp_path):
    path = tmp_path / "data.h5"
    known = frame_with_functions(1)
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
        writer.append(replace(known, functions=(known.functions[0], None)))
    with Dataset(path) as data:
        assert data.functions[1] is None
        np.testing.assert_array_equal(data.functions[0][1].values_g, known.functions[0][1].values_g)
    with DatasetWriter(path) as writer:
        writer.append(replace(known, provenance=replace(known.provenance, source="f" * 64)))
    with Dataset(path) as data:
        assert all(mine is not None for mine in data.functions)
        assert data[0].functions is data.functions


def test_a_species_has_one_set_of_functions(tmp_path):
    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(frame_with_functions(0))
        with pytest.raises(Refused, match="other radial functions for Si 2s1p1d r1"):
            writer.append(frame_with_functions(1, scale=1.1))


def test_datasets_of_older_programs_are_read_and_added_to(tmp_path):
    import h5py

    path = tmp_path / "data.h5"
    with DatasetWriter(path) as writer:
        writer.append(make_random_frame(0))
    with h5py.File(path, "r+") as file:
        del file["basis/functions"], file["basis/functions_about"]
    with Dataset(path) as data:
        assert data.functions == (None, None)
    with DatasetWriter(path) as writer:
        writer.append(frame_with_functions(1))
    with Dataset(path) as data:
        assert len(data) == 2
        assert all(mine is not None for mine in data[0].functions)
