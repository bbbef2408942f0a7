"""What all ionic steps of an ABACUS run share."""

from dataclasses import dataclass

import numpy as np

from basis import Array
from basis.shells import Species
from basis.spin import Spin
from converters.abacus import text
from converters.abacus.files import NSCF
from converters.abacus.log import Log
from converters.codes.run import Run

MOVING = ("md", "relax", "cell-relax")  # calculations of several ionic steps


@dataclass(frozen=True, eq=False)
class Context:
    """What all steps of a run share."""

    run: Run
    given: dict[str, str]
    stru: text.Stru
    log: Log
    basis: tuple[Species, ...]
    spin: Spin

    @property
    def calculation(self) -> str:
        return text.calculation(self.given)

    @property
    def is_nscf(self) -> bool:
        """Whether INPUT or the only log is of a run for bands, whose k-points and smearing are not those of the SCF."""
        return self.calculation == NSCF or self.log.of_nscf

    @property
    def moves(self) -> bool:
        """Whether the run has several ionic steps."""
        return self.calculation in MOVING

    @property
    def is_continued(self) -> bool:
        """Whether an MD run goes on from where another one ended."""
        return text.flag(self.given, "md_restart") == "1"

    @property
    def is_gamma_only(self) -> bool:
        return text.flag(self.given, "gamma_only") == "1"

    @property
    def symmetry(self) -> str:
        """INPUT's symmetry, or what ABACUS takes where it says nothing."""
        default = "0" if self.calculation in (NSCF, "md") or self.is_gamma_only else "1"
        return text.flag(self.given, "symmetry", default)

    @property
    def norb_a(self) -> Array:
        return np.array([self.basis[s].size for s in self.stru.species_a])

    @property
    def dimension(self) -> int:
        """Rows of the matrices: orbitals, times two for spinors."""
        return int(self.norb_a.sum()) * (2 if self.spin is Spin.SPINOR else 1)
