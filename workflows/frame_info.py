"""A frame seen from near: where its matrices are from, and one block with the names of its orbitals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.frames.orbitals import Orbital
from converters.physics.populations import populations
from converters.storage.dataset import Dataset

# What the spin components of a block are called.
COMPONENTS = {1: ("",), 2: ("up", "down"), 4: ("up up", "up down", "down up", "down down")}


@dataclass(frozen=True, eq=False)
class Block:
    """One block, its place, and the orbitals of its rows and columns."""

    matrix: str
    pair: tuple[int, int]
    cell: tuple[int, int, int]
    values_suu: Array
    rows: tuple[Orbital, ...]
    columns: tuple[Orbital, ...]

    @property
    def unit(self) -> str:
        return {"H": "eV", "S": "", "DM": "electrons"}[self.matrix]

    def as_dict(self) -> dict[str, Any]:
        names = zip(COMPONENTS[len(self.values_suu)], self.values_suu, strict=True)
        return {
            "matrix": self.matrix,
            "unit": self.unit,
            "pair": list(self.pair),
            "R": list(self.cell),
            "rows": [described(orbital) for orbital in self.rows],
            "columns": [described(orbital) for orbital in self.columns],
            "components": {name or "value": plain(values_uu) for name, values_uu in names},
        }


@dataclass(frozen=True, eq=False)
class Look:
    """A frame of a file, and the block that was asked for."""

    place: str
    frame: Frame
    block: Block | None

    @property
    def facts(self) -> dict[str, Any]:
        """What is said of the frame, in the order in which people ask."""
        frame, said = self.frame, self.frame.provenance
        outcome = {name: value for name, value in vars(frame.outcome).items() if value is not None}
        if frame.spin is Spin.COLLINEAR and {"DM", "S"} <= set(frame.operators):
            up, down = populations(frame).sum(axis=1)
            outcome.setdefault("moment", float(up - down))
        return {
            "structure": f"{frame.formula}, {frame.norb} orbitals, {len(frame.pairs)} pairs, spin {frame.spin}",
            "run": f"{said.code} {said.version}, {said.path or 'memory'}",
            "predicted": "yes" if frame.predicted else "no",
            **outcome,
            **{name: str(frame.origin(name)) for name in frame.operators},
            "folded": "each block is a sum over its images" if frame.folded else "no",
            "settings": dict(said.settings),
            "notes": list(said.notes),
        }

    def as_dict(self) -> dict[str, Any]:
        return {"place": self.place, **self.facts, "block": self.block and self.block.as_dict()}


def look_at(path: Path, number: int, pair: tuple[int, int] | None, cell: tuple[int, int, int], matrix: str) -> Look:
    """A frame of a dataset, and the block between two of its atoms."""
    if path.is_dir() or path.suffix == ".safetensors":
        raise Refused(Kind.NOT_OURS, path, "is a folder or a model", "a dataset")
    with Dataset(path) as data:
        if number >= len(data):
            raise Refused(Kind.NO_SUCH_CHOICE, path, f"has {len(data)} frames; there is no frame {number}")
        frame = data[number]
    return Look(f"{path} frame {number}", frame, None if pair is None else block_of(frame, pair, cell, matrix))


def block_of(frame: Frame, pair: tuple[int, int], cell: tuple[int, int, int], matrix: str) -> Block:
    values_suu = frame.block(matrix, *pair, cell)
    rows, columns = (tuple(orbital for orbital in frame.orbitals if orbital.atom == a) for a in pair)
    return Block(matrix, pair, cell, values_suu, rows, columns)


def described(orbital: Orbital) -> dict[str, Any]:
    return {"name": str(orbital), "code_row": orbital.code_row, "code_sign": orbital.code_sign}


def plain(values_uu: Array) -> Any:
    """Numbers as JSON has them; complex ones as real and imaginary part."""
    if values_uu.dtype.kind == "c":
        return {"real": values_uu.real.tolist(), "imaginary": values_uu.imag.tolist()}
    return values_uu.tolist()
