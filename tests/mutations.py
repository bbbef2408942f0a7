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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from converters.runs import code_module, search
from slem_plugin.testing.damage import mutate_folder, outcome_of_reading


def try_one(task):
    """Outcome of one mutation, in a process of its own that may take 5 seconds of a processor and die."""
    code, source, original, seed = task
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(source, Path(scratch) / "run")
        what = mutate_folder(folder, code, np.random.default_rng(seed))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # Both end the process even where C code never returns: one that computes, and one that waits.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, 5)
            signal.alarm(120)
            report(writer, folder, code, original)
        os.close(writer)
        with open(reader) as stream:
            answer = stream.read()
        _, status, used = os.wait4(child, 0)
    spent = used.ru_utime + used.ru_stime
    if not answer:
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF)
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


def run_format(title, code, source, count, seed, jobs):
    (found,) = [run for run in search(source, [code])]
    original = tuple(code_module(code).read_run(found))
    tasks = [(code, source, original, seed + n) for n in range(count)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
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
    for result in [result for result in results if result[0] == "internal error"][:1]:
        print(f"    {result[2]}\n{result[1]}")
    for result in results:
        if result[0] not in ("refused", "same", "left out", "other value", "internal error"):
            print(f"    {result[0]}: {result[2]}: {result[1]}")
    values = collections.Counter(r[1] for r in results if r[0] == "other value")
    if values:
        print("    other values in: " + "; ".join(f"{number} x {text}" for text, number in values.most_common()))


def formats(scratch):
    """(title, code, run folder) of each format, unpacked or written into a scratch folder."""
    from converters import deeph, deeptb
    from converters.starts.start import Options
    from tests.fixtures import frames_of, unpacked
    from tests.test_abacus_formats import rewrite
    from tests.test_databases import folder_of
    from tests.test_deeptb import dftio_folder
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
    for kind in ("binary", "arrays"):
        folder = shutil.copytree(unpacked("abacus", "h2o"), scratch / f"abacus {kind}")
        rewrite(folder, *frames_of("abacus", "h2o"), kind)
        yield f"ABACUS 3.11 {kind}", "abacus", folder
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
    folder = scratch / "deeptb"
    folder.mkdir()
    deeptb.write_matrices(frame, folder, Options())
    yield "DeePTB", "deeptb", folder
    yield "DeePTB of dftio", "deeptb", shutil.copytree(dftio_folder("h2o"), scratch / "dftio")
    from tests.test_aims import runs

    yield "FHI-aims crystal", "aims", runs() / "water"
    yield "FHI-aims molecule", "aims", runs() / "molecule"
    for title, code in (("QH9", "qh9"), ("nablaDFT", "nabladft")):
        yield title, code, folder_of(code, "hydrogen")
    folder = scratch / "pyscf"
    folder.mkdir()
    checkpoint_folder(folder)
    yield "PySCF checkpoint", "pyscf", folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for title, code, source in formats(Path(folder)):
            if options.only in title:
                run_format(title, code, source, options.count, options.seed, options.jobs)
