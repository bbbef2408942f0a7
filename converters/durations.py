"""Lengths of time as people write them."""

import re

from converters.errors import Kind, Refused


def parse_time(text: str) -> float:
    """Seconds of "90", "90s", "20m", "1.5h"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh]?)\s*", text)
    if not match:
        raise Refused(Kind.NO_SUCH_CHOICE, "config", f'time is "{text}"', "something like 20m, 2h or 90s")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
