"""Export: predicted or stored matrices as files from which a code's next SCF starts."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from converters.codes.known import KNOWN
from converters.codes.protocols import Restart
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import spread_operator
from converters.frames.frame import Frame, with_matrix
from converters.frames.origin import Made
from converters.physics.checks import Result, Tolerances, check_electrons, check_finite
from converters.physics.kspace import count_electrons
from converters.runs import code_module, search
from converters.starts.agreement import Agreement, Levels, levels_of, solvable
from converters.starts.charges import with_charges_of_density
from converters.starts.density import (
    MOST_LOST,
    MOST_LOST_BESIDE_H,
    Sampling,
    doubt_count,
    frame_purified,
    require_solvable,
    scale_density,
)
from converters.starts.fit import SAME_PLACE, fit_to_target, hermitian_part, sampling_of, without_magnetism
from converters.starts.magnetism import other_moments, other_order, turned_to_input, unasked_order
from converters.starts.meshes import density_on_mesh
from converters.starts.start import Options, Route, Target, Written, ending_at
from converters.starts.targets import find_target, is_scripted, restart_module, script_module, startable
from converters.storage.dataset import Dataset
from converters.tools.known import TOOLS
from workflows.processes.threads import threads_for


@dataclass(frozen=True)
class Request:
    """What is asked for; empty or None: decided by what the input and the run say."""

    format: str = ""
    route: str = "auto"
    purify: str = "auto"
    electrons: float | None = None
    into: Path | None = None
    overlap: Path | None = None
    nonmagnetic: bool = False
    options: Options = field(default_factory=Options)
    stop_at: float | None = None  # eV an atom


@dataclass(frozen=True)
class Exported:
    """What was written, and all that a user should know about it."""

    format: str
    route: Route
    files: tuple[Path, ...]
    keywords: Mapping[str, str] = field(default_factory=dict)
    patched: Path | None = None
    notes: tuple[str, ...] = ()
    checks: tuple[Result, ...] = ()
    agreement: Agreement | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "route": self.route.name,
            "why": self.route.why,
            "files": [str(path) for path in self.files],
            "input": dict(self.keywords),
            "patched": str(self.patched) if self.patched else None,
            "notes": list(self.notes),
            "checks": [str(check) for check in self.checks],
            "agreement": asdict(self.agreement) if self.agreement else None,
        }


def read_frame(path: Path, number: int) -> Frame:
    """One frame of a dataset or of a file of predictions."""
    require_dataset(path)
    with Dataset(path) as data:
        if not 0 <= number < len(data):
            raise Refused(Kind.NO_SUCH_CHOICE, path, f"has {len(data)} frames; there is no frame {number}")
        return data[number]


def require_dataset(path: Path) -> None:
    if not (path.is_file() and h5py.is_hdf5(path)):
        raise Refused(
            Kind.NOT_OURS,
            path,
            "is not a dataset; give a file of slem-predict or slem-convert, or a structure with --model",
        )


def run_to_start(frame: Frame, into: Path | None, code: str) -> Target | None:
    """The run of an input or folder that is named; None where there is none, and for scripts, which have no input."""
    return None if into is None or is_scripted(code or frame.provenance.code) else find_target(into)


def export(frame: Frame, output: Path, request: Request, target: Target | None = None) -> Exported:
    """Write what makes a run start from a frame; `target` is the run, where there is one."""
    code = request.format or (target.code if target is not None else frame.provenance.code)
    frame = hermitian_part(frame)
    with threads_for(frame.natoms):
        return write_format(code, frame, output, request, target)


def write_format(code: str, frame: Frame, output: Path, request: Request, target: Target | None) -> Exported:
    """What a code or another tool reads."""
    if code in TOOLS:
        return export_to_tool(code, frame, output, request, target)
    if code not in KNOWN:
        formats = ", ".join([*KNOWN, *TOOLS])
        raise Refused(Kind.UNSUPPORTED, output, f'cannot be written as "{code}"', f"a format: {formats}")
    if is_scripted(code):
        route, written = script_module(code).write_start(
            frame, request.into, made(output), request.route, request.purify
        )
        return Exported(code, route, written.files, written.keywords, None, written.notes)
    if code not in startable():
        files = tuple(code_module(code).write_matrices(frame, made(output), request.options))
        return Exported(code, Route("matrices", f"{KNOWN[code].title}'s tools read the matrices themselves"), files)
    if target is not None and target.code != code:
        raise Refused(Kind.NO_START, target.path, f"is a run of {target.code}; asked for was {code}")
    if target is not None and output.resolve() == target.folder.resolve():
        raise Refused(
            Kind.OUTPUT_EXISTS, output, "is the folder of the run, which is never changed; give another one with -o"
        )
    return export_to_code(code, frame, output, request, target)


def export_to_tool(code: str, frame: Frame, output: Path, request: Request, target: Target | None) -> Exported:
    """Write what another tool opens."""
    if target is not None:
        raise Refused(Kind.NO_START, target.path, f"is a run to start; the format {code} starts no run", "no run")
    if request.overlap is not None:
        frame = with_overlap(frame, request.overlap)
    return exported_to_tool(code, frame, TOOLS[code].load()(frame, made(output), request.options))


def exported_to_tool(code: str, frame: Frame, written: Written) -> Exported:
    notes = (f"S is {source_of(frame)}",) if "S" in frame.operators and frame.predicted else ()
    return Exported(code, Route("matrices", TOOLS[code].opened_by), written.files, notes=(*notes, *written.notes))


def export_to_code(code: str, frame: Frame, output: Path, request: Request, target: Target | None) -> Exported:
    """Fit the frame to the run, make ready what the route needs, and write it."""
    module = restart_module(code)
    if target is not None:
        frame = turned_to_input(fit_to_target(frame, target), target)
    if request.overlap is not None:
        frame = with_overlap(frame, request.overlap)
    origin = f"that of {request.overlap}" if request.overlap else source_of(frame)
    notes = [f"S is {origin}"] if "S" in frame.operators else []
    if target is not None:
        notes += [f"{target.path.name} names {file}, outside of its folder, which was read" for file in target.outside]
    sampling = sampling_of(frame, target, request.electrons)
    predicted = frame
    frame, meshed = density_on_mesh(frame, sampling, roughly=True)
    levels, why_not = levels_where_needed(frame, request, sampling)
    route = Route(request.route, "asked for")
    if request.route == "auto":
        require_electrons(frame, sampling, MOST_LOST_BESIDE_H)
        route = choose_route(module, frame, target, request, levels.doubt if levels else why_not)
    if route.name not in ("h", "h2dm"):
        frame, meshed = density_on_mesh(predicted, sampling)
    notes += [meshed] * bool(meshed)
    charged = ""
    if levels is not None and route.name in ("h", "h2dm") and request.purify != "none":
        frame, levels, charged = with_charges_of_density(frame, levels, sampling, route.name != "h")
    frame, done = prepare(frame, route.name, request.purify, sampling, levels)
    done += [charged] * bool(charged)
    if request.nonmagnetic and "DM" in frame.operators:
        frame, done = without_magnetism(frame), [*done, "the spin density is set to zero"]
    done += require_order(levels.frame if route.name == "h" and levels else frame, target, request)
    counted = None if request.purify == "none" or route.name == "h" else sampling.filling.electrons
    checks = tuple(check_prepared(replace(frame, outcome=replace(frame.outcome, electrons=counted))))
    written = module.write_guess(frame, route.name, made(output), target, request.options)
    said = replace(written, notes=(*notes, *done, *written.notes))
    return finished(code, route, output, request, target, said, checks, levels.agreement if levels else None)


def finished(
    code: str,
    route: Route,
    output: Path,
    request: Request,
    target: Target | None,
    written: Written,
    checks: tuple[Result, ...],
    agreement: Agreement | None = None,
) -> Exported:
    """What was written for a code, with the changed input of the run beside it."""
    keywords, notes = {**written.keywords, **stop_lines(target, request.stop_at)}, written.notes
    patched = None
    if target is not None:
        name, content = restart_module(code).patch(target, keywords)
        patched = output / name
        patched.write_text(content)
    if stop := stop_lines(target, request.stop_at):
        notes += (
            f"the SCF ends by its energy alone ({', '.join(f'{key} {value}' for key, value in stop.items())}): "
            "DM, levels and forces are as exact as that leaves them, not as the run's own criterion asks",
        )
    return Exported(code, route, written.files, keywords, patched, notes, checks, agreement)


def stop_lines(target: Target | None, stop_at: float | None) -> dict[str, str]:
    """The lines with which the SCF of a run ends once its energy changes by less than so many eV an atom."""
    if stop_at is None or target is None:
        return {}
    return ending_at(KNOWN[target.code].stop_at, stop_at * len(target.labels_a))


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def source_of(frame: Frame) -> str:
    made = frame.origin("S").made
    if made is Made.INTEGRATED:
        return "computed from the radial functions"
    if made is Made.PREDICTED:
        return "the model's own"
    return f"that of {frame.provenance.path or 'the frame'}"


def with_overlap(frame: Frame, path: Path) -> Frame:
    """The frame with the S that a run of the code computed for the same structure."""
    runs = [run for run in search(path, [frame.provenance.code]) if isinstance(run, Run)]
    if len(runs) != 1:
        raise Refused(Kind.NO_START, path, f"holds {len(runs)} runs of {frame.provenance.code}", "one with S")
    found = next(iter(code_module(frame.provenance.code).read_run(runs[0])))
    if "S" not in found.operators or found.pairs.norb_a.tolist() != frame.pairs.norb_a.tolist():
        raise Refused(Kind.OTHER_STRUCTURE, path, "has no S of the same atoms and orbitals")
    if (moved := np.abs(found.positions_av - frame.positions_av).max()) > SAME_PLACE:
        raise Refused(Kind.OTHER_STRUCTURE, path, f"is of another structure: atoms differ by {moved:.2g} Angstrom")
    S = spread_operator(found.operators["S"], found.pairs, frame.pairs)
    return with_matrix(frame, "S", replace(S, known_x=None), found.origin("S"))


def wants_density(request: Request) -> bool:
    """Whether a start from the predicted DM is asked for, by a route or by what is to be done to it."""
    return request.route in ("dm", "charge") or (request.route == "auto" and request.purify != "auto")


def levels_where_needed(frame: Frame, request: Request, sampling: Sampling) -> tuple[Levels | None, str]:
    """The levels of H, where a route may start from them; None where it does not or they cannot be found, and why."""
    if wants_density(request) and "DM" in frame.operators:
        return None, "a start from DM was asked for"
    if reason := solvable(frame, sampling):
        return None, reason
    try:
        return levels_of(frame, sampling), ""
    except Refused as refusal:
        if request.route != "auto" or "DM" not in frame.operators:
            raise
        return None, str(refusal)


def require_electrons(frame: Frame, sampling: Sampling, most: float = MOST_LOST) -> float | None:
    """The electrons of the predicted DM; one that lost many is of an unknown kind of structure, H too."""
    if not {"DM", "S"} <= set(frame.operators):
        return None
    found = float(np.sum(count_electrons(frame)))
    require_count(frame, found, sampling.filling.electrons, most)
    return found


def require_order(frame: Frame, target: Target | None, request: Request) -> list[str]:
    """A warning where the density has another magnetic order than the run begins with; refused unless a route was named, and a note where the input leaves it open, or names moments that the density has not, or elsewhere."""
    if target is None:
        return []
    reason = other_order(frame, target)
    if not reason:
        order = unasked_order(frame, target) or other_moments(frame, target)
        return [f"{target.path.name} {order}"] if order else []
    if request.route == "auto":
        raise Refused(Kind.NO_START, target.path, reason, "the same order")
    return [f"WARNING: {target.path.name} {reason}"]


def require_count(frame: Frame, found: float, wanted: float, most: float = MOST_LOST) -> None:
    if reason := doubt_count(found, wanted, most):
        raise Refused(Kind.NO_START, frame.formula, f"cannot be used as a start: {reason}")


def choose_route(module: Restart, frame: Frame, target: Target | None, request: Request, doubt: str) -> Route:
    """What the code starts from best; DM where that is H, and something speaks against H."""
    best = module.choose_route(frame, target, request.options)
    if best.name not in ("h", "h2dm") or "DM" not in frame.operators:
        return best
    others = {name: operator for name, operator in frame.operators.items() if name != "H"}
    second = module.choose_route(replace(frame, operators=others), target, request.options)
    if wants_density(request):
        return second
    return Route(second.name, f"{second.why} ({best.name} would be better, but {doubt})") if doubt else best


def prepare(
    frame: Frame, route: str, purify: str, sampling: Sampling, levels: Levels | None
) -> tuple[Frame, list[str]]:
    """The frame with what the route needs, and what was done to it."""
    if route == "h":
        return frame, [describe_levels(frame, levels)]
    if route == "h2dm" or "DM" not in frame.operators:
        return density_of_hamiltonian(frame, sampling, levels)
    found, wanted = require_electrons(frame, sampling), sampling.filling.electrons
    if found is None:
        return frame, ["without S the electrons of DM are not counted; the code scales them itself"]
    if purify == "none":
        return frame, [f"DM holds {found:.6f} electrons and is written as it is"]
    if purify in (
        "auto",
        "scale",
    ):  # most codes store DM on fewer pairs than it reaches, and there it is no projector
        return scale_density(frame, sampling.filling), [scaled_note(found, wanted)]
    pure, density = frame_purified(frame, sampling, purify)
    return pure, [density.note]


def scaled_note(found: float, wanted: float) -> str:
    return f"DM held {found:.6f} electrons and is scaled to {wanted:g}"


def density_of_hamiltonian(frame: Frame, sampling: Sampling, levels: Levels | None) -> tuple[Frame, list[str]]:
    """The DM of the levels of H; where H has ghost states and DM was predicted too, that DM."""
    if not {"H", "S"} <= set(frame.operators):
        raise Refused(
            Kind.MISSING_MATRIX,
            frame.formula,
            f"has {', '.join(frame.operators)}; a DM of levels needs H and S, which --overlap takes from a run",
        )
    if levels is None:
        require_solvable(frame, sampling)
        levels = levels_of(frame, sampling)
    if not levels.density.measured["S filter"] or "DM" not in frame.operators:
        return levels.frame, [levels.density.note, *([] if levels.agreement is None else [str(levels.agreement)])]
    require_electrons(frame, sampling)
    return scale_density(frame, sampling.filling), [f"{levels.doubt}, so the predicted DM is used instead"]


def describe_levels(frame: Frame, levels: Levels | None) -> str:
    """What the levels of an H say that is handed to the code as it is."""
    if "H" not in frame.operators:
        raise Refused(Kind.MISSING_MATRIX, frame.formula, "has no H", "one for the route h")
    if levels is None:
        return "H was not searched for ghost states: that needs S, k-points and a cell that is not too large"
    if levels.doubt:
        ghosts = levels.density.measured["S filter"]
        return f"WARNING: {levels.doubt}; {'use --route dm' if ghosts else 'one of them is wrong, and slem-scf takes the default start where no route is named'}"
    return "H has no ghost states" if levels.agreement is None else f"H has no ghost states; {levels.agreement}"


def check_prepared(frame: Frame) -> Iterator[Result]:
    """Finite numbers, and as many electrons as there should be; raises for a failure."""
    results = [check_finite(frame)]
    if {"S", "DM"} <= set(frame.operators) and frame.outcome.electrons is not None:
        results.append(check_electrons(frame, Tolerances(electrons=1e-3)))
    for result in results:
        if result.ok is False:
            raise result.refusal(frame.formula)
        yield result
