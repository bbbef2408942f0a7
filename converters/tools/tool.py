"""What is known about the format of a tool, readable without importing what writes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.frames.frame import Frame
    from converters.starts.start import Options, Written

    Writer = Callable[[Frame, Path, Options], Written]


@dataclass(frozen=True)
class Tool:
    """A format, in words for people; `module` has the function `write`, `orthogonal` says that it holds no overlap."""

    name: str  # on the command line
    opened_by: str
    files: str
    module: str
    orthogonal: bool = False

    def load(self) -> "Writer":
        found: Any = import_module(self.module)
        writer: Writer = found.write
        return writer
