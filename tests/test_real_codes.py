"""Restarts of the codes themselves from their own converged matrices: the fewest iterations that each code knows.

Each needs the line that runs the code in its folder, and the code's own files, which we do not carry:

    SLEM_ABACUS="abacus"                                  SLEM_ABACUS_FILES=folder of .upf and .orb files
    SLEM_SIESTA='siesta < "$FDF" > siesta.out'            SLEM_SIESTA_FILES=folder of .psf files
    SLEM_OPENMX='openmx "$DAT" > openmx.std'              SLEM_OPENMX_FILES=a DFT_DATA folder (PAO/, VPS/)

Without them the tests are skipped, and the end of the test run says so.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from converters.starts.targets import find_target, restart_module
from tests.fixtures import frames_of, unpacked
from workflows.export import Request, export

CASES = [
    ("abacus", "si2", "dm", 1),
    ("abacus", "si2", "h2dm", 1),
    ("abacus", "si2", "h", 1),
    ("abacus", "spin_fe_f", "dm", 1),
    ("abacus", "soc_gaas", "dm", 1),
    ("abacus", "soc_gaas", "h", 1),
    ("siesta", "si2", "dm", 1),
    ("siesta", "si2", "h2dm", 1),
    ("siesta", "spin", "dm", 1),
    ("siesta", "nc_o2", "dm", 1),
    ("siesta", "soc", "dm", 4),
    ("openmx", "spin", "h", 3),
    ("openmx", "spin", "charge", 5),
    ("openmx", "soc", "h", 2),
    ("openmx", "skew", "h", 2),
    ("openmx", "skew", "charge", 3),
    ("openmx", "h2o", "charge", 3),
]


def command_of(code):
    command, files = (os.environ.get(f"SLEM_{code.upper()}{end}") for end in ("", "_FILES"))
    if not command or not files:
        pytest.skip(f"SLEM_{code.upper()} and SLEM_{code.upper()}_FILES name no {code}")
    return command, Path(files)


def bring_files(code, folder, files):
    """Give the copy of a run the pseudopotentials and orbitals of the code."""
    if code == "abacus":
        text = (folder / "INPUT").read_text()
        (folder / "INPUT").write_text(re.sub(r"^(pseudo_dir|orbital_dir).*", rf"\1 {files}", text, flags=re.M))
    elif code == "siesta":
        for path in files.glob("*.psf"):
            shutil.copy(path, folder)
    else:
        (dat,) = folder.glob("*.dat")
        dat.write_text(re.sub(r"^DATA\.PATH.*", f"DATA.PATH {files}", dat.read_text(), flags=re.M))


@pytest.mark.parametrize(("code", "name", "route", "most"), CASES)
def test_own_matrices_restart_at_the_minimum(code, name, route, most, tmp_path):
    command, files = command_of(code)
    (frame,) = frames_of(code, name)
    folder = shutil.copytree(unpacked(code, name), tmp_path / "run")
    bring_files(code, folder, files)
    target = find_target(folder)
    done = export(frame, tmp_path / "start", Request(route=route), target)
    for old in (*folder.glob("OUT.*"), *folder.glob("*_rst")):
        shutil.rmtree(old)
    for old in (*folder.glob("*.out"), *folder.glob("*.DM"), *folder.glob("*.std")):
        old.unlink()
    shutil.copytree(tmp_path / "start", folder, dirs_exist_ok=True)
    names = {"FDF": target.path.name, "DAT": target.path.name}
    subprocess.run(command, shell=True, cwd=folder, env={**os.environ, **names}, check=True, timeout=3600)
    progress = restart_module(code).read_progress(folder)
    assert progress.took_guess, done.notes
    assert progress.converged
    assert progress.iterations <= most
    assert progress.energy == pytest.approx(frame.outcome.energy, abs=target.energy_tolerance)
