"""A calculator of ASE without a code: what the matrices say that a model predicts for atoms."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase.calculators.abc import GetOutputsMixin
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator
from converters.frames.frame import Frame
from converters.physics import kspace
from converters.physics.bands import mesh_for, most_of
from converters.physics.dipole import dipole
from converters.physics.kspace import Filling
from converters.physics.populations import neutral_electrons, populations
from converters.starts.judged import Judged
from workflows.scf.answering import predict_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

    from slem_plugin.model import Model

MODEL_ALONE = "{}: a model alone has charges, levels and the dipole of molecules; energy and forces need a calculator that knows those of a density"


class Judge(Protocol):
    """A calculator that knows the energy of a predicted density."""

    def judge(self, atoms: "Atoms", predict: "Callable[[Any], Frame]", properties: Sequence[str]) -> Judged:
        """What is predicted for some atoms, and what the functional of the code says of it."""


class Predicted(GetOutputsMixin, Calculator):  # type: ignore[misc]
    """Mulliken charges, levels, occupations, Fermi level and gap of atoms by a model, and the dipole of molecules, in one prediction.

    >>> atoms.calc = Predicted("model")
    >>> atoms.get_charges(), atoms.calc.get_fermi_level(), atoms.calc.results["gap"]

    It has no energies. With a calculator that knows the energy of a density, as `slem.PySCF` does, it has that of the predicted one by one
    Fock matrix, with an error of second order in that of the density; its forces in RHF, RKS, UHF and UKS of molecules, with an error of
    first order. `mesh` is the k mesh of a crystal.
    """

    results: dict[str, Any]

    def __init__(
        self,
        model: "Model | str | Path",
        calculator: Judge | None = None,
        *,
        mesh: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.calculator, self.mesh = model, calculator, mesh
        self.implemented_properties = ["charges", "dipole", *(["energy", "forces"] if calculator is not None else [])]

    def get_property(self, name: str, atoms: "Atoms | None" = None, allow_calculation: bool = True) -> Any:
        if self.calculator is None and name not in self.implemented_properties:
            raise PropertyNotImplementedError(MODEL_ALONE.format(name))
        return super().get_property(name, atoms, allow_calculation)

    def _outputmixin_get_results(self) -> dict[str, Any]:
        return self.results

    def predict(self, question: Any) -> Frame:
        from slem_plugin.checkpoint import cached_model

        model = self.model
        return predict_for(cached_model(model) if isinstance(model, str | Path) else model, question)

    def calculate(
        self, atoms: "Atoms | None" = None, properties: Sequence[str] = (), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        if self.calculator is None:
            said = Judged(with_its_electrons(self.predict(self.atoms)))
        else:
            said = self.calculator.judge(self.atoms, self.predict, properties)
        self.results = levels_of(said.frame, said.filling, self.mesh)
        for name, work_out in (("charges", charges_of), ("dipole", dipole_of)):
            try:
                self.results[name] = work_out(said)
            except Refused:
                if name in properties and name not in said.results:
                    raise
        self.results |= said.results


def with_its_electrons(frame: Frame) -> Frame:
    """A predicted DM holds some thousandths of its electrons too many or too few: charges would not add up, and the dipole of a neutral molecule depend on its place."""
    wanted = frame.outcome.electrons
    if wanted is None or not {"DM", "S"} <= set(frame.operators):
        return frame
    own = frame["DM"]
    scaled = Operator(own.values_sx * (wanted / float(kspace.count_electrons(frame).sum())), own.known_x)
    return replace(frame, operators={**frame.operators, "DM": scaled})


def nuclei_of(said: Judged) -> Array:
    return neutral_electrons(said.frame) if said.nuclei_a is None else said.nuclei_a


def charges_of(said: Judged) -> Array:
    return np.asarray(nuclei_of(said) - populations(said.frame).sum(axis=0))


def dipole_of(said: Judged) -> Array:
    return dipole(said.frame, nuclei_of(said))


def levels_of(frame: Frame, filling: Filling | None, mesh: Sequence[int] | None) -> dict[str, Any]:
    """Levels and occupations by the names that ASE gives them, Fermi level and gap (eV); nothing where H is not predicted."""
    if "H" not in frame.operators:
        return {}
    if filling is None:
        if frame.outcome.electrons is None:
            raise Refused(Kind.ELECTRONS, frame.formula, "does not say how many electrons it has")
        filling = Filling(frame.outcome.electrons)
    if frame.spectrum is not None:
        kpoints_kc, weights_k = frame.spectrum.kpoints_kc, frame.spectrum.weights_k
    else:
        numbers = (1, 1, 1) if not frame.pbc_c.any() else mesh or mesh_for(frame)
        kpoints_kc, weights_k = kspace.uniform_mesh(numbers)
    e_skn = kspace.eigenvalues(frame, kpoints_kc)
    f_skn, fermi = kspace.occupations(e_skn, weights_k, filling, frame.spin)
    full_skn = f_skn > most_of(frame) / 2
    highest, lowest = e_skn[full_skn].max(initial=-np.inf), e_skn[~full_skn].min(initial=np.inf)
    return {
        "eigenvalues": e_skn,
        "occupations": f_skn,
        "ibz_kpoints": kpoints_kc,
        "kpoint_weights": weights_k,
        "fermi_level": fermi[0] if len(fermi) == 1 else float((highest + lowest) / 2),
        "gap": float(max(lowest - highest, 0.0)),
    }
