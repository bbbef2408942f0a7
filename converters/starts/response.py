"""A density for new positions of the atoms of a supercell from runs of other positions, without a model.

A supercell repeats a smaller cell, and each repetition shows what the same pair of atoms does: a single run of 64 displaced
atoms in a crystal of two shows each pair 32 times. Each block is taken to answer linearly to the displacements of the atoms
around it, which is fitted by least squares; what was learned of a run is added up, so that a further run costs no more than the first.
"""

from dataclasses import replace

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.blocks import Operator, Pairs, canonical, make_pairs
from converters.frames.frame import Frame, operator_on
from converters.frames.origin import Made, Origin
from converters.physics.overlap import Overlap
from converters.starts.earlier import are_alike
from converters.starts.fit import reorder_atoms

# Atoms may be this far (Angstrom) from where they would repeat, and from where they are on average.
FAR = 0.35
# With fewer repetitions whole densities are combined (`converters.starts.earlier`).
FEWEST = 4
# So many atoms around a pair move its block, one at this distance (Angstrom) likely 1/e as much as those of the pair.
AROUND, FADES = 64, 2.0
# What is kept of a supercell takes no more memory than this (bytes): fewer atoms around each pair count then, or none where they would be fewer than these.
MOST_BYTES, FEWEST_AROUND = 2**29, 12
# What is not known of an atom is taken to be nothing, as if so many repetitions had shown that.
RIDGE = 1.0
# Supercells of so many atoms are taken to be too large for a search of all repetitions.
MOST_ATOMS = 600


class Response:
    """DM of one supercell as it answers to displacements; `of` a frame is None where nothing repeats in it."""

    def __init__(self, frame: Frame, place_ta: Array, cell_tac: Array, ideal_av: Array) -> None:
        self.frame, self.place_ta, self.ideal_av = frame, place_ta, ideal_av
        self.pairs = repeated_pairs(frame.pairs, place_ta, cell_tac)
        self.count = 0
        self.around = self.affordable(len(place_ta))
        self.orbits = self.sorted_orbits(cell_tac) if self.around else []

    @classmethod
    def of(cls, frame: Frame) -> "Response | None":
        if frame.natoms > MOST_ATOMS or frame.spin is Spin.SPINOR or not {"S", "DM"} <= set(frame):
            return None
        if Overlap.of_frame(frame) is None:
            return None
        place_ta, cell_tac = repetitions(frame)
        if len(place_ta) < FEWEST:
            return None
        moved_tav = frame.positions_av[place_ta] + cell_tac @ frame.cell_cv - frame.positions_av
        ideal_av = frame.positions_av + (moved_tav - moved_tav.mean(axis=1, keepdims=True)).mean(axis=0)
        response = cls(frame, place_ta, cell_tac, ideal_av)
        return response if response.around >= min(FEWEST_AROUND, frame.natoms) else None

    def affordable(self, repeated: int) -> int:
        """Atoms around each pair that fit into memory."""
        features_n = 3.0 * np.arange(min(AROUND, self.frame.natoms) + 1) + 1
        elements = self.pairs.elements * self.frame.spin.components
        bytes_n = 8 * features_n * (features_n * len(self.pairs) + 2 * elements) / repeated
        return int(np.flatnonzero(bytes_n <= MOST_BYTES).max(initial=0))

    def sorted_orbits(self, cell_tac: Array) -> "list[Orbits]":
        """Pairs that repeat each other stand together; those with blocks of one shape are worked on at once."""
        pairs, place_ta = self.pairs, self.place_ta
        place_tp, swapped_tp = moved_pairs(pairs, pairs, place_ta, cell_tac)
        first_p = place_tp.min(axis=0)
        chosen = np.flatnonzero(first_p == np.arange(len(pairs)))
        shape_o = pairs.norb_a[pairs.i_p[chosen]] * 10_000 + pairs.norb_a[pairs.j_p[chosen]]
        return [
            Orbits(
                self,
                chosen[shape_o == shape],
                place_tp[:, chosen[shape_o == shape]],
                swapped_tp[:, chosen[shape_o == shape]],
            )
            for shape in np.unique(shape_o)
        ]

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
        if cells_ac.any():  # codes put atoms back into the cell, and R is another one then
            only = replace(frame, operators={"DM": frame.operators["DM"]})
            frame = reorder_atoms(only, np.arange(frame.natoms), -cells_ac)
        values_sx = operator_on(frame, "DM", self.pairs).values_sx
        for orbits in self.orbits:
            orbits.add(moved_av, values_sx)
        self.count += 1
        return True

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
        return replace(new, operators=operators, provenance=provenance)


