"""Starts that a campaign makes of its own finished runs, without any model: densities of the same atoms at other positions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.folding import with_images_as_one
from converters.frames.frame import Frame
from converters.starts.asking import Question, numbers_in
from converters.starts.earlier import cells_between, combined_frame, shifted
from converters.starts.response import Response
from converters.starts.start import Target
from converters.starts.whole import with_all_elements
from converters.storage.dataset import Dataset

# So many of the last frames of a dataset are read and kept, and fewer where they are larger than this.
KEPT, MOST_BYTES = 200, 2**29
# Different supercells that are kept in mind; after so many frames of the same atoms that are none no more are looked at.
SUPERCELLS, LOOKED_AT = 4, 3


class EarlierRuns:
    """The frames of a dataset as starts: `look` takes those in that are new. Fewer than `fewest` are not combined."""

    def __init__(self, data: Path | None = None, fewest: int = 1) -> None:
        self.data, self.fewest, self.seen, self.lock = data, fewest, 0, Lock()
        self.frames: list[Frame] = []
        self.responses: list[Response] = []
        self.no_supercells: Counter[bytes] = (
            Counter()
        )  # frames of some atoms that were none, since the last one that was
        self.look()

    def __len__(self) -> int:
        return self.seen

    def look(self) -> None:
        """Take in what the dataset has more of than before; one that a kill left without any frame has nothing."""
        if self.data is None or not self.data.exists():
            return
        try:
            dataset = Dataset(self.data)
        except Refused:  # who writes into it next says so
            return
        with dataset, self.lock:
            for n in range(max(self.seen, len(dataset) - KEPT), len(dataset)):
                self.take(dataset[n])
            self.seen = len(dataset)

    def take(self, frame: Frame) -> None:
        """Learn from a frame of a run that converged."""
        if not {"S", "DM"} <= set(frame) or frame.outcome.converged is False:
            return
        frame = with_images_as_one(with_all_elements(frame))
        frame = replace(frame, operators={name: frame[name] for name in ("S", "DM")})
        for response in self.responses:
            if response.add(frame):
                return
        atoms = frame.numbers_a.tobytes()
        if self.no_supercells[atoms] < LOOKED_AT:
            new = Response.of(frame)
            self.no_supercells[atoms] = 0 if new is not None else self.no_supercells[atoms] + 1
            if new is not None and new.add(frame):
                self.responses = [*self.responses, new][-SUPERCELLS:]
        # Of a supercell too: where each is strained otherwise, none answers for another.
        self.frames.append(as_others(frame, self.frames))
        size = sum(operator.values_sx.nbytes for operator in self.frames[-1].operators.values())
        del self.frames[: -max(1, min(KEPT, MOST_BYTES // size))]

    def knows(self, numbers_a: Array) -> bool:
        """Whether there may be a start of some atoms."""
        there = sum(np.array_equal(frame.numbers_a, numbers_a) for frame in self.frames)
        return there >= self.fewest or any(np.array_equal(one.frame.numbers_a, numbers_a) for one in self.responses)

    def start_of_target(self, target: Target) -> Frame:
        """S and DM at the positions of a run of input files."""
        return self.start(target.cell_cv, target.numbers_a, target.positions_av, str(target.path))

    def start_of_question(self, question: Question) -> Frame:
        """The same for a script, which says its basis."""
        cell_cv, _, positions_av, own, species_a = question
        numbers_a = np.array([own[s].number for s in species_a])
        frame = self.start(cell_cv, numbers_a, positions_av, "the run")
        if not np.array_equal(numbers_in(frame.basis, own, "the run")[species_a], frame.species_a):
            raise none_for("the run")
        return frame

    def start(self, cell_cv: Array, numbers_a: Array, positions_av: Array, place: str) -> Frame:
        with self.lock:
            for response in reversed(self.responses):
                if (frame := response.frame_at(cell_cv, numbers_a, positions_av)) is not None:
                    return frame
            same = self.of_same_atoms(cell_cv, numbers_a)
        frame = combined_frame(same, cell_cv, positions_av, self.fewest) if same else None
        if frame is None:
            raise none_for(place)
        return frame

    def of_same_atoms(self, cell_cv: Array, numbers_a: Array) -> Sequence[Frame]:
        return [
            frame
            for frame in self.frames
            if np.array_equal(frame.numbers_a, numbers_a)
            and (not frame.pbc_c.any() or np.allclose(frame.cell_cv, cell_cv, atol=0.3))
        ]


def as_others(frame: Frame, others: Sequence[Frame]) -> Frame:
    """A frame with its atoms in the cells in which those of the last frame of the same atoms are, so that they need not be moved for each start."""
    last = next((one for one in reversed(others) if np.array_equal(one.numbers_a, frame.numbers_a)), None)
    if last is None or not (frame.pbc_c.any() and last.pbc_c.any()):
        return frame
    cells_ac = cells_between(frame, last.cell_cv, last.positions_av)
    return shifted(frame, cells_ac)


def none_for(place: str) -> Refused:
    return Refused(Kind.NO_START, place, "is of other atoms or other places than the runs before it")
