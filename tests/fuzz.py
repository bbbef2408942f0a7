"""Damage to single files that users hand over: radial functions, datasets, models, configurations, structures, inputs of runs.

    python -m tests.fuzz --count 2000 --seed 0

damages 2000 files of each kind in turn, with seeds that count up, and reads it as a command does. A reader may read or refuse, in
seconds and in bounded memory; all else is a finding, which is printed with its seed. The HDF5 library loops over some damaged heaps
of strings; no reader can help that, so it is printed and counted by itself.
"""

import argparse
import collections
import contextlib
import faulthandler
import io
import json
import os
import resource
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from converters.errors import Refused
from slem_plugin.testing.damage import mutate_binary, mutate_text
from tests.fixtures import unpacked

# A reader that takes more CPU time hangs, one that takes more memory believes what a header claims.
SECONDS, MEGABYTES = 20, 1000
GOOD = ("read", "refused")
HDF5 = "loop in HDF5"


def corpus(folder):
    """Files to damage by kind: the file, and what a command does with it."""
    from tests.radial_files import gaussian, write_ion_nc, write_ion_xml, write_orb, write_pao

    shells = [(0, gaussian(0, 0.8)), (1, gaussian(1, 0.5))]
    named = [(l, l + 1, 1, False, R) for l, R in shells]
    kinds = {
        ".orb": (write_orb(folder / "Si.orb", shells, step=0.1), read_basis),
        ".pao": (write_pao(folder / "Si9.0.pao", shells, points=150), read_pao),
        ".ion.xml": (write_ion_xml(folder / "Si.ion.xml", "Si", 14, named, points=100), read_basis),
        ".ion.nc": (write_ion_nc(folder / "Si.ion.nc", "Si", 14, named, points=100), read_basis),
        "dataset": (make_dataset(folder / "data.h5"), read_dataset),
        "model": (make_checkpoint(folder), read_model),
        "configuration": (make_configuration(folder / "train.toml"), read_configuration),
    }
    for code, name, pattern in (("abacus", "si2", "STRU"), ("siesta", "si2", "*.fdf"), ("openmx", "si2_v38", "*.dat")):
        run = shutil.copytree(unpacked(code, name), folder / f"{code}-run")
        found = sorted(run.glob(pattern))
        if found:
            kinds[f"input of a run of {code}"] = (found[0], read_target)
    run = folder / "abacus-run"
    kinds["STRU as a structure"] = (run / "STRU", read_structures)
    kinds["xyz"] = (make_structure(folder / "structure.xyz"), read_structures)
    kinds["cif"] = (make_structure(folder / "structure.cif"), read_structures)
    return kinds


def make_dataset(path):
    from converters.storage.writer import DatasetWriter
    from tests.conftest import make_random_frame
    from tests.test_overlap import frame_with_functions

    with DatasetWriter(path) as writer:
        writer.append(frame_with_functions(1))
        writer.append(make_random_frame(2))
    return path


def make_checkpoint(folder):
    import torch

    from tests.test_exact_overlap import model_that_knows

    torch.set_num_threads(1)  # threads do not survive a fork
    place = folder / "models"
    place.mkdir()
    return model_that_knows(place, 1.0)[0]


def make_configuration(path):
    path.write_text(
        'time = "5m"\noperators = "H,S"\nlayers = 2\nbatch = 1\nrate = 0.003\nchannels = "8x0e+4x1o"\nvalidate = "0-3,7"\nmemory = "2GB"\n'
    )
    return path


def make_structure(path):
    from ase.build import bulk

    bulk("Si", cubic=True).write(path)
    return path


def read_basis(path):
    from workflows.overlap import read_basis as read

    basis = read(str(path), [])
    for species, functions in basis.functions.items():
        for shell, function in zip(species.shells, functions, strict=True):
            function(np.linspace(0.1, 3, 7) + shell.l)


def read_pao(path):
    read_basis(path.with_name(f"{path.stem}-s1p1"))


def read_dataset(path):
    from converters.storage.dataset import Dataset
    from workflows.check import check_path
    from workflows.info import describe

    describe(path)
    list(check_path(path, ["abacus"], lambda: None))
    with Dataset(path) as data:
        list(data.outlines())


def read_model(path):
    from ase import Atoms

    from slem_plugin.checkpoint import load_model
    from slem_plugin.prediction import predict

    predict(load_model(path), Atoms("SiO", [[0, 0, 0], [0, 0, 1.9]]))


