"""Inputs of SIESTA that are read without sisl are read as sisl reads them, and all others are left to it."""

import sys
import warnings

import numpy as np
import pytest

from converters.siesta.plain import PlainInput
from converters.siesta.restart import read_target, target_of

INPUT = """# a comment
SystemLabel salt   # another
Number_Of_Atoms 2
NumberOfSpecies 2
%block Chemical_Species_Label
 2  8 O
 1 12 Mg
%endblock ChemicalSpeciesLabel
LatticeConstant 4.2 Ang
%block LatticeVectors
 0.0 0.5 0.5
 0.5 0.0 0.5
 0.5 0.5 0.1
%endblock LatticeVectors
AtomicCoordinatesFormat Fractional
%block AtomicCoordinatesAndAtomicSpecies
 0.01 -0.2 0.0 1
 0.5 1.5 0.5 2 # oxygen
%endblock AtomicCoordinatesAndAtomicSpecies
%block kgrid_Monkhorst_Pack
 2 0 0 0.5
 0 2 0 0.0
 0 0 2
%endblock
ElectronicTemperature 25 meV
SCF.DM.Tolerance 1.d-5
Spin polarized
Spin.Fix T
Spin.Total 2.
%block DM.InitSpin
 1 +
 2 -0.5
%endblock DM.InitSpin
"""
CHANGES = [
    (),
    ("Fractional", "NotScaledCartesianAng"),
    ("25 meV", "300 K"),
    ("25 meV", "0.002 Ry"),
    ("Spin polarized", "SpinPolarized T"),
]
LEFT_TO_SISL = [
    ("4.2", "4.2d0"),
    ("Fractional", "ScaledCartesian"),
    ("AtomicCoordinatesFormat Fractional", ""),
    ("Ang\n", "Bohr\n"),
    ("25 meV", "1 kJ/mol"),
    ("Number_Of_Atoms 2", "NumberOfAtoms 1"),
    ("Number_Of_Atoms 2", "NumberOfAtoms: 2"),
    ("SystemLabel salt", "SystemLabel = salt"),
    ("SystemLabel salt", "SystemLabel salt\nAtomicCoordinatesOrigin COP"),
    ("SystemLabel salt", "SystemLabel salt\n%include other.fdf"),
    ("SystemLabel salt", "SystemLabel salt\n%block SuperCell\n 1 0 0\n 0 1 0\n 0 0 2\n%endblock"),
    ("0.01 -0.2 0.0 1", "0.01 O 0.0 1"),
]


@pytest.mark.parametrize("change", CHANGES, ids=" to ".join)
def test_plain_inputs_are_read_as_sisl_reads_them(change, tmp_path):
    from sisl.io.siesta import fdfSileSiesta

    path = tmp_path / "run.fdf"
    path.write_text(INPUT.replace(*change) if change else INPUT)
    mine = target_of(path, PlainInput.of(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sisl leaves its files open
        fdf = fdfSileSiesta(path)
        theirs = target_of(path, fdf)
        fdf.fh.close()
    for name, value in vars(theirs).items():
        if isinstance(value, np.ndarray | float):
            np.testing.assert_allclose(getattr(mine, name), value, rtol=1e-5, atol=1e-12, err_msg=name)
        else:
            assert getattr(mine, name) == value, name


@pytest.mark.parametrize("change", LEFT_TO_SISL, ids=lambda change: change[1].strip())
def test_other_inputs_are_left_to_sisl(change, tmp_path):
    path = tmp_path / "run.fdf"
    path.write_text(INPUT.replace(*change))
    assert PlainInput.of(path) is None
    path.write_bytes(INPUT.replace("a comment", "dirección").encode("latin-1"))
    assert PlainInput.of(path) is None


def test_a_plain_input_needs_no_sisl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sisl.io.siesta", None)
    path = tmp_path / "run.fdf"
    path.write_text(INPUT.replace("Spin.Fix T", "Spin.Fix"))  # a keyword alone is true
    target = read_target(path)
    assert (target.labels_a, target.moment, target.settings["label"]) == (("Mg", "O"), 2.0, "salt")
