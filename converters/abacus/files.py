"""Which files of an ABACUS folder belong to a run, and which matrices belong to one ionic step."""

import re
from collections.abc import Iterator
from pathlib import Path

from converters.abacus import text
from converters.codes.run import Run
from converters.errors import Kind, Refused

NAME = "abacus"

# Names of the matrices in each generation: {s} is the spin from 1, {z} from 0, {g} the ionic step or nothing.
NEW_FILES = {"H": "hrs{s}{g}_nao.csr", "S": "srs1{g}_nao.csr", "DM": "dmrs{s}{g}_nao.csr"}

OLD_FILES = {
    "H": "data-HR-sparse_SPIN{z}.csr",
    "S": "data-SR-sparse_SPIN0.csr",
    "DM": "data-DMR-sparse_SPIN{z}.csr",
}

# Dense matrices of runs at Gamma alone, of each generation; with k-points the same names hold matrices of k-points.
DENSE_FILES = (
    {"H": ("hk_nao.txt",), "S": ("sk_nao.txt",), "DM": ("dmg1_nao.txt",)},
    {"H": ("hks1_nao.txt", "hks2_nao.txt"), "S": ("sk_nao.txt",), "DM": ("dms1g1_nao.txt", "dms2g1_nao.txt")},
    {"H": ("data-0-H",), "S": ("data-0-S",), "DM": ("SPIN1_DM",)},
    {"H": ("data-0-H", "data-1-H"), "S": ("data-0-S",), "DM": ("SPIN1_DM", "SPIN2_DM")},
)
DENSE_NAMES = {name for generation in DENSE_FILES for names in generation.values() for name in names}

OVERLAP_FILES = ("sr_nao.csr", "SR.csr")

# Files of eigenvalues, of 3.11 and of older versions.
LEVELS = ("eig_occ.txt", "istate.info")

MATRIX = re.compile(
    r"(hrs\d|srs1|dmrs\d)(g\d+)?_nao\.csr|(\d+_)?data-(HR|SR|DMR)-sparse_SPIN\d\.csr|sr_nao\.csr|SR\.csr"
)


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
        texts = [path for path in (found, *(folder / name for name in text.files_of(given))) if path.is_file()]
        texts += sorted(output.glob("running_*.log")) + [output / name for name in LEVELS if (output / name).is_file()]
        matrices = matrix_files(output, text.flag(given, "gamma_only") == "1")
        yield Run(NAME, folder, tuple(matrices) or (found,), tuple(texts), claimed)
    elif any(MATRIX.fullmatch(name) for name in names):
        above = folder.resolve().parent
        if folder.resolve().name.startswith("OUT.") and (above / "INPUT").exists():
            yield from find_runs(above, sorted(path for path in above.iterdir() if path.is_file()))
        else:
            yield Run(NAME, folder, tuple(path for path in files if MATRIX.fullmatch(path.name)))


def find_input(folder: Path) -> Path | None:
    """The INPUT of a folder, or the copy that ABACUS leaves in its only OUT folder."""
    copies = sorted(folder.glob("OUT.*/INPUT"))
    paths = [folder / "INPUT"] if (folder / "INPUT").is_file() else copies if len(copies) == 1 else []
    return next((path for path in paths if is_input(path)), None)


def is_input(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4096).lstrip().upper().startswith(b"INPUT_PARAMETERS")


def matrix_files(output: Path, at_gamma: bool) -> list[Path]:
    """Matrices in an OUT folder and in its folder of MD steps; dense ones of a run at Gamma alone."""
    places = [folder for folder in (output, output / "matrix") if folder.is_dir()]
    found = [path for folder in places for path in sorted(folder.iterdir()) if path.is_file()]
    dense = DENSE_NAMES if at_gamma else set()
    matrices = [path for path in found if MATRIX.fullmatch(path.name) or path.name in dense]
    return sorted(matrices, key=lambda path: not re.search(r"hrs|hks?\d?_|-HR-|-H$", path.name))  # H names the run


def per_step_names(present: dict[str, Path], spins: int) -> list[dict[str, list[str]]]:
    """File names of each group of files: all steps in one, one group for each step, or the overlap alone."""
    groups = []
    steps = sorted({int(m[1]) for name in present if (m := re.fullmatch(r"(?:[hs]rs\d)g(\d+)_nao\.csr", name))})
    for mark in [f"g{step}" for step in steps] or ([""] if "srs1_nao.csr" in present else []):
        groups.append(
            {
                name: [form.format(s=s + 1, g=mark) for s in range(1 if name == "S" else spins)]
                for name, form in NEW_FILES.items()
            }
        )
    old = sorted({int(m[1]) for name in present if (m := re.fullmatch(r"(\d+)_data-SR-sparse_SPIN0\.csr", name))})
    for step in old:
        shift = {"H": step, "S": step, "DM": step + 1}  # DM of a step is numbered one higher
        groups.append(
            {
                name: [f"{shift[name]}_{form.format(z=z)}" for z in range(1 if name == "S" else spins)]
                for name, form in OLD_FILES.items()
            }
        )
    if "data-SR-sparse_SPIN0.csr" in present:
        groups.append(
            {name: [form.format(z=z) for z in range(1 if name == "S" else spins)] for name, form in OLD_FILES.items()}
        )
    if not groups:
        groups = [{"S": [name]} for name in OVERLAP_FILES if name in present] or [{"S": ["srs1_nao.csr"]}]
    return groups
