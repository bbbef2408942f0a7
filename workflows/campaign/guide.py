"""What makes the starts of a campaign at some time: one of the models that were trained, which stay as they are, or the runs before."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.starts.start import EARLIER_RUNS
from workflows.campaign.worth import EARLIER

if TYPE_CHECKING:
    from converters.frames.frame import Frame
    from converters.starts.start import Target
    from slem_plugin.model import Model

MODELS = "models"


@dataclass(frozen=True)
class Guide:
    """A model of a campaign, read when the first prediction is made; `start` is that of earlier runs in its place."""

    number: int
    path: Path
    start: "Callable[[Target], Frame] | None" = None

    @property
    def model(self) -> "Model":
        from slem_plugin.checkpoint import cached_model

        return cached_model(self.path)


def path_of_model(home: Path, number: int) -> Path:
    """Where the model of a number lies."""
    return home.resolve() / MODELS / f"{number:04d}.safetensors"


def name_for_scripts(home: Path, number: int) -> str:
    """What a script is told of the model of a number, or of the runs before."""
    return EARLIER_RUNS if number == EARLIER else str(path_of_model(home, number))


def words_of(number: int, control: bool = False) -> str:
    """What started a run, for people."""
    if number == EARLIER:
        return "earlier runs"
    return f"model {number}" if number else "default, as a control" if control else "default"
