"""The frames of a DeePTB folder."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import covalent_radii

from basis import Array
from basis.conventions import standard
from basis.radial import Functions
from basis.shells import Species
from basis.spin import Spin
from converters.codes.run import FoundFunctions, Run
from converters.deeptb.structure import Structures, read_basis, read_structures, species_of
from converters.errors import Kind, Refused, refused_by_system
from converters.frames.blocks import Packed, Pairs, join_packed, pack_elements
from converters.frames.frame import Frame, Outcome, Provenance
from converters.frames.keyed_blocks import Blocks, elements_of
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, FileForm, Step, Treatment, origins_read
from converters.storage.files import open_hdf5

NAME = "deeptb"

FILES = {"hamiltonians.h5": "H", "overlaps.h5": "S", "density_matrices.h5": "DM", "DM.h5": "DM"}
KEY = re.compile(r"(\d+)_(\d+)_(-?\d+)_(-?\d+)_(-?\d+)")
PARTNERS = Treatment(Step.COMPLETED, reason="a block without its Hermitian partner gets it")
DAMAGE = (KeyError, RuntimeError, ValueError, TypeError, AttributeError)

# In units of the sum of two covalent radii.
NEAREST = 0.6
# Blocks of no element above this are left out by all parsers of dftio.
NOTHING = 1e-10
MIXED_UP = "it has blocks of zeros, which dftio does not store: it gives DM of SIESTA the blocks of other pairs where some are zero"
GAUSSIAN = (
    "H is left out: the folder is of a molecule, whose H dftio copies from Gaussian in Hartree, the core Hamiltonian or the Fock matrix "
    "as its version was, and does not say which"
)


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for a folder with matrices and structures of this kind; DeepH's have other files beside matrices of the same names."""
    names = {path.name for path in files}
    matrices = tuple(folder / name for name in FILES if name in names)
    if matrices and ("positions.dat" in names or any(name.endswith(".traj") for name in names)):
        others = tuple(path for path in files if path.suffix in (".dat", ".traj", ".json"))
        yield Run(NAME, folder, matrices, others)


def find_functions(run: Run, frame: Frame, folders: Sequence[Path]) -> Iterator[FoundFunctions]:
    """None: the folders name no radial functions."""
    return iter(())


def read_functions(source: str, symbols: Sequence[str]) -> dict[Species, Functions]:
    """Nothing, for the same reason."""
    return {}


def read_run(run: Run) -> Iterator[Frame]:
    """The frames of a folder, but for those whose SCF did not converge."""
    paths = {
        FILES[path.name]: path for path in reversed(run.matrices)
    }  # density_matrices.h5 rather than the older DM.h5
    groups = frames_in(paths)
    structures, basis = read_structures(run.folder, len(groups)), read_basis(run.folder)
    energies, bad = read_outcomes(run.folder, len(groups))
    note = (
        f"frames {', '.join(map(str, bad))} are left out: unconverged_frames.dat says that their SCF did not converge"
    )
    for n, group in enumerate(groups):
        if n not in bad:
            blocks = {name: read_blocks(path, group) for name, path in paths.items()}
            outcome = Outcome(energy=energies[n])
            yield make_frame(run, n, structures, basis, blocks, paths, outcome, (note,) if bad else ())


def frames_in(paths: dict[str, Path]) -> list[str]:
    """The groups of the frames, which all files must have."""
    found = {}
    for name, path in paths.items():
        try:
            with open_hdf5(path) as file:
                found[name] = sorted(file, key=int)
        except OSError as error:
            raise refused_by_system(path, error) from error
        except DAMAGE as error:
            raise Refused(Kind.DAMAGED, path, f"has a group that is no number of a frame: {error}") from error
    first = next(iter(paths))
    groups = found[first]
    start = int(groups[0]) if groups else 0
    if not groups or start not in (0, 1) or groups != [str(start + n) for n in range(len(groups))]:
        raise Refused(Kind.DAMAGED, paths[first], "has no groups 0, 1, 2 ... of frames")
    for name, path in paths.items():
        if found[name] != groups:
            raise Refused(Kind.DAMAGED, path, f"has {len(found[name])} frames", f"{len(groups)} as {paths[first].name}")
    return groups


def read_blocks(path: Path, group: str) -> Blocks:
    """The blocks of a frame by (R1, R2, R3, i, j), atoms from 0."""
    found: Blocks = {}
    try:
        with open_hdf5(path) as file:
            items = {key: np.asarray(item[()]) for key, item in file[group].items()}
    except OSError as error:
        raise refused_by_system(path, error) from error
    except DAMAGE as error:
        raise Refused(Kind.DAMAGED, path, f"has a frame {group} that cannot be read: {error}") from error
    first = 0 if "0_0_0_0_0" in items else 1
    for key, block in items.items():
        match = KEY.fullmatch(key)
        if match is None or block.ndim != 2 or block.dtype.kind not in "fc":
            raise Refused(Kind.DAMAGED, path, f'has no block under "{key}"', "a matrix under i_j_R1_R2_R3")
        i, j, *R = map(int, match.groups())
        found[(*R, i - first, j - first)] = block
    return found


