"""DeepH: the folders of its models, in the older layout (one HDF5 dataset for each block) and that of 2026 (flat arrays).

Older: lat.dat, site_positions.dat, element.dat, orbital_types.dat, info.json and hamiltonians.h5, overlaps.h5,
density_matrixs.h5 with keys "[R1, R2, R3, i, j]", atoms from 1, orbitals in OpenMX's order. New: POSCAR, info.json and
hamiltonian.h5, overlap.h5, density_matrix.h5 with atom_pairs, chunk_shapes, chunk_boundaries and entries. Energies in eV,
lengths in Angstrom, spinor blocks with all up orbitals first. The order of orbitals in the new layout is not written in its
files; an overlap is two-centre in the right order only, and that decides.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from basis import Array
from basis.conventions import Convention, standard, to_standard
from basis.radial import Functions
from basis.shells import Shell, Species, cell_shells
from basis.spin import Spin
from converters.codes.run import FoundFunctions, Run
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.blocks import join_packed, pack_elements, reorder_elements
from converters.frames.frame import Frame, Outcome, Provenance
from converters.frames.keyed_blocks import Blocks, blocks_of, elements_of
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, REORDERED, FileForm, Origin, Step, Treatment, origins_read
from converters.openmx.convention import convention as openmx_order
from converters.physics.checks import two_centre_violation
from converters.starts.start import Options
from converters.storage.files import HDF5_MAGIC, draft_hdf5, open_hdf5, starts_with

NAME = "deeph"

OLD_FILES = {"H": "hamiltonians.h5", "S": "overlaps.h5", "DM": "density_matrixs.h5"}
NEW_FILES = {"H": "hamiltonian.h5", "S": "overlap.h5", "DM": "density_matrix.h5"}
# What ASE raises for a POSCAR that is none.
BAD_STRUCTURE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError)

# The folders do not say which code computed S; OpenMX integrates S_ii no better than this.
OVERLAP_ERROR = 0.03


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for a folder with the matrices of either layout and info.json, which those of 2026 that lack it are asked for.

    DeePTB's have positions in files of other names.
    """
    names = {path.name for path in files}
    if "positions.dat" in names or any(name.endswith(".traj") for name in names):
        return
    for layout in (OLD_FILES, NEW_FILES):
        matrices = tuple(folder / name for name in layout.values() if name in names)
        if matrices and ("info.json" in names or holds_pairs(matrices[0])):
            yield Run(NAME, folder, matrices, tuple(path for path in files if path.suffix in (".dat", ".json", "")))


def holds_pairs(path: Path) -> bool:
    """True for a file of the layout of 2026."""
    if not starts_with(path, HDF5_MAGIC):
        return False
    try:
        with open_hdf5(path) as file:
            return {"atom_pairs", "chunk_shapes", "entries"} <= set(file)
    except (OSError, RuntimeError):
        return False


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """None: files of DeepH name no radial functions."""
    return iter(())


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """Nothing, for the same reason."""
    return {}


def write_matrices(frame: Frame, folder: Path, options: Options) -> list[Path]:
    """The folder of a frame, in the layout of 2026 unless the version is the legacy one."""
    return write(frame, folder, layout=options.version or "2026")


def read_run(run: Run) -> Iterator[Frame]:
    """The frame of a folder."""
    is_old = run.main.name in OLD_FILES.values()
    info = read_info(run.folder / "info.json")
    spinful = bool(info.get("isspinful" if is_old else "spinful", False))
    structure = read_old_structure(run.folder) if is_old else read_new_structure(run.folder, info)
    read = read_old_blocks if is_old else read_new_blocks
    files = {name: run.folder / file for name, file in (OLD_FILES if is_old else NEW_FILES).items()}
    blocks = {name: read(path) for name, path in files.items() if path in run.matrices}
    fermi = info.get("fermi_level" if is_old else "fermi_energy_eV")
    orders: tuple[Convention, ...] = (openmx_order,) if is_old else (standard, openmx_order)
    frames = [make_frame(run, structure, blocks, spinful, order, fermi) for order in orders]
    yield min(frames, key=two_centre_violation) if "S" in blocks else frames[0]


