"""Shared fields: what the potentials of two atoms do to the block between them.

Where the potential hardly changes over the overlap of two orbitals, a hopping block of H is half of what the onsite blocks
make of the overlap, (H_ii S_ii^-1 S_ij + S_ij S_jj^-1 H_jj) / 2 (Mulliken's approximation). It brings the third atoms into the
baseline of H, and a constant added to the potential comes out exactly. How much of it is taken is fitted for each pair of shells.
"""

import numpy as np

from basis import Array
from slem_plugin.components import BlockForm, BondFrames


def share_onsite(
    form: BlockForm, bonds: BondFrames, S_fx: Array, onsite_s: tuple[Array, ...], share_tg: tuple[Array, ...]
) -> Array:
    """Rows of the fields of a matrix with the shared fields as hopping blocks; onsite blocks are zero.

    `S_fx` is the overlap on the same pairs, `onsite_s` are the onsite components of each species, and `share_tg` the factors of
    the pairs of shells of each kind.
    """
    overlap = BlockForm(form.basis, form.fields[:1])
    left, right = [], []
    for s, onsite in enumerate(form.onsite_s):
        n = form.basis[s].size
        H_afMM = (onsite_s[s] @ onsite.to_components).reshape(len(onsite_s[s]), form.width, n, n)
        inverse_aMM = np.linalg.inv(S_fx[0][bonds.onsite_places(s)].reshape(-1, n, n))[:, None]
        left.append(H_afMM @ inverse_aMM)
        right.append(inverse_aMM @ H_afMM)
    place_a = np.zeros(len(bonds.species_a), dtype=int)
    for s in range(len(form.basis)):
        atoms = bonds.species_a == s
        place_a[atoms] = np.arange(atoms.sum())
    rows_fx = np.zeros((form.width, bonds.pairs.elements))
    for t, (A, B) in enumerate(form.kinds):
        p, swapped = bonds.by_kind.pairs_t[t], bonds.by_kind.swapped_t[t]
        i_p, j_p = bonds.pairs.i_p[p], bonds.pairs.j_p[p]
        first_p, second_p = np.where(swapped, j_p, i_p), np.where(swapped, i_p, j_p)
        S_pfMM = overlap.gather(bonds, t, S_fx)
        shared = left[A][place_a[first_p]] @ S_pfMM
        shared += S_pfMM @ right[B][place_a[second_p]]
        shared *= by_orbital(form, t, share_tg[t]) / 2
        form.scatter(bonds, t, shared, rows_fx)
    return rows_fx


def by_orbital(form: BlockForm, t: int, share_g: Array) -> Array:
    """The factor of each pair of shells as a block [fields, orbitals of A, orbitals of B]."""
    A, B = (form.basis[s].shells for s in form.kinds[t])
    table = share_g.reshape(len(form.fields), len(A), len(B))
    counts = [field.width for field in form.fields], [shell.size for shell in A], [shell.size for shell in B]
    for axis, repeats in enumerate(counts):
        table = np.repeat(table, repeats, axis=axis)
    return table
