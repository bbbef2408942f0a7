"""Shared fields: what the potentials of two atoms do to the block between them.

Where the potential hardly changes over the overlap of two orbitals, a hopping block of H is half of what the onsite blocks
make of the overlap, (H_ii S_ii^-1 S_ij + S_ij S_jj^-1 H_jj) / 2 (Mulliken's approximation). It brings the third atoms into the
baseline of H, and a constant added to the potential comes out exactly. How much of it is taken is fitted for each pair of shells.
"""

from collections.abc import Sequence

import numpy as np

from basis import Array
from slem_plugin.blocks.components import BlockForm, BondFrames, flat_blocks


def share_onsite(
    form: BlockForm, bonds: BondFrames, S_fx: Array, onsite_s: tuple[Array, ...], share_tg: tuple[Array, ...]
) -> Array:
    """Rows of the fields of a matrix with the shared fields as hopping blocks; onsite blocks are zero.

    `S_fx` is the overlap on the same pairs, `onsite_s` are the onsite components of each species, and `share_tg` the factors of
    the pairs of shells of each kind.
    """
    overlap_s = tuple(S_fx[0][bonds.onsite_places(s)] for s in range(len(form.basis)))
    dressed_s = dress_onsite(form, onsite_s, overlap_s)
    place_a = places_by_species(bonds.species_a, len(form.basis))
    rows_fx = np.zeros((form.width, bonds.pairs.elements))
    for t, shared in enumerate(share_dressed(form, bonds, S_fx, dressed_s, place_a, share_tg)):
        form.scatter(bonds, t, shared, rows_fx)
    return rows_fx


def dress_onsite(form: BlockForm, onsite_s: Sequence[Array], overlap_s: Sequence[Array]) -> tuple[Array, ...]:
    """H_ii S_ii^-1 of the atoms of each species, [atoms, fields, orbitals, orbitals], of onsite components and flat onsite overlaps."""
    dressed = []
    for s, onsite in enumerate(form.onsite_s):
        n = form.basis[s].size
        H_afMM = flat_blocks(onsite_s[s], onsite).reshape(len(onsite_s[s]), form.width, n, n)
        dressed.append(H_afMM @ np.linalg.inv(overlap_s[s].reshape(-1, n, n))[:, None])
    return tuple(dressed)


def places_by_species(species_a: Array, count: int) -> Array:
    """The number of each atom among those of its species."""
    place_a = np.zeros(len(species_a), dtype=int)
    for s in range(count):
        atoms = species_a == s
        place_a[atoms] = np.arange(atoms.sum())
    return place_a


def share_dressed(
    form: BlockForm,
    bonds: BondFrames,
    S_fx: Array,
    dressed_s: Sequence[Array],
    place_a: Array,
    share_tg: tuple[Array, ...],
) -> list[Array]:
    """The shared fields as blocks of each kind, where H_ii S_ii^-1 is known: that of atom a is number `place_a[a]` of its species."""
    overlap = BlockForm(form.basis, form.fields[:1])
    shared_t = []
    for t, (A, B) in enumerate(form.kinds):
        p, swapped = bonds.by_kind.pairs_t[t], bonds.by_kind.swapped_t[t]
        i_p, j_p = bonds.pairs.i_p[p], bonds.pairs.j_p[p]
        first_p, second_p = np.where(swapped, j_p, i_p), np.where(swapped, i_p, j_p)
        S_pfMM = overlap.gather(bonds, t, S_fx)
        shared = dressed_s[A][place_a[first_p]] @ S_pfMM
        # S_jj^-1 H_jj is the transpose of H_jj S_jj^-1, up to the sign of antisymmetric fields.
        transposed = dressed_s[B].swapaxes(2, 3) * form.hermitian_f[:, None, None]
        shared += S_pfMM @ transposed[place_a[second_p]]
        shared *= by_orbital(form, t, share_tg[t]) / 2
        shared_t.append(shared)
    return shared_t


def by_orbital(form: BlockForm, t: int, share_g: Array) -> Array:
    """The factor of each pair of shells as a block [fields, orbitals of A, orbitals of B]."""
    A, B = (form.basis[s].shells for s in form.kinds[t])
    table = share_g.reshape(len(form.fields), len(A), len(B))
    counts = [field.width for field in form.fields], [shell.size for shell in A], [shell.size for shell in B]
    for axis, repeats in enumerate(counts):
        table = np.repeat(table, repeats, axis=axis)
    return table