# What the files hold

StoredStructure = tuple[Array, Array, tuple[Species, ...], Array]


def read_info(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Refused(
            Kind.MISSING_FILES, path.parent, "has no info.json beside its matrices", "a whole folder of DeepH"
        )
    try:
        info = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise Refused(Kind.DAMAGED, path, "holds no table of facts")
    return info


def read_old_blocks(path: Path) -> Blocks:
    try:
        with open_hdf5(path) as file:
            found = {tuple(json.loads(key)): np.asarray(block[()]) for key, block in file.items()}
    except OSError as error:
        raise refused_by_system(path, error) from error
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise Refused(Kind.DAMAGED, path, f"has a key that is no [R1, R2, R3, i, j]: {error}") from error
    if not all(len(key) == 5 and all(isinstance(n, int) for n in key) for key in found):
        raise Refused(Kind.DAMAGED, path, "has a key that is no [R1, R2, R3, i, j]")
    return {(*R, i - 1, j - 1): block for (*R, i, j), block in found.items()}


def read_new_blocks(path: Path) -> Blocks:
    try:
        with open_hdf5(path) as file:
            parts = [file[name][()] for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries")]
    except OSError as error:
        raise refused_by_system(path, error) from error
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise Refused(Kind.DAMAGED, path, f"lacks a part or has one that cannot be read: {error}") from error
    keys, shapes, ends, entries = parts
    sizes = np.prod(shapes, axis=1) if shapes.ndim == 2 else np.empty(0)
    whole = (
        keys.shape == (len(shapes), 5)
        and np.array_equal(np.diff(ends), sizes)
        and ends[0] == 0
        and ends[-1] == len(entries)
    )
    if not whole:
        raise Refused(Kind.DAMAGED, path, "has pairs, shapes, boundaries and entries that do not fit together")
    chunks = np.split(entries, ends[1:-1])
    return {tuple(key): chunk.reshape(shape) for key, chunk, shape in zip(keys.tolist(), chunks, shapes, strict=True)}


def words_of(path: Path) -> list[list[str]]:
    lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
    return [words for words in lines if words]


def table_of(path: Path) -> Array:
    return np.array(words_of(path), dtype=float, ndmin=2)


def require_files(folder: Path, *names: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        found = f"has no {' and no '.join(missing)} beside its matrices"
        raise Refused(Kind.MISSING_FILES, folder, found, "a whole folder of DeepH")


def read_old_structure(folder: Path) -> StoredStructure:
    """Cell, positions, basis and the species of each atom; vectors are columns in these files."""
    require_files(folder, "lat.dat", "site_positions.dat", "element.dat", "orbital_types.dat")
    try:
        cell_cv = table_of(folder / "lat.dat").T
        positions_av = table_of(folder / "site_positions.dat").T
        numbers = [int(word) for (word,) in words_of(folder / "element.dat")]
        lists = [
            tuple(map(int, line.split()))
            for line in (folder / "orbital_types.dat").read_text().splitlines()
            if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise Refused(Kind.DAMAGED, folder, f"has a structure that cannot be read: {error}") from error
    if cell_cv.shape != (3, 3) or positions_av.shape != (len(numbers), 3) or len(lists) != len(numbers):
        raise Refused(
            Kind.DAMAGED,
            folder,
            f"has {len(positions_av)} positions, {len(numbers)} elements and {len(lists)} orbital types",
        )
    kinds: dict[tuple[int, tuple[int, ...]], int] = {}
    species_a = np.array([kinds.setdefault(kind, len(kinds)) for kind in zip(numbers, lists, strict=True)])
    seen: dict[int, int] = {}
    basis = []
    for number, l_list in kinds:
        seen[number] = seen.get(number, 0) + 1
        basis.append(make_species(folder, number, l_list, "" if seen[number] == 1 else f"_{seen[number]}"))
    return cell_cv, positions_av, tuple(basis), species_a


def read_new_structure(folder: Path, info: dict[str, Any]) -> StoredStructure:
    from ase.io import read

    require_files(folder, "POSCAR")
    try:
        refuse_lying_counts(folder / "POSCAR")
        atoms = read(folder / "POSCAR", format="vasp")
        lists = {str(symbol): tuple(map(int, l_list)) for symbol, l_list in info["elements_orbital_map"].items()}
        symbols = atoms.get_chemical_symbols()
        species_a = np.array([list(lists).index(symbol) for symbol in symbols])
    except BAD_STRUCTURE as error:
        raise Refused(Kind.DAMAGED, folder, f"has a structure that cannot be read: {error}") from error
    basis = tuple(make_species(folder, atomic_numbers.get(symbol, 0), l_list, "") for symbol, l_list in lists.items())
    return atoms.cell.array, atoms.positions, basis, species_a


def refuse_lying_counts(path: Path) -> None:
    """Refuse a POSCAR whose counts are larger than the file: its reader would make room for them."""
    lines = path.read_text(errors="replace").splitlines()
    counts = next((line.split() for line in lines[5:7] if line.split() and line.split()[0].isdigit()), [])
    if not counts or sum(int(count) for count in counts if count.isdigit()) > len(lines):
        raise Refused(Kind.DAMAGED, path, f"has {' + '.join(counts)} atoms in {len(lines)} lines")


def make_species(folder: Path, number: int, l_list: tuple[int, ...], suffix: str) -> Species:
    if not 0 <= number < len(chemical_symbols) or not l_list or not 0 <= min(l_list) <= max(l_list) < 10:
        raise Refused(Kind.DAMAGED, folder, f"has element {number} with the shells {l_list}")
    shells = tuple(Shell(l, zeta=l_list[: n + 1].count(l)) for n, l in enumerate(l_list))
    return Species(chemical_symbols[number] + suffix, number, shells)


# From blocks to a frame and back


def make_frame(
    run: Run, structure: StoredStructure, blocks: dict[str, Blocks], spinful: bool, order: Convention, fermi: Any
) -> Frame:
    cell_cv, positions_av, basis, species_a = structure
    norb_a = np.array([basis[s].size for s in species_a])
    spin = Spin.SPINOR if spinful else Spin.NONE
    layouts = {name: Spin.NONE if name == "S" else spin for name in blocks}
    elements = {name: elements_of(run.main, name, found, norb_a, layouts[name]) for name, found in blocks.items()}
    moves = to_standard(cell_shells(basis, species_a), order)
    packed = {
        name: pack_elements(reorder_elements(item, *moves), norb_a, layouts[name]) for name, item in elements.items()
    }
    pairs, operators = join_packed(packed)
    return Frame(
        cell_cv=cell_cv,
        pbc_c=np.ones(3, dtype=bool),
        positions_av=positions_av,
        species_a=species_a,
        basis=basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=Outcome(fermi=float(fermi) if isinstance(fermi, int | float) else None),
        provenance=Provenance(
            NAME,
            path=str(run.main),
            source=run.source,
            files=run.digests(*run.matrices),
            settings={"orbital order": "OpenMX" if order is openmx_order else "m = -l..l"},
            measured={f"asymmetry of {name}": item.asymmetry for name, item in packed.items()},
            origins=origins_of(run, tuple(blocks)),
            form=FileForm(harmonics=harmonics_of(basis, order)),
        ),
    )


def origins_of(run: Run, names: tuple[str, ...]) -> dict[str, Origin]:
    """Where each matrix is from."""
    stored = {path.name for path in run.matrices}
    files = {name: tuple({OLD_FILES[name], NEW_FILES[name]} & stored) for name in names}
    partners = Treatment(Step.COMPLETED, reason="a block without its Hermitian partner gets it")
    origins = origins_read(files, partners, REORDERED, AVERAGED)
    if "S" in origins:
        origins["S"] = replace(origins["S"], error=OVERLAP_ERROR)
    return origins


def write(frame: Frame, folder: Path, *, layout: str = "2026") -> list[Path]:
    """Write the folder of a frame in the layout "2026" or "legacy"; returns the files."""
    if frame.spin is Spin.COLLINEAR:
        raise Refused(Kind.UNSUPPORTED, folder, "cannot be written: DeepH has no collinear spin")
    if layout not in ("2026", "legacy"):
        raise Refused(Kind.UNSUPPORTED, folder, f'cannot be written in the layout "{layout}"', "2026 or legacy")
    is_old = layout == "legacy"
    if not is_old and (np.diff(frame.species_a) < 0).any():
        raise Refused(
            Kind.UNSUPPORTED,
            folder,
            "would not fit: POSCAR groups atoms by element, and the frame does not; sort its atoms first",
        )
    order = openmx_order if is_old else standard
    (write_old_structure if is_old else write_new_structure)(frame, folder)
    written = []
    for name in frame.operators:
        path = folder / (OLD_FILES if is_old else NEW_FILES)[name]
        with draft_hdf5(path) as file:
            (write_old_blocks if is_old else write_new_blocks)(file, blocks_of(frame, name, order))
        written.append(path)
    return written


def write_old_blocks(file: h5py.File, blocks: Blocks) -> None:
    for (*R, i, j), block in blocks.items():
        file[json.dumps([*R, i + 1, j + 1])] = block


def write_new_blocks(file: h5py.File, blocks: Blocks) -> None:
    file["atom_pairs"] = np.array(list(blocks), dtype=np.int64)
    file["chunk_shapes"] = np.array([block.shape for block in blocks.values()], dtype=np.int64)
    file["chunk_boundaries"] = np.concatenate([[0], np.cumsum([block.size for block in blocks.values()])])
    file["entries"] = np.concatenate([block.ravel() for block in blocks.values()])


def write_old_structure(frame: Frame, folder: Path) -> None:
    np.savetxt(folder / "lat.dat", frame.cell_cv.T, fmt="%.17g")
    np.savetxt(folder / "site_positions.dat", frame.positions_av.T, fmt="%.17g")
    np.savetxt(folder / "element.dat", frame.numbers_a, fmt="%d")
    lists = [" ".join(str(shell.l) for shell in frame.basis[s].shells) for s in frame.species_a]
    (folder / "orbital_types.dat").write_text("\n".join(lists) + "\n")
    facts = {
        "isspinful": frame.spin is Spin.SPINOR,
        "isorthogonal": False,
        "nsites": frame.natoms,
        "norbits": frame.norb,
    }
    write_info(folder, facts | {"fermi_level": frame.outcome.fermi})


def write_new_structure(frame: Frame, folder: Path) -> None:
    from ase.io import write as write_atoms

    elements = [chemical_symbols[species.number] for species in frame.basis]
    if len(set(elements)) != len(elements):
        raise Refused(
            Kind.UNSUPPORTED,
            folder,
            "cannot be written: two species are of one element, and this layout tells elements apart only",
        )
    write_atoms(folder / "POSCAR", frame.atoms, format="vasp", direct=True)
    lists = {e: [shell.l for shell in species.shells] for e, species in zip(elements, frame.basis, strict=True)}
    facts: dict[str, Any] = {"atoms_quantity": frame.natoms, "orbits_quantity": frame.norb, "orthogonal_basis": False}
    facts |= {"spinful": frame.spin is Spin.SPINOR, "elements_orbital_map": lists}
    write_info(folder, facts | {"fermi_energy_eV": frame.outcome.fermi})


def write_info(folder: Path, facts: dict[str, Any]) -> None:
    (folder / "info.json").write_text(json.dumps(facts, indent=2) + "\n")
