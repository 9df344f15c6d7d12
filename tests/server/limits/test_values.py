"""Counting the values of a body by its bytes, against counting them in what json makes of it."""

import json
from typing import Any

import pytest

from server.limits.settings import RequestLimits
from server.limits.values import num_values_over_limit

ONE = RequestLimits(max_json_values=1)


def num_values(item: Any) -> int:
    """List items and fields; an empty list or object counts as if it held one."""
    if isinstance(item, dict):
        return max(len(item), 1) + sum(num_values(value) for value in item.values())
    return max(len(item), 1) + sum(num_values(value) for value in item) if isinstance(item, list) else 0


@pytest.mark.parametrize(
    "body",
    [
        [[], [], {}],
        {"prompt": list(range(7))},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a, [b] {c}"}]}] * 3},
        ['"', '\\"', '\\\\",[{', "é,", ",\n,"],
        {",,,": {"[[": "{{"}},
    ],
    ids=str,
)
def test_the_number_is_exact(body):
    assert num_values_over_limit(json.dumps(body).encode(), ONE) == num_values(body)
    assert num_values_over_limit(json.dumps(body, ensure_ascii=False, indent=1).encode(), ONE) == num_values(body)
    assert num_values_over_limit(json.dumps(body).encode(), RequestLimits(max_json_values=num_values(body))) is None


def test_text_is_no_value():
    assert num_values_over_limit(json.dumps({"prompt": "," * 100}).encode(), ONE) is None


@pytest.mark.parametrize("body", [b"", b'"', b'[",,,', b"\xff[[", b'"\\'])
def test_what_is_no_json_is_left_to_the_parser(body):
    assert num_values_over_limit(body, RequestLimits(max_json_values=9)) is None
