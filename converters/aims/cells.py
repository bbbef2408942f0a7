"""In which cell FHI-aims has each atom: it moves all of them into the cell about the origin."""

from dataclasses import replace
from itertools import product

import numpy as np

from basis import Array
from converters.frames.blocks import Elements

# An atom that is so near to a face (in fractions of the cell) may have been moved to either side.
ON_A_FACE = 1e-4


def cells_of_atoms(fractions_ac: Array, overlap: Elements, atom_M: Array, cell_cv: Array) -> Array:
    """The vector n of each atom: the code has it at its fractions minus n.

    Of an atom on a face rounding decides; so along such axes the overlap does here: its elements are large where atoms are near.
    """
    n_ac = np.round(fractions_ac).astype(np.int64)
    tied_ac = np.abs(np.abs(fractions_ac - n_ac) - 0.5) < ON_A_FACE
    if not tied_ac.any():
        return n_ac
    natoms = len(n_ac)
    a_e, b_e = atom_M[overlap.row_e], atom_M[overlap.column_e]
    weight_e = overlap.values_se[0] ** 2
    sums = [weight_e, *(weight_e * overlap.R_tc[overlap.t_e].T)]
    weight_ab, *moments = (np.bincount(a_e * natoms + b_e, one, natoms**2).reshape(natoms, natoms) for one in sums)
    np.fill_diagonal(weight_ab, 0.0)  # an atom and its own images say nothing
    mean_abc = np.stack(moments, axis=-1) / np.maximum(weight_ab, 1e-300)[:, :, None]
    mean_abc += fractions_ac[None] - fractions_ac[:, None]
    free_c = np.asarray(np.any(tied_ac, axis=0))
    steps = [step for step in product((0, 1, -1), repeat=3) if bool(free_c[np.flatnonzero(step)].all())]
    settled_a = np.arange(natoms) == 0
    while not settled_a.all():  # the atom that overlaps most with those that have their cells
        a = int(np.where(settled_a, -1.0, weight_ab[:, settled_a].sum(axis=1)).argmax())
        choices = n_ac[a] + np.array(steps)
        vectors = (mean_abc[a, settled_a] - n_ac[settled_a] + choices[:, None]) @ cell_cv
        n_ac[a] = choices[((vectors**2).sum(axis=2) @ weight_ab[a, settled_a]).argmin()]
        settled_a[a] = True
    return n_ac


def to_given_cells(matrix: Elements, n_ac: Array, atom_M: Array) -> Elements:
    """The same matrix with every atom where the input has it."""
    moved, of_pair = np.unique((n_ac[:, None] - n_ac[None]).reshape(-1, 3), axis=0, return_inverse=True)
    which_e = of_pair.ravel()[atom_M[matrix.row_e] * len(n_ac) + atom_M[matrix.column_e]]
    used, t_e = np.unique(matrix.t_e * len(moved) + which_e, return_inverse=True)
    R_tc = matrix.R_tc[used // len(moved)] + moved[used % len(moved)]
    return replace(matrix, t_e=t_e, R_tc=R_tc)
