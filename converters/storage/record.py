"""The record of a frame: where it comes from and the small facts of its spectrum, as JSON in the dataset.

Records of older programs are brought to this form by one small step for each version.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.frames.frame import OPERATORS, Frame, Provenance
from converters.frames.origin import FileForm, Made, Origin, Parts, Step, Treatment


@dataclass(frozen=True)
class Record:
    """What the record of a frame says; `spectrum` are the facts and the shape of its levels, None where it has none."""

    provenance: Provenance
    folded: bool
    spectrum: Mapping[str, Any] | None


def write_record(frame: Frame) -> bytes:
    """The record of a frame as JSON."""
    said = frame.provenance
    record: dict[str, Any] = {field.name: getattr(said, field.name) for field in dataclasses.fields(Provenance)}
    record |= {name: dict(record[name]) for name in ("files", "settings", "measured")}
    record["origins"] = {name: plain_origin(origin) for name, origin in said.origins.items()}
    record["form"] = {name: value for name, value in vars(said.form).items() if value is not None}
    record["folded"] = frame.folded
    spectrum = frame.spectrum
    record["spectrum"] = spectrum and {
        "shape": list(spectrum.energies_skn.shape),
        "tolerance": spectrum.tolerance,
        "smearing": spectrum.smearing,
        "width": spectrum.width,
        "fixed_moment": spectrum.fixed_moment,
        "kpoint_error": spectrum.kpoint_error,
        "matrix_rounding": spectrum.matrix_rounding,
    }
    return json.dumps(record).encode()


def read_record(text: bytes) -> Record:
    """The record of a frame, of any version."""
    plain = json.loads(text)
    if "origins" not in plain:
        plain = upgrade_from_1(plain)
    folded, spectrum = bool(plain.pop("folded")), plain.pop("spectrum")
    plain["notes"] = tuple(plain["notes"])
    plain["origins"] = {name: origin_of(said) for name, said in plain["origins"].items()}
    form: dict[str, Any] = plain["form"]
    plain["form"] = FileForm(**{name: as_tuples(value) for name, value in form.items()})
    return Record(Provenance(**plain), folded, spectrum)


def as_tuples(value: Any) -> Any:
    """Lists of JSON, and the lists in them, as tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def plain_origin(origin: Origin) -> dict[str, Any]:
    """An origin as JSON holds it; kinds by their names, which stay when their words are bettered."""
    treatments = [[one.step.name, one.constant, one.reason] for one in origin.treatments]
    return {
        "made": origin.made.name,
        "files": list(origin.files),
        "treatments": treatments,
        "parts": origin.parts.name,
        "error": origin.error,
        "doubt": origin.doubt,
        **({"grid_error": origin.grid_error} if origin.grid_error else {}),  # older programs wrote none
        **({"mesh": list(origin.mesh)} if origin.mesh else {}),
    }


def origin_of(plain: Mapping[str, Any]) -> Origin:
    treatments = tuple(Treatment(Step[step], constant, reason) for step, constant, reason in plain["treatments"])
    files, parts = tuple(plain["files"]), Parts[plain["parts"]]
    later = {"grid_error": plain.get("grid_error", 0.0), "mesh": tuple(plain.get("mesh", ()))}
    return Origin(Made[plain["made"]], files, treatments, parts, plain["error"], plain["doubt"], **later)


# From version 1, whose records said in words among settings and notes what now has fields

NOTE_PREDICTED, NOTE_COMPUTED, NOTE_LEARNED = "predicted by slem", "S of the radial functions", "S as it was learned"
NOTE_CONJUGATED = "DM was stored as the conjugate: "
NOTE_REBUILT = "DM was built anew from H and S: the code's own was not whole"
NOTE_RESTORED = "S was computed anew, H restored from the stored orbitals and their energies"
FORM_1 = {
    "Ry in eV": "rydberg",
    "Bohr in Angstrom": "bohr",
    "spin components": "spin_components",
    "k mesh": "k_axis",
    "constants known from": "constants_from",
    "supercell": "supercell",
    "k cell": "k_cell",
    "k shift": "k_shift",
}


def upgrade_from_1(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of version 1 as one of version 2."""
    settings, notes = dict(record["settings"]), list(record["notes"])
    origins = {name: origin_from_1(name, bool(record["files"]), settings, notes) for name in OPERATORS}
    said = {name: origin for name, origin in origins.items() if origin != Origin()}
    for name in OPERATORS:
        settings.pop(f"{name} from", None)
    for word in ("DM doubtful", "DM parts", "error of S_ii"):
        settings.pop(word, None)
    form = {name: numbers_from_1(name, settings.pop(word)) for word, name in FORM_1.items() if word in settings}
    moved = (NOTE_PREDICTED, NOTE_COMPUTED, NOTE_LEARNED, NOTE_CONJUGATED, NOTE_REBUILT, NOTE_RESTORED)
    return {
        **record,
        "settings": settings,
        "notes": [note for note in notes if not note.startswith(moved)],
        "origins": {name: plain_origin(origin) for name, origin in said.items()},
        "form": form,
        "predicted": NOTE_PREDICTED in notes,
    }


def origin_from_1(name: str, was_read: bool, settings: Mapping[str, Any], notes: list[str]) -> Origin:
    """What the settings and notes of version 1 say of one matrix."""
    files = settings.get(f"{name} from")
    made = made_from_1(name, was_read, notes)
    treatments: tuple[Treatment, ...] = ()
    if name == "DM" and NOTE_REBUILT in notes:
        return Origin(Made.FILLED, treatments=(Treatment(Step.REPLACED),))
    if name == "DM":
        reasons = [note.removeprefix(NOTE_CONJUGATED) for note in notes if note.startswith(NOTE_CONJUGATED)]
        treatments = tuple(Treatment(Step.CONJUGATED, reason=reason) for reason in reasons)
    return Origin(
        made,
        tuple(str(files).split(", ")) if files else (),
        treatments,
        Parts.REAL_PAULI if name == "DM" and settings.get("DM parts") == "real Pauli" else Parts.ALL,
        float(settings.get("error of S_ii") or 0) if name == "S" else 0.0,
        str(settings.get("DM doubtful") or "") if name == "DM" else "",
    )


def made_from_1(name: str, was_read: bool, notes: list[str]) -> Made:
    """How a matrix of version 1 came to be."""
    if name == "S" and {NOTE_COMPUTED, NOTE_RESTORED} & set(notes):
        return Made.INTEGRATED
    if NOTE_PREDICTED in notes:
        return Made.PREDICTED
    if NOTE_RESTORED in notes:
        return Made.RESTORED
    return Made.READ if was_read else Made.GIVEN


def numbers_from_1(name: str, value: Any) -> Any:
    """A setting of version 1 as the number or the numbers that it meant."""
    if name in ("supercell", "k_cell"):
        return [int(float(word)) for word in str(value).split()]
    if name == "k_shift":
        return [float(word) for word in str(value).split()]
    return value
