"""What is known about the format of a tool, readable without importing what writes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.frames.frame import Frame
    from converters.physics.sparse import Source
    from converters.starts.start import Options, Written

    Writer = Callable[[Frame, Path, Options], Written]
    WriterInParts = Callable[[Source, Path, Options], Written]


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

    def load_in_parts(self) -> "WriterInParts | None":
        """What writes a frame that need not be in memory, `write_source`; None where there is no such function."""
        found: Any = import_module(self.module)
        writer: WriterInParts | None = getattr(found, "write_source", None)
        return writer