def read_outcomes(folder: Path, nframes: int) -> tuple[list[float | None], list[int]]:
    """Total energies (eV) where they are known, and the frames that did not converge; the file of energies leaves those out."""
    bad = list(map(int, rows(folder / "unconverged_frames.dat")))
    energies = rows(folder / "total_energy.dat")
    good = [n for n in range(nframes) if n not in bad]
    if energies and len(energies) != len(good):
        raise Refused(Kind.DAMAGED, folder / "total_energy.dat", f"has {len(energies)} energies", f"{len(good)}")
    known = dict(zip(good, energies, strict=True)) if energies else {}
    return [known.get(n) for n in range(nframes)], bad


def rows(path: Path) -> list[float]:
    """The numbers of a file of one column; none where it is not there."""
    if not path.is_file():
        return []
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if not line.startswith("#")]
        return [float(line) for line in lines if line.strip()]
    except ValueError as error:
        raise Refused(Kind.DAMAGED, path, f"cannot be read: {error}") from error


def make_frame(
    run: Run,
    n: int,
    structures: Structures,
    basis: tuple[Species, ...],
    blocks: dict[str, Blocks],
    paths: dict[str, Path],
    outcome: Outcome,
    notes: tuple[str, ...],
) -> Frame:
    if not structures.pbc_c.any() and not structures.cell_fcv[n].any() and "H" in blocks:
        blocks = {name: found for name, found in blocks.items() if name != "H"}
        notes = (*notes, GAUSSIAN)
    if not blocks:
        raise Refused(Kind.MISSING_MATRIX, run.main, GAUSSIAN)
    species_a = species_of(run.folder, basis, structures.numbers_fa[n])
    norb_a = np.array([basis[s].size for s in species_a])
    spin = Spin.SPINOR if is_spinor(blocks, norb_a) else Spin.NONE
    layouts = {name: Spin.NONE if name == "S" else spin for name in blocks}
    packed = {
        name: pack_elements(elements_of(paths[name], name, found, norb_a, layouts[name]), norb_a, layouts[name])
        for name, found in blocks.items()
    }
    pairs, operators = join_packed(packed)
    require_room(run.main, pairs, structures, n)
    origins = origins_read({name: (paths[name].name,) for name in blocks}, PARTNERS, AVERAGED)
    if any(not np.abs(block).max(initial=0) > NOTHING for block in blocks.get("DM", {}).values()):
        origins["DM"] = replace(origins["DM"], doubt=MIXED_UP)
    return Frame(
        cell_cv=structures.cell_fcv[n],
        pbc_c=structures.pbc_c,
        positions_av=structures.positions_fav[n],
        species_a=species_a,
        basis=basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=outcome,
        provenance=Provenance(
            NAME,
            path=str(run.main),
            source=run.source,
            step=n,
            files=run.digests(*run.matrices),
            measured={f"asymmetry of {name}": asymmetry(item, blocks[name]) for name, item in packed.items()},
            notes=notes,
            origins=origins,
            form=FileForm(harmonics=harmonics_of(basis, standard)),
        ),
    )


def require_room(place: Path, pairs: Pairs, structures: Structures, n: int) -> None:
    """Refuse atoms that are nearer than atoms can be: versions of dftio forget the lattice constant of SIESTA's inputs."""
    vectors_pv = pairs.vectors(structures.positions_fav[n], structures.cell_fcv[n])
    radius_a = covalent_radii[structures.numbers_fa[n]]
    bond_p = radius_a[pairs.i_p] + radius_a[pairs.j_p]
    ratio_p = np.where(pairs.onsite_p, np.inf, np.linalg.norm(vectors_pv, axis=1) / bond_p)
    p = int(np.argmin(ratio_p))
    if ratio_p[p] < NEAREST:
        found = f"has atoms {pairs.i_p[p] + 1} and {pairs.j_p[p] + 1} {ratio_p[p] * bond_p[p]:.2f} Angstrom apart"
        raise Refused(Kind.BAD_PHYSICS, place, found, "positions and cell in Angstrom")


def is_spinor(blocks: dict[str, Blocks], norb_a: Array) -> bool:
    """Whether blocks of H or DM are twice as wide as the orbitals of their atoms."""
    shapes = [
        (block.shape, norb_a[j])
        for name, found in blocks.items()
        if name != "S"
        for (*_, j), block in found.items()
        if 0 <= j < len(norb_a)
    ]
    return bool(shapes) and all(shape[1] == 2 * norb for shape, norb in shapes)


def asymmetry(packed: Packed, blocks: Blocks) -> float:
    """How far the two stored halves differ, beyond what single precision rounds off where they are in it."""
    if any(block.dtype.itemsize // (1 + (block.dtype.kind == "c")) > 4 for block in blocks.values()):
        return packed.asymmetry
    rounded = 2 * np.finfo(np.float32).eps * float(np.abs(packed.operator.values_sx).max(initial=0))
    return packed.asymmetry if packed.asymmetry > rounded else 0.0
