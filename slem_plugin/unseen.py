"""What a structure has that the data of its model had not: blocks there are guesses, or zeros, and nothing in the numbers shows it."""

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.neighbours import Bonds, Structure, find_bonds
from slem_plugin.baseline.baseline import learned_distances
from slem_plugin.graphs.graph import pair_kinds, pair_numbers
from slem_plugin.model import Model

# Atoms nearer than the nearest learned ones by more than this (Angstrom) are told.
CLOSER = 0.1
# Overlaps of pairs without learned blocks that are told.
LARGE_OVERLAP = 0.01
# Larger structures are looked at in so many of their atoms, and pairs of one kind in so many of the nearest.
ATOMS, NEAREST = 2000, 200


def unseen(model: Model, structure: Structure, bonds: Bonds | None = None) -> tuple[str, ...]:
    """What should be known of a prediction before it is trusted; refused where an element was never learned.

    `bonds` are those of the whole structure, where they are known.
    """
    basis = model.blueprint.basis
    require_learned(model, structure)
    natoms = len(structure.species_a)
    atoms = np.unique(np.linspace(0, natoms - 1, min(natoms, ATOMS)).astype(int))
    reach_ss = reach_of_any(model)
    if bonds is None or len(atoms) < natoms or model.blueprint.mesh is not None or (reach_ss != model.cutoff_ss).any():
        bonds = find_bonds(structure, atoms, reach_ss)
    length_d = np.linalg.norm(bonds.vectors_dv, axis=1)
    own_d, other_d = structure.species_a[atoms[bonds.centre_d]], structure.species_a[bonds.neighbour_d]
    kind_d = pair_numbers(len(basis))[own_d, other_d]
    nearest_t, farthest_t = learned_distances(model.baselines.values())
    functions = model.overlap
    told = []
    for t, (A, B) in enumerate(pair_kinds(len(basis))):
        name = f"{basis[A].name}-{basis[B].name}"
        mine = np.flatnonzero(kind_d == t)
        mine = mine[np.argsort(length_d[mine], kind="stable")]
        if not len(mine):
            continue
        shortest = length_d[mine[0]]
        if farthest_t[t] and shortest < nearest_t[t] - CLOSER:
            told.append(
                f"{name} {shortest:.2f} Angstrom apart: the nearest such pair that was learned is {nearest_t[t]:.2f}, and nearer ones are guesses"
            )
        far = mine[length_d[mine] >= model.cutoff_ss[A, B]][:NEAREST]
        if not len(far):
            continue
        known = (
            f"no such pair farther than {farthest_t[t]:.2f} was learned"
            if farthest_t[t]
            else "no such pair was learned"
        )
        if functions is None:
            told.append(f"{name} {length_d[far[0]]:.2f} Angstrom apart: {known}, and they have no blocks")
            continue
        vectors_dv = bonds.vectors_dv[far] * np.where(own_d[far] == A, 1, -1)[:, None]
        overlap = float(np.abs(functions.integrals.blocks(A, B, vectors_dv)).max())
        if overlap > LARGE_OVERLAP:
            told.append(
                f"{name} {length_d[far[0]]:.2f} Angstrom apart overlap by up to {overlap:.2g}: {known}, and their H and DM are zero"
            )
    return tuple(told)


def require_learned(model: Model, structure: Structure) -> None:
    """Refuse elements that the data names and no learned frame has."""
    for s in np.unique(structure.species_a).tolist():
        if not any(baseline.centre_s[s].any() for baseline in model.baselines.values()):
            name = model.blueprint.basis[s].name
            raise Refused(Kind.OTHER_MODEL, "structure", f"has {name}, which no structure had that this model learned")


def reach_of_any(model: Model) -> Array:
    """Distance up to which each two species have a pair, or would have one if they had been learned."""
    reach_ss = model.reach_ss
    if model.overlap is not None or model.blueprint.mesh is not None:
        return reach_ss
    own_s = np.diag(reach_ss)
    return np.where(reach_ss > 0, reach_ss, (own_s[:, None] + own_s) / 2)
