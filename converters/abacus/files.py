"""Which files of an ABACUS folder belong to a run, and what its matrices are called."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from converters.abacus import text
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.storage.files import PACKED

NAME = "abacus"

# Names of real-space matrices by the kind of file: {s} is the spin from 1, {z} from 0, {g} the ionic step or nothing. Files of
# NumPy have one step, the last. Of several names the first that is there is taken.
NEW_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    ".csr": {"H": ("hrs{s}{g}_nao",), "S": ("srs1{g}_nao", "sr{g}_nao"), "DM": ("dmrs{s}{g}_nao",)},
    ".dat": {"H": ("hrs{s}{g}_nao",), "S": ("sr{g}_nao",), "DM": ()},
    ".npz": {
        "H": ("hrs{s}_nao", "output_HR{z}"),
        "S": ("sr_nao", "output_SR"),
        "DM": ("dmrs{s}_nao", "output_DM{z}"),
    },
}
OLD_NAMES = {"H": "data-HR-sparse_SPIN{z}.csr", "S": "data-SR-sparse_SPIN0.csr", "DM": "data-DMR-sparse_SPIN{z}.csr"}
OLD_ARRAYS: dict[str, tuple[str, ...]] = {"H": ("output_HR{z}.npz",), "S": (), "DM": ("output_DM{z}.npz",)}

# Names of dense matrices of runs at Gamma alone: {S} is s1 or s2 where there are two spins; 3.9.0.6 to 3.9.0.13 have s1 always. With k-points they are matrices of k-points.
DENSE_NAMES = {
    "H": ("hk{S}{g}_nao.txt", "hk{S}{g}_nao.dat", "hks{s}{g}_nao.txt", "data-{z}-H"),
    "S": ("sk{g}_nao.txt", "sk{g}_nao.dat", "sks1{g}_nao.txt", "data-0-S"),
    "DM": ("dm{S}{g}_nao.txt", "dms{s}{g}_nao.txt", "SPIN{s}_DM"),
}

# Files of eigenvalues, of 3.11 and of older versions.
LEVELS = ("eig_occ.txt", "istate.info")
TRAJECTORY = "MD_dump"

NSCF = "nscf"  # the calculation of bands in the potential of a finished SCF

MATRIX = re.compile(
    r"(hrs\d|srs1|sr|dmrs\d)(g\d+)?_nao\.(csr|dat|npz)|output_(HR\d|SR|DM\d)\.npz|(\d+_)?data-(HR|SR|DMR)-sparse_SPIN\d\.csr|SR\.csr"
)
OF_KPOINTS = re.compile(r"[hs]k(s\d+)?(k?\d+)?(g\d+)?_nao\.(txt|dat)|data-\d+-[HS]")
DENSE = re.compile(r"(hk(s[12])?|sk(s1)?|dm(s[12])?)(g\d+)?_nao\.(txt|dat)|data-[01]-H|data-0-S|SPIN[12]_DM")
HAMILTONIAN = re.compile(r"hrs|hk|-HR-|_HR|-H$")


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for each folder with INPUT and OUT.*; matrices that lie alone are a run too, which `read_run` refuses."""
    names = {path.name for path in files}
    found = find_input(folder) if "STRU" in names or "INPUT" in names else None
    if found is not None:
        given = text.read_input(found)
        suffix = given.get("suffix", "ABACUS")
        if "/" in suffix:
            raise Refused(Kind.DAMAGED, found, f'has the suffix "{suffix}", which leads out of the folder')
        output = folder / f"OUT.{suffix}"
        output = output if output.is_dir() else folder
        start = (folder / given.get("read_file_dir", ".")).resolve()
        claimed = tuple(path for path in (output, start) if path.is_dir() and path.resolve() != folder.resolve())
        home = home_of(folder, given)
        texts = [path for path in (found, *(home / name for name in text.files_of(given))) if path.is_file()]
        texts += logs_of(output, text.calculation(given))
        texts += [output / name for name in (*LEVELS, TRAJECTORY) if (output / name).is_file()]
        matrices = matrix_files(folder, output, text.flag(given, "gamma_only") == "1")
        yield Run(NAME, home, tuple(matrices) or (found,), tuple(texts), claimed)
    elif any(MATRIX.fullmatch(name) for name in names):
        above = folder.resolve().parent
        if folder.resolve().name.startswith("OUT.") and (above / "INPUT").exists():
            yield from find_runs(above, sorted(path for path in above.iterdir() if path.is_file()))
        else:
            yield Run(NAME, folder, tuple(path for path in files if MATRIX.fullmatch(path.name)))


