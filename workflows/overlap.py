"""The overlap of structures from radial functions: where these come from, and what is made of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

import numpy as np

from basis.radial import Functions
from basis.shells import Species
from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Kind, Refused, reading
from converters.frames.frame import Frame
from converters.frames.neighbours import Structure, structure_of
from converters.physics.overlap import Overlap, overlap_of, require_positive
from converters.runs import code_module, search
from converters.storage.dataset import Dataset
from converters.storage.files import HDF5_MAGIC, starts_with
from converters.storage.writer import DatasetWriter
from workflows.convert import best_functions
from workflows.structures import read_structures

if TYPE_CHECKING:
    from ase import Atoms

    Given = tuple[str, Atoms, Frame | None]  # name, structure, and its frame where the input is a dataset


@dataclass(frozen=True, eq=False)
class Basis:
    """Species with their radial functions, and the code whose convention and constants they follow."""

    code: str
    functions: dict[Species, Functions]

    def overlap(self, atoms: "Atoms") -> tuple[Overlap, Structure]:
        """The overlap of the species that a structure needs, and the structure with its atoms numbered by them."""
        numbers = sorted(set(atoms.numbers.tolist()))
        basis = tuple(self._species(number, atoms) for number in numbers)
        species_a = np.searchsorted(numbers, atoms.numbers)
        structure = Structure(np.array(atoms.cell), np.array(atoms.pbc), np.array(atoms.positions), species_a)
        return overlap_of(basis, tuple(self.functions[species] for species in basis)), structure

    def _species(self, number: int, atoms: "Atoms") -> Species:
        found = [species for species in self.functions if species.number == number]
        if len(found) != 1:
            symbol = atoms[atoms.numbers.tolist().index(number)].symbol
            names = ", ".join(f"{species} {species.radial}".strip() for species in found) or "nothing"
            raise Refused(
                Kind.WRONG_FUNCTIONS,
                str(atoms.symbols),
                f"has {symbol}, for which the basis has {names}",
                "one species",
            )
        return found[0]

    def of_frame(self, frame: Frame) -> Overlap | None:
        """The overlap of the species of a frame, where all are known."""
        if any(species not in self.functions for species in frame.basis):
            return None
        return overlap_of(frame.basis, tuple(self.functions[species] for species in frame.basis))


@dataclass(frozen=True)
class Made:
    """One overlap that was made; `difference` is that to the S of the same structure in the input, where it has one."""

    structure: str
    formula: str
    orbitals: int
    pairs: int
    lowest: float
    seconds: float
    difference: float | None = None


def read_bases(sources: Sequence[str], atoms: Sequence["Atoms"]) -> Basis:
    """The radial functions of several places, which must be of one code.

    A place is a dataset, a model, a run folder, or what a code reads as radial functions: a file, or the name of a basis for the
    elements of the structures.
    """
    found = [read_basis(source, atoms) for source in sources]
    codes = sorted({basis.code for basis in found})
    if len(codes) != 1:
        raise Refused(
            Kind.WRONG_FUNCTIONS, ", ".join(sources), f"are of {' and '.join(codes)}", "functions of one code"
        )
    functions: dict[Species, Functions] = {}
    for basis in found:
        functions |= basis.functions
    return Basis(codes[0], functions)


def read_basis(source: str, atoms: Sequence["Atoms"]) -> Basis:
    path = Path(source)
    if path.suffix == ".safetensors" or (path / "best.safetensors").is_file():
        return basis_of_model(path)
    symbols = sorted({symbol for one in atoms for symbol in one.get_chemical_symbols()})
    for name in KNOWN:
        if functions := code_module(name).read_functions(source, symbols):
            return Basis(name, dict(functions))
    if path.is_file() and starts_with(path, HDF5_MAGIC):
        return basis_of_dataset(path)
    return basis_of_run(path)


def basis_of_model(path: Path) -> Basis:
    from slem_plugin.checkpoint import load_model

    model = load_model(path)
    return known_of(path, model.blueprint.code, model.blueprint.basis, model.functions)


def basis_of_dataset(path: Path) -> Basis:
    from workflows.check import is_dataset

    if not is_dataset(path):
        return basis_of_run(path)
    with Dataset(path) as data:
        return known_of(path, data.code, data.basis, data.functions)


def known_of(path: Path, code: str, basis: Sequence[Species], functions: Sequence[Functions | None]) -> Basis:
    known = {species: mine for species, mine in zip(basis, functions, strict=False) if mine is not None}
    if not known:
        raise Refused(
            Kind.WRONG_FUNCTIONS,
            path,
            "holds no radial functions; convert its runs with --basis-dir, or give the files themselves",
        )
    return Basis(code, known)


def basis_of_run(path: Path) -> Basis:
    """The functions of the first run of a folder."""
    for run in search(path, list(KNOWN)):
        if isinstance(run, Run):
            module = code_module(run.code)
            with reading(run.main):
                frame = next(module.read_run(run))
                found = best_functions(frame, {}, module.find_functions(run, frame, ()))[0]
            return known_of(path, run.code, frame.basis, found.functions)
        raise run
    raise Refused(Kind.NO_RUN, path, "holds no run")


def make_overlaps(basis: Basis, given: Iterable["Given"], output: Path) -> Iterator[Made]:
    """S of all structures into a dataset; those that an earlier call has put there are made again and compared."""
    waiting = iter(given)
    if output.exists():
        with Dataset(output) as there:
            for stored in there:
                one = next(waiting, None)
                frame, made = (None, None) if one is None else make_overlap(basis, *one)
                if frame is None or made is None or not same_overlap(frame, stored):
                    raise Refused(
                        Kind.OUTPUT_EXISTS,
                        output,
                        f"holds another overlap for {stored.provenance.path}; give another name",
                    )
                yield made
    with DatasetWriter(output) as writer:
        for one in waiting:
            frame, made = make_overlap(basis, *one)
            writer.append(frame)
            yield made


def make_overlap(basis: Basis, name: str, atoms: "Atoms", reference: Frame | None) -> tuple[Frame, Made]:
    """S of a structure; where that comes with a frame of the same basis, the difference to its S is found too."""
    started = process_time()
    known = basis.of_frame(reference) if reference is not None else None
    if reference is not None and known is not None:
        overlap, structure = known, structure_of(reference)
    else:
        overlap, structure = basis.overlap(atoms)
    frame = overlap.frame(structure, basis.code)
    seconds = process_time() - started
    frame = replace(frame, provenance=replace(frame.provenance, path=name))
    lowest = require_positive(frame)
    difference = None
    if reference is not None and known is not None and "S" in reference.operators:
        difference = known.difference(reference)[0]
    return frame, Made(name, frame.formula, frame.norb, len(frame.pairs), lowest, seconds, difference)


def same_overlap(frame: Frame, stored: Frame) -> bool:
    """Whether a file's frame is what was made again."""
    if list(stored.operators) != ["S"]:
        return False
    mine, theirs = frame.operators["S"].values_sx, stored.operators["S"].values_sx
    return frame.formula == stored.formula and mine.shape == theirs.shape and np.allclose(mine, theirs, atol=1e-12)


def structures_of(paths: Iterable[Path]) -> Iterator["Given"]:
    """The structures of some files, with their frames where the file is a dataset."""
    for path in paths:
        if path.is_file() and starts_with(path, HDF5_MAGIC):
            with Dataset(path) as data:
                for n, frame in enumerate(data):
                    yield f"{path} {n}", frame.atoms, frame
        else:
            for n, atoms in enumerate(read_structures(path)):
                yield f"{path} {n}", atoms, None
