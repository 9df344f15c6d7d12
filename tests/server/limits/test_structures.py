"""How large a grammar may be, wherever it stands."""

import json

import pytest
from vllm.sampling_params import StructuredOutputsParams

from server.errors import RequestRefused
from server.limits.settings import RequestLimits
from server.limits.structures import check_structure

LIMITS = RequestLimits(max_schema_kib=1, max_regex_chars=64)


def schema(num_properties: int) -> dict:
    return {"type": "object", "properties": {f"name{number}": {"type": "string"} for number in range(num_properties)}}


@pytest.mark.parametrize(
    "fields",
    [
        {"json": schema(20)},
        {"json": json.dumps(schema(20))},
        {"json": {"pattern": "a" * 64}},
        {"regex": "a" * 64},
        {"choice": ["yes", "no"]},
        {"grammar": 'root ::= "a"'},
        {"json_object": True},
        {"json": "no JSON, which vLLM says"},
        {"json": {"properties": {"pattern": {"type": "string"}, "patternProperties": {"type": "string"}}}},
    ],
    ids=str,
)
def test_small_ones_pass(fields):
    check_structure(StructuredOutputsParams(**fields), LIMITS)


def test_none_passes():
    check_structure(None, LIMITS)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"json": schema(40)},
            r"structured_outputs\.json .* has 1\d\d\d bytes, but may have 1024\. Send a smaller one",
        ),
        ({"json": json.dumps(schema(40))}, r"structured_outputs\.json .* bytes"),
        ({"json": {"enum": ["é" * 300]}}, r"has 18\d\d bytes"),
        ({"choice": ["x" * 100] * 20}, r"structured_outputs\.choice .* bytes"),
        ({"grammar": "root ::= " + '"a" ' * 400}, r"structured_outputs\.grammar .* bytes"),
        ({"structural_tag": json.dumps({"structures": [{"schema": schema(40)}]})}, r"structural_tag .* bytes"),
        ({"regex": "(a|b)*" * 11}, r"structured_outputs\.regex has a regular expression of 66 characters"),
        ({"json": {"items": [{"anyOf": [{"pattern": "a" * 65}]}]}}, r"json has a regular expression of 65 characters"),
        ({"json": json.dumps({"patternProperties": {"a" * 65: {}}})}, "of 65 characters"),
        ({"json": {}, "whitespace_pattern": " " * 65}, "whitespace_pattern has a regular expression of 65"),
        ({"structural_tag": json.dumps({"format": {"type": "regex", "pattern": "a" * 65}})}, "of 65 characters"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_large_ones_are_refused(fields, sentence):
    with pytest.raises(RequestRefused, match=sentence) as refused:
        check_structure(StructuredOutputsParams(**fields), LIMITS)
    assert refused.value.parameter == "structured_outputs"


@pytest.mark.parametrize("depth", [50, 500, 10_000])
def test_a_deep_schema_is_refused_and_not_followed_to_the_end_of_the_stack(depth):
    deep = {"pattern": "a" * 65}
    for _ in range(depth):
        deep = {"not": deep}
    with pytest.raises(RequestRefused):
        check_structure(StructuredOutputsParams(json=deep), LIMITS)
