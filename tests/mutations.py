"""Damage to the files of a run, and what reading them then gives.

    python -m tests.mutations --count 2000 --seed 0

runs all formats; the tests run a few. Reading is allowed to refuse, or to give a frame that passes the checks if it is the
same frame or differs in nothing but numbers whose own bytes were damaged.
"""

import argparse
import collections
import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused, reading
from converters.physics.checks import require_sound
from converters.runs import code_module, search


def mutate_folder(folder, code, random):
    """Damage one file of a run folder; returns what was done."""
    patterns = KNOWN[code].files
    files = sorted(p for p in folder.rglob("*") if p.is_file() and any(fnmatchcase(p.name, each) for each in patterns))
    path = files[random.integers(len(files))]
    content = path.read_bytes()
    change = mutate_binary if b"\0" in content else mutate_text
    changed, what = change(content, random)
    path.write_bytes(changed)
    return f"{path.name}: {what}"


def mutate_binary(content, random):
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


def mutate_text(content, random):
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


def outcome_of_reading(folder, code, original):
    """("refused", reason), ("same", ""), ("other value", what), or what must not happen."""
    with np.errstate(all="ignore"):  # as the commands do
        return read_and_compare(folder, code, original)


def read_and_compare(folder, code, original):
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


def compare(frames, original):
    """How frames differ from the original ones: in nothing, in numbers, or in their structure."""
    changed = set()
    for mine, theirs in zip(frames, original, strict=True):
        if structure_of(mine) != structure_of(theirs):
            return "other structure", "species, pairs, operators or pattern"
        for name in theirs.operators:
            if np.abs(mine.operators[name].values_sx - theirs.operators[name].values_sx).max() > 1e-9:
                changed.add(name)
        for key in ("cell_cv", "positions_av", "numbers_a"):
            if np.abs(getattr(mine, key) - getattr(theirs, key)).max() > 1e-9:
                changed.add(key)
    return ("other value", ", ".join(sorted(changed))) if changed else ("same", "")


def structure_of(frame):
    """All of a frame that is not a number with digits."""
    known = {name: None if o.known_x is None else o.known_x.tobytes() for name, o in frame.operators.items()}
    pairs = [getattr(frame.pairs, key).tolist() for key in ("i_p", "j_p", "R_pc")]
    shells = [[(s.l, s.zeta) for s in frame.basis[a].shells] for a in frame.species_a]
    return frame.spin, shells, pairs, known


# The long run


def try_one(task):
    """Outcome of one mutation, in a process of its own that may take 5 seconds and die."""
    code, source, original, seed = task
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(source, Path(scratch) / "run")
        what = mutate_folder(folder, code, np.random.default_rng(seed))
        start = time.perf_counter()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even where C code never returns
            signal.alarm(5)
            report(writer, folder, code, original)
        os.close(writer)
        with open(reader) as stream:
            answer = stream.read()
        _, status = os.waitpid(child, 0)
    spent = time.perf_counter() - start
    if not answer:
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        return "hang" if hung else "crash", f"status {status}", what, spent, 0
    outcome, detail, memory = json.loads(answer)
    return outcome, detail, what, spent, memory


def report(writer, folder, code, original):
    """Write what reading gives into the pipe and end this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        outcome, detail = outcome_of_reading(folder, code, original)
    except Exception as error:  # noqa: BLE001 - a traceback of any kind is the finding
        outcome, detail = "traceback", f"{type(error).__name__}: {error}"
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    os.write(writer, json.dumps([outcome, detail, memory]).encode()[:60000])
    os._exit(0)


def run_format(title, code, source, count, seed):
    (found,) = [run for run in search(source, [code])]
    original = tuple(code_module(code).read_run(found))
    tasks = [(code, source, original, seed + n) for n in range(count)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        results = list(pool.map(try_one, tasks, chunksize=20))
    counts = collections.Counter(result[0] for result in results)
    unforeseen = collections.Counter(r[1].split("\n")[0][:110] for r in results if r[0] == "internal error")
    slowest, largest = max(r[3] for r in results), max(r[4] for r in results)
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
    print(
        f"{title}: {summary}; {sum(unforeseen.values())} unforeseen; slowest {slowest:.2f} s, memory +{largest:.0f} MB"
    )
    for text, number in unforeseen.most_common(6):
        print(f"    {number} x {text}")
    for result in results:
        if result[0] not in ("refused", "same", "other value", "internal error"):
            print(f"    {result[0]}: {result[2]}: {result[1]}")
    values = collections.Counter(r[1] for r in results if r[0] == "other value")
    if values:
        print("    other values in: " + "; ".join(f"{number} x {text}" for text, number in values.most_common()))


def formats(scratch):
    """(title, code, run folder) of each format, unpacked or written into a scratch folder."""
    from converters import deeph
    from tests.contract import frames_of, unpacked
    from tests.test_pyscf_files import checkpoint_folder

    for title, code, name, dropped in [
        ("SIESTA TSHS, DM", "siesta", "h2o", (".HSX",)),
        ("SIESTA spinor TSHS, DM", "siesta", "nc_o2", (".HSX",)),
        ("SIESTA HSX 0", "siesta", "h2o", (".TSHS",)),
        ("SIESTA nc", "siesta", "si2", (".TSHS", ".HSX", ".DM", ".TSDE", "H_DMGEN")),
        ("OpenMX 3", "openmx", "h2o", ()),
        ("OpenMX 0", "openmx", "si2_v38", ()),
        ("ABACUS 3.11 text", "abacus", "h2o", ()),
        ("ABACUS gamma_only", "abacus", "h2o_gamma_only", ()),
    ]:
        folder = shutil.copytree(unpacked(code, name), scratch / title)
        for path in [p for p in folder.rglob("*") if p.name.endswith(dropped or ("nothing",))]:
            path.unlink()
        yield title, code, folder
    for version in (1, 2):
        folder = scratch / f"hsx{version}"
        folder.mkdir()
        shutil.copy(unpacked("siesta", "hsx") / f"si2_v{version}.HSX", folder)
        shutil.copy(unpacked("siesta", "si2") / "si2.XV", folder / f"si2_v{version}.XV")
        yield f"SIESTA HSX {version}", "siesta", folder
    (frame,) = frames_of("openmx", "h2o")
    for layout in ("legacy", "2026"):
        folder = scratch / f"deeph {layout}"
        folder.mkdir()
        deeph.write(frame, folder, layout=layout)
        yield f"DeepH {layout}", "deeph", folder
    folder = scratch / "pyscf"
    folder.mkdir()
    checkpoint_folder(folder)
    yield "PySCF checkpoint", "pyscf", folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for title, code, source in formats(Path(folder)):
            if options.only in title:
                run_format(title, code, source, options.count, options.seed)
