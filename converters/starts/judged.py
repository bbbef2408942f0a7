"""What a code knows of a predicted density, without an SCF."""

from dataclasses import dataclass, field
from typing import Any

from basis import Array
from converters.frames.frame import Frame
from converters.physics.kspace import Filling


@dataclass(frozen=True, eq=False)
class Judged:
    """A predicted frame; how its levels are filled and the charges of the nuclei, where they are known; and properties by ASE's names."""

    frame: Frame
    filling: Filling | None = None
    nuclei_a: Array | None = None
    results: dict[str, Any] = field(default_factory=dict)
