"""Model: what is learned of some operators in one basis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from basis import Array
from basis.radial import Functions
from basis.shells import Species
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Pairs
from converters.frames.folding import Mesh, closest_of_images
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum
from converters.frames.moments import UP
from converters.frames.neighbours import Bonds, Structure, find_bonds, own_pairs
from converters.frames.origin import Made, Origin
from converters.physics.kspace import uniform_mesh
from converters.physics.locality import LONGEST, mesh_of_length
from converters.physics.overlap import Overlap
from slem_plugin.baseline.baseline import Baseline, Seen
from slem_plugin.baseline.sharing import share_onsite
from slem_plugin.baseline.zero import Zero
from slem_plugin.blocks.components import BlockForm, BondFrames, Components
from slem_plugin.blocks.fields import fields_of
from slem_plugin.graphs.graph import Graph, make_graph, pair_numbers
from slem_plugin.network.kinds import make_network
from slem_plugin.network.network import Network
from slem_plugin.network.spec import NetworkSpec

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Blueprint:
    """All that must be known to build a model before its numbers are loaded.

    `learned` are the operators that the network corrects; an overlap is its baseline alone and not among them. `mesh` is
    the k mesh over whose supercell the blocks are folded, where the code gave no others: the model is for this mesh alone. `aligned` are
    spinors with moments along one axis of each frame.
    """

    code: str
    basis: tuple[Species, ...]
    spin: Spin
    time_reversal: bool
    operators: tuple[str, ...]
    network: NetworkSpec
    mesh: tuple[int, int, int] | None = None
    aligned: bool = False

    @property
    def learned(self) -> tuple[str, ...]:
        return tuple(name for name in self.operators if name != "S")

    def form(self, name: str) -> BlockForm:
        """How the blocks of an operator are taken apart."""
        return BlockForm(self.basis, fields_of(self.layout(name), self.time_reversal, self.aligned))

    @property
    def moments(self) -> str:
        """What of spinors breaks time reversal; empty where nothing does."""
        if self.spin is not Spin.SPINOR or self.time_reversal:
            return ""
        return "along an axis" if self.aligned else "in any direction"

    def axis(self, structure: Structure) -> Array | None:
        """The axis along which moments of a structure point, where this is of moments along one axis."""
        if not self.aligned:
            return None
        return UP if structure.axis_v is None else structure.axis_v

    def layout(self, name: str) -> Spin:
        return Spin.NONE if name == "S" else self.spin

    @property
    def unreached(self) -> int:
        """Hopping components whose m is higher than any channel has."""
        highest = self.network.channels.highest
        axials = [axial for name in self.learned for axial in self.form(name).hopping_t]
        return sum(2 * sum(axial.counts[highest + 1 :]) for axial in axials)

    @property
    def degrees(self) -> int:
        """Highest degree of the rotations that network and baselines need."""
        crystal = max(len(onsite.natural) - 1 for name in self.operators for onsite in self.form(name).onsite_s)
        return max(self.network.channels.highest, crystal)


@dataclass(eq=False)
class Model:
    """Baselines and network of some operators, and the zero of the potential of cells; `history` says how they came about."""

    blueprint: Blueprint
    baselines: Mapping[str, Baseline]
    network: Network | None
    history: dict[str, Any] = field(default_factory=dict)
    functions: tuple[Functions | None, ...] = ()
    zero: Zero | None = None

    def __repr__(self) -> str:
        elements = ", ".join(species.name for species in self.blueprint.basis)
        learned = len(self.history.get("data", {}).get("training", ()))
        return f"<{self.blueprint.code} model: {'+'.join(self.operators)} of {elements}, spin {self.blueprint.spin}, from {learned} frames>"

    @cached_property
    def overlap(self) -> Overlap | None:
        """What computes S, where the radial functions of all species are known."""
        functions = [mine for mine in self.functions if mine is not None]
        return Overlap(self.blueprint.basis, functions) if len(functions) == len(self.blueprint.basis) else None

    @property
    def operators(self) -> tuple[str, ...]:
        """What is predicted: all that was learned, and S where it can be computed."""
        names = self.blueprint.operators
        return names if "S" in names or self.overlap is None else (*names, "S")

    def exact_overlap(self, structure: Structure, pairs: Pairs) -> Array | None:
        """S of some pairs from the radial functions; None where these are not known."""
        if self.overlap is None:
            return None
        if self.blueprint.mesh is None:
            return self.overlap.values(structure, pairs)
        return self.overlap.folded(structure, pairs, Mesh.about_gamma(self.blueprint.mesh))

    @cached_property
    def reach_ss(self) -> Array:
        """Distance up to which each two species have a pair: blocks that were learned, or an overlap that is computed."""
        if self.overlap is None or self.blueprint.mesh is not None:
            return self.cutoff_ss
        return np.maximum(self.cutoff_ss, self.overlap.reach_ss)

    @cached_property
    def cutoff_ss(self) -> Array:
        """Distance up to which each two species have blocks."""
        cutoff_t = np.max([baseline.cutoff_t for baseline in self.baselines.values()], axis=0)
        return cutoff_t[pair_numbers(len(self.blueprint.basis))]

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.network is None else next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.network is None else next(self.network.parameters()).device

    def graph(self, structure: Structure) -> tuple[Pairs, Graph]:
        """The pairs of a structure within the cutoffs, and their graph in float64."""
        bonds, atoms = self.bonds(structure), np.arange(len(structure.species_a))
        pairs, _ = own_pairs(bonds, atoms, self.orbitals(structure))
        return pairs, make_graph(structure, pairs, len(self.blueprint.basis), self.blueprint.degrees)

    def bonds(self, structure: Structure, atoms: Array | None = None) -> Bonds:
        """The bonds from some atoms of a structure (all of them by default) within the cutoffs."""
        atoms = np.arange(len(structure.species_a)) if atoms is None else atoms
        bonds = find_bonds(structure, atoms, self.cutoff_ss)
        if self.blueprint.mesh is None:
            return bonds
        # Each atom is its own closest image.
        i_d = np.concatenate([atoms[bonds.centre_d], atoms])
        j_d = np.concatenate([bonds.neighbour_d, atoms])
        R_dc = np.concatenate([bonds.R_dc, np.zeros((len(atoms), 3), dtype=int)])
        length_d = np.concatenate([np.linalg.norm(bonds.vectors_dv, axis=1), np.zeros(len(atoms))])
        closest_d, _ = closest_of_images(i_d, j_d, R_dc, length_d, np.array(self.blueprint.mesh))
        return bonds.take(np.flatnonzero(closest_d[: len(bonds)]))

    def orbitals(self, structure: Structure) -> Array:
        """Orbitals of each atom."""
        return np.array([species.size for species in self.blueprint.basis])[structure.species_a]

    def structure(self, atoms: "Atoms") -> Structure:
        """An ase.Atoms with its atoms named as in the basis of this model, by their elements.

        An element with several bases, or with opposite moments, has several names, which stand in the array `labels` of the atoms.
        """
        from ase.data import chemical_symbols

        basis = self.blueprint.basis
        names, numbers = [species.name for species in basis], [species.number for species in basis]
        if len(set(numbers)) == len(basis):
            name_of = dict(zip(numbers, names, strict=True))
            labels = [name_of.get(z, chemical_symbols[z]) for z in atoms.numbers.tolist()]
        elif "labels" in atoms.arrays and len(set(names)) == len(names):
            labels = [str(label) for label in atoms.arrays["labels"]]
        else:
            known = ", ".join(f"{species} {species.radial}".strip() for species in basis)
            raise Refused(
                Kind.OTHER_MODEL,
                str(atoms.symbols),
                f'has no "labels": this model knows an element by several names ({known})',
                'atoms.set_array("labels", ...) with these names',
            )
        if unknown := sorted(set(labels) - set(names)):
            found = f"has {', '.join(unknown)}; this model knows {', '.join(names)}"
            raise Refused(Kind.OTHER_MODEL, str(atoms.symbols), found)
        species_a = np.array([names.index(label) for label in labels], dtype=int)
        if (np.array(numbers)[species_a] != atoms.numbers).any():
            raise Refused(Kind.OTHER_MODEL, str(atoms.symbols), "has labels at atoms of other elements")
        return Structure(np.array(atoms.cell), np.array(atoms.pbc), np.array(atoms.positions), species_a)

    def require_match(self, frame: Frame, place: str) -> None:
        """Refuse a frame of another code, basis or spin layout."""
        mine = self.blueprint
        if frame.provenance.code != mine.code:
            raise Refused(
                Kind.OTHER_MODEL, place, f"is of {frame.provenance.code}; this model was trained on {mine.code}"
            )
        if frame.basis != mine.basis:
            here, there = (
                ", ".join(f"{species} {species.radial}".strip() for species in b) for b in (frame.basis, mine.basis)
            )
            raise Refused(Kind.OTHER_MODEL, place, f"has the basis {here}; this model was trained with {there}")
        if frame.spin is not mine.spin:
            raise Refused(
                Kind.OTHER_MODEL, place, f"has the spin layout {frame.spin}; this model was trained with {mine.spin}"
            )

    def facts(self, structure: Structure, notes: tuple[str, ...] = ()) -> dict[str, Any]:
        """What a predicted frame says besides its structure and matrices."""
        origins = dict.fromkeys(self.operators, Origin(Made.PREDICTED))
        if "S" in origins and self.overlap is not None:
            origins["S"] = Origin(Made.INTEGRATED)
        if "DM" in origins and (length := self.history.get("supercell")) and structure.pbc_c.any():
            # Models of November 2026 say that it is endless.
            mesh_c = mesh_of_length(structure.cell_cv, structure.pbc_c, min(float(length), LONGEST))
            origins["DM"] = Origin(Made.PREDICTED, mesh=mesh_c)
        return {
            "outcome": Outcome(electrons=self.electrons(structure.species_a)),
            "spectrum": self._mesh_points(),
            "provenance": Provenance(self.blueprint.code, notes=notes, origins=origins, predicted=True),
            "folded": self.blueprint.mesh is not None,
            "functions": self.functions,
        }

    def electrons(self, species_a: Array) -> float | None:
        """Electrons of a structure, where those of the learned structures determine them."""
        known = np.array(self.history.get("electrons", []), dtype=float)
        counts_s = np.bincount(species_a, minlength=len(self.blueprint.basis))
        if not len(known):
            return None
        part_n, *_ = np.linalg.lstsq(known[:, :-1].T, counts_s.astype(float), rcond=None)
        determined = np.abs(known[:, :-1].T @ part_n - counts_s).max() < 1e-6
        return float(np.round(known[:, -1] @ part_n, 6)) if determined else None

    def _mesh_points(self) -> Spectrum | None:
        """The k-points at which folded blocks are right."""
        if self.blueprint.mesh is None:
            return None
        kpoints_kc, weights_k = uniform_mesh(self.blueprint.mesh)
        return Spectrum(kpoints_kc, weights_k, np.empty((1, len(weights_k), 0)))

    def shift(self, structure: Structure) -> float:
        """How many times S (eV) the H of a structure is moved by the zero of its potential."""
        return 0.0 if self.zero is None else self.zero.of(structure)

    def base(self, structure: Structure, bonds: BondFrames, graph: Graph) -> "Base":
        """What the baselines say of a structure."""
        seen: Seen = {}
        base = Base({name: baseline.predict(graph, seen) for name, baseline in self.baselines.items()}, {})
        if "H" in self.baselines and "S" in self.baselines:
            form = self.blueprint.form("H")
            S_fx = base.rows("S", self.blueprint.form("S"), bonds)
            onsite_s, share_tg = base.components["H"].onsite_s, self.baselines["H"].share_tg
            base.shared["H"] = share_onsite(form, bonds, S_fx, onsite_s, share_tg)
            base.shared["H"][0] += self.shift(structure) * S_fx[0]
        return base

    def untrained_network(self) -> Network:
        """A new network for this model, which is to be trained or filled with saved weights."""
        forms = {name: self.blueprint.form(name) for name in self.blueprint.learned}
        return make_network(self.blueprint.network, forms, self.cutoff_ss)


@dataclass(eq=False)
class Base:
    """What the baselines say of a structure: components, and rows of shared fields (and of the zero) that are added to them."""

    components: dict[str, Components]
    shared: dict[str, Array]

    def rows(self, name: str, form: BlockForm, bonds: BondFrames) -> Array:
        """Rows of the fields of an operator."""
        rows_fx = form.put_together(bonds, self.components[name])
        return rows_fx + self.shared[name] if name in self.shared else rows_fx
