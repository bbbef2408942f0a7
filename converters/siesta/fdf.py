"""SIESTA's input, as far as no units and no formats of structures are asked for; those are read by sisl, which knows them all."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from converters.errors import Kind, Refused
from converters.frames.smearing import methfessel_paxton_name

# Values of MD.TypeOfRun that make no step where no number of steps is given.
RELAXATIONS = ("cg", "broyden", "fire")


@dataclass(frozen=True)
class Line:
    """The words of a line, the block that it stands in or begins, and the file from which its content is taken."""

    words: tuple[str, ...]
    block: str
    source: str

    @property
    def key(self) -> str:
        return keyword(self.words[0])


def keyword(name: str) -> str:
    """A keyword without case and the characters . - _, which do not count."""
    return re.sub(r"[._-]", "", name).lower()


def words_of(line: str) -> list[str]:
    """The words of a line without its comment."""
    return re.split(r"[#!;]", line)[0].split()


def lines_of(path: Path) -> Iterator[Line]:
    block = ""
    for text in path.read_text(errors="replace").splitlines():
        words = words_of(text)
        if not words:
            continue
        first = words[0].lower()
        named = words[words.index("<") + 1 :] if "<" in words else words[1:] if first == "%include" else []
        if first == "%block":
            block = "" if named else " ".join(words[1:2])
        elif first == "%endblock":
            block = ""
        yield Line(tuple(words), block, named[0] if named else "")


@dataclass(frozen=True)
class Fdf:
    """An input file: keywords without case and the characters . - _, and blocks. Files that it includes are not followed.

    `is_whole` says that it takes nothing from other files.
    """

    words: dict[str, list[str]]
    blocks: dict[str, list[list[str]]]
    is_whole: bool = True

    def number_of(self, label: str) -> int | None:
        """Atomic number of a species label."""
        for fields in self.blocks.get("chemicalspecieslabel", []):
            if len(fields) > 2 and fields[2] == label and fields[1].lstrip("-").isdecimal():
                return int(fields[1])
        return None

    def labels(self) -> list[str]:
        """Labels of the species in the order of their numbers; none where these are not 1, 2, .."""
        rows = [fields[:3] for fields in self.blocks.get("chemicalspecieslabel", []) if len(fields) > 2]
        by_number = {int(number): label for number, _, label in rows if number.isdecimal()}
        return [by_number[n] for n in sorted(by_number)] if sorted(by_number) == list(range(1, len(rows) + 1)) else []

    def lattice(self) -> Array | None:
        """Lattice vectors in Angstrom, where the lattice is given so."""
        try:
            length, unit = self.words.get("latticeconstant", [])[:2]
            rows = [[float(word) for word in row[:3]] for row in self.blocks.get("latticevectors", np.eye(3).tolist())]
            vectors_cv = float(length) * np.array(rows)
        except ValueError:
            return None
        plain = unit.lower() == "ang" and "latticeparameters" not in self.blocks and vectors_cv.shape == (3, 3)
        return vectors_cv if plain and np.isfinite(vectors_cv).all() else None

    def moves_atoms(self) -> bool:
        """Whether the matrices may be of other positions than those of the input."""
        kind, steps = (
            next((self.words[key][0].lower() for key in keys if key in self.words), usual)
            for keys, usual in ((("mdtypeofrun",), "cg"), (("mdsteps", "mdnumcgsteps"), "0"))
        )
        return kind not in RELAXATIONS or steps != "0"

    def smearing(self) -> str:
        """SIESTA's default where nothing is said, and nothing for what may stand in another file."""
        function = self.words.get("occupationfunction", ["fd" if self.is_whole else ""])
        return smearing_of(function[0], self.words.get("occupationmporder", ["1"])[0])

    def fixes_moment(self) -> bool:
        """Whether each spin has its own electron number."""
        given = [self.words[key][0].lower() for key in ("spinfix", "fixspin") if key in self.words]
        return bool(given) and given[0].strip(".") in ("true", "t", "yes", "y", "1")


def smearing_of(function: str, order: str) -> str:
    """What a frame calls an OccupationFunction; nothing where it has no name for it."""
    if function.lower() in ("mp", "methfessel-paxton"):
        return methfessel_paxton_name(int(order)) if order.isdigit() else ""
    return {"fd": "fermi", "fermi-dirac": "fermi", "cold": "cold"}.get(function.lower(), "")


def read_fdf(path: Path) -> Fdf:
    words: dict[str, list[str]] = {}
    blocks: dict[str, list[list[str]]] = {}
    is_whole = True
    for line in lines_of(path):
        is_whole &= not line.source
        if line.block:
            rows = blocks.setdefault(keyword(line.block), [])
            rows += [list(line.words)] if line.key != "%block" else []
        elif not line.key.startswith("%"):
            words.setdefault(line.key, list(line.words[1:]) or ["true"])  # the first one counts
    return Fdf(words, blocks, is_whole)


def included_files(path: Path, outer: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Files that an fdf file names: %include, and those from which blocks and keywords are taken (<).

    Refused where a block does not end or a file includes itself: readers of the field loop for ever on those.
    """
    if path.resolve() in outer:
        raise Refused(Kind.DAMAGED, path, "includes itself")
    begun = ""
    for line in lines_of(path):
        begun = line.block
        if line.source:
            other = path.parent / line.source
            yield other
            if other.is_file():
                yield from included_files(other, (*outer, path.resolve()))
    if begun:
        raise Refused(Kind.DAMAGED, path, f"begins the block {begun} and does not end it")