def home_of(folder: Path, given: dict[str, str]) -> Path:
    """The folder in which ABACUS ran: the one above an OUT folder, in which versions before 3.11 leave a copy of INPUT."""
    above, stru = folder.resolve().parent, text.files_of(given)[0]
    is_output = folder.resolve().name.startswith("OUT.") and not (folder / stru).is_file()
    return above if is_output and (above / stru).is_file() else folder


def logs_of(output: Path, calculation: str) -> list[Path]:
    """The logs of an OUT folder, first that of the run whose matrices are there.

    A run for bands (nscf) keeps the density of the SCF before it in the same folder, and says nothing of that.
    """
    wanted = log_name("scf" if calculation == NSCF else calculation)
    return sorted(output.glob("running_*.log"), key=lambda path: (path.name != wanted, path.name))


def log_name(calculation: str) -> str:
    return f"running_{calculation}.log"


def find_input(folder: Path) -> Path | None:
    """The INPUT of a folder, or the copy that ABACUS leaves in its only OUT folder."""
    copies = sorted(folder.glob("OUT.*/INPUT"))
    paths = [folder / "INPUT", *(copies if len(copies) == 1 else [])]
    return next((path for path in paths if path.is_file() and is_input(path)), None)


def is_input(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4096).lstrip().upper().startswith(b"INPUT_PARAMETERS")


def matrix_files(folder: Path, output: Path, at_gamma: bool) -> list[Path]:
    """Matrices in an OUT folder and in its folder of MD steps; dense ones of a run at Gamma alone.

    Versions before 3.11 write files of NumPy where they run.
    """
    places = [place for place in (output, output / "matrix") if place.is_dir()]
    found = [path for place in places for path in sorted(place.iterdir()) if path.is_file()]
    found += [path for path in sorted(folder.glob("output_*.npz")) if output != folder and path.is_file()]
    matrices = [path for path in found if MATRIX.fullmatch(path.name) or (at_gamma and DENSE.fullmatch(path.name))]
    return sorted(matrices, key=lambda path: not HAMILTONIAN.search(path.name))  # H names the run


def other_files(output: Path) -> tuple[str, str]:
    """The first packed matrix of an OUT folder, and the first dense one of a k-point; nothing where there is none."""
    names = sorted(path.name for place in (output, output / "matrix") if place.is_dir() for path in place.iterdir())
    stems = {name: name.removesuffix(Path(name).suffix) for name in names if name.endswith(PACKED)}
    packed = [name for name, stem in stems.items() if MATRIX.fullmatch(stem) or OF_KPOINTS.fullmatch(stem)]
    return next(iter(packed), ""), next((name for name in names if OF_KPOINTS.fullmatch(name)), "")


def kinds_of_files(given: dict[str, str], moves: bool) -> list[str]:
    """The kinds of files of real-space matrices, first the one that the run was asked for."""
    asked = {"1": ".csr", "2": ".dat", "3": ".npz"}.get(text.flag(given, "out_hsr"))
    if asked is None:  # before out_hsr there was one keyword for each
        asked = ".npz" if text.flag(given, "out_hsr_npz") == "1" and not moves else ".csr"
    return sorted(NEW_NAMES, key=lambda kind: kind != asked)


def steps_in_names(present: Mapping[str, Path], pattern: str) -> list[int]:
    """The numbers in the names of files."""
    return sorted({int(match[1]) for name in present if (match := re.fullmatch(pattern, name))})


def names_of_parts(forms: Iterable[str], spins: int, g: str = "") -> Iterator[list[str]]:
    """Names of the files of a matrix in each form, one for each spin."""
    for form in forms:
        yield [
            form.format(s=s + 1, z=s, g=g, S=f"s{s + 1}" if spins == 2 else "")
            for s in range(spins if re.search(r"\{[szS]\}", form) else 1)
        ]


def first_whole(present: Mapping[str, Path], candidates: Iterable[list[str]]) -> list[Path]:
    """The files of the first candidate that are all there; none where no file of any is."""
    alone: tuple[Path, list[str]] | None = None
    for names in candidates:
        there = [present[name] for name in names if name in present]
        if len(there) == len(names):
            return there
        if there and alone is None:
            alone = there[0], names
    if alone is not None:
        raise Refused(Kind.NO_RUN, alone[0], "is alone", " and ".join(alone[1]))
    return []