def read_configuration(path):
    from slem_plugin.config import Config, choose_frames, parse_memory, read_config

    config = read_config(path, Config())
    choose_frames(config.validate, [frozenset({0})] * 40, config.seed)
    parse_memory(config.memory, "config")


def read_target(path):
    from converters.starts.targets import find_target

    find_target(path.parent)


def read_structures(path):
    from workflows.structures import read_structures as read

    list(read(path))


def damage(source, target, seed):
    """A damaged copy of a file; returns what was done."""
    random = np.random.default_rng(seed)
    content = source.read_bytes()
    is_text = source.suffix not in (".h5", ".safetensors", ".nc")
    change = mutate_text if is_text and random.random() < 0.8 else mutate_binary
    changed, what = change(content, random)
    for _ in range(int(random.integers(0, 3))):
        if changed:
            changed, more = change(changed, random)
            what = f"{what}; {more}"
    target.write_bytes(changed)
    return what


def try_one(source, read, seed):
    """What a damaged copy of a file does to its reader, in a process of its own that may take some seconds and die."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "copy"
        shutil.copytree(source.parent, folder, ignore=lambda _, names: [n for n in names if not near(n, source)])
        what = damage(source, folder / source.name, seed)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.register(signal.SIGPROF, writer, chain=True)  # says where it hangs, then ends it
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # CPU seconds: others may use the machine too
            signal.alarm(20 * SECONDS)
            answer_and_end(writer, folder / source.name, read)
        os.close(writer)
        with open(reader) as stream:
            answer = stream.read()
        _, status = os.waitpid(child, 0)
    if not answer.startswith("["):
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF)
        at = next((line.strip() for line in answer.splitlines() if line.startswith("  File")), "")
        outcome = "crash" if not hung else HDF5 if "/h5py/" in at else "hang"
        return outcome, f"status {status} {at}", what
    outcome, detail, memory = json.loads(answer)
    if outcome in GOOD and memory > MEGABYTES:
        return "memory", f"{memory:.0f} MB; {detail}", what
    return outcome, detail, what


def near(name, source):
    """The other small files of a run stay beside the one that is damaged."""
    return source.name in ("STRU",) or source.suffix in (".fdf", ".dat") or name == source.name


def answer_and_end(writer, path, read):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, detail = outcome_of(path, read)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    os.write(writer, json.dumps([outcome, detail[:2000], memory]).encode())
    os._exit(0)


def outcome_of(path, read):
    """("read", ""), ("refused", reason), or ("traceback", what a user would see)."""
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            read(path)
        except (Refused, OSError, MemoryError) as refusal:  # what the commands turn into one line
            return "refused", str(refusal)
        except Exception as error:  # noqa: BLE001 - any other one is the finding
            import traceback

            last = traceback.extract_tb(error.__traceback__)[-1]
            return "traceback", f"{type(error).__name__}: {error} at {last.filename}:{last.lineno}"
    return "read", ""


def run(count, seed, only, minutes=float("inf")):
    counts, findings = collections.defaultdict(collections.Counter), []
    ends, last = time.monotonic() + 60 * minutes, seed + count
    with tempfile.TemporaryDirectory() as folder:
        kinds = {kind: item for kind, item in corpus(Path(folder)).items() if only in kind}
        # Imports once, before the forks, and shows that the file itself is read.
        for kind, (source, read) in kinds.items():
            outcome, detail = outcome_of(source, read)
            assert outcome == "read", f"{kind}, undamaged: {outcome}: {detail}"
        while seed < last and time.monotonic() < ends:
            for kind, (source, read) in kinds.items():
                outcome, detail, what = try_one(source, read, seed)
                counts[kind][outcome] += 1
                if outcome not in GOOD:
                    findings += [(kind, seed, what, outcome, detail)] if outcome != HDF5 else []
                    print(f"{kind}, seed {seed}: {what}\n    {outcome}: {detail}", flush=True)
            seed += 1
    for kind, found in counts.items():
        print(f"{kind}: " + ", ".join(f"{number} {outcome}" for outcome, number in found.most_common()))
    outcomes = collections.Counter()
    for found in counts.values():
        outcomes += found
    print(f"{outcomes.total()} files, seeds up to {seed - 1}, {len(findings)} findings, {outcomes[HDF5]} loops in HDF5")
    return findings


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    run(options.count, options.seed, options.only, options.minutes)
