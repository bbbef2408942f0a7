"""JSON that the commands print and write."""

import json

import numpy as np

from converters.json_text import json_text


def test_numbers_that_are_none_become_null():
    """A browser's JSON.parse, and any strict reader, refuses NaN."""

    def refuse(constant):
        raise AssertionError(constant)

    text = json_text({"a": float("nan"), "b": [1.5, -np.inf, (np.float64("nan"), 2)], "c": np.float64(0.25), "d": None})
    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [1.5, None, [None, 2]], "c": 0.25, "d": None}
