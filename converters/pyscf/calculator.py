"""An ASE calculator of PySCF: energy and forces of an SCF object that the user makes, from a density that is told to it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from basis import Array
from basis.units import BOHR, HARTREE
from converters.errors import Refused
from converters.frames.frame import Frame, operator_on
from converters.pyscf.dm0 import atoms_of, guess_density
from converters.pyscf.molecule import make_basis
from converters.pyscf.read import frame_from_scf
from converters.starts.asking import Question
from converters.storage.writer import DatasetWriter

if TYPE_CHECKING:
    from ase import Atoms


class PySCF(Calculator):  # type: ignore[misc]
    """Energies (eV) and forces (eV/Angstrom) of `make(atoms)`, an SCF object that has not run.

    >>> atoms.calc = PySCF(lambda atoms: dft.RKS(gto.M(atom=ase_atoms_to_pyscf(atoms), basis="def2-svp"), xc="pbe"))

    `kind` is the start of the next calculation: "default", "last" (the density of the last one), "predicted" (by `ask`, where that is
    given) or "both" (the predicted density, and what the prediction missed last time). `taken` is what the last one started from.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    results: dict[str, Any]

    def __init__(self, make: "Callable[[Atoms], Any]", **options: Any) -> None:
        super().__init__(**options)
        self.make = make
        self.kind = self.taken = "default"
        self.ask: Callable[[Question], Frame] | None = None
        self.mf: Any = None
        self.question: Question | None = None

    def kinds(self, atoms: "Atoms") -> list[str]:
        """What a calculation of these atoms can start from, the likeliest to be good first."""
        again = self.question is not None and numbers_of(self.question) == list(atoms.numbers)
        predicted = [] if self.ask is None else (["both", "predicted"] if again else ["predicted"])
        return [*predicted, *(["last"] if again else []), "default"][: 3 if again else 2]

    def calculate(
        self, atoms: "Atoms | None" = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        if system_changes or "energy" not in self.results:  # else something more is asked of the same atoms
            self.results = {}
            self.solve()
        self.results["energy"] = float(self.mf.e_tot) * HARTREE
        if "forces" in properties:
            gradients = self.mf.nuc_grad_method()
            gradients.verbose = 0
            self.results["forces"] = -gradients.kernel() * HARTREE / BOHR

    def solve(self) -> None:
        """The SCF of the atoms, from the start that was chosen."""
        mf = self.make(self.atoms)
        question = (*atoms_of(mf), *make_basis(mf.mol))
        mf.kernel(dm0=self.density(mf, question))
        self.mf, self.question = (mf, question) if mf.converged else (None, None)
        if not mf.converged:
            raise CalculationFailed(f"the SCF of {self.atoms.symbols} did not converge in {mf.max_cycle} cycles")

    def density(self, mf: Any, question: Question) -> Array | None:
        """The density from which an SCF object starts; where the kind that was chosen is none, that of the last calculation or PySCF's own."""
        kinds = self.kinds(self.atoms)
        if self.kind in ("predicted", "both") and self.ask is not None:
            kind = self.kind if self.kind in kinds else "predicted"
            try:
                frame = self.ask(question)
                if kind == "both":
                    frame = self.corrected(frame)
                dm0, _, doubt = guess_density(mf, frame, "dm" if "DM" in frame.operators else "h")
            except Refused as refusal:
                dm0, doubt = None, str(refusal)
            if not doubt:
                self.taken = kind
                return dm0
        self.taken = "last" if self.kind != "default" and "last" in kinds else "default"
        return self.mf.make_rdm1() if self.taken == "last" else None

    def corrected(self, frame: Frame) -> Frame:
        """A predicted frame with what the prediction of the last calculation missed."""
        if self.ask is None or self.question is None or "DM" not in frame.operators:
            return frame
        there, said = self.frame(), self.ask(self.question)
        missed = [operator_on(one, "DM", frame.pairs).values_sx for one in (there, said)]
        DM = frame.operators["DM"]
        DM = replace(DM, values_sx=DM.values_sx + missed[0] - missed[1])
        return replace(frame, operators={**frame.operators, "DM": DM})

    @property
    def iterations(self) -> int | None:
        """Cycles of the last calculation; None where the solver does not count them, as that of second order."""
        return int(self.mf.cycles) or None

    def store(self, data: Path) -> str:
        """Put the matrices of the last calculation into a dataset; why not, where that cannot be done."""
        try:
            with DatasetWriter(data) as writer:
                writer.append(self.frame())
        except Refused as refusal:
            return str(refusal)
        return ""

    def frame(self) -> Frame:
        """The matrices of the last calculation."""
        return frame_from_scf(self.mf)


def numbers_of(question: Question) -> list[int]:
    """Atomic numbers of the atoms of a question; charges of PySCF are less where cores are left out."""
    *_, basis, species_a = question
    return [basis[s].number for s in species_a]
