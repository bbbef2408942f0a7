"""The model that makes the predictions of a campaign at some time: one of those that were trained, which stay as they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slem_plugin.model import Model

MODELS = "models"


@dataclass(frozen=True)
class Guide:
    """A model of a campaign, read when the first prediction is made."""

    number: int
    path: Path

    @property
    def model(self) -> "Model":
        from slem_plugin.checkpoint import cached_model

        return cached_model(self.path)


def path_of_model(home: Path, number: int) -> Path:
    """Where the model of a number lies."""
    return home.resolve() / MODELS / f"{number:04d}.safetensors"
