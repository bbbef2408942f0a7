"""Mulliken's share of each atom in the electrons of a density, and the electrons that the neutral atom has."""

import numpy as np
from ase.data import atomic_numbers

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.kspace import dense_at, run_kpoints, spatial_overlap, split_spinor

NOBLE = np.array([0, *(atomic_numbers[symbol] for symbol in ("He", "Ne", "Ar", "Kr", "Xe", "Rn"))])


def populations(frame: Frame) -> Array:
    """Mulliken's electrons of each atom, sum_j (DM conj(S))_ij: one row for each spin (up and down along z)."""
    if missing := [name for name in ("DM", "S") if name not in frame.operators]:
        raise Refused(Kind.MISSING_MATRIX, frame.place, f"holds no {' and no '.join(missing)}; populations need both")
    channels = [0, 3] if frame.spin is Spin.SPINOR else list(range(frame.spin.components))
    if not frame.folded:
        pairs = frame.pairs
        share_x = np.repeat(pairs.copies_p / 2, pairs.size_p) * frame["S"].values_sx[0]
        share_sp = [np.bincount(pairs.pair_x, frame["DM"].values_sx[s].real * share_x, len(pairs)) for s in channels]
        return np.array(
            [sum(np.bincount(end_p, share_p, frame.natoms) for end_p in (pairs.i_p, pairs.j_p)) for share_p in share_sp]
        )
    # Folded blocks were shared among images: only the sums at the k-points of the run are whole.
    atom_M = np.repeat(np.arange(frame.natoms), frame.pairs.norb_a)
    total = np.zeros((len(channels), frame.natoms))
    for k_c, weight in run_kpoints(frame):
        S_MM, DM_sMM = spatial_overlap(frame, k_c), dense_at(frame, "DM", k_c)
        if frame.spin is Spin.SPINOR:
            parts = split_spinor(DM_sMM[0])
            DM_sMM = [parts[s] for s in channels]
        for s, DM_MM in enumerate(DM_sMM):
            total[s] += weight * np.bincount(atom_M, (DM_MM * S_MM.conj()).real.sum(axis=1), frame.natoms)
    return total


def neutral_electrons(frame: Frame) -> Array:
    """Electrons that each neutral atom would have, where a neutral structure has as many as the frame says.

    That is all of them, or those outside of the noble gas before. Pseudopotentials with other cores, and charged structures, are refused.
    """
    wanted, numbers_a = frame.outcome.electrons, frame.numbers_a
    if wanted is not None:
        for counts_a in (
            numbers_a,
            numbers_a - NOBLE[np.maximum(np.searchsorted(NOBLE, numbers_a, side="left") - 1, 0)],
        ):
            if abs(counts_a.sum() - wanted) < 1e-6:
                return np.asarray(counts_a, dtype=float)
    found = "does not say how many electrons it has" if wanted is None else f"has {wanted:g} electrons"
    raise Refused(Kind.ELECTRONS, frame.formula, f"{found}, so that charges of its nuclei are not known")
