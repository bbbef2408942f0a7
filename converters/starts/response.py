"""A density for new positions of the atoms of a supercell from runs of other positions, without a model.

A supercell repeats a smaller cell, and each repetition shows what the same pair of atoms does: a single run of 64 displaced
atoms in a crystal of two shows each pair 32 times, and each of these as many times more as the crystal has turns and mirrors. Each block is taken to answer linearly to the displacements of the atoms
around it, which is fitted by least squares; what was learned of a run is added up, so that a further run costs no more than the first.
"""

from dataclasses import replace

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.blocks import Operator
from converters.frames.frame import Frame
from converters.frames.origin import Made, Origin
from converters.physics.overlap import Overlap
from converters.starts.earlier import are_alike, shifted
from converters.starts.repeats import FAR, Repeats, orbital_turns
from converters.starts.whole import has_one_matrix, with_whole_orbitals

# With fewer repetitions whole densities are combined (`converters.starts.earlier`).
FEWEST = 4
# So many atoms around a pair move its block, one at this distance (Angstrom) likely 1/e as much as those of the pair.
AROUND, FADES = 64, 2.0
# What is kept of a supercell takes no more memory than this (bytes): fewer atoms around each pair count then, or none where they would be fewer than these.
MOST_BYTES, FEWEST_AROUND = 2**29, 12
# Turns are left out where a run would show more elements than this, each as often as turns bring it onto itself.
MOST_SEEN = 20_000_000
# What is not known of an atom is taken to be nothing, as if so many repetitions had shown that.
RIDGE = 1.0
# So many repetitions for each number that is fitted are enough; more teach nothing new.
ENOUGH = 50
# Supercells of so many atoms are taken to be too large for a search of all repetitions.
MOST_ATOMS = 600


