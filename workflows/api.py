"""The functions of `import slem_plugin as slem`: paths and objects in, objects out; nothing is printed.

>>> import slem_plugin as slem
>>> slem.convert("runs", "data.h5")
>>> model = slem.train("data.h5", "model", time="30m")
>>> frame = slem.predict(model, "structure.cif")
>>> slem.export(frame, "start", into="run")
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from converters.codes.known import KNOWN
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics.bands import Bands, make_path
from converters.physics.checks import Result, check_frame
from workflows.check import Report, check_path, frames_of_dataset, frames_of_runs, holds_frames
from workflows.convert import InputOutcome
from workflows.processes.threads import threads_for

if TYPE_CHECKING:
    from ase import Atoms

    from slem_plugin.learning.loop import Report as Evaluation
    from slem_plugin.model import Model
    from workflows.export import Exported

AnyPath: TypeAlias = str | Path


def read(path: AnyPath, code: str | None = None) -> list[Frame]:
    """All frames of a run, of the runs below a folder, or of a dataset; the first that cannot be read raises `Refused`.

    Runs are recognised by what is in their files; `code` names one to look for. `Dataset` reads a large dataset frame by frame.
    """
    place, codes = existing(path), codes_of(code)
    given = frames_of_dataset(place) if holds_frames(place) else frames_of_runs(place, codes)
    frames = []
    for _, frame in given:
        if isinstance(frame, Refused):
            raise frame
        frames.append(frame)
    return frames


def convert(
    paths: AnyPath | Sequence[AnyPath],
    output: AnyPath,
    *,
    code: str | None = None,
    jobs: int = 1,
    strict: bool = False,
    rebuild_density: bool = False,
    drop_density: bool = False,
    density_mesh: str = "run",
    find_functions: bool = True,
    basis_folders: Sequence[AnyPath] = (),
) -> list[InputOutcome]:
    """What became of each run below some folders: "converted" into the dataset, "there already" or "refused" with a reason.

    Every run is checked; one that fails does not stop the others. `strict` refuses also what could not be checked, `rebuild_density` builds DM
    from H and S where the code's own is missing, wrong or not whole, `drop_density` leaves it out, `density_mesh` ("auto", "9x9x9")
    makes it local where the k mesh of the run is coarse, `basis_folders` are searched for radial functions besides the runs.
    """
    from workflows import convert as work
    from workflows.processes.engines import choose_engine

    folders = tuple(existing(path) for path in basis_folders)
    options = work.Options(
        strict=strict,
        rebuild_density=rebuild_density,
        drop_density=drop_density,
        density_mesh=density_mesh,
        find_functions=find_functions,
        basis_folders=folders,
    )
    items = work.find([existing(path) for path in listed(paths)], codes_of(code))
    with choose_engine(jobs, None, "fork") as engine:
        return work.convert(items, Path(output), options, engine, lambda _: None)


@overload
def check(source: Frame) -> list[Result]: ...
@overload
def check(source: AnyPath, code: str | None = None) -> list[Report]: ...
def check(source: Frame | AnyPath, code: str | None = None) -> list[Result] | list[Report]:
    """The physical checks of a frame, each with the number found and the one expected; of a path one report for each of its frames."""
    if isinstance(source, Frame):
        return check_frame(source)
    return list(check_path(existing(source), codes_of(code), lambda: None))


def train(
    data: AnyPath,
    output: AnyPath,
    *,
    resume: bool = False,
    before: "Model | AnyPath | None" = None,
    report: "Callable[[Evaluation], None] | None" = None,
    **settings: Any,
) -> "Model":
    """The best model of a training, which is in the folder `output` too.

    `settings` are the keys of docs/training.md, such as time="30m", steps=1000, operators="H,S", validate=0.15; `report` is called with each
    evaluation. `resume` goes on with the training in the folder; a new training begins with what the model `before` knows.
    """
    from slem_plugin.checkpoint import load_model
    from slem_plugin.learning.further import config_like
    from workflows.train import start_config, train_folder

    if "steps" in settings and "time" not in settings:
        settings["time"] = "0"
    folder = Path(output)
    known = load_model(existing(before)) if isinstance(before, str | Path) else before
    config = start_config(folder, config_like(known), settings, resume)
    return train_folder(
        existing(data),
        folder,
        config,
        resume=resume,
        before=known,
        prepared=lambda *_: None,
        watch=lambda *_: None,
        report=report or (lambda _: None),
    )


def predict(model: "Model | AnyPath", structure: "Atoms | Frame | AnyPath", number: int = 0) -> Frame:
    """The matrices that a model predicts for an ase.Atoms, the structure of a frame, or structure `number` of a file."""
    from converters.frames.neighbours import structure_of
    from slem_plugin.checkpoint import cached_model
    from slem_plugin.prediction import predict as predict_with

    known = cached_model(existing(model)) if isinstance(model, str | Path) else model
    if isinstance(structure, Frame):
        known.require_match(structure, structure.place)
        return predict_with(known, structure_of(structure))
    return predict_with(
        known, structure_in(existing(structure), number) if isinstance(structure, str | Path) else structure
    )


def structure_in(path: Path, number: int) -> "Atoms":
    """One structure of a file."""
    from workflows.structures import read_structures

    if number >= 0:
        for atoms in islice(read_structures(path), number, None):
            return atoms
    raise Refused(Kind.NO_SUCH_CHOICE, path, f"has no structure {number}")


def export(
    frame: Frame | AnyPath,
    output: AnyPath,
    *,
    into: AnyPath | None = None,
    code: str | None = None,
    route: str = "auto",
    purify: str = "auto",
    electrons: float | None = None,
    overlap: AnyPath | None = None,
    number: int = 0,
) -> "Exported":
    """What was written for a code's next SCF to start from a frame (or frame `number` of a dataset): files, keywords, notes, checks.

    `into` is the run that is to start: a changed copy of its input is written too, and the run stays as it is. docs/restart.md lists the routes.
    """
    from workflows import export as work

    known = work.read_frame(existing(frame), number) if isinstance(frame, str | Path) else frame
    run = None if into is None else existing(into)
    request = work.Request(code or "", route, purify, electrons, run, None if overlap is None else existing(overlap))
    return work.export(known, Path(output), request, work.run_to_start(known, run, code or ""))


def bands(frame: Frame, path: str | None = None, points: int = 200) -> Bands:
    """The bands of a frame along a path such as "GXL" (the lattice's own if none is given); the levels of a molecule.

    >>> slem.bands(frame).plot(axes)
    """
    with threads_for(frame.natoms):
        return Bands.of(frame, make_path(frame, path, points))


def listed(paths: AnyPath | Sequence[AnyPath]) -> list[AnyPath]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def existing(path: AnyPath) -> Path:
    """The path, where there is something."""
    if not Path(path).exists():
        raise Refused(Kind.NOT_THERE, path, "does not exist")
    return Path(path)


def codes_of(code: str | None) -> list[str]:
    """The code to look for, or all."""
    if code is not None and code not in KNOWN:
        raise Refused(Kind.NO_SUCH_CHOICE, "code", f'is "{code}"', f"one of {', '.join(KNOWN)}")
    return list(KNOWN) if code is None else [code]
