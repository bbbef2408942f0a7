"""Band structures: of a frame, of a prediction, and of both in one picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics import kspace
from converters.physics.bands import Bands, make_path
from converters.starts.ghosts import without_ghosts
from converters.storage.files import HDF5_MAGIC, starts_with
from workflows.export import read_frame
from workflows.pictures.canvas import canvas
from workflows.pictures.levels import draw_levels, window_of
from workflows.processes.threads import threads_for
from workflows.terminal.progress import Tell, silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Width of the levels in the density of states (eV), and how many energies it has.
BROADENING, DOS_POINTS = 0.1, 1000
# Energies in the picture of a crystal, from its valence edge (eV).
WINDOW = (-15.0, 8.0)
COLOURS = ("#1a1a1a", "#d55e00")
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, eq=False)
class Line:
    """The bands of one frame, and what they are called; the lowest level of a prediction where it is a ghost state."""

    name: str
    bands: Bands
    ghost: float | None = None

    @property
    def molecule(self) -> bool:
        return len(self.bands.path.distance_k) == 1


@dataclass(frozen=True)
class Request:
    """What is asked for: the frame's number, a path, its points, the electrons where the frame does not say."""

    number: int = 0
    path: str | None = None
    points: int = 200
    electrons: float | None = None


def bands_of(
    source: Path, model_path: Path | None, other: Path | None, request: Request, tell: Tell = silent
) -> list[Line]:
    """The bands of a frame of a dataset, or of the structure of a file with a model; then those of its prediction or of another file.

    With a dataset and a model, the model's prediction for the structure of the frame is the second line.
    """
    is_data = source.is_file() and starts_with(source, HDF5_MAGIC)
    if not is_data and model_path is None:
        raise Refused(Kind.NOT_OURS, source, "is not a dataset; a structure needs --model")
    frames: list[tuple[str, Frame]] = []
    if is_data:
        frames.append((source.name, read_frame(source, request.number)))
    if model_path is not None:
        from slem_plugin.checkpoint import load_model
        from workflows.predict import predict_one

        model = load_model(model_path)
        if not is_data:
            frames.append(("prediction", predict_one(model, source, request.number)))
        else:
            reference = frames[0][1]
            if not {"H", "S"} <= set(reference.operators):
                frames.clear()
            frames.append(("prediction", predict_like(model, reference, str(source))))
    if other is not None:
        frames.append((other.name, read_frame(other, request.number)))
        require_same_structure(frames[0][1], frames[-1][1], str(other))
    names, given = zip(*frames, strict=True)
    found = all_bands(given, request, tell)
    return [
        Line(name, bands, ghost_level(frame, bands)) for name, frame, bands in zip(names, given, found, strict=True)
    ]


def ghost_level(frame: Frame, bands: Bands) -> float | None:
    """The lowest occupied level of a prediction (eV) that lies where S is nearly nothing and errors of H are all that there is; None where none does."""
    if not frame.predicted:
        return None
    below_skn = np.minimum(bands.energies_skn - bands.zero, 0.0)
    s, k = np.unravel_index(np.argmin(below_skn.sum(axis=-1)), below_skn.shape[:2])
    H, S = next(kspace.hamiltonian_and_overlap(frame, bands.path.kpoints_kc[k : k + 1]))[s]
    occupied = int((bands.energies_skn[s, k] <= bands.zero).sum())
    _, left_out, lowest = without_ghosts([[linalg.eigh(H, S)]], [[H]], [S], [[occupied]])
    return lowest if left_out else None


def predict_like(model: Any, frame: Frame, place: str) -> Frame:
    """The prediction for the structure of a frame; it has the electrons that the frame has, where the model knows none."""
    from converters.frames.neighbours import structure_of
    from slem_plugin.prediction import predict

    model.require_match(frame, place)
    found = predict(model, structure_of(frame))
    return with_electrons(found, frame.outcome.electrons)


def with_electrons(frame: Frame, electrons: float | None) -> Frame:
    if electrons is None or frame.outcome.electrons is not None:
        return frame
    return replace(frame, outcome=replace(frame.outcome, electrons=electrons))


def require_same_structure(first: Frame, second: Frame, place: str) -> None:
    same = first.positions_av.shape == second.positions_av.shape and first.spin is second.spin
    if (
        not same
        or np.abs(first.positions_av - second.positions_av).max() > 1e-3
        or np.abs(first.cell_cv - second.cell_cv).max() > 1e-3
    ):
        raise Refused(
            Kind.OTHER_STRUCTURE, place, "is of another structure or spin layout; bands are compared of the same one"
        )


def all_bands(frames: Sequence[Frame], request: Request, tell: Tell = silent) -> list[Bands]:
    """Bands of frames of one structure along one path."""
    given = [with_electrons(frame, request.electrons) for frame in frames]
    path = make_path(given[0], request.path, request.points)
    with threads_for(given[0].natoms):
        return [Bands.of(frame, path, tell) for frame in given]


