"""An ASE calculator of PySCF: energy and forces of an SCF object that the user makes, from a density that is told to it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)

from basis import Array
from basis.spin import Spin
from basis.units import BOHR, HARTREE
from converters.errors import Refused
from converters.frames.frame import Frame, operator_on
from converters.pyscf.dm0 import atoms_of, guess_density, shape_like, with_orbitals
from converters.pyscf.functional import judge
from converters.pyscf.molecule import make_basis
from converters.pyscf.read import frame_from_scf
from converters.pyscf.write import order_of_pyscf, reorder_matrix
from converters.starts.asking import Question
from converters.starts.earlier import COUNTED, FEW, weights_of, which_nearest
from converters.starts.judged import Judged
from converters.starts.turned import places_of, turned_matrices, turned_onto, turned_places, turns_between, turns_of
from converters.starts.whole import as_projector
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter

if TYPE_CHECKING:
    from ase import Atoms

Ask = Callable[[Question], Frame]
# Calculations that are kept, and fewer where their overlaps and densities are larger than this; frames and predictions take about as much.
KEPT, MOST_BYTES = 200, 2**29
# Elements of matrices that are turned at once.
MOST_ELEMENTS = 2**20


@dataclass(eq=False)
class Earlier:
    """A calculation that has converged: its atoms, method and electrons, overlaps and density, its frame where that was made, and the last prediction of it."""

    question: Question
    method: tuple[Any, ...]
    S: Array
    rho: Array
    frame: Frame | None = None
    said: "tuple[Ask, Frame] | None" = None

    def is_like(self, question: Question, method: tuple[Any, ...]) -> bool:
        """Whether a question is of the same orbitals on the same atoms, with as many electrons."""
        *_, basis, species_a = self.question
        same = list(question[3]) == list(basis) and list(question[4]) == list(species_a)
        return same and method == self.method

    def said_by(self, ask: "Ask") -> Frame:
        """What is predicted for it."""
        if self.said is None or self.said[0] is not ask:
            self.said = ask, ask(self.question)
        return self.said[1]


class PySCF(Calculator):  # type: ignore[misc]
    """Energies (eV) and forces (eV/Angstrom) of `make(atoms)`, an SCF object that has not run; of molecules the dipole (e Angstrom), Mulliken's charges and the moment too.

    >>> atoms.calc = PySCF(lambda atoms: dft.RKS(gto.M(atom=ase_atoms_to_pyscf(atoms), basis="def2-svp"), xc="pbe"))

    `kind` is the start of the next calculation: "default", "last" (the densities of the last ones of such atoms, combined as their
    overlaps make the new one), "predicted" (by `ask`, where that is given), "levels" (those of the predicted H, filled) or "both" (the
    prediction, and what predictions missed in those calculations, combined likewise). `taken` is what the last one started from.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "dipole", "charges", "magmom"]
    results: dict[str, Any]

    def __init__(self, make: "Callable[[Atoms], Any]", **options: Any) -> None:
        super().__init__(**options)
        self.make = make
        self.kind = self.taken = "default"
        self.ask: Ask | None = None
        self.mf: Any = None
        self.earlier: list[Earlier] = []
        self.before: list[Frame] = []
        self.together, self.written, self.stored, self.prepared = 0.0, -math.inf, 0, 0.0
        self.waiting: list[Frame] = []

    def kinds(self, atoms: "Atoms") -> list[str]:
        """What a calculation of these atoms can start from, the likeliest to be good first."""
        again = bool(self.earlier) and numbers_of(self.earlier[-1].question) == list(atoms.numbers)
        again = again or any(np.array_equal(frame.numbers_a, atoms.numbers) for frame in self.before)
        both = again and any(one.frame is not None for one in self.earlier)
        predicted = [] if self.ask is None else [*(["both"] if both else []), "predicted", "levels"]
        return [*predicted, *(["last"] if again else []), *([] if predicted and again else ["default"])]

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
        self.results |= {name: self.of_molecule(name) for name in {*properties} & {"dipole", "charges", "magmom"}}

    def of_molecule(self, name: str) -> Any:
        """What PySCF says of the last density of a molecule."""
        mf = self.mf
        if hasattr(mf, "cell"):
            raise PropertyNotImplementedError(f"{name} of a crystal")
        if name == "dipole":
            return np.asarray(mf.dip_moment(unit="AU", verbose=0)) * BOHR
        if name == "charges":
            return np.asarray(mf.mulliken_pop(verbose=0)[1])
        if np.asarray(mf.mo_coeff).shape[-2] != mf.mol.nao_nr():
            raise PropertyNotImplementedError("the moment of two-component orbitals along one axis")
        return float(mf.mol.spin)

    def solve(self) -> None:
        """The SCF of the atoms, from the start that was chosen."""
        mf = self.make(self.atoms)
        question = (*atoms_of(mf), *make_basis(mf.mol))
        S = np.asarray(mf.get_ovlp())
        method = (type(mf), mf.mol.nelectron, mf.mol.spin, S.shape)
        if self.before:
            known = (earlier_of(frame, mf, method) for frame in self.before)
            self.earlier = [one for one in known if one is not None and one.is_like(question, method)]
            self.before = []
        if self.earlier and not self.earlier[-1].is_like(question, method):
            self.earlier.clear()
        began = time.process_time()
        dm0 = self.density(mf, question, S)
        self.prepared = time.process_time() - began
        mf.kernel(dm0=None if dm0 is None else with_orbitals(mf, dm0))
        self.mf = mf if mf.converged else None
        if not mf.converged:
            self.earlier.clear()
            raise CalculationFailed(f"the SCF of {self.atoms.symbols} did not converge in {mf.max_cycle} cycles")
        rho = np.asarray(mf.make_rdm1())
        self.earlier.append(Earlier(question, method, S, rho))
        del self.earlier[: -max(1, min(KEPT, MOST_BYTES // (S.nbytes + rho.nbytes)))]

    def density(self, mf: Any, question: Question, S: Array) -> Array | None:
        """The density from which an SCF object starts; where the kind that was chosen is none, that of the last calculations or PySCF's own."""
        kinds = self.kinds(self.atoms)
        if self.kind in ("predicted", "levels", "both") and self.ask is not None:
            kind = self.kind if self.kind in kinds else "predicted"
            try:
                frame = self.ask(question)
                if kind == "both":
                    frame = self.corrected(frame, question, S)
                dm0, _, doubt = guess_density(mf, frame, "h" if kind == "levels" else "auto")
            except Refused as refusal:
                dm0, doubt = None, str(refusal)
            if not doubt:
                self.taken = kind
                return dm0
        self.taken = "last" if self.kind != "default" and "last" in kinds else "default"
        if self.taken == "default":
            return None
        turned = turned_to(question, nearest_to(question, self.earlier))
        weights_n = weights_of(S, [earlier_S for earlier_S, _ in turned], len(turned))
        rho = np.asarray(sum(weight * one for weight, (_, one) in zip(weights_n, turned, strict=True)))
        likest_S, likest = turned[int(np.argmax(weights_n))]
        return as_projector(rho, S, likest, likest_S)

    def corrected(self, frame: Frame, question: Question, S: Array) -> Frame:
        """A predicted frame with what predictions of earlier calculations missed."""
        near = nearest_to(question, [one for one in self.earlier if one.frame is not None], FEW)
        known = [(one, one.frame) for one in near if one.frame is not None]
        if self.ask is None or "DM" not in frame.operators:
            return frame
        values_sx = frame.operators["DM"].values_sx.copy()
        weights_n = weights_of(S, [earlier_S for earlier_S, _ in turned_to(question, [one for one, _ in known])])
        for weight, (one, there) in zip(weights_n, known, strict=True):
            if weight:
                for sign, other in ((1, there), (-1, one.said_by(self.ask))):
                    turned = turned_onto(other, question[2])
                    values_sx += sign * weight * operator_on(turned, "DM", frame.pairs).values_sx
        DM = replace(frame.operators["DM"], values_sx=values_sx)
        return replace(frame, operators={**frame.operators, "DM": DM})

    def judge(self, atoms: "Atoms", predict: Ask, properties: Sequence[str]) -> Judged:
        """What is predicted for some atoms, with the energy of the predicted density; for `slem.Predicted`."""
        return judge(self.make(atoms), predict, properties)

    @property
    def iterations(self) -> int | None:
        """Cycles of the last calculation; None where the solver does not count them, as that of second order."""
        return int(self.mf.cycles) or None

    def begin_with(self, data: Path) -> None:
        """Know the last calculations of a dataset, which another one may have left."""
        with Dataset(data) as dataset:
            self.before = [dataset[n] for n in range(max(0, len(dataset) - KEPT), len(dataset))]

    def store(self, data: Path) -> str:
        """Put the matrices of the last calculation into a dataset; why not, where that cannot be done.

        With `together` (seconds) those of fast calculations are written at once, which `flush` does too: opening a dataset takes as long as a few cycles.
        """
        self.stored = 0
        try:
            self.waiting.append(self.frame())
        except Refused as refusal:
            return str(refusal)
        self.stored = 1
        return self.flush(data) if time.monotonic() - self.written >= self.together else ""

    def flush(self, data: Path) -> str:
        """Write what waits; why not, where that cannot be done."""
        waiting, self.waiting, self.written = self.waiting, [], time.monotonic()
        if not waiting:
            return ""
        try:
            with DatasetWriter(data, commit_every=len(waiting)) as writer:
                for frame in waiting:
                    writer.append(frame)
        except Refused as refusal:
            self.stored = 0
            return str(refusal)
        return ""

    def frame(self) -> Frame:
        """The matrices of the last calculation."""
        frame = frame_from_scf(self.mf)
        self.earlier[-1].frame = frame
        return frame


def nearest_to(question: Question, earlier: Sequence[Earlier], most: int | None = None) -> list[Earlier]:
    """The earlier calculations that are combined: those of the nearest positions, of molecules once they have turned."""
    _, pbc_c, positions_av, *_ = question
    if len(earlier) <= FEW:
        return list(earlier)
    places_nav = np.array([one.question[2] for one in earlier])
    apart_nav = places_nav - positions_av
    if not np.any(pbc_c):
        apart_nav = turned_places(places_nav, positions_av) - positions_av
    return [earlier[n] for n in which_nearest(np.linalg.norm(apart_nav, axis=(1, 2)), len(positions_av), most)]


def turned_to(question: Question, earlier: Sequence[Earlier]) -> list[tuple[Array, Array]]:
    """Overlaps and densities of earlier calculations of the same atoms, turned with the molecule; those of crystals and of spinors as they are."""
    _, pbc_c, positions_av, basis, species_a = question
    order, signs = order_of_pyscf(basis, species_a)
    plain = [(one.S, one.rho) for one in earlier]
    shapes = {shape for S, rho in plain for shape in (S.shape, rho.shape[-2:])}
    if np.any(pbc_c) or shapes != {(len(order), len(order))} or (signs < 0).any():
        return plain
    places = {l: order[orbitals_sm] for l, orbitals_sm in places_of(basis, species_a).items()}
    found = []
    many = max(1, MOST_ELEMENTS // len(order) ** 2)  # at once, as long as they are small
    for some in (earlier[n : n + many] for n in range(0, len(earlier), many)):
        turns = turns_of(places, turns_between(np.array([one.question[2] for one in some]), positions_av))
        S, rho = (turned_matrices(np.array(stack), places, turns) for stack in zip(*plain[: len(some)], strict=True))
        del plain[: len(some)]
        found += list(zip(S, rho, strict=True))
    return found


def earlier_of(frame: Frame, mf: Any, method: tuple[Any, ...]) -> Earlier | None:
    """A stored calculation of a molecule by the method of an SCF object; None where it is of another one, or did not converge."""
    settings = frame.provenance.settings
    same = (settings.get("method"), settings.get("xc")) == (type(mf).__name__, getattr(mf, "xc", None))
    if hasattr(mf, "cell") or frame.pbc_c.any() or not same or not {"S", "DM"} <= set(frame):
        return None
    parts = [reorder_matrix(frame, part) for part in np.reshape(frame.DM(), (-1, *np.shape(frame.DM())[-2:]))]
    rho = shape_like(mf, np.array(parts)[:, None], frame.spin)
    if frame.spin is not Spin.SPINOR:
        # A complex density would make all of the SCF complex, which takes four times as long.
        rho = np.ascontiguousarray(rho.real)
    S = reorder_matrix(frame, frame.S())
    if S.shape != method[-1] or abs(np.sum(rho * S) - mf.mol.nelectron) > COUNTED or not frame.outcome.converged:
        return None
    question = (frame.cell_cv, frame.pbc_c, frame.positions_av, list(frame.basis), frame.species_a)
    return Earlier(question, method, S.real, rho)


def numbers_of(question: Question) -> list[int]:
    """Atomic numbers of the atoms of a question; charges of PySCF are less where cores are left out."""
    *_, basis, species_a = question
    return [basis[s].number for s in species_a]
