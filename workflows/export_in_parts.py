"""Export of large predictions, which are read stretch by stretch, for the codes and tools that can be written so."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from basis.spin import Spin
from converters.codes.protocols import RestartInParts
from converters.frames.frame import Frame
from converters.physics.sparse import Source, count_electrons
from converters.starts.density import LARGEST_DENSE
from converters.starts.fit import fit_to_target, match_atoms, sampling_of
from converters.starts.start import Route, Target
from converters.starts.targets import restart_module, startable
from converters.storage.dataset import Dataset
from converters.tools.known import TOOLS
from workflows.export import (
    Exported,
    Request,
    export,
    exported_to_tool,
    finished,
    made,
    read_frame,
    require_count,
    require_dataset,
    run_to_start,
    scaled_note,
    source_of,
)


def export_stored(path: Path, number: int, output: Path, request: Request) -> Exported:
    """What is written of a frame of a dataset or of a file of predictions; large ones are not held as a whole where that can be helped."""
    require_dataset(path)
    done = export_in_parts(path, number, output, request)
    if done is None:
        frame = read_frame(path, number)
        done = export(frame, output, request, run_to_start(frame, request.into, request.format))
    return done


def export_in_parts(
    path: Path, number: int, output: Path, request: Request, largest: int = LARGEST_DENSE
) -> Exported | None:
    """What is written of a prediction of more than `largest` orbitals; None where what is asked for needs the whole frame."""
    with Dataset(path) as data:
        source = Source.of_dataset(data, number)
        outline = source.outline
        whole = not outline.predicted or outline.folded or outline.spectrum is not None or outline.spin is Spin.SPINOR
        if whole or outline.norb <= largest or request.overlap is not None:
            return None
        tool = TOOLS.get(request.format)
        if tool is not None:
            write = tool.load_in_parts()
            if write is None or request.into is not None or not {"H", "S"} <= set(outline.operators):
                return None
            return exported_to_tool(tool.name, outline, write(source, made(output), request.options))
        target = run_to_start(outline, request.into, request.format)
        code = request.format or (target.code if target is not None else outline.provenance.code)
        module = restart_module(code) if code in startable() else None
        if not isinstance(module, RestartInParts) or not starts_from_density(outline, code, request, target):
            return None
        return export_density(source, code, module, output, request, target)


def starts_from_density(outline: Frame, code: str, request: Request, target: Target | None) -> bool:
    """Whether the predicted DM is scaled and written as it stands, with the atoms in their order."""
    asked = request.route in ("auto", "dm") and request.purify in ("auto", "scale")
    if not asked or not {"DM", "S"} <= set(outline.operators) or outline.origin("DM").mesh:
        return False
    if outline.outcome.electrons is None and request.electrons is None:
        return False
    if target is None:
        return True
    if (
        target.code != code
        or target.moment is not None
        or target.moments_a is not None
        or len(target.labels_a) != outline.natoms
    ):
        return False
    order_a, shifts_ac = match_atoms(outline, target)
    return bool((order_a == np.arange(outline.natoms)).all()) and not shifts_ac.any()


def export_density(
    source: Source, code: str, module: RestartInParts, output: Path, request: Request, target: Target | None
) -> Exported:
    outline = source.outline if target is None else fit_to_target(source.outline, target)
    wanted = sampling_of(outline, target, request.electrons).filling.electrons
    found = float(count_electrons(source).sum())
    require_count(outline, found, wanted)  # no number, if one of DM or S is none
    written = module.write_density_of(replace(source, outline=outline), wanted / found, made(output), target)
    notes = (f"S is {source_of(outline)}", scaled_note(found, wanted), *written.notes)
    route = Route("dm", "H of so many orbitals is not solved, and the code takes the density of a DM file as it is")
    return finished(code, route, output, request, target, replace(written, notes=notes), ())
