"""Errors of predicted matrices, over the elements that the code stored, in many views."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import linalg

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame, operator_on
from converters.physics import kspace
from converters.physics.checks import few_kpoints
from converters.starts.agreement import measure_agreement
from converters.starts.fit import sampling_of
from converters.storage.pandas_table import as_table

# Distances are grouped in steps of this length (Angstrom).
STEP = 0.5
# Bands of larger cells are not compared: each k-point would take minutes.
MOST_ORBITALS = 3000


@dataclass
class Tally:
    """A weighted sum of errors and of their squares, and the largest one."""

    weight: float = 0.0
    absolute: float = 0.0
    square: float = 0.0
    largest: float = 0.0

    def add(self, errors_x: Array, weight_x: Array) -> None:
        self.weight += float(weight_x.sum())
        self.absolute += float(errors_x @ weight_x)
        self.square += float(errors_x**2 @ weight_x)
        self.largest = max(self.largest, float(errors_x.max(initial=0)))

    def merge(self, other: "Tally") -> None:
        """Add what another one counted."""
        self.weight += other.weight
        self.absolute += other.absolute
        self.square += other.square
        self.largest = max(self.largest, other.largest)

    @property
    def mae(self) -> float:
        return self.absolute / self.weight if self.weight else 0.0

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.square / self.weight)) if self.weight else 0.0


@dataclass
class OperatorErrors:
    """Errors of one operator: of all its elements, and by place, by pair of elements, by pair of shells, by distance."""

    whole: Tally = field(default_factory=Tally)
    onsite: Tally = field(default_factory=Tally)
    hopping: Tally = field(default_factory=Tally)
    without_shift: Tally = field(default_factory=Tally)
    groups: dict[str, dict[str, Tally]] = field(default_factory=lambda: {"elements": {}, "shells": {}, "distance": {}})

    def merge(self, other: "OperatorErrors") -> None:
        """Add what another one counted."""
        for view in ("whole", "onsite", "hopping", "without_shift"):
            getattr(self, view).merge(getattr(other, view))
        for kind, tallies in other.groups.items():
            for label, tally in tallies.items():
                self.groups[kind].setdefault(label, Tally()).merge(tally)

    def add_frame(self, name: str, reference: Frame, predicted: Frame) -> None:
        """Count the errors of one frame; a pair that was not predicted was predicted to be zero."""
        operator, pairs = reference.operators[name], reference.pairs
        found_sx = operator_on(predicted, name, pairs).values_sx
        known_x = np.ones(pairs.elements, dtype=bool) if operator.known_x is None else operator.known_x
        error_sx = (found_sx - operator.values_sx)[:, known_x]
        pair_x = pairs.pair_x[known_x]
        onsite_x = pairs.onsite_p[pair_x]
        # The other Hermitian half of a hopping block has the same errors.
        weight_x = np.where(onsite_x, 1.0, 2.0)
        labels = {
            "elements": element_labels(reference, pair_x),
            "shells": shell_labels(reference, np.flatnonzero(known_x)),
            "distance": distance_labels(reference, pair_x),
        }
        for error_x in np.abs(error_sx):
            self.whole.add(error_x, weight_x)
            self.onsite.add(error_x[onsite_x], weight_x[onsite_x])
            self.hopping.add(error_x[~onsite_x], weight_x[~onsite_x])
            for kind, (names, label_x) in labels.items():
                for n in np.unique(label_x):
                    mine = label_x == n
                    self.groups[kind].setdefault(names[n], Tally()).add(error_x[mine], weight_x[mine])
        if name == "H" and "S" in reference.operators:
            for error_x in remove_shift(reference, error_sx, known_x, weight_x):
                self.without_shift.add(np.abs(error_x), weight_x)

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The errors of each part, as rows of a table."""
        parts = [("all", "", self.whole), ("onsite", "", self.onsite), ("hopping", "", self.hopping)]
        parts += [(kind, label, one) for kind, group in self.groups.items() for label, one in sorted(group.items())]
        for part, label, one in parts:
            yield {
                "operator": name,
                "part": part,
                "label": label,
                "mae": one.mae,
                "rmse": one.rmse,
                "max": one.largest,
            }

    def as_dict(self, unit: str) -> dict[str, Any]:
        """Plain numbers; `unit` is that of the operator."""
        plain: dict[str, Any] = {
            "mae": self.whole.mae,
            "mae_onsite": self.onsite.mae,
            "mae_hopping": self.hopping.mae,
            "rmse": self.whole.rmse,
            "max": self.whole.largest,
            "unit": unit,
        }
        if self.without_shift.weight:
            plain["mae_without_shift"] = self.without_shift.mae
        for kind, tallies in self.groups.items():
            plain[f"by_{kind}"] = {label: tally.mae for label, tally in sorted(tallies.items())}
        return plain


