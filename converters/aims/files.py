"""Which files of FHI-aims make a run."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from converters.codes.run import Run
from converters.storage.files import starts_with

NAME = "aims"
INDICES, ORBITALS, GEOMETRY, CONTROL = "rs_indices.out", "basis-indices.out", "geometry.in", "control.in"
# The files of each spin, in the two forms in which a crystal's are written.
REAL_SPACE = {
    "S": (("rs_overlap.out",), ("rs_overlap.h5",)),
    "H": (
        ("rs_hamiltonian.out",),
        ("rs_hamiltonian_up.out", "rs_hamiltonian_dn.out"),
        ("rs_hamiltonian.h5",),
        ("rs_hamiltonian_up.h5", "rs_hamiltonian_down.h5"),
    ),
}
MOLECULE = {"S": (("overlap-matrix.out",),), "H": (("hamiltonian.out",),)}
INVOKED = b"Invoking FHI-aims"


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for a folder with real-space matrices, or with those of a molecule and the list of its orbitals."""
    by_name = {path.name: path for path in files}
    if INDICES in by_name and starts_with(by_name[INDICES], b"n_hamiltonian_matrix_size"):
        matrices = [by_name[INDICES], *stored(by_name, REAL_SPACE)]
    elif ORBITALS in by_name and INDICES not in by_name:
        matrices = stored(by_name, MOLECULE)
    else:
        return
    if not matrices:
        return
    others = [by_name[name] for name in (ORBITALS, GEOMETRY, CONTROL) if name in by_name]
    others += [path for path in files if path.name.startswith("band1") and path.suffix == ".out"]
    others += logs(set(files) - {*matrices, *others})
    yield Run(NAME, folder, tuple(matrices), tuple(others))


def stored(by_name: Mapping[str, Path], forms: Mapping[str, tuple[tuple[str, ...], ...]]) -> list[Path]:
    """The files of each matrix, in the first of its forms that is whole."""
    chosen = []
    for spellings in forms.values():
        names = next((names for names in spellings if set(names) <= set(by_name)), ())
        chosen += [by_name[name] for name in names]
    return chosen


def logs(files: set[Path]) -> list[Path]:
    """What the code printed: aims.out, or what people call it."""
    named = sorted(path for path in files if path.suffix in (".out", ".log") and not path.name.startswith("rs_"))
    found = [path for path in named if INVOKED in path.read_bytes()]
    return [path for path in found if path.name == "aims.out"] or found