class Response:
    """DM of one supercell as it answers to displacements; `of` a frame is None where nothing repeats in it."""

    def __init__(self, frame: Frame, repeats: Repeats) -> None:
        self.frame, self.repeats = frame, repeats
        self.ideal_av = repeats.ideal(frame.positions_av)
        self.pairs = repeats.close(frame.pairs)
        self.count = 0
        chosen, at_go, swapped_go = repeats.orbits(self.pairs)
        # Turns whose products are not among them lead out of the pairs, and leave some out.
        some_left = at_go.min() < 0 or len(np.unique(at_go)) < len(self.pairs)
        if some_left or len(repeats) * self.pairs.size_p[chosen].sum() > MOST_SEEN:
            self.repeats = repeats = repeats.with_turns(np.zeros(len(repeats.turn_qcc), dtype=bool))
            self.ideal_av = repeats.ideal(frame.positions_av)
            self.pairs = repeats.close(frame.pairs)
            chosen, at_go, swapped_go = repeats.orbits(self.pairs)
        self.around = self.affordable(chosen)
        self.orbits = self.by_shape(chosen, at_go, swapped_go) if self.around else []

    @classmethod
    def of(cls, frame: Frame) -> "Response | None":
        if frame.natoms > MOST_ATOMS or frame.spin is Spin.SPINOR or not {"S", "DM"} <= set(frame):
            return None
        if Overlap.of_frame(frame) is None:
            return None
        repeats = Repeats.of(frame)
        if len(repeats.place_ta) < FEWEST:
            return None
        response = cls(frame, repeats)
        return response if response.around >= min(FEWEST_AROUND, frame.natoms) else None

    def affordable(self, chosen: Array) -> int:
        """Atoms around each pair that fit into memory."""
        features_n = 3.0 * np.arange(min(AROUND, self.frame.natoms) + 1) + 1
        elements = self.pairs.size_p[chosen].sum() * self.frame.spin.components
        seen = len(self.repeats) * len(chosen)
        bytes_n = 8 * features_n * (features_n * len(chosen) + 2 * elements + seen)
        return int(np.flatnonzero(bytes_n <= MOST_BYTES).max(initial=0))

    def by_shape(self, chosen: Array, at_go: Array, swapped_go: Array) -> "list[Orbits]":
        """Sets of pairs that repeat each other; those with blocks of the same species are worked on at once."""
        species_a, pairs = self.frame.species_a, self.pairs
        kind_o = species_a[pairs.i_p[chosen]] * len(self.frame.basis) + species_a[pairs.j_p[chosen]]
        kinds = [np.flatnonzero(kind_o == kind) for kind in np.unique(kind_o)]
        return [Orbits(self, chosen[o], at_go[:, o], swapped_go[:, o]) for o in kinds]

    def displacements(self, cell_cv: Array, numbers_a: Array, positions_av: Array) -> tuple[Array, Array] | None:
        """How far the atoms of a structure are from where they repeat each other, and in which cells; None where it is another supercell."""
        own = self.frame
        if len(numbers_a) != own.natoms or not np.array_equal(numbers_a, own.numbers_a):
            return None
        if np.abs(cell_cv - own.cell_cv).max() > 1e-3:
            return None
        moved_av = positions_av - self.ideal_av
        cells_ac = np.round(moved_av @ np.linalg.inv(own.cell_cv)).astype(int) * own.pbc_c
        moved_av = moved_av - cells_ac @ own.cell_cv
        apart_av = moved_av - moved_av.mean(axis=0)
        return (moved_av, cells_ac) if np.linalg.norm(apart_av, axis=1).max() < FAR else None

    def add(self, frame: Frame) -> bool:
        """Learn from a run of the same supercell; False where it is of another one, or was calculated otherwise."""
        if not {"S", "DM"} <= set(frame) or not are_alike(frame, self.frame):
            return False
        found = self.displacements(frame.cell_cv, frame.numbers_a, frame.positions_av)
        if found is None:
            return False
        moved_av, cells_ac = found
        self.count += 1
        if self.count * len(self.repeats) > ENOUGH * (3 * self.around + 1):
            return True
        values_sx = self.values(frame, cells_ac)
        for orbits in self.orbits:
            orbits.add(moved_av, values_sx)
        return True

    def values(self, frame: Frame, cells_ac: Array) -> Array:
        """DM of a frame on the pairs; codes put atoms back into the cell, and R is another one then."""
        frame = shifted(frame, -cells_ac)
        pairs = frame.pairs
        at_p = self.pairs.find(pairs.i_p, pairs.j_p, pairs.R_pc)
        values_sx = np.zeros((frame.spin.components, self.pairs.elements))
        known_x = (at_p >= 0)[pairs.pair_x]
        offset_x = np.arange(pairs.elements) - pairs.start_p[pairs.pair_x]
        at_x = self.pairs.start_p[at_p][pairs.pair_x] + offset_x
        values_sx[:, at_x[known_x]] = frame.operators["DM"].values_sx[:, known_x]
        return values_sx

    def frame_at(self, cell_cv: Array, numbers_a: Array, positions_av: Array) -> Frame | None:
        """S and DM at new positions; None where these are too far or nothing was learned."""
        found, overlap = self.displacements(cell_cv, numbers_a, positions_av), Overlap.of_frame(self.frame)
        if found is None or not self.count or overlap is None:
            return None
        moved_av, _ = found
        values_sx = np.zeros((self.frame.spin.components, self.pairs.elements))
        for orbits in self.orbits:
            orbits.put(moved_av, values_sx)
        new = replace(self.frame, positions_av=self.ideal_av + moved_av, pairs=self.pairs, operators={})
        operators = {"S": Operator(overlap.like(new)[None]), "DM": Operator(values_sx)}
        provenance = replace(new.provenance, origins={"S": Origin(Made.INTEGRATED)})
        made = replace(new, operators=operators, provenance=provenance)
        return with_whole_orbitals(made, self.frame) if has_one_matrix(made) else made