def element_labels(frame: Frame, pair_x: Array) -> tuple[list[str], Array]:
    """Names of the pairs of elements, and the one of each matrix element."""
    names = [f"{a.name}-{b.name}" for a in frame.basis for b in frame.basis]
    ends_ps = np.sort(frame.species_a[np.stack([frame.pairs.i_p, frame.pairs.j_p])], axis=0)
    return names, (ends_ps[0] * len(frame.basis) + ends_ps[1])[pair_x]


def shell_labels(frame: Frame, x: Array) -> tuple[list[str], Array]:
    """Names of the pairs of shells, and the one of each matrix element."""
    shells = [(s, f"{species.name}:{shell}") for s, species in enumerate(frame.basis) for shell in species.shells]
    first_s = np.searchsorted([s for s, _ in shells], np.arange(len(frame.basis)))
    by_orbital = [
        first_s[s] + np.repeat(np.arange(len(species.shells)), [shell.size for shell in species.shells])
        for s, species in enumerate(frame.basis)
    ]
    shell_M = np.concatenate([by_orbital[s] for s in frame.species_a])
    ends = np.sort(np.stack([shell_M[place[x]] for place in frame.pairs.row_column_x]), axis=0)
    return [f"{a} {b}" for _, a in shells for _, b in shells], ends[0] * len(shells) + ends[1]


def distance_labels(frame: Frame, pair_x: Array) -> tuple[list[str], Array]:
    """Names of the ranges of distance, and the one of each matrix element."""
    bin_p = (np.linalg.norm(frame.vectors_pv, axis=1) / STEP).astype(int)
    return [f"{n * STEP:04.1f}-{(n + 1) * STEP:04.1f}" for n in range(int(bin_p.max(initial=0)) + 1)], bin_p[pair_x]


def remove_shift(frame: Frame, error_sx: Array, known_x: Array, weight_x: Array) -> Array:
    """Errors of H without the multiple of S that lies in them: that one moves all levels alike."""
    S_x = frame.operators["S"].values_sx[0][known_x]
    diagonal = [0, 3] if frame.spin is Spin.SPINOR else list(range(len(error_sx)))
    norm = len(diagonal) * float(weight_x @ S_x**2)
    shift = float(sum(weight_x @ (error_sx[s].real * S_x) for s in diagonal)) / norm
    without = error_sx.copy()
    without[diagonal] -= shift * S_x
    return without


@dataclass
class BandErrors:
    """Errors of the levels (eV): of occupied ones as they are and without their mean, and of all."""

    occupied: Tally = field(default_factory=Tally)
    occupied_without_shift: Tally = field(default_factory=Tally)
    levels: Tally = field(default_factory=Tally)

    def merge(self, other: "BandErrors") -> None:
        """Add what another one counted."""
        for view in ("occupied", "occupied_without_shift", "levels"):
            getattr(self, view).merge(getattr(other, view))

    def add_frame(self, reference: Frame, predicted: Frame) -> None:
        """Levels of the predicted H with the reference's S, where both are there and the cell is not too large."""
        energies = compare_levels(reference, predicted)
        if energies is None:
            return
        expected_skn, found_skn, occupied_skn = energies
        error = (found_skn - expected_skn)[occupied_skn]
        self.occupied.add(np.abs(error), np.ones(len(error)))
        self.occupied_without_shift.add(np.abs(error - error.mean()), np.ones(len(error)))
        every = np.abs(found_skn - expected_skn).ravel()
        self.levels.add(every, np.ones(len(every)))

    def as_dict(self) -> dict[str, float]:
        return {
            "occupied": self.occupied.mae,
            "occupied_max": self.occupied.largest,
            "occupied_without_shift": self.occupied_without_shift.mae,
            "all": self.levels.mae,
        }


