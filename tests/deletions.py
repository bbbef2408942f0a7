"""Runs from which a file or a line is missing: what converting them then gives.

    python -m tests.deletions files
    python -m tests.deletions pairs --only siesta
    python -m tests.deletions lines --only "abacus si2" --files INPUT

deletes each file of each fixture in turn, each two of them, or each line of its texts. What is left must be read as before to the last digits, be refused, be
without what cannot be known any more, or come with a note that says what was guessed. A number that is another one in
silence is the finding.
"""

import argparse
import collections
import functools
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path

import numpy as np

from converters.errors import Kind, Refused
from converters.frames.frame import Frame, Outcome, Spectrum
from converters.frames.origin import FileForm
from converters.runs import search
from workflows.convert import Options, read_new

GOOD = ("same", "refused", "less", "said")
# Numbers that are the same: what other units and other digits of the same file make of them.
SAME = 1e-9
# Files of matrices and tables alone, whose lines the checks and `tests.mutations` look at.
TABLES = (".csr", ".ORB_INDX", ".xml")
DENSE = ("hk_nao.txt", "sk_nao.txt", "dmg1_nao.txt")


@dataclass(frozen=True)
class Deletion:
    """One thing that is missing, and what came of it."""

    what: str
    outcome: str
    detail: str


def converted(folder: Path, code: str) -> list[Frame] | Refused:
    """The frames of a folder as slem-convert stores them, or the first refusal."""
    frames: list[Frame] = []
    for run in search(folder, [code]):
        read = read_new(run, frozenset(), Options())
        if isinstance(read, Refused):
            return read
        frames += read or []
    return frames


def outcome_of(folder: Path, code: str, whole: list[Frame]) -> tuple[str, str]:
    """What a folder gives: "same", "refused", "less", "said", or what must not happen."""
    found = converted(folder, code)
    if isinstance(found, Refused):
        return ("internal error" if found.kind is Kind.INTERNAL else "refused"), found.reason
    if len(found) != len(whole):
        return "silent", f"{len(found)} frames of {len(whole)}"
    changes = [change for mine, theirs in zip(found, whole, strict=True) for change in differences(mine, theirs)]
    other = [what for what, is_less in changes if not is_less]
    said = [note for mine, theirs in zip(found, whole, strict=True) for note in said_anew(mine, theirs)]
    if other:
        return ("said" if said else "silent"), f"{', '.join(other)} | {'; '.join(said)}"
    if changes:
        return "less", ", ".join(what for what, _ in changes)
    return "same", ""


def said_anew(mine: Frame, theirs: Frame) -> Iterator[str]:
    """Notes and doubts that the frame of the whole folder does not have."""
    yield from (note for note in mine.provenance.notes if note not in theirs.provenance.notes)
    for name in mine.operators:
        if (doubt := mine.origin(name).doubt) and doubt != theirs.origin(name).doubt:
            yield doubt


def differences(mine: Frame, theirs: Frame) -> Iterator[tuple[str, bool]]:
    """Quantities that differ, and whether mine is only without them."""
    for name in ("cell_cv", "positions_av", "pbc_c"):
        if not same_numbers(getattr(mine, name), getattr(theirs, name)):
            yield name, False
    yield from differences_of_species(mine, theirs)
    if mine.spin is not theirs.spin or mine.folded != theirs.folded:
        yield "spin or folding", False
    else:
        yield from differences_of_matrices(mine, theirs)
    yield from differences_of_spectra(mine.spectrum, theirs.spectrum)
    yield from differences_of_facts(mine, theirs)


def differences_of_species(mine: Frame, theirs: Frame) -> Iterator[tuple[str, bool]]:
    species = [[frame.basis[s] for s in frame.species_a] for frame in (mine, theirs)]
    for field in ("name", "number", "shells", "radial"):
        values = [[getattr(one, field) for one in side] for side in species]
        if values[0] != values[1]:
            yield f"species {field}", field == "radial" and not any(values[0])


