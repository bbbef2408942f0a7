"""JSON that every program reads: where Python would write NaN or Infinity, which JSON does not have, there is null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(with_null(value), indent=2, allow_nan=False)


def with_null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: with_null(one) for key, one in value.items()}
    return [with_null(one) for one in value] if isinstance(value, list | tuple) else value