class Orbits:
    """Sets of pairs that repeat each other, all with blocks of one shape: what was learned of them, added up for least squares."""

    def __init__(self, owner: Response, chosen: Array, place_to: Array, swapped_to: Array) -> None:
        pairs, frame = owner.pairs, owner.frame
        i_o, j_o = pairs.i_p[chosen], pairs.j_p[chosen]
        rows, columns = int(pairs.norb_a[i_o[0]]), int(pairs.norb_a[j_o[0]])
        straight = np.arange(rows * columns)
        turned = (straight % columns) * rows + straight // columns  # where the element is in the transposed block
        self.x_tow = pairs.start_p[place_to][..., None] + np.where(swapped_to[..., None], turned, straight)
        inverse = np.linalg.inv(frame.cell_cv)
        i_oa, j_oa = (distances(owner.ideal_av, a_o, frame.cell_cv, inverse) for a_o in (i_o, j_o))
        distance_oa = np.minimum(i_oa, j_oa)
        near_on = np.argsort(distance_oa, axis=1, kind="stable")[:, : owner.around]
        self.weight_on = np.exp(-np.take_along_axis(distance_oa, near_on, axis=1) / FADES)
        self.near_ton, self.i_to, self.j_to = owner.place_ta[:, near_on], owner.place_ta[:, i_o], owner.place_ta[:, j_o]
        features, targets = 3 * near_on.shape[1] + 1, rows * columns * frame.spin.components
        self.normal_off = np.zeros((len(chosen), features, features))
        self.wanted_ofw = np.zeros((len(chosen), features, targets))
        self.solved: Array | None = None

    def features(self, moved_av: Array) -> Array:
        """What surrounds each repetition of each pair, [o, t, feature]: displacements from the middle of the pair, and a constant."""
        middle_tov = (moved_av[self.i_to] + moved_av[self.j_to]) / 2
        around_tonv = (moved_av[self.near_ton] - middle_tov[:, :, None]) * self.weight_on[None, :, :, None]
        t, o = self.i_to.shape
        whole = np.concatenate([around_tonv.reshape(t, o, -1), np.ones((t, o, 1))], axis=-1)
        return whole.swapaxes(0, 1)

    def add(self, moved_av: Array, values_sx: Array) -> None:
        seen_otf = self.features(moved_av)
        blocks_otw = np.moveaxis(values_sx[:, self.x_tow], 0, -2).reshape(*self.i_to.shape, -1).swapaxes(0, 1)
        self.normal_off += seen_otf.swapaxes(1, 2) @ seen_otf
        self.wanted_ofw += seen_otf.swapaxes(1, 2) @ blocks_otw
        self.solved = None

    def put(self, moved_av: Array, values_sx: Array) -> None:
        """Write the blocks at new positions."""
        if self.solved is None:
            self.solved = self.solve()
        blocks_otw = self.features(moved_av) @ self.solved
        t, o = self.i_to.shape
        values_sx[:, self.x_tow] = np.moveaxis(blocks_otw.swapaxes(0, 1).reshape(t, o, len(values_sx), -1), -2, 0)

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


def repetitions(frame: Frame) -> tuple[Array, Array]:
    """All translations of a supercell into itself: the atom on whose place each atom comes, and the cell in which that is."""
    cell_cv, positions_av, species_a = frame.cell_cv, frame.positions_av, frame.species_a
    if not frame.pbc_c.any():
        return np.arange(frame.natoms)[None], np.zeros((1, frame.natoms, 3), dtype=np.int64)
    inverse = np.linalg.inv(cell_cv)
    rarest = min(np.unique(species_a), key=lambda s: int((species_a == s).sum()))
    own = np.flatnonzero(species_a == rarest)
    places, cells = [], []
    for other in own:
        place_a, cell_ac = np.zeros(frame.natoms, dtype=np.int64), np.zeros((frame.natoms, 3), dtype=np.int64)
        shift_v = positions_av[other] - positions_av[own[0]]
        fits = True
        for s in np.unique(species_a):
            a = np.flatnonzero(species_a == s)
            apart_abc = (positions_av[a][:, None] + shift_v - positions_av[a]) @ inverse
            whole_abc = np.round(apart_abc) * frame.pbc_c
            distance_ab = np.linalg.norm((apart_abc - whole_abc) @ cell_cv, axis=-1)
            b = distance_ab.argmin(axis=1)
            fits = distance_ab[np.arange(len(a)), b].max() < FAR and len(set(b.tolist())) == len(a)
            if not fits:
                break
            place_a[a], cell_ac[a] = a[b], whole_abc[np.arange(len(a)), b]
        if fits:
            places.append(place_a)
            cells.append(cell_ac)
    return np.array(places), np.array(cells)


def moved_pairs(pairs: Pairs, among: Pairs, place_ta: Array, cell_tac: Array) -> tuple[Array, Array]:
    """The pair on which each translation puts each pair, -1 where there is none, and whether that holds its partner."""
    found, turned = [], []
    for place_a, cell_ac in zip(place_ta, cell_tac, strict=True):
        i_p, j_p, R_pc, swapped_p = canonical(*moved(pairs, place_a, cell_ac))
        found.append(among.find(i_p, j_p, R_pc))
        turned.append(swapped_p)
    return np.array(found), np.array(turned)


def moved(pairs: Pairs, place_a: Array, cell_ac: Array) -> tuple[Array, Array, Array]:
    """i, j and R of pairs after a translation."""
    R_pc = pairs.R_pc + cell_ac[pairs.j_p] - cell_ac[pairs.i_p]
    return place_a[pairs.i_p], place_a[pairs.j_p], R_pc


def repeated_pairs(pairs: Pairs, place_ta: Array, cell_tac: Array) -> Pairs:
    """The pairs with all their repetitions."""
    lists = [moved(pairs, place_a, cell_ac) for place_a, cell_ac in zip(place_ta, cell_tac, strict=True)]
    i_p, j_p, R_pc = (np.concatenate(parts) for parts in zip(*lists, strict=True))
    return make_pairs(i_p, j_p, R_pc, pairs.norb_a)
