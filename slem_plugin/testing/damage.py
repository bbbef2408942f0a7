"""Damage to the files of a run, and what reading them then gives.

Reading is allowed to refuse, or to give a frame that passes the checks if it is the same frame or differs in nothing but numbers
whose own bytes were damaged.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused, reading
from converters.frames.frame import Frame
from converters.physics.checks import require_sound
from converters.runs import code_module, search


def mutate_folder(folder: Path, code: str, random: np.random.Generator) -> str:
    """Damage one file of a run folder; returns what was done."""
    patterns = KNOWN[code].files
    files = sorted(p for p in folder.rglob("*") if p.is_file() and any(fnmatchcase(p.name, each) for each in patterns))
    path = files[random.integers(len(files))]
    content = path.read_bytes()
    change = mutate_binary if b"\0" in content else mutate_text
    changed, what = change(content, random)
    path.write_bytes(changed)
    return f"{path.name}: {what}"


def mutate_binary(content: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    kind = random.choice(["cut", "cut at a boundary", "flip", "flips", "count", "swap", "grow"])
    raw = bytearray(content)
    at = int(random.integers(len(raw)))
    if kind == "cut":
        return bytes(raw[:at]), f"cut at {at}"
    if kind == "cut at a boundary":
        at -= at % 4
        return bytes(raw[:at]), f"cut at {at}"
    if kind == "grow":
        return bytes(raw) + bytes(random.integers(0, 256, 17, dtype=np.uint8)), "17 bytes more"
    if kind in ("flip", "flips"):
        places = random.integers(len(raw), size=1 if kind == "flip" else 8)
        for place in places:
            raw[place] ^= 1 << int(random.integers(8))
        return bytes(raw), f"bits flipped at {places.tolist()}"
    head = min(len(raw), 600)
    first = int(random.integers(max(1, head // 4))) * 4 if random.random() < 0.7 else at - at % 4
    if kind == "count":
        value = int(random.choice([0, -1, 1, 7, 255, 65536, 2**31 - 1, -(2**31), 1000003]))
        raw[first : first + 4] = value.to_bytes(4, "little", signed=True)
        return bytes(raw[: len(content)]), f"the integer at {first} set to {value}"
    second = at - at % 4
    raw[first : first + 4], raw[second : second + 4] = raw[second : second + 4], raw[first : first + 4]
    return bytes(raw), f"words at {first} and {second} exchanged"


def mutate_text(content: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    lines = content.split(b"\n")
    at = int(random.integers(len(lines)))
    if random.random() < 0.4:
        at = int(random.integers(min(len(lines), 40)))
    kind = random.choice(["cut", "drop", "double", "swap", "token", "count", "byte"])
    if kind == "cut":
        return b"\n".join(lines[:at]), f"cut before line {at + 1}"
    if kind == "drop":
        return b"\n".join(lines[:at] + lines[at + 1 :]), f"line {at + 1} dropped"
    if kind == "double":
        return b"\n".join(lines[: at + 1] + lines[at:]), f"line {at + 1} doubled"
    if kind == "swap":
        other = int(random.integers(len(lines)))
        lines[at], lines[other] = lines[other], lines[at]
        return b"\n".join(lines), f"lines {at + 1} and {other + 1} exchanged"
    if kind == "byte":
        raw = bytearray(content)
        place = int(random.integers(len(raw)))
        raw[place] = int(random.integers(256))
        return bytes(raw), f"byte {place} set to {raw[place]}"
    words = lines[at].split(b" ")
    place = int(random.integers(len(words)))
    new = (
        [b"nan", b"x", b"", b"1e400", b"-", b"0"]
        if kind == "token"
        else [b"0", b"-1", b"999999999", b"99999999999999999999", b"3"]
    )
    words[place] = new[random.integers(len(new))]
    lines[at] = b" ".join(words)
    return b"\n".join(lines), f"word {place + 1} of line {at + 1} set to {words[place]!r}"


def outcome_of_reading(folder: Path, code: str, original: Sequence[Frame]) -> tuple[str, str]:
    """("refused", reason), ("same", ""), ("left out", matrices), ("other value", what), or what must not happen."""
    with np.errstate(all="ignore"):  # as the commands do
        return read_and_compare(folder, code, original)


def read_and_compare(folder: Path, code: str, original: Sequence[Frame]) -> tuple[str, str]:
    frames = []
    try:
        for run in search(folder, [code]):
            if isinstance(run, Refused):
                return "refused", str(run)
            with reading(run.main):
                for frame in code_module(code).read_run(run):
                    require_sound(frame)
                    frames.append(frame)
    except Refused as refusal:
        return "internal error" if refusal.kind is Kind.INTERNAL else "refused", f"{refusal}\n{refusal.trace}"
    if len(frames) != len(original):
        return "other structure", f"{len(frames)} frames"
    return compare(frames, original)


def compare(frames: Sequence[Frame], original: Sequence[Frame]) -> tuple[str, str]:
    """How frames differ from the original ones: in nothing, in numbers, or in their structure."""
    changed, without = set(), set()
    for mine, theirs in zip(frames, original, strict=True):
        missing = set(theirs.operators) - set(mine.operators)
        said = {name for name in missing if any(note.startswith(f"{name} ") for note in mine.provenance.notes)}
        if missing != said or structure_of(mine, mine.operators) != structure_of(theirs, mine.operators):
            return "other structure", "species, pairs, operators or pattern"
        without |= missing
        for name in mine.operators:
            if np.abs(mine.operators[name].values_sx - theirs.operators[name].values_sx).max() > 1e-9:
                changed.add(name)
        for key in ("cell_cv", "positions_av", "numbers_a"):
            if np.abs(getattr(mine, key) - getattr(theirs, key)).max() > 1e-9:
                changed.add(key)
    if without and not changed:
        return "left out", ", ".join(sorted(without))
    return ("other value", ", ".join(sorted(changed))) if changed else ("same", "")


def structure_of(frame: Frame, operators: Iterable[str]) -> tuple[Any, ...]:
    """All of a frame with these matrices that is not a number with digits."""
    patterns = {name: frame.operators[name].known_x for name in operators}
    known = {name: None if known_x is None else known_x.tobytes() for name, known_x in patterns.items()}
    pairs = [getattr(frame.pairs, key).tolist() for key in ("i_p", "j_p", "R_pc")]
    shells = [[(s.l, s.zeta) for s in frame.basis[a].shells] for a in frame.species_a]
    return frame.spin, shells, pairs, known
