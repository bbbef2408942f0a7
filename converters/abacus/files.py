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

DENSE_FILES = {"H": "hk_nao.txt", "S": "sk_nao.txt", "DM": "dmg1_nao.txt"}

OVERLAP_FILES = ("sr_nao.csr", "SR.csr")

MATRIX = re.compile(
    r"(hrs\d|srs1|dmrs\d)(g\d+)?_nao\.csr|(\d+_)?data-(HR|SR|DMR)-sparse_SPIN\d\.csr|sr_nao\.csr|SR\.csr"
)


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for each folder with INPUT and OUT.*; matrices that lie alone are a run too, which `read_run` refuses."""
    names = {path.name for path in files}
    if "INPUT" in names and is_input(folder / "INPUT"):
        given = text.read_input(folder / "INPUT")
        suffix = given.get("suffix", "ABACUS")
        if "/" in suffix:
            raise Refused(Kind.DAMAGED, folder / "INPUT", f'has the suffix "{suffix}", which leads out of the folder')
        output = folder / f"OUT.{suffix}"
        output = output if output.is_dir() else folder
        start = (folder / given.get("read_file_dir", ".")).resolve()
        claimed = tuple(path for path in (output, start) if path.is_dir() and path.resolve() != folder.resolve())
        texts = [folder / name for name in ("INPUT", "STRU", "KPT") if name in names]
        texts += sorted(output.glob("running_*.log")) + [p for p in (output / "eig_occ.txt",) if p.exists()]
        yield Run(NAME, folder, tuple(matrix_files(output)) or (folder / "INPUT",), tuple(texts), claimed)
    elif any(MATRIX.fullmatch(name) for name in names):
        above = folder.resolve().parent
        if folder.resolve().name.startswith("OUT.") and (above / "INPUT").exists():
            yield from find_runs(above, sorted(path for path in above.iterdir() if path.is_file()))
        else:
            yield Run(NAME, folder, tuple(path for path in files if MATRIX.fullmatch(path.name)))


def is_input(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4096).lstrip().upper().startswith(b"INPUT_PARAMETERS")


def matrix_files(output: Path) -> list[Path]:
    """Matrices in an OUT folder and in its folder of MD steps."""
    places = [folder for folder in (output, output / "matrix") if folder.is_dir()]
    found = [path for folder in places for path in sorted(folder.iterdir()) if path.is_file()]
    matrices = [path for path in found if MATRIX.fullmatch(path.name) or path.name in DENSE_FILES.values()]
    return sorted(matrices, key=lambda path: not re.search(r"hrs|hk_|-HR-", path.name))  # H names the run


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
