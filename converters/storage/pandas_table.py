"""Tables for people who use pandas, and for those who do not."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def as_table(rows: Iterable[Mapping[str, Any]]) -> Any:
    """A pandas DataFrame of some rows where pandas is installed, else a list of dictionaries."""
    listed = [dict(row) for row in rows]
    return import_module("pandas").DataFrame(listed) if find_spec("pandas") else listed
