"""The checks of predictions that are too large to be held in memory: stretch by stretch, with the same results."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from converters.frames.blocks import Operator, Pairs
from converters.frames.frame import Frame
from converters.physics.checks import (
    Result,
    Tolerances,
    check_asymmetry,
    check_converged,
    check_finite,
    check_positive,
    check_two_centre,
    judge_electrons,
    judge_functions,
    judge_unit_diagonal,
    unit_diagonal,
)
from converters.physics.kspace import count_electrons
from converters.physics.overlap import Overlap
from converters.physics.sparse import Source


def in_parts(outline: Frame, tolerances: Tolerances = Tolerances()) -> bool:
    """Whether a frame is checked in parts: a prediction so large that nothing is solved for it anyway, whose blocks are no sums over images."""
    large = outline.norb > tolerances.largest_dense
    return large and outline.predicted and not outline.folded and outline.spectrum is None


def check_source(source: Source, tolerances: Tolerances = Tolerances()) -> list[Result]:
    """The results of `check_frame` for a large prediction."""
    outline = source.outline
    found = Gathered(outline, tolerances)
    for part in parts_of(source):
        found.add(part)
    finite = found.results.pop("finite numbers", check_finite(outline))
    if not finite.ok:
        return [finite]
    centre = found.results.pop("S two-centre", None)
    ordered = [finite, check_converged(outline), *found.results.values()]
    if centre is not None:
        ordered += [judge_unit_diagonal(outline, found.worst, found.blocks, tolerances), centre]
        ordered += [*found.functions(), check_positive(outline, tolerances)]
    if {"DM", "S"} <= set(outline.operators):
        ordered.append(judge_electrons(outline, found.trace, tolerances))
    return ordered


class Gathered:
    """What the parts of a frame say together."""

    def __init__(self, outline: Frame, tolerances: Tolerances) -> None:
        self.outline, self.tolerances = outline, tolerances
        self.results: dict[str, Result] = {}
        self.worst, self.blocks, self.trace = 0.0, 0, 0.0
        self.overlap = Overlap.of_frame(outline) if "S" in outline.operators else None
        self.off, self.where = 0.0, ""
        self.lists: list[Pairs] = []

    def add(self, part: Frame) -> None:
        self.merge(check_finite(part))
        if not self.results["finite numbers"].ok:
            return
        for result in check_asymmetry(part, self.tolerances):
            self.merge(result)
        if "S" in part.operators:
            self.merge(check_two_centre(part, self.tolerances))
            far, count = unit_diagonal(part)
            self.worst, self.blocks = max(self.worst, far), self.blocks + count
        if {"DM", "S"} <= set(part.operators):
            self.trace += float(count_electrons(part).sum())
        if self.overlap is not None:
            self.lists.append(part.pairs)
            off, where = self.overlap.difference_of_stored(part)
            if off > self.off:
                self.off, self.where = off, where

    def merge(self, result: Result) -> None:
        before = self.results.get(result.name)
        self.results[result.name] = result if before is None else worse(before, result)

    def functions(self) -> Iterator[Result]:
        """S against the radial functions, on the pairs that the frame has and on those that it leaves out."""
        if self.overlap is not None:
            lost, place = self.overlap.left_out(replace(self.outline, pairs=joined(self.lists), operators={}))
            off, where = (lost, place) if lost > self.off else (self.off, self.where)
            yield judge_functions(off, where, self.tolerances)


def parts_of(source: Source) -> Iterator[Frame]:
    """The frame with some of its pairs after the other."""
    outline = source.outline
    for pairs, values in source.stretches(tuple(outline.operators)):
        yield replace(outline, pairs=pairs, operators={name: Operator(value) for name, value in values.items()})


def worse(one: Result, other: Result) -> Result:
    """The result of two parts together: the worse one, and of numbers that are not finite their count."""
    if one.name == "finite numbers":
        count = (one.found or 0) + (other.found or 0)
        return replace(one if one.ok is False else other, found=count)
    order = [(result.ok is False, result.found or 0.0) for result in (one, other)]
    return other if order[1] > order[0] else one


def joined(lists: list[Pairs]) -> Pairs:
    columns = [np.concatenate([getattr(pairs, name) for pairs in lists]) for name in ("i_p", "j_p", "R_pc")]
    return Pairs(columns[0], columns[1], columns[2], lists[0].norb_a)
