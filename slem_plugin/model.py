"""Model: what is learned of some operators in one basis, and the matrices it predicts.

>>> model = load_model("model/")
>>> frame = model.predict(atoms)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from basis import Array
from basis.shells import Species
from basis.spin import Spin
from converters.blocks import Operator, Pairs
from converters.errors import Refused
from converters.frame import Frame, Provenance
from slem_plugin.baseline import Baseline
from slem_plugin.channels import Channels
from slem_plugin.components import BlockForm, BondFrames, Components, bond_frames
from slem_plugin.fields import fields_of, from_fields
from slem_plugin.graph import Graph, Structure, find_pairs, make_graph, pair_numbers
from slem_plugin.network import Network
from slem_plugin.sharing import scale_shared, share_onsite

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Blueprint:
    """All that must be known to build a model before its numbers are loaded.

    `learned` are the operators that the network corrects; an overlap is its baseline alone and not among them.
    """

    code: str
    basis: tuple[Species, ...]
    spin: Spin
    time_reversal: bool
    operators: tuple[str, ...]
    channels: str
    layers: int
    latent: int
    waves: int
    neighbours: float

    @property
    def learned(self) -> tuple[str, ...]:
        return tuple(name for name in self.operators if name != "S")

    def form(self, name: str) -> BlockForm:
        """How the blocks of an operator are taken apart."""
        return BlockForm(self.basis, fields_of(self.layout(name), self.time_reversal))

    def layout(self, name: str) -> Spin:
        return Spin.NONE if name == "S" else self.spin

    @property
    def unreached(self) -> int:
        """Hopping components whose m is higher than any channel has."""
        highest = Channels.parse(self.channels).highest
        axials = [axial for name in self.learned for axial in self.form(name).hopping_t]
        return sum(2 * sum(axial.counts[highest + 1 :]) for axial in axials)

    @property
    def degrees(self) -> int:
        """Highest degree of the rotations that network and baselines need."""
        crystal = max(len(onsite.natural) - 1 for name in self.operators for onsite in self.form(name).onsite_s)
        return max(Channels.parse(self.channels).highest, crystal)


def default_channels(basis: Sequence[Species], vectors: bool) -> str:
    """Channels that reach every component of the blocks of a basis."""
    highest = 2 * max(shell.l for species in basis for shell in species.shells) + vectors
    natural = [32, 24, 12, 6, 6] + [3] * max(highest - 4, 0)
    unnatural = [0, 8, 4, 2, 2] + [1] * max(highest - 4, 0)
    return str(Channels(tuple(natural[: highest + 1]), tuple(unnatural[: highest + 1])))


@dataclass(eq=False)
class Model:
    """Baselines and network of some operators; `history` says how they came about."""

    blueprint: Blueprint
    baselines: Mapping[str, Baseline]
    network: Network | None
    history: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def cutoff_ss(self) -> Array:
        """Distance up to which each two species have blocks."""
        cutoff_t = np.max([baseline.cutoff_t for baseline in self.baselines.values()], axis=0)
        return cutoff_t[pair_numbers(len(self.blueprint.basis))]

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.network is None else next(self.network.parameters()).dtype

    def graph(self, structure: Structure) -> tuple[Pairs, Graph]:
        """The pairs of a structure within the cutoffs, and their graph in float64."""
        basis = self.blueprint.basis
        norb_a = np.array([basis[s].size for s in structure.species_a])
        pairs = find_pairs(structure, self.cutoff_ss, norb_a)
        return pairs, make_graph(structure, pairs, len(basis), self.blueprint.degrees)

    def structure(self, atoms: "Atoms") -> Structure:
        """An ase.Atoms with its atoms named as in the basis of this model."""
        number = {species.number: s for s, species in enumerate(self.blueprint.basis)}
        if len(number) < len(self.blueprint.basis):
            names = ", ".join(f"{species} {species.radial}".strip() for species in self.blueprint.basis)
            raise Refused(
                str(atoms.symbols), f"cannot be named: this model knows an element with several bases ({names})"
            )
        unknown = sorted({a.symbol for a in atoms if a.number not in number})
        if unknown:
            known = ", ".join(species.name for species in self.blueprint.basis)
            raise Refused(str(atoms.symbols), f"has {', '.join(unknown)}; this model knows {known}")
        species_a = np.array([number[z] for z in atoms.numbers])
        return Structure(np.array(atoms.cell), np.array(atoms.pbc), np.array(atoms.positions), species_a)

    def require_match(self, frame: Frame, place: str) -> None:
        """Refuse a frame of another code, basis or spin layout."""
        mine = self.blueprint
        if frame.provenance.code != mine.code:
            raise Refused(place, f"is of {frame.provenance.code}; this model was trained on {mine.code}")
        if frame.basis != mine.basis:
            here, there = (
                ", ".join(f"{species} {species.radial}".strip() for species in b) for b in (frame.basis, mine.basis)
            )
            raise Refused(place, f"has the basis {here}; this model was trained with {there}")
        if frame.spin is not mine.spin:
            raise Refused(place, f"has the spin layout {frame.spin}; this model was trained with {mine.spin}")

    def predict(self, atoms: "Atoms") -> Frame:
        """The matrices of a structure."""
        return self.predict_structure(self.structure(atoms))

    def predict_structure(self, structure: Structure) -> Frame:
        """The matrices of a structure whose species are numbered as in this model."""
        pairs, graph = self.graph(structure)
        components = {name: baseline.predict(graph) for name, baseline in self.baselines.items()}
        if self.network is not None:
            device = next(self.network.parameters()).device
            with torch.no_grad():
                outputs = self.network(graph.to(self.dtype, device))
            for name, output in outputs.items():
                sizes = self.baselines[name].sizes(graph)
                components[name] = Components(
                    add_scaled(components[name].hopping_t, sizes.hopping_t, output.hopping_t),
                    add_scaled(components[name].onsite_s, sizes.onsite_s, output.onsite_s),
                )
        bonds = bond_frames(structure, pairs, self.blueprint.basis)
        operators = {name: self._operator(name, bonds, components[name], graph) for name in self.blueprint.operators}
        return Frame(
            structure.cell_cv,
            structure.pbc_c,
            structure.positions_av,
            structure.species_a,
            self.blueprint.basis,
            pairs,
            self.blueprint.spin,
            operators,
            provenance=Provenance(self.blueprint.code, notes=("predicted by slem",)),
        )

    def shared_rows(self, name: str, bonds: BondFrames, graph: Graph) -> Array:
        """The part of the baseline of H that the potentials of two atoms share; zero for other operators."""
        if name != "H" or "S" not in self.baselines:
            return np.zeros((1, 1))
        form, baseline, overlap = self.blueprint.form("H"), self.baselines["H"], self.blueprint.form("S")
        S_fx = overlap.put_together(bonds, self.baselines["S"].predict(graph))
        rows_fx = share_onsite(form, bonds, S_fx, baseline.predict(graph).onsite_s)
        return scale_shared(form, bonds, rows_fx, baseline.share_tg)

    def _operator(self, name: str, bonds: BondFrames, components: Components, graph: Graph) -> Operator:
        rows_fx = self.blueprint.form(name).put_together(bonds, components) + self.shared_rows(name, bonds, graph)
        return Operator(from_fields(rows_fx, self.blueprint.layout(name), self.blueprint.time_reversal))

    def description(self) -> dict[str, Any]:
        """The blueprint as plain values."""
        plain = asdict(self.blueprint)
        return {**plain, "spin": str(self.blueprint.spin)}


def make_network(blueprint: Blueprint, cutoff_ss: Array) -> Network:
    """An untrained network."""
    return Network(
        {name: blueprint.form(name) for name in blueprint.learned},
        Channels.parse(blueprint.channels),
        blueprint.layers,
        torch.from_numpy(cutoff_ss),
        blueprint.neighbours,
        blueprint.latent,
        blueprint.waves,
    )


def add_scaled(base: Sequence[Array], sizes: Sequence[Array], outputs: Sequence[Tensor]) -> tuple[Array, ...]:
    """Baseline plus output times its size, in float64."""
    return tuple(b + s * o.double().cpu().numpy() for b, s, o in zip(base, sizes, outputs, strict=True))


def structure_of(frame: Frame) -> Structure:
    return Structure(frame.cell_cv, frame.pbc_c, frame.positions_av, frame.species_a)
