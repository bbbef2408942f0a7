"""What becomes of a DM that a code wrote wrong, of another structure, or not at all: it is left out, or made of H and S."""

from dataclasses import replace

import numpy as np

from converters.errors import Kind, Refused
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, Spectrum, with_matrix
from converters.frames.origin import Made, Origin, Step, Treatment
from converters.physics.checks import Result, Tolerances, check_frame, require_sound
from converters.physics.kspace import Filling, density_matrix


def without_density(frame: Frame, why: str) -> Frame:
    """The frame without its DM, which says why; as it is where it has none."""
    if "DM" not in frame.operators:
        return frame
    operators = {name: operator for name, operator in frame.operators.items() if name != "DM"}
    origins = {name: origin for name, origin in frame.provenance.origins.items() if name != "DM"}
    provenance = replace(frame.provenance, origins=origins)
    return with_note(replace(frame, operators=operators, provenance=provenance), f"DM is left out: {why}")


def with_note(frame: Frame, note: str) -> Frame:
    return replace(frame, provenance=replace(frame.provenance, notes=(*frame.provenance.notes, note)))


def sound_without_bad_density(frame: Frame, tolerances: Tolerances) -> tuple[Frame, list[Result]]:
    """The frame and its checks, without its DM where that alone fails them: H and S are as good as before."""
    try:
        return frame, require_sound(frame, tolerances)
    except Refused as refusal:
        if "DM" not in frame.operators or len(frame.operators) == 1:
            raise
        rest = without_density(frame, refusal.found)
        try:
            return rest, require_sound(rest, tolerances)
        except Refused:
            raise refusal from None


def is_sound(frame: Frame, tolerances: Tolerances) -> bool:
    return all(result.ok is not False for result in check_frame(frame, tolerances))


def lacking_for_density(frame: Frame) -> str:
    """Why DM cannot be made of H and S; nothing where it can."""
    spectrum = frame.spectrum
    if missing := [name for name in ("H", "S") if name not in frame.operators]:
        return f"there is no {' and no '.join(missing)}"
    if spectrum is None or not len(spectrum.weights_k) or not spectrum.smearing:
        return "the files do not say at which k-points levels were filled, and how"
    if frame.outcome.electrons is None:
        return "the files do not say how many electrons there are"
    if spectrum.fixed_moment and frame.outcome.moment is None:
        return "the moment was held fixed, and the files do not say at which value"
    return ""


def rebuilt_density(frame: Frame, tolerances: Tolerances) -> Frame:
    """The frame with the DM of its (H, S), where its own is missing, not whole or wrong; where it cannot be built, the frame says why."""
    own = frame.operators.get("DM")
    if own is not None and frame.origin("DM").is_whole and is_sound(frame, tolerances):
        return frame
    if lacking := lacking_for_density(frame):
        return with_note(frame, f"DM is not built: {lacking}")
    spectrum, filling = how_filled(frame)
    built = density_matrix(frame, spectrum.kpoints_kc, spectrum.weights_k, filling)
    return with_matrix(frame, "DM", on_pattern(frame, built), Origin(Made.FILLED, treatments=replaced(frame)))


def how_filled(frame: Frame) -> tuple[Spectrum, Filling]:
    """The k-points of a run that lacks nothing for a density, and how it filled its levels."""
    spectrum, electrons = frame.spectrum, frame.outcome.electrons
    if spectrum is None or electrons is None:
        raise Refused(Kind.MISSING_FILES, frame.place, f"has no density: {lacking_for_density(frame)}")
    moment = frame.outcome.moment if spectrum.fixed_moment else None
    return spectrum, Filling(electrons, spectrum.smearing, spectrum.width, moment)


def on_pattern(frame: Frame, built: Operator) -> Operator:
    """A DM on the elements that the code stores: those of its own DM, else those of H, which has the same pattern."""
    known_x = frame.operators["DM" if "DM" in frame.operators else "H"].known_x
    return Operator(built.values_sx if known_x is None else np.where(known_x, built.values_sx, 0), known_x)


def replaced(frame: Frame) -> tuple[Treatment, ...]:
    """What is said of the code's own DM, if there is one, in whose place another is put."""
    if "DM" not in frame.operators:
        return ()
    broken = frame.origin("DM")
    reason = broken.doubt or broken.parts.value * (not broken.is_whole)
    return (Treatment(Step.REPLACED, reason=reason or "it failed the checks"),)
