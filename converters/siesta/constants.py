"""Which Rydberg and Bohr a run of SIESTA was computed with: files hold atomic units, and versions differ in what these are.

The numbers of the run decide: a length that stands in Angstrom in one file and in Bohr in another, a Fermi level in eV and in
Rydberg. Where there are none, the version does; where there is none either, the kind of the file (HSX 1 and 2 are of SIESTA 5, all
others are taken for older), and the frame says that it is a guess.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.units import BOHR, RYDBERG
from converters.errors import Kind, Refused
from converters.siesta import fdf, text
from converters.siesta.sparse import Matrices

# Files that say which constants they are of are nearer to them than this; the two differ by 4e-7 (Bohr) and 8e-6 (Rydberg).
SAME_BOHR, SAME_RYDBERG = 1e-7, 2e-6
# Numbers that differ by more are of different geometries or runs, and say nothing.
OTHER_CELL, OTHER_FERMI = 1e-5, 1e-4


@dataclass(frozen=True)
class Constants:
    """Rydberg (eV) and Bohr (Angstrom) of a run, and how they are known; from nothing where they are a guess."""

    rydberg: float
    bohr: float
    known_from: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of a guess."""
        guess = f"no file says which constants the run had; 1 Ry was taken as {self.rydberg:.7g} eV"
        return () if self.known_from else (guess,)


# SIESTA up to 4.1 and its development versions of 2021; 5.0 and the MaX releases use CODATA 2018.
LEGACY, MODERN = Constants(13.60580, 0.529177), Constants(RYDBERG, BOHR)


def find_constants(own: Mapping[str, Path], matrices: Matrices, version: str) -> Constants:
    """The constants of a run, whose files are given by their suffix."""
    votes = [*votes_of_lengths(own, matrices), *votes_of_energies(own, matrices)]
    votes += votes_of_version(version) if not votes else []
    if not votes:
        return MODERN if matrices.modern else LEGACY
    if len({constants for constants, _ in votes}) > 1:
        found = " and ".join(f"{constants.rydberg} eV in a Rydberg ({why})" for constants, why in votes)
        raise Refused(Kind.DAMAGED, matrices.path, f"is of a run with {found}", "files of one run")
    constants, _ = votes[0]
    return replace(constants, known_from=", ".join(why for _, why in votes))


def votes_of_lengths(own: Mapping[str, Path], matrices: Matrices) -> Iterator[tuple[Constants, str]]:
    """What lattices in Angstrom say beside the one in Bohr."""
    in_bohr = matrices.cell_cv
    if in_bohr is None and ".XV" in own:
        in_bohr = text.read_xv(own[".XV"])[0]
    if in_bohr is None:
        return
    if ".STRUCT_OUT" in own:
        yield from vote(ratio_of(text.read_structure(own[".STRUCT_OUT"], 1.0)[0], in_bohr), "the cell in STRUCT_OUT")
    if ".fdf" in own and (lattice_cv := fdf.read_fdf(own[".fdf"]).lattice()) is not None:
        yield from vote(ratio_of(lattice_cv, in_bohr), "the lattice in the fdf file")


def ratio_of(angstrom_cv: Array, bohr_cv: Array) -> float | None:
    """The length of a Bohr, where both are the same lattice."""
    ratio = float(np.linalg.norm(angstrom_cv) / np.linalg.norm(bohr_cv))
    same = np.abs(angstrom_cv - ratio * bohr_cv).max() < OTHER_CELL * np.abs(angstrom_cv).max()
    return ratio if same and abs(ratio / BOHR - 1) < OTHER_CELL else None


def vote(bohr: float | None, why: str) -> Iterator[tuple[Constants, str]]:
    for constants in (LEGACY, MODERN):
        if bohr is not None and abs(bohr / constants.bohr - 1) < SAME_BOHR:
            yield constants, why


def votes_of_energies(own: Mapping[str, Path], matrices: Matrices) -> Iterator[tuple[Constants, str]]:
    """What the Fermi level in EIG (eV) says beside the stored one (Ry), where it has enough digits."""
    if ".EIG" not in own or not matrices.fermi:
        return
    ratio = text.read_eigenvalues(own[".EIG"])[0] / matrices.fermi
    word = own[".EIG"].read_text(errors="replace").split()[0]
    digits = len(re.sub(r"[Ee].*|[^\d]", "", word).strip("0"))
    if digits >= 7 and abs(ratio / RYDBERG - 1) < OTHER_FERMI:
        for constants in (LEGACY, MODERN):
            if abs(ratio / constants.rydberg - 1) < SAME_RYDBERG:
                yield constants, "the Fermi level in EIG"


def votes_of_version(version: str) -> list[tuple[Constants, str]]:
    if not re.search(r"\d", version):  # a name that the build of the program left in place of a number
        return []
    number = version.lstrip("v").split(".")[0]
    if "MaX" in version or (number.isdecimal() and int(number) >= 5):
        return [(MODERN, f"version {version}")]
    return [(LEGACY, f"version {version}")]
