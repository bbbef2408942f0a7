"""Benchmark of the learning curve: what more frames of molecular dynamics give, in errors and in SCF cycles of PySCF that are saved.

One molecule of water at 500 K on a potential of its own, so that frames cost one SCF each; the frames to be started are of a later time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basis import Array
from basis.units import BOHR
from converters.errors import Kind, Refused
from converters.storage.files import draft_of
from workflows.benchmarks.starts_of_cases import count, is_trained, train_quietly

if TYPE_CHECKING:
    from slem_plugin.model import Model

# Frames 3 fs apart: those learned from are of the first 9 ps, at most 30 fs apart; frames 90 fs apart are started from the 1.5 ps that follow.
LEARNED, APART, KEPT = 3000, 10, slice(3010, 3500, 30)
TEMPERATURE = 500.0
# A Morse potential of both O-H and a harmonic one of the angle, in atomic units.
DEPTH, STEEPNESS, LENGTH, STIFFNESS, ANGLE = 0.1886, 1.1885, 0.969 / BOHR, 0.16, np.deg2rad(103.5)
DALTON = 1822.888
SECOND = 1 / 2.418884e-17  # in atomic units
FRICTION = 1 / (300e-15 * SECOND)
KELVIN = 3.166811563e-6
ROUTES = ("default", "dm", "h")


@dataclass(frozen=True, eq=False)
class Molecule:
    """What moves: masses in Dalton, the first positions in Angstrom, and the gradient (Hartree/Bohr) at positions in Bohr."""

    masses_a: Array
    start_av: Array
    gradient_at: Callable[[Array], Array]


def bench_curve(folder: Path, minutes: Sequence[float], counts: Sequence[int]) -> list[dict[str, Any]]:
    """Rows: the errors of a model of so many frames and minutes (or one number of minutes for all), and the cycles that PySCF takes from its predictions."""
    from converters.storage.dataset import Dataset
    from slem_plugin.checkpoint import load_model

    if max(counts) > LEARNED:
        raise Refused(
            Kind.NO_SUCH_CHOICE, "curve", f"has {LEARNED} frames to learn from", f"at most so many, not {max(counts)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    positions_tav = dynamics()
    kept = folder / "kept.h5"
    if not kept.exists():
        write_frames(kept, positions_tav[KEPT])
    rows = []
    lengths = minutes if len(minutes) > 1 else [*minutes] * len(counts)
    for number, length in zip(counts, lengths, strict=True):
        data, model = folder / f"{number}.h5", folder / f"{number}_{length:g}_minutes.model"
        if not data.exists():
            apart = min(APART, LEARNED // number)
            learned = folder / f"learned_{3 * apart}_fs.h5"
            if not learned.exists():
                write_frames(learned, positions_tav[:LEARNED:apart])
            copy_frames(learned, data, number)
        if not is_trained(model):
            train_quietly(data, model, length)
        with Dataset(kept) as frames:
            found = rows_of(load_model(model), list(frames))
        rows += [{"frames": number, "minutes": length, **row} for row in found]
    return rows


def dynamics(count: int = 3500, every: int = 6, molecule: Molecule | None = None) -> Array:
    """Positions (Angstrom) in so many frames of Langevin dynamics, one for each `every` steps of 0.5 fs; of water where no other molecule is given."""
    random, molecule = np.random.default_rng(7), molecule or water()
    masses = molecule.masses_a[:, None] * DALTON
    step, thermal = 0.5e-15 * SECOND, np.sqrt(TEMPERATURE * KELVIN / masses)
    x = molecule.start_av / BOHR
    v = random.normal(size=x.shape) * thermal
    kept = np.exp(-FRICTION * step)
    found, gradient = [], molecule.gradient_at(x)
    for n in range(2000 + every * count):
        v -= 0.5 * step * gradient / masses
        x = x + 0.5 * step * v
        v = kept * v + np.sqrt(1 - kept**2) * random.normal(size=x.shape) * thermal
        x = x + 0.5 * step * v
        gradient = molecule.gradient_at(x)
        v -= 0.5 * step * gradient / masses
        if n >= 2000 and n % every == 0:
            found.append(x - x[0])
    return np.array(found) * BOHR


def water() -> Molecule:
    """O, H and H."""
    start_av = LENGTH * BOHR * np.array([[0, 0, 0], [1, 0, 0], [np.cos(ANGLE), np.sin(ANGLE), 0]])
    return Molecule(np.array([15.999, 1.008, 1.008]), start_av, gradient_of_water)


def gradient_of_water(x_av: Array) -> Array:
    """The gradient of its potential."""
    gradient = np.zeros((3, 3))
    arms = x_av[1:] - x_av[0]
    lengths = np.linalg.norm(arms, axis=1)
    for h, (arm, length) in enumerate(zip(arms, lengths, strict=True), 1):
        fall = np.exp(-STEEPNESS * (length - LENGTH))
        gradient[h] = 2 * DEPTH * STEEPNESS * (1 - fall) * fall * arm / length
    units = arms / lengths[:, None]
    cosine = float(units[0] @ units[1])
    torque = -STIFFNESS * (np.arccos(cosine) - ANGLE) / np.sqrt(1 - cosine**2)
    for h, other in ((1, 0), (2, 1)):
        gradient[h] += torque * (units[1 - other] - cosine * units[other]) / lengths[other]
    gradient[0] = -gradient[1] - gradient[2]
    return gradient


def make_scf(positions_av: Array, symbols: str = "OHH") -> Any:
    from pyscf import dft, gto

    return dft.RKS(gto.M(atom=list(zip(symbols, positions_av, strict=True)), basis="def2-svp", verbose=0), xc="pbe")


def write_frames(path: Path, positions_tav: Array, symbols: str = "OHH", tolerance: float = 1e-9) -> None:
    from converters.pyscf.read import frame_from_scf
    from converters.storage.writer import DatasetWriter

    with draft_of(path) as draft, DatasetWriter(draft) as writer:
        for positions_av in positions_tav:
            mf = make_scf(positions_av, symbols)
            mf.conv_tol = tolerance
            mf.kernel()
            writer.append(frame_from_scf(mf))


def copy_frames(source: Path, path: Path, number: int) -> None:
    """So many frames of a dataset, spread over all of them."""
    from converters.storage.dataset import Dataset
    from converters.storage.writer import DatasetWriter

    with Dataset(source) as frames, draft_of(path) as draft, DatasetWriter(draft) as writer:
        for n in np.linspace(0, len(frames) - 1, number).astype(int).tolist():
            writer.append(frames[n])


def rows_of(model: "Model", kept: Sequence[Any]) -> list[dict[str, Any]]:
    """Errors of kept-back frames, and their cycles by each route."""
    from converters.frames.neighbours import structure_of
    from slem_plugin.accuracy import Errors
    from slem_plugin.prediction import predict
    from slem_plugin.pyscf_start import pyscf_guess

    errors = Errors()
    starts: dict[str, list[Any]] = {route: [] for route in ROUTES}
    for frame in kept:
        errors.add_frame(frame, predict(model, structure_of(frame)))
        for route in ROUTES:
            mf, began = make_scf(frame.positions_av), time.process_time()
            dm0 = None if route == "default" else pyscf_guess(mf, model, route=route)
            starts[route].append(count(mf, dm0, route, began))
    default = [start.cycles for start in starts["default"]]
    rows = []
    for route in ROUTES[1:]:
        mine = [start.cycles for start in starts[route]]
        saved = [1 - a / b for a, b in zip(mine, default, strict=True)]
        rows.append(
            {
                "H, meV": errors.operators["H"].whole.mae * 1e3,
                "DM": errors.operators["DM"].whole.mae,
                "start": route,
                "cycles": float(np.mean(mine)),
                "default": float(np.mean(default)),
                "saved": f"{np.mean(saved):.0%}",
                "saved, worst": f"{min(saved):.0%}",
            }
        )
    return rows