def facts_of(lines: Sequence[Line]) -> dict[str, Any]:
    """The numbers that a person wants: edges of each, and how far the second is from the first (meV)."""
    facts: dict[str, Any] = {}
    for line in lines:
        edges = line.bands.edges
        facts[line.name] = {
            "Fermi level (eV)": edges.fermi,
            "valence edge (eV)": edges.valence,
            "conduction edge (eV)": edges.conduction,
            "gap (eV)": edges.gap,
        }
        if line.ghost is not None:
            facts[line.name]["ghost states, errors of H where S is nearly singular, down to (eV)"] = line.ghost
        if line.bands.interpolation_error:
            facts[line.name]["error of S between the k-points"] = line.bands.interpolation_error
    if len(lines) > 1:
        facts["occupied bands (meV)"] = lines[1].bands.compare(lines[0].bands)
    return facts


def parse_window(text: str) -> tuple[float, float]:
    """Two energies such as -15:8."""
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise Refused(Kind.NO_BANDS, "--window", f'is "{text}"', "two energies such as -15:8") from error
    if not low < high:
        raise Refused(Kind.NO_BANDS, "--window", f'is "{text}"', "the lower energy first")
    return low, high


def save_bands(lines: Sequence[Line], output: Path, window: tuple[float, float] | None) -> None:
    """A picture of the energies of a window (eV; None: those about the gap), or all numbers as JSON."""
    if output.suffix == ".json":
        output.write_text(json.dumps(numbers_of(lines)) + "\n")
        return
    if output.suffix not in PICTURES:
        raise Refused(
            Kind.NO_BANDS, output, "has no ending of a picture or of JSON", f"{', '.join((*PICTURES, '.json'))}"
        )
    figure = draw(lines, window)
    described = {} if output.suffix == ".png" else {"Title": describe(lines)}
    figure.savefig(output, dpi=160, metadata=described or {"Description": describe(lines)})


def numbers_of(lines: Sequence[Line]) -> dict[str, Any]:
    path = lines[0].bands.path
    return {
        "k": path.kpoints_kc.tolist(),
        "distance": path.distance_k.tolist(),
        "corners": [{"name": name, "distance": at} for name, at in zip(path.names, path.corners, strict=True)],
        "bands": {line.name: line.bands.energies_skn.tolist() for line in lines},
        "facts": facts_of(lines),
    }


def describe(lines: Sequence[Line]) -> str:
    """What the picture shows, in words."""
    words = [f"{line.name}: gap {line.bands.edges.gap:.3f} eV" for line in lines]
    if len(lines) > 1:
        words.append(
            f"occupied {bands_or_levels(lines)} {lines[1].bands.compare(lines[0].bands)['rms']:.3g} meV rms apart"
        )
    shown = "Levels" if lines[0].molecule else f"Band structure along {' '.join(lines[0].bands.path.names)}"
    return f"{shown}. {'; '.join(words)}"


def bands_or_levels(lines: Sequence[Line]) -> str:
    return "levels" if lines[0].molecule else "bands"


def draw(lines: Sequence[Line], window: tuple[float, float] | None = None) -> "Figure":
    """Bands about the Fermi level of the first line, or the levels of molecules, and densities of states beside them."""
    figure, (left, right) = canvas(7.2, 4.8, (3, 1), top=0.35, between=0.2, sharey=True)
    zero = lines[0].bands.zero
    molecule = lines[0].molecule
    window = window or (window_of(lines[0].bands) if molecule else WINDOW)
    for line, colour, style in zip(lines, COLOURS, ("-", "--"), strict=False):
        if not molecule:
            line.bands.plot(left, line.name, zero=zero, color=colour, linestyle=style)
        energies = np.linspace(*window, DOS_POINTS)
        right.plot(line.bands.density_of_states(energies + zero, BROADENING), energies, color=colour, ls=style, lw=1)
    if molecule:
        draw_levels(left, [line.name for line in lines], [line.bands for line in lines], zero, COLOURS)
    else:
        left.legend(loc="upper right", fontsize=8)
    left.set_ylim(*window)
    edge = "highest occupied level" if molecule else "valence edge"
    left.set_ylabel(f"energy above the {edge if lines[0].bands.edges.gap else 'Fermi level'} (eV)")
    right.set_xlabel("states / eV")
    right.set_xlim(left=0)
    for axes in () if molecule else (left, right):
        axes.axhline(0, color="#888888", lw=0.6)
    if len(lines) > 1:
        error = lines[1].bands.compare(lines[0].bands)["rms"]
        left.set_title(f"occupied {bands_or_levels(lines)}: {error:.3g} meV rms", fontsize=10)
    return figure