def differences_of_facts(mine: Frame, theirs: Frame) -> Iterator[tuple[str, bool]]:
    for field in fields(Outcome):
        yield from compared(field.name, *(getattr(side.outcome, field.name) for side in (mine, theirs)))
    forms = mine.provenance.form, theirs.provenance.form
    for field in fields(FileForm):
        if field.name != "constants_from":
            yield from compared(f"form {field.name}", *(getattr(form, field.name) for form in forms))
    version = mine.provenance.version
    if version != theirs.provenance.version:
        yield "version", " " in version or not version  # such as "3.8 or older"
    for key in {*mine.provenance.settings, *theirs.provenance.settings}:
        yield from compared(f"setting {key}", *(side.provenance.settings.get(key) or None for side in (mine, theirs)))
    for name in mine.operators:
        for field_name in ("made", "parts", "error", "doubt"):
            if getattr(mine.origin(name), field_name) != getattr(theirs.origin(name), field_name):
                yield f"origin of {name}: {field_name}", False


def differences_of_matrices(mine: Frame, theirs: Frame) -> Iterator[tuple[str, bool]]:
    pairs = mine.pairs
    place_p = theirs.pairs.find(pairs.i_p, pairs.j_p, pairs.R_pc)
    for name in {*mine.operators, *theirs.operators}:
        if name not in mine.operators:
            yield name, True
        elif name not in theirs.operators:
            yield name, False
        else:
            blocks = [(mine.block_of_pair(name, p), place_p[p]) for p in range(len(pairs))]
            worst = max(np.abs(b - (theirs.block_of_pair(name, q) if q >= 0 else 0)).max() for b, q in blocks)
            lost = {*range(len(theirs.pairs))} - {*place_p.tolist()}
            worst = max([worst, *(np.abs(theirs.block_of_pair(name, q)).max() for q in lost)])
            if not worst < SAME:
                yield f"{name} ({worst:.1e})", False


def differences_of_spectra(mine: Spectrum | None, theirs: Spectrum | None) -> Iterator[tuple[str, bool]]:
    if mine is None or theirs is None:
        yield from compared("spectrum", mine, theirs)
        return
    between = mine.kpoints_kc[:, None] - theirs.kpoints_kc
    place_k = np.abs(between - np.round(between)).sum(axis=-1).argmin(axis=1)  # files may have another order
    off = mine.kpoints_kc - theirs.kpoints_kc[place_k]
    allowed = SAME + mine.kpoint_error  # which says how exactly they are known
    if sorted(place_k) != list(range(len(theirs.weights_k))) or np.abs(off - np.round(off)).max() > allowed:
        yield "k-points", False
    elif not same_numbers(mine.weights_k, theirs.weights_k[place_k]):
        yield "weights", False
    levels = mine.energies_skn
    expected = theirs.energies_skn[:, place_k, : levels.shape[-1]]
    if levels.size and (levels.shape != expected.shape or not same_numbers(levels, expected)):
        yield "levels", False
    elif levels.shape != theirs.energies_skn.shape:
        yield "levels", True
    yield from compared("tolerance", mine.tolerance, theirs.tolerance)
    yield from compared("smearing", mine.smearing or None, theirs.smearing or None)
    if mine.smearing:
        yield from compared("width", mine.width, theirs.width)
        yield from compared("fixed moment", mine.fixed_moment, theirs.fixed_moment)


def compared(what: str, mine: object, theirs: object) -> Iterator[tuple[str, bool]]:
    numbers = isinstance(mine, float) and isinstance(theirs, float)
    if mine != theirs and not (numbers and same_numbers(mine, theirs)):
        yield f"{what} ({mine} for {theirs})" if numbers else what, mine is None


def same_numbers(mine: object, theirs: object) -> bool:
    a, b = np.asarray(mine, dtype=float), np.asarray(theirs, dtype=float)
    return a.shape == b.shape and np.allclose(a, b, rtol=SAME, atol=SAME, equal_nan=True)


def lines_of(path: Path) -> list[bytes]:
    """The lines of a text; the fields of the input text inside a .scfout file; none of other binary files."""
    content = path.read_bytes()
    if path.suffix == ".scfout":
        from converters.openmx.scfout import FIELD, read_scfout

        at = len(content) - FIELD * len(read_scfout(path).text.splitlines())
        return [content[at + n : at + n + FIELD] for n in range(0, len(content) - at, FIELD)]
    return [] if b"\0" in content else content.splitlines(keepends=True)