def compare_levels(reference: Frame, predicted: Frame) -> tuple[Array, Array, Array] | None:
    """Levels of the reference and of the prediction at a few k-points, and which of them are occupied."""
    if not {"H", "S"} <= set(reference.operators) or "H" not in predicted.operators or reference.norb > MOST_ORBITALS:
        return None
    electrons = reference.outcome.electrons
    if electrons is None and "DM" in reference.operators:
        electrons = float(kspace.count_electrons(reference).sum())
    if electrons is None:
        return None
    kpoints_kc = few_kpoints(reference)
    other = replace(reference, operators={**reference.operators, "H": operator_on(predicted, "H", reference.pairs)})
    try:
        expected_skn, found_skn = (kspace.eigenvalues(frame, kpoints_kc) for frame in (reference, other))
    except linalg.LinAlgError:
        return None
    most = 2 if reference.spin is Spin.NONE else 1
    return expected_skn, found_skn, lowest_levels(expected_skn, round(electrons / most))


def lowest_levels(energies_skn: Array, count: int) -> Array:
    """Which levels are the `count` lowest ones at each k-point, over both spins."""
    spins, kpoints, bands = energies_skn.shape
    by_k = energies_skn.swapaxes(0, 1).reshape(kpoints, -1)
    chosen = np.zeros(by_k.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(by_k, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen.reshape(kpoints, spins, bands).swapaxes(0, 1)


@dataclass
class Errors:
    """Errors of all operators and of the bands, over some frames."""

    operators: dict[str, OperatorErrors] = field(default_factory=dict)
    bands: BandErrors = field(default_factory=BandErrors)
    apart: Tally = field(default_factory=Tally)

    def add_frame(self, reference: Frame, predicted: Frame, *, bands: bool = True, agreement: bool = False) -> None:
        for name in predicted.operators:
            if name in reference.operators:
                self.operators.setdefault(name, OperatorErrors()).add_frame(name, reference, predicted)
        if bands:
            self.bands.add_frame(reference, predicted)
        if agreement:
            self.add_agreement(reference, predicted)

    def add_agreement(self, reference: Frame, predicted: Frame) -> None:
        """How far predicted H and DM are from each other, at the k-points of the reference; no label is needed for it."""
        if reference.norb > MOST_ORBITALS or reference.outcome.electrons is None:
            return
        found = measure_agreement(predicted, sampling_of(reference, None, None))
        if found is not None:
            self.apart.add(np.array([found.apart]), np.ones(1))

    def merge(self, other: "Errors") -> None:
        """Add what another one counted."""
        for name, errors in other.operators.items():
            self.operators.setdefault(name, OperatorErrors()).merge(errors)
        self.bands.merge(other.bands)
        self.apart.merge(other.apart)

    @property
    def headline(self) -> str:
        """The mean error of H so far, in words."""
        return f"H {self.operators['H'].whole.mae * 1e3:.3g} meV" if "H" in self.operators else ""

    def table(self) -> Any:
        """One row for each operator and part (all, onsite, hopping, elements, shells, distances): a pandas DataFrame where pandas is installed, else a list of dictionaries."""
        return as_table(row for name, errors in self.operators.items() for row in errors.rows(name))

    def as_dict(self) -> dict[str, Any]:
        plain = {name: errors.as_dict("eV" if name == "H" else "1") for name, errors in self.operators.items()}
        if self.bands.levels.weight:
            plain["bands"] = self.bands.as_dict()
        if self.apart.weight:
            plain["agreement"] = {"electrons_apart": self.apart.mae, "max": self.apart.largest}
        return plain
