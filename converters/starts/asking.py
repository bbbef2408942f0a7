"""Asking another process for a prediction: a script that does so needs no model in its own memory, whose import takes seconds."""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basis import Array
from basis.shells import Shell, Species
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.starts.start import MODEL_VARIABLE
from converters.storage.dataset import Dataset

# Cell, periodic axes, positions (Angstrom), basis, and the species of each atom in it.
Question = tuple[Array, Array, Array, Sequence[Species], Array]
# Names the socket where predictions are made; slem-campaign sets it for its runs.
SOCKET_VARIABLE = "SLEM_PREDICTIONS"
# Seconds after which a process that should answer is taken to be dead.
PATIENCE = 600.0


def ask_for_frame(
    cell_cv: Array, pbc_c: Array, positions_av: Array, basis: Sequence[Species], species_a: Array
) -> Frame | None:
    """What the process that this one is told of predicts for a structure; None where there is none, or it has ended.

    Refused where it can predict nothing of the kind.
    """
    place, model = os.environ.get(SOCKET_VARIABLE), os.environ.get(MODEL_VARIABLE)
    if not place or not model:
        return None
    question = {
        "model": model,
        "cell": np.asarray(cell_cv).tolist(),
        "pbc": np.asarray(pbc_c).tolist(),
        "positions": np.asarray(positions_av).tolist(),
        "species": np.asarray(species_a).tolist(),
        "basis": [as_plain(species) for species in basis],
    }
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(place)
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps(question).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline() or b"null")
    except (OSError, ValueError):
        return None
    if answer is None:
        return None
    if "refused" in answer:
        raise Refused(Kind.OTHER_MODEL, "prediction", str(answer["refused"]))
    path = Path(answer["frame"])
    with Dataset(path) as data:
        frame = data[0]
    path.unlink()
    return frame


def as_plain(species: Species) -> dict[str, Any]:
    shells = [[shell.l, shell.n, shell.zeta, shell.polarisation] for shell in species.shells]
    return {"name": species.name, "number": species.number, "shells": shells, "radial": species.radial}


def species_of(plain: Mapping[str, Any]) -> Species:
    shells = tuple(Shell(int(l), int(n), int(zeta), bool(p)) for l, n, zeta, p in plain["shells"])
    return Species(str(plain["name"]), int(plain["number"]), shells, str(plain["radial"]))


def numbers_in(basis: Sequence[Species], own: Sequence[Species], place: str) -> Array:
    """The number in the basis of a model of each species of a run."""
    known = {(species.number, species.shells, species.radial): s for s, species in enumerate(basis)}
    missing = [species for species in own if (species.number, species.shells, species.radial) not in known]
    if missing:
        names, have = (", ".join(f"{one} {one.radial}" for one in many) for many in (missing, basis))
        raise Refused(Kind.OTHER_MODEL, place, f"has the basis {names}; the model was trained with {have}")
    return np.array([known[species.number, species.shells, species.radial] for species in own])
