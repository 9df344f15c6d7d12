"""values.yaml, values.schema.json and README.md are three views of the same values."""

import json

import jsonschema
import pytest
import yaml

from tests.helm.chart import CHART, CI_VALUES, EXAMPLES

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def resolved(schema: dict) -> dict:
    reference = schema.get("$ref", "").rpartition("/")[2]
    return SCHEMA["definitions"][reference] if reference else schema


def branches(schema: dict, values: object, path: tuple = ()):
    """Every map of the chart's own in values.yaml, beside its schema."""
    schema = resolved(schema)
    if isinstance(values, dict) and "properties" in schema:
        yield path, schema, values
        for key, child in values.items():
            yield from branches(schema["properties"].get(key, {}), child, (*path, key))


BRANCHES = list(branches(SCHEMA, VALUES))


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_defaults_fit():
    jsonschema.validate(VALUES, SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    ("schema", "values"), [branch[1:] for branch in BRANCHES], ids=[".".join(branch[0]) or "top" for branch in BRANCHES]
)
def test_schema_and_values_have_the_same_keys(schema, values):
    assert schema["additionalProperties"] is False
    # A probe may have more than the defaults set; a parent chart hands `global` down.
    optional = {"global", "initialDelaySeconds", "successThreshold", "rollingUpdate", "claims", "limits", "requests"}
    optional |= {"request", "backendRequest", "threshold"}
    assert set(values) <= set(schema["properties"])
    assert set(schema["properties"]) - set(values) <= optional


def test_every_definition_is_used():
    text = json.dumps(SCHEMA)
    assert [name for name in SCHEMA["definitions"] if f"#/definitions/{name}" not in text] == []


def test_the_matrix_and_the_examples_use_every_switch():
    """What can be turned on is turned on somewhere, and so is seen by every other test."""

    def switches(values: object, path: tuple = ()):
        for key, child in values.items() if isinstance(values, dict) else ():
            if key in {"enabled", "create", "retain", "dns"}:
                yield (*path, key), child
            yield from switches(child, (*path, key))

    seen = {switch for path in (*CI_VALUES, *EXAMPLES) for switch in switches(yaml.safe_load(path.read_text()))}
    defaults = set(switches(VALUES))
    off = {path for path, value in defaults if value is False}
    assert {path for path in off if (path, True) not in seen} == set()
