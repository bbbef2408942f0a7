"""What repeats in a supercell: the translations, turns and mirrors that bring its atoms onto each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag

from basis import Array
from basis.rotations import wigner
from basis.spin import Spin
from converters.frames.blocks import Pairs, canonical, make_pairs
from converters.frames.folding import mesh_about_gamma, one_of_images
from converters.frames.frame import Frame
from converters.physics.populations import populations
from converters.starts.magnetism import LEAST
from converters.starts.symmetry import turns_of_lattice

# Atoms may be this far (Angstrom) from where they would repeat.
FAR = 0.35
# Turns are those of the average of all translations, up to this (Angstrom) and to so many times what the displacements of a frame leave unknown of it.
NEAR, TIMES = 0.02, 4.0
# Onsite blocks that differ by less are the same.
SAME_BLOCK = 1e-3
# With more places of atoms than this to keep, turns are not looked for.
MOST_PLACES = 1_200_000


@dataclass(frozen=True, eq=False)
class Repeats:
    """Operations g = (q, t), a turn or mirror and then a translation: atom a comes to the place of atom `place_ga`, in the cell `cell_gac`.

    `turn_qcc` act on fractional row vectors; the identity is the first. All images of a block in the supercell of `mesh_c` are one.
    """

    cell_cv: Array
    mesh_c: Array | None
    turn_qcc: Array
    place_qa: Array
    cell_qac: Array
    place_ta: Array
    cell_tac: Array

    @classmethod
    def of(cls, frame: Frame) -> "Repeats":
        """Those of a frame; the identity alone where nothing repeats."""
        kinds_a = kinds_of(frame)
        place_ta, cell_tac = translations(frame, kinds_a)
        own_a, home_ac = np.arange(frame.natoms), np.zeros((frame.natoms, 3), dtype=np.int64)
        mesh_c = mesh_about_gamma(frame)
        repeats = cls(frame.cell_cv, mesh_c, np.eye(3, dtype=int)[None], own_a[None], home_ac[None], place_ta, cell_tac)
        if not frame.pbc_c.all() or 2 * place_ta.size > MOST_PLACES:
            return repeats
        ideal_av = repeats.ideal(frame.positions_av)
        apart_av = frame.positions_av - ideal_av
        spread = float(np.sqrt(((apart_av - apart_av.mean(axis=0)) ** 2).sum(axis=1).mean() / len(place_ta)))
        turns = repeats.turns(ideal_av, kinds_a, min(NEAR + TIMES * spread, FAR))
        turn_qcc, place_qa, cell_qac = (np.array(parts) for parts in zip(*turns, strict=True))
        whole = cls(frame.cell_cv, mesh_c, turn_qcc, place_qa, cell_qac, place_ta, cell_tac)
        kept_q = whole.are_seen(frame) & whole.keep_mesh & (len(turns) * place_ta.size <= MOST_PLACES)
        return whole.with_turns(kept_q)

    def with_turns(self, kept_q: Array) -> "Repeats":
        """With some of the turns, and the identity."""
        kept = np.flatnonzero(kept_q | (np.arange(len(self.turn_qcc)) == 0))
        places = self.place_qa[kept], self.cell_qac[kept], self.place_ta, self.cell_tac
        return Repeats(self.cell_cv, self.mesh_c, self.turn_qcc[kept], *places)

    @property
    def keep_mesh(self) -> Array:
        """Which turns bring the supercell of the mesh onto itself."""
        if self.mesh_c is None:
            return np.ones(len(self.turn_qcc), dtype=bool)
        others_cc = self.mesh_c[:, None] != self.mesh_c
        return ~(others_cc & (self.turn_qcc != 0)).any(axis=(1, 2))

    def are_seen(self, frame: Frame) -> Array:
        """Which turns the density has as well as the atoms; fields and orders of electrons break them.

        Onsite blocks, on average over the translations, are turned into each other up to what displacements leave unknown of them.
        """
        differs_q, spread, DM, pairs = np.zeros(len(self.turn_qcc)), 0.0, frame["DM"].values_sx, frame.pairs
        first_a = np.zeros(frame.natoms, dtype=np.int64)
        first_a[pairs.i_p[pairs.onsite_p]] = pairs.start_p[:-1][pairs.onsite_p]
        for species in np.unique(frame.species_a):
            a = np.flatnonzero(frame.species_a == species)
            n = int(pairs.norb_a[a[0]])
            blocks_asij = np.zeros((frame.natoms, len(DM), n, n))
            blocks_asij[a] = DM[:, first_a[a][:, None] + np.arange(n * n)].swapaxes(0, 1).reshape(-1, len(DM), n, n)
            mean_asij = blocks_asij[self.place_ta].mean(axis=0)
            spread += float(((blocks_asij - mean_asij) ** 2).sum())
            for q, D in enumerate(orbital_turns(frame, a[0], self.rotation_qvv)):
                differs_q[q] += ((mean_asij[self.place_qa[q][a]] - D @ mean_asij[a] @ D.T) ** 2).sum()
        by_chance = 2 * spread / max(len(self.place_ta) - 1, 1)
        return np.asarray(differs_q <= TIMES**2 * max(by_chance, frame.natoms * SAME_BLOCK**2))

    def turns(self, ideal_av: Array, kinds_a: Array, near: float) -> list[tuple[Array, Array, Array]]:
        """Turns of the lattice that, with some translation, bring the average structure onto itself; the identity is the first."""
        inverse, whole = np.linalg.inv(self.cell_cv), np.ones(3, dtype=bool)
        own = rarest(kinds_a)
        others = np.unique(self.place_ta[:, own].min(axis=0))  # those that translations do not bring onto each other
        found = [(self.turn_qcc[0], self.place_qa[0], self.cell_qac[0])]
        for turn_cc in (*turns_of_lattice(self.cell_cv), -np.eye(3, dtype=int)):
            turned_av = ideal_av @ inverse @ turn_cc @ self.cell_cv
            for other in others:
                moved_av = turned_av + ideal_av[other] - turned_av[own[0]]
                if (there := fit(moved_av, ideal_av, kinds_a, self.cell_cv, whole, near)) is not None:
                    found.append((turn_cc, *there))
                    break
        return found

    def __len__(self) -> int:
        return len(self.turn_qcc) * len(self.place_ta)

    @cached_property
    def rotation_qvv(self) -> Array:
        """Each turn as it acts on column vectors."""
        turned = np.linalg.inv(self.cell_cv) @ self.turn_qcc @ self.cell_cv
        return np.asarray(turned.swapaxes(1, 2))

    @cached_property
    def place_ga(self) -> Array:
        return np.asarray(self.place_ta[:, self.place_qa].swapaxes(0, 1).reshape(len(self), -1))

    @cached_property
    def cell_gac(self) -> Array:
        cell_qtac = self.cell_qac[:, None] + self.cell_tac[:, self.place_qa].swapaxes(0, 1)
        return np.asarray(cell_qtac.reshape(len(self), -1, 3))

    def ideal(self, positions_av: Array) -> Array:
        """Where the atoms would repeat each other exactly, on average over all operations."""
        moved_gav = positions_av[self.place_ga] + self.cell_gac @ self.cell_cv
        moved_gav -= moved_gav.mean(axis=1, keepdims=True)
        back_qxv = moved_gav.reshape(len(self.turn_qcc), -1, 3) @ self.rotation_qvv
        return np.asarray(back_qxv.reshape(moved_gav.shape).mean(axis=0) + positions_av.mean(axis=0))

    def close(self, pairs: Pairs) -> Pairs:
        """The pairs with all that they come upon."""
        for turn, place, cell in ((self.turn_qcc, self.place_qa, self.cell_qac), (None, self.place_ta, self.cell_tac)):
            turns = [None] * len(place) if turn is None else turn
            lists = [self.kept(*moved(pairs, *one))[:3] for one in zip(turns, place, cell, strict=True)]
            i_p, j_p, R_pc = (np.concatenate(parts) for parts in zip(*lists, strict=True))
            pairs = make_pairs(i_p, j_p, R_pc, pairs.norb_a)
        return pairs

    def orbits(self, pairs: Pairs) -> tuple[Array, Array, Array]:
        """One pair of each set that come upon each other, of a closed list; where each operation brings it (-1: to none), and whether that holds its partner."""
        at_qp, swapped_qp = self.moved_pairs(pairs, self.turn_qcc, self.place_qa, self.cell_qac)
        at_tp, swapped_tp = self.moved_pairs(pairs, [None] * len(self.place_ta), self.place_ta, self.cell_tac)
        first_p = at_tp.min(axis=0)[at_qp].min(axis=0)
        chosen = np.flatnonzero(first_p == np.arange(len(pairs)))
        at_qo = at_qp[:, chosen]
        at_qto = np.where(at_qo[:, None] < 0, -1, at_tp[:, at_qo].swapaxes(0, 1))
        at_go = at_qto.reshape(len(self), -1)
        swapped_qto = swapped_qp[:, chosen][:, None] ^ swapped_tp[:, at_qo].swapaxes(0, 1)
        return chosen, at_go, swapped_qto.reshape(len(self), -1)

    def moved_pairs(
        self, pairs: Pairs, turns: Sequence[Array | None] | Array, places: Array, cells: Array
    ) -> tuple[Array, Array]:
        """The pair on which each operation puts each pair, -1 where there is none, and whether that holds its partner."""
        found, swapped = [], []
        for one in zip(turns, places, cells, strict=True):
            i_p, j_p, R_pc, swapped_p = self.kept(*moved(pairs, *one))
            found.append(pairs.find(i_p, j_p, R_pc))
            swapped.append(swapped_p)
        return np.array(found), np.array(swapped)

    def kept(self, i_p: Array, j_p: Array, R_pc: Array) -> tuple[Array, Array, Array, Array]:
        """Pairs, or partners of them, that are kept, and where those are partners."""
        return canonical(i_p, j_p, R_pc) if self.mesh_c is None else one_of_images(i_p, j_p, R_pc, self.mesh_c)


def kinds_of(frame: Frame) -> Array:
    """Species of atoms, told apart by the signs of their moments."""
    if frame.spin is not Spin.COLLINEAR or not {"S", "DM"} <= set(frame):
        return frame.species_a
    up_a, down_a = populations(frame)
    moment_a = up_a - down_a
    return frame.species_a * 3 + np.where(np.abs(moment_a) < LEAST, 0, np.sign(moment_a)).astype(int) + 1


def rarest(kinds_a: Array) -> Array:
    """The atoms of the kind of which there are fewest."""
    return np.flatnonzero(kinds_a == min(np.unique(kinds_a), key=lambda kind: int((kinds_a == kind).sum())))


def translations(frame: Frame, kinds_a: Array) -> tuple[Array, Array]:
    """All translations of a supercell into itself: the atom on whose place each atom comes, and the cell in which that is."""
    positions_av = frame.positions_av
    if not frame.pbc_c.any():
        return np.arange(frame.natoms)[None], np.zeros((1, frame.natoms, 3), dtype=np.int64)
    own = rarest(kinds_a)
    shifts = [positions_av[other] - positions_av[own[0]] for other in own]
    found = [fit(positions_av + shift, positions_av, kinds_a, frame.cell_cv, frame.pbc_c, FAR) for shift in shifts]
    places, cells = zip(*[one for one in found if one is not None], strict=True)
    return np.array(places), np.array(cells)


def fit(
    moved_av: Array, positions_av: Array, kinds_a: Array, cell_cv: Array, pbc_c: Array, far: float
) -> tuple[Array, Array] | None:
    """The atom of the same kind on whose place each moved atom is, and in which cell; None where one is `far` from all."""
    inverse = np.linalg.inv(cell_cv)
    place_a, cell_ac = np.zeros(len(moved_av), dtype=np.int64), np.zeros((len(moved_av), 3), dtype=np.int64)
    for kind in np.unique(kinds_a):
        a = np.flatnonzero(kinds_a == kind)
        apart_abc = (moved_av[a][:, None] - positions_av[a]) @ inverse
        whole_abc = np.round(apart_abc) * pbc_c
        distance_ab = np.linalg.norm((apart_abc - whole_abc) @ cell_cv, axis=-1)
        b = distance_ab.argmin(axis=1)
        if distance_ab[np.arange(len(a)), b].max() >= far or len(set(b.tolist())) < len(a):
            return None
        place_a[a], cell_ac[a] = a[b], whole_abc[np.arange(len(a)), b]
    return place_a, cell_ac


def moved(pairs: Pairs, turn_cc: Array | None, place_a: Array, cell_ac: Array) -> tuple[Array, Array, Array]:
    """i, j and R of pairs after an operation."""
    R_pc = pairs.R_pc if turn_cc is None else pairs.R_pc @ turn_cc
    return place_a[pairs.i_p], place_a[pairs.j_p], R_pc + cell_ac[pairs.j_p] - cell_ac[pairs.i_p]


def orbital_turns(frame: Frame, atom: int, rotation_qvv: Array) -> Array:
    """How turns mix the orbitals of an atom."""
    shells = frame.basis[frame.species_a[atom]].shells
    parts = {shell.l: wigner(shell.l, rotation_qvv) for shell in shells}
    return np.array([block_diag(*(parts[shell.l][q] for shell in shells)) for q in range(len(rotation_qvv))])
