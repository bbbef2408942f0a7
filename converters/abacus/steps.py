"""The matrices of each ionic step of an ABACUS run, whatever files they are in."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from basis.spin import Spin
from converters.abacus import binary, csr, npz
from converters.abacus.context import Context
from converters.abacus.convention import magnetic_numbers
from converters.abacus.csr import Step
from converters.abacus.dense import read_dense
from converters.abacus.files import (
    DENSE,
    DENSE_NAMES,
    NEW_NAMES,
    OLD_ARRAYS,
    OLD_NAMES,
    first_whole,
    kinds_of_files,
    names_of_parts,
    steps_in_names,
)
from converters.errors import Kind, Refused

MATRICES = ("H", "S", "DM")
Files = dict[str, list[Path]]


@dataclass(frozen=True, eq=False)
class IonicStep:
    """The matrices of one ionic step, counted from 1: a part for each spin, and the files that they are from."""

    number: int
    parts: dict[str, list[Step]]
    files: Files


def read_steps(context: Context) -> Iterator[IonicStep]:
    """All steps of a run in order."""
    present = {path.name: path for path in context.run.matrices}
    if any(DENSE.fullmatch(name) for name in present):
        yield from read_dense_steps(context, present)
        return
    for number, files in groups_of_files(context, present):
        if "S" not in files:
            there = files["H"][0] if "H" in files else context.run.main
            raise Refused(
                Kind.MISSING_FILES, context.run.main, f"has no overlap beside {there.name}", "the S(R) of the same run"
            )
        yield from match_steps(context, number, files)


def spins_of(context: Context) -> int:
    return 2 if context.spin is Spin.COLLINEAR else 1


def groups_of_files(context: Context, present: dict[str, Path]) -> Iterator[tuple[int | None, Files]]:
    """Real-space matrices: the files of each step with its number, or those that hold all steps."""
    spins, kinds = spins_of(context), kinds_of_files(context.given, context.moves)

    def new_files(kinds: list[str], g: str) -> Files:
        found = {}
        for name in MATRICES:
            candidates = [
                [stem + kind for stem in stems]
                for kind in kinds
                for stems in names_of_parts(NEW_NAMES[kind][name], spins, g)
            ]
            found[name] = first_whole(present, candidates)
        return without_missing(found)

    def old_files(before: dict[str, str]) -> Files:
        found = {}
        for name, form in OLD_NAMES.items():
            forms = [before[name] + form, *(OLD_ARRAYS[name] if not before[name] else ())]
            found[name] = first_whole(present, names_of_parts(forms, spins))
        return without_missing(found)

    numbered = steps_in_names(present, r"(?:hrs\d|srs1|sr)g(\d+)_nao\.(?:csr|dat)")
    new = new_files(kinds, "")
    old_numbered = steps_in_names(present, r"(\d+)_data-SR-sparse_SPIN0\.csr")
    if numbered:
        yield from ((step, new_files([kind for kind in kinds if kind != ".npz"], f"g{step}")) for step in numbered)
    elif "S" in new:
        yield None, new
    elif old_numbered:  # DM of a step is numbered one higher
        yield from ((n + 1, old_files({"H": f"{n}_", "S": f"{n}_", "DM": f"{n + 1}_"})) for n in old_numbered)
    elif old := old_files(dict.fromkeys(MATRICES, "")):
        yield None, old
    else:
        yield None, {"S": [present["SR.csr"]]} if "SR.csr" in present else new


def without_missing(files: Files) -> Files:
    return {name: paths for name, paths in files.items() if paths}


def match_steps(context: Context, number: int | None, files: Files) -> Iterator[IonicStep]:
    """The steps in some files; a file that has the last step alone adds to that one."""
    read = {name: [read_file(context, name, path) for path in paths] for name, paths in files.items()}
    counts = {name: len(parts[0]) for name, parts in read.items() if parts[0][0].number != npz.LAST}
    steps = {len(part) for parts in read.values() for part in parts if part[0].number != npz.LAST}
    if len(steps) > 1:
        found = f"has different numbers of ionic steps in its files: {counts}"
        raise Refused(Kind.DAMAGED, context.run.main, found)
    total = steps.pop() if steps else 1
    numbers = [step.number for step in read["S"][0]] if "S" in counts else [npz.LAST] * total
    for n in range(total):
        held = {
            name: [part[0 if part[0].number == npz.LAST else n] for part in parts]
            for name, parts in read.items()
            if name in counts or n == total - 1
        }
        yield IonicStep(number or numbers[n] or 1, held, {name: files[name] for name in held})


def read_file(context: Context, name: str, path: Path) -> list[Step]:
    """All steps of a file of real-space matrices."""
    spinor = context.spin is Spin.SPINOR
    if path.suffix == ".npz":
        orbitals = [
            [(shell.l, m) for shell in species.shells for m in magnetic_numbers(shell.l)] for species in context.basis
        ]
        steps = [npz.read_step(path, orbitals, spinor=spinor, pauli=spinor and name == "DM")]
    elif path.suffix == ".dat":
        steps = binary.read_sparse(path, is_complex=spinor)
    else:
        steps = csr.read_steps(path)
    if context.is_gamma_only and any(step.matrix.R_tc.any() for step in steps):
        found = "has lattice vectors, and the run is at Gamma alone"
        raise Refused(Kind.DAMAGED, path, found, "blocks at R = 0, or gamma_only 0")
    return steps


def read_dense_steps(context: Context, present: dict[str, Path]) -> Iterator[IonicStep]:
    """The same of dense matrices: one file for all steps, or one for each; what a step does not have is left out."""
    spins = spins_of(context)
    found: dict[str, dict[int, tuple[list[Step], list[Path]]]] = {}
    for name, forms in DENSE_NAMES.items():
        found[name] = {}
        stem = "dm" if name == "DM" else f"{name.lower()}k"
        numbers = steps_in_names(present, rf"{stem}(?:s[12])?g(\d+)_nao\.(?:txt|dat)")
        for number in [None, *numbers]:
            g = "" if number is None else f"g{number}"
            numbered = tuple(form for form in forms if "{g}" in form) if number else forms
            paths = first_whole(present, names_of_parts(numbered, spins, g))
            if context.moves and paths and "_nao" not in paths[0].name:
                reason = "does not tell its ionic steps apart; convert single-point runs of them"
                raise Refused(Kind.UNSUPPORTED, paths[0], reason)
            steps = [{number or one.number: one.as_step() for one in read_dense(path)} for path in paths]
            for step in set.intersection(*map(set, steps)) if steps else ():
                found[name][step] = [replace(part[step], number=step) for part in steps], paths
    if not found["S"]:
        raise Refused(Kind.MISSING_FILES, context.run.main, "has no overlap beside it", "sk_nao.txt (out_mat_hs 1)")
    early = set(found["H"]) ^ set(found["S"]) if found["H"] else set()
    if early - {max(found["H"], default=0)}:  # S of a step is written after H; a run may have ended between them
        found_steps = f"has H of the ionic steps {sorted(found['H'])} and S of {sorted(found['S'])}"
        raise Refused(Kind.DAMAGED, context.run.main, found_steps, "both of all steps")
    for step in sorted(found["S"]):
        held = {name: steps[step] for name, steps in found.items() if step in steps}
        yield IonicStep(
            step, {name: parts for name, (parts, _) in held.items()}, {name: paths for name, (_, paths) in held.items()}
        )
