"""The script of docs/scale.md for SLEPc, by two processes of MPI, against dense levels; skipped where slepc4py and mpirun are not installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters.physics import kspace
from converters.starts.start import Options
from converters.tools import petsc
from tests.fixtures import frames_of
from tests.pages import blocks_of

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"


def python_with_slepc():
    """An interpreter and its environment; Debian's packages need to be told where they are."""
    for program in (sys.executable, "/usr/bin/python3"):
        places = {
            f"{name.upper()}_DIR": str(path)
            for name in ("petsc", "slepc")
            for path in sorted(Path("/usr/lib").glob(f"{name}dir/{name}*/*-linux-gnu-*"))
        }
        for environment in (os.environ, os.environ | places):
            if (
                Path(program).exists()
                and not subprocess.run(
                    [program, "-c", "import slepc4py.SLEPc"], env=environment, capture_output=True, check=False
                ).returncode
            ):
                return program, environment
    pytest.skip("slepc4py is not installed: the script of docs/scale.md is not run")


def test_slices_of_the_spectrum_by_two_processes(tmp_path):
    program, environment = python_with_slepc()
    if shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed: the script of docs/scale.md is not run by two processes")
    (frame,) = frames_of("siesta", "si2")
    petsc.write(frame, tmp_path, Options())
    (script,) = (block.text for block in blocks_of(PAGE.read_text()) if "import slepc4py" in block.text)
    (tmp_path / "levels.py").write_text(script)
    command = ["mpirun", "-n", "2", program, "levels.py", ".", "-20", "15"]
    environment = {**environment, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = np.sort(kspace.eigenvalues(frame, np.zeros((1, 3))).ravel())
    expected = expected[(expected > -20) & (expected < 15)]
    assert len(expected) > 10
    np.testing.assert_allclose([float(word) for word in done.stdout.split()], expected, atol=1e-9)
