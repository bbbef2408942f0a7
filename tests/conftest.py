"""Fixtures that several test files share."""

import gc
import signal
from collections import Counter

import numpy as np
import pytest

from basis.shells import Species, parse_shells
from basis.spin import Spin
from converters.frames.blocks import Operator, make_pairs
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum

# A program in the background of a shell does not hear Ctrl-C, and neither do those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def random_frame():
    """A function that makes a frame of random Hermitian matrices; it satisfies shapes and symmetry, not physics."""
    return make_random_frame


def make_random_frame(seed=0, spin=Spin.NONE, code="test", natoms=3, source=None, masked=False):
    random = np.random.default_rng(seed)
    basis = (Species("Si", 14, parse_shells("2s1p1d"), "r1"), Species("O", 8, parse_shells("1s1p1s"), "r2"))
    species_a = random.integers(0, 2, natoms)
    norb_a = np.array([basis[s].size for s in species_a])
    i_p, j_p = (random.integers(0, natoms, 12) for _ in range(2))
    onsite = np.arange(natoms)
    R_pc = np.concatenate([random.integers(-2, 3, (12, 3)), np.zeros((natoms, 3), dtype=int)])
    pairs = make_pairs(np.concatenate([i_p, onsite]), np.concatenate([j_p, onsite]), R_pc, norb_a)
    operators = {name: random_operator(random, pairs, spin if name != "S" else Spin.NONE) for name in ("H", "S", "DM")}
    if masked:
        known_x = random.random(pairs.elements) < 0.7
        values_sx = np.where(known_x, operators["DM"].values_sx, 0)
        operators["DM"] = Operator(values_sx, known_x)
    channels = 2 if spin is Spin.COLLINEAR else 1
    spectrum = Spectrum(
        random.random((4, 3)), np.full(4, 0.25), random.normal(size=(channels, 4, 5)), 1e-6, "fermi", 0.1
    )
    source = f"{seed:064x}" if source is None else source
    return Frame(
        cell_cv=random.normal(size=(3, 3)) + 5 * np.eye(3),
        pbc_c=np.array([True, True, False]),
        positions_av=random.normal(size=(natoms, 3)),
        species_a=species_a,
        basis=basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=Outcome(energy=-1.5 * seed, fermi=0.25, electrons=8.0, converged=True, iterations=7),
        spectrum=spectrum,
        provenance=Provenance(
            code, "1.0", f"run{seed}", source, 0, {"a": "b"}, {"x": 1}, {"asymmetry of H": 1e-9}, ("n",)
        ),
    )


def random_operator(random, pairs, layout):
    values_sx = random.normal(size=(layout.components, pairs.elements)).astype(layout.dtype)
    if layout is Spin.SPINOR:
        values_sx = values_sx + 1j * random.normal(size=values_sx.shape)
    for p in np.flatnonzero(pairs.onsite_p):
        block = pairs.block(values_sx, p)
        mirrored = block.conj().swapaxes(1, 2)
        if layout is Spin.SPINOR:
            mirrored = mirrored[[0, 2, 1, 3]]
        values_sx[:, pairs.start_p[p] : pairs.start_p[p + 1]] = ((block + mirrored) / 2).reshape(len(block), -1)
    return Operator(values_sx)


@pytest.fixture(scope="session")
def taught(tmp_path_factory):
    """A model of hydrogen that the training process of a campaign makes, and the dataset."""
    from ase import Atoms

    from converters.pyscf import frame_from_scf
    from converters.storage.writer import DatasetWriter
    from tests.campaigns import hydrogen
    from workflows.campaign.trainer import teach

    place = tmp_path_factory.mktemp("taught")
    with DatasetWriter(place / "data.h5") as writer:
        for n in range(8):
            mf = hydrogen(Atoms("H2", [[0, 0, 0], [0, 0, 0.62 + 0.03 * n]]))
            mf.kernel()
            writer.append(frame_from_scf(mf))
    said = teach(place / "data.h5", place / "first.safetensors", None, 0.7)
    assert said["frames"] == 8
    assert said["checked"]
    return place / "data.h5", place / "first.safetensors", said


def pytest_collection_modifyitems(items):
    """Slow tests begin first; all others keep their order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    """What is there now stays until the end: the garbage collector does not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Say of every skipped test why, in one line for each reason: what was not there proves nothing."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    reasons = Counter(skip[2].removeprefix("Skipped: ") if isinstance(skip, tuple) else str(skip) for skip in skipped)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"NOT PROVED in this run ({count} tests): {reason}", yellow=True)
