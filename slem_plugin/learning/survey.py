"""Surveys: what a set of frames have in common, without holding them; and whether one model can learn them all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.errors import Kind, Refused
from converters.frames.folding import centred_mesh_of_frame
from converters.frames.frame import OPERATORS, Frame
from converters.physics.locality import length_of_mesh


@dataclass
class Survey:
    """What can be said of all frames of a set without holding them: what they have in common, and their electrons.

    `counts` are the electrons that were found for each combination of atoms of each species, `supercell` the length (Angstrom) of that of the
    k mesh on which DM was made local; 0 where it is the run's own.
    """

    first: Frame | None = None
    first_name: str = ""
    operators: tuple[str, ...] = OPERATORS
    counts: dict[tuple[int, ...], set[float]] = field(default_factory=dict)
    supercell: float = 0.0

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> "Survey":
        survey = cls()
        for frame in frames:
            survey.add(frame, "")
        return survey

    def add(self, frame: Frame, name: str) -> None:
        """Take a frame into account; refused when one model cannot learn it together with the first one."""
        if self.first is None:
            self.first, self.first_name = frame, name
        first, first_name = self.first, self.first_name
        if frame.spin is not first.spin:
            reason = f"has the spin layout {frame.spin}, and {first_name} has {first.spin}; train on one of them"
            raise Refused(Kind.OTHER_MODEL, name, reason)
        own, others = (centred_mesh_of_frame(one, name) for one in (frame, first))
        if own != others:
            found = " and ".join("no mesh" if mesh is None else "x".join(map(str, mesh)) for mesh in (own, others))
            raise Refused(Kind.OTHER_MODEL, name, f"and {first_name} are folded over {found}; train on one of them")
        self.operators = tuple(one for one in self.operators if one in frame.operators)
        if mesh_c := frame.origin("DM").mesh:
            # Frames that are surveyed need not have their pairs, which say what is joined.
            dense_c = np.array(mesh_c) > 1
            if dense_c.any():
                self.supercell = max(self.supercell, length_of_mesh(frame.cell_cv, dense_c, mesh_c))
        if frame.outcome.electrons is not None:
            counts_s = np.bincount(frame.species_a, minlength=len(frame.basis))
            self.counts.setdefault(tuple(counts_s.tolist()), set()).add(round(frame.outcome.electrons, 6))

    def facts(self) -> dict[str, Any]:
        """What a model of these frames should know of them."""
        return {"electrons": self.electrons(), **({"supercell": self.supercell} if self.supercell else {})}

    def electrons(self) -> list[list[float]]:
        """Atoms of each species and electrons, each combination once; none where they disagree."""
        rows = [[*map(float, counts), *electrons] for counts, electrons in self.counts.items()]
        if any(len(electrons) > 1 for electrons in self.counts.values()) or not rows:
            return []
        table = np.array(rows)
        solution, *_ = np.linalg.lstsq(table[:, :-1], table[:, -1], rcond=None)
        return rows if np.abs(table[:, :-1] @ solution - table[:, -1]).max() < 1e-6 else []


def require_same_kind(frames: Iterable[Frame], names: Iterable[str]) -> None:
    """Refuse frames that one model cannot learn: of several spin layouts, or folded over several k meshes."""
    survey = Survey()
    for frame, name in zip(frames, names, strict=True):
        survey.add(frame, name)