class Orbits:
    """Sets of pairs that repeat each other, all with blocks of the same species: what was learned of them, added up for least squares."""

    def __init__(self, owner: Response, chosen: Array, at_go: Array, swapped_go: Array) -> None:
        pairs, frame, repeats = owner.pairs, owner.frame, owner.repeats
        i_o, j_o = pairs.i_p[chosen], pairs.j_p[chosen]
        rows, columns = int(pairs.norb_a[i_o[0]]), int(pairs.norb_a[j_o[0]])
        straight = np.arange(rows * columns)
        turned = (straight % columns) * rows + straight // columns  # where the element is in the transposed block
        self.x_gow = pairs.start_p[at_go][..., None] + np.where(swapped_go[..., None], turned, straight)
        inverse = np.linalg.inv(frame.cell_cv)
        i_oa, j_oa = (distances(owner.ideal_av, a_o, frame.cell_cv, inverse) for a_o in (i_o, j_o))
        distance_oa = np.minimum(i_oa, j_oa)
        near_on = np.argsort(distance_oa, axis=1, kind="stable")[:, : owner.around]
        self.weight_on = np.exp(-np.take_along_axis(distance_oa, near_on, axis=1) / FADES)
        place_ga = repeats.place_ga
        self.near_gon, self.i_go, self.j_go = place_ga[:, near_on], place_ga[:, i_o], place_ga[:, j_o]
        self.rotation_qvv, self.shape = repeats.rotation_qvv, (frame.spin.components, rows, columns)
        self.D_left, self.D_right = (orbital_turns(frame, a_o[0], self.rotation_qvv) for a_o in (i_o, j_o))
        features, targets = 3 * near_on.shape[1] + 1, rows * columns * frame.spin.components
        self.normal_off = np.zeros((len(chosen), features, features))
        self.wanted_ofw = np.zeros((len(chosen), features, targets))
        self.solved: Array | None = None

    def features(self, moved_av: Array) -> Array:
        """What surrounds each repetition of each pair, turned as the first is, [o, g, feature]: displacements from the middle of the pair, and a constant."""
        g, o = self.i_go.shape
        middle_gov = (moved_av[self.i_go] + moved_av[self.j_go]) / 2
        around_gonv = (moved_av[self.near_gon] - middle_gov[:, :, None]) * self.weight_on[None, :, :, None]
        back_qxv = around_gonv.reshape(len(self.rotation_qvv), -1, 3) @ self.rotation_qvv
        whole = np.concatenate([back_qxv.reshape(g, o, -1), np.ones((g, o, 1))], axis=-1)
        return whole.swapaxes(0, 1)

    def add(self, moved_av: Array, values_sx: Array) -> None:
        seen_ogf = self.features(moved_av)
        g, o = self.i_go.shape
        blocks_qxsij = np.moveaxis(values_sx[:, self.x_gow], 0, 2).reshape(len(self.D_left), -1, *self.shape)
        back = self.D_left.swapaxes(1, 2)[:, None, None] @ blocks_qxsij @ self.D_right[:, None, None]
        blocks_ogw = back.reshape(g, o, -1).swapaxes(0, 1)
        self.normal_off += seen_ogf.swapaxes(1, 2) @ seen_ogf
        self.wanted_ofw += seen_ogf.swapaxes(1, 2) @ blocks_ogw
        self.solved = None

    def put(self, moved_av: Array, values_sx: Array) -> None:
        """Write the blocks at new positions."""
        if self.solved is None:
            self.solved = self.solve()
        g, o = self.i_go.shape
        blocks_ogw = self.features(moved_av) @ self.solved
        blocks_qxsij = blocks_ogw.swapaxes(0, 1).reshape(len(self.D_left), -1, *self.shape)
        there = self.D_left[:, None, None] @ blocks_qxsij @ self.D_right.swapaxes(1, 2)[:, None, None]
        values_sx[:, self.x_gow] = np.moveaxis(there.reshape(g, o, len(values_sx), -1), 2, 0)

    def solve(self) -> Array:
        """Least squares with a ridge for all but the constant."""
        features = self.normal_off.shape[1]
        count_o = self.normal_off[:, -1, -1]
        size_o = np.trace(self.normal_off[:, :-1, :-1], axis1=1, axis2=2) / count_o / (features - 1)
        ridge_of = np.repeat(RIDGE * np.maximum(size_o, 1e-12)[:, None], features, axis=1)
        ridge_of[:, -1] = 0
        return np.linalg.solve(self.normal_off + ridge_of[:, :, None] * np.eye(features), self.wanted_ofw)


def distances(positions_av: Array, from_o: Array, cell_cv: Array, inverse: Array) -> Array:
    """From some atoms to the nearest images of all."""
    apart_oac = (positions_av - positions_av[from_o][:, None]) @ inverse
    return np.linalg.norm((apart_oac - np.round(apart_oac)) @ cell_cv, axis=-1)
