"""How many values a JSON body holds: two bytes of `[]` become seventy of Python, and every route walks over all."""

import re

from server.limits.settings import RequestLimits

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BEFORE_A_VALUE = (b",", b"[", b"{")


def num_values_over_limit(body: bytes, limits: RequestLimits) -> int | None:
    """The number of values (list items and fields, at any depth) where the operator allows fewer.

    Args:
        body: JSON, or what claims to be.
        limits: the operator's.
    """
    # Text may hold such characters, too; most bodies need no second look.
    if _num_marks(body) <= limits.max_json_values:
        return None
    num_values = _num_marks(_STRING.sub(b"", body))
    return num_values if num_values > limits.max_json_values else None


def _num_marks(text: bytes) -> int:
    return sum(text.count(mark) for mark in _BEFORE_A_VALUE)