def without_line(path: Path, number: int) -> bytes:
    """The contents of a file without a line; a field of a .scfout file becomes empty."""
    lines, content = lines_of(path), path.read_bytes()
    head, last = content[: len(content) - sum(map(len, lines))], lines[number + 1 :]
    kept = [b"\0" * len(lines[number])] if path.suffix == ".scfout" else []
    return b"".join([head, *lines[:number], *kept, *last])


def cases(source: Path, kind: str, pattern: str = "*") -> Iterator[tuple[tuple[str, ...], int | None]]:
    """What can be missing: files, two files, or lines of those that have any words."""
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    names = [str(path.relative_to(source)) for path in paths if fnmatch(path.name, pattern)]
    if kind != "lines":
        yield from ((gone, None) for gone in combinations(names, 2 if kind == "pairs" else 1))
        return
    for name in names:
        path = source / name
        if path.suffix not in TABLES and path.name not in DENSE:
            yield from (((name,), n) for n, line in enumerate(lines_of(path)) if line.strip(b" \t\r\n\0"))


def try_one(task: tuple[str, Path, list[Frame], tuple[str, ...], int | None]) -> Deletion:
    """What becomes of a run without some files, or without a line of one."""
    code, source, whole, names, number = task
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        shutil.copytree(source, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
        for name in names:
            (folder / name).unlink()
        what = " and ".join(names)
        if number is not None:
            (folder / names[0]).write_bytes(without_line(source / names[0], number))
            text = lines_of(source / names[0])[number].split(b"\0")[0].decode(errors="replace")
            what = f"{what}:{number + 1} {' '.join(text.split())[:60]}"
        with np.errstate(all="ignore"):
            return Deletion(what, *outcome_of(folder, code, whole))


def sources(only: str = "") -> Iterator[tuple[str, str, Path]]:
    """(code, name, folder) of each fixture that is a whole run, and of runs that are made here: DeepH, DeePTB and PySCF."""
    from tests.fixtures import unpacked
    from tests.test_abacus import TestAbacus
    from tests.test_openmx import TestOpenmx
    from tests.test_siesta import TestSiesta

    names = [(contract.code, name) for contract in (TestAbacus, TestOpenmx, TestSiesta) for name in contract.good]
    made = [("deeph", "legacy"), ("deeph", "2026"), ("deeptb", "h2o"), ("pyscf", "water")]
    for code, name in (*names, *made):
        if only in f"{code} {name}":
            yield code, name, unpacked(code, name) if (code, name) in names else made_here(code, name)


@functools.cache
def made_here(code: str, name: str) -> Path:
    """The folder of a run that is no fixture."""
    from converters import deeph
    from tests.fixtures import frames_of, scratch
    from tests.test_deeptb import dftio_folder
    from tests.test_pyscf_files import checkpoint_folder

    if code == "deeptb":
        return Path(dftio_folder(name))
    folder = scratch()[1] / "made" / f"{code} {name}"
    folder.mkdir(parents=True)
    if code == "deeph":
        deeph.write(frames_of("openmx", "h2o")[0], folder, layout=name)
    else:
        checkpoint_folder(folder)
    return folder


def run(kind: str, only: str, pattern: str, jobs: int) -> None:
    for code, name, source in sources(only):
        whole = converted(source, code)
        if isinstance(whole, Refused):
            raise whole
        tasks = [(code, source, whole, *case) for case in cases(source, kind, pattern)]
        with ProcessPoolExecutor(jobs) as pool:
            results = list(pool.map(try_one, tasks, chunksize=8))
        counts = collections.Counter(result.outcome for result in results)
        print(f"{code} {name}: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()), flush=True)
        for result in results:
            if kind == "files" or result.outcome not in ("same", "refused"):
                print(f"    {result.outcome}: {result.what}: {result.detail}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("files", "pairs", "lines"))
    parser.add_argument("--only", default="", help="a part of a name such as 'siesta h2o'")
    parser.add_argument("--files", default="*", help="pattern of the files to look at")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    run(options.kind, options.only, options.files, options.jobs)
