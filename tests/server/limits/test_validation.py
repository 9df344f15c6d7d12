"""Faults are counted by what a body may be, not by how much of it is wrong; none of them is the server's."""

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError, model_validator
from vllm.entrypoints.launchers.app import build_app

from server.command_line import parse
from server.limits.validation import BodyValidator, fail_fast

INPUT = [
    {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "y"}]},
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
]
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "x"}]}, {"role": "assistant", "content": "y"}]


@pytest.fixture(scope="module")
def bodies() -> dict[str, tuple]:
    """Path to the validators of its body, vLLM's and the one that fails fast."""
    app = build_app(parse(["--model", "demo"])[0], ("generate",))
    plain = {path: adapter.validator for path, adapter in adapters(app).items()}
    fail_fast(app)
    return {path: (plain[path], adapter.validator) for path, adapter in adapters(app).items()}


def adapters(app: FastAPI) -> dict:
    return {
        route.path: route.body_field._type_adapter
        for route in app.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    }


def num_faults(validator, body: dict) -> int:
    with pytest.raises(ValidationError) as refused:
        validator.validate_python(body)
    return refused.value.error_count()


@pytest.mark.parametrize(
    ("path", "field", "item"),
    [
        ("/v1/responses", "input", {}),
        ("/v1/responses", "input", 0),
        ("/v1/responses", "tools", {}),
        ("/v1/responses", "input", {"role": "user", "content": [{}] * 20}),
        ("/v1/chat/completions", "messages", {}),
        ("/v1/chat/completions", "tools", 0),
        ("/v1/completions", "prompt", [0.5]),
        ("/v1/messages", "messages", {}),
    ],
)
def test_a_list_of_faults_is_reported_as_one(bodies, path, field, item):
    plain, fast = bodies[path]
    assert num_faults(fast, {field: [item] * 50}) <= num_faults(fast, {field: [item]})
    assert num_faults(plain, {field: [item] * 50}) > 45 + num_faults(fast, {field: [item] * 50})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": INPUT, "sparsity_p": 0.5}),
        ("/v1/chat/completions", {"messages": MESSAGES, "stop": ["a", "b"], "sparsity_p": 0.5}),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}),
    ],
)
def test_what_is_valid_means_the_same(bodies, path, body):
    plain, fast = (validator.validate_python(body) for validator in bodies[path])
    assert plain.model_dump(exclude={"request_id"}) == fast.model_dump(exclude={"request_id"})


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES, "structured_outputs": False}, "structured_outputs"),
        ("/v1/chat/completions", {"messages": MESSAGES, "structured_outputs": [1]}, "structured_outputs"),
        ("/v1/completions", {"prompt": "x", "structured_outputs": "json"}, "structured_outputs"),
    ],
)
def test_what_a_check_of_vllm_trips_over_is_a_fault_of_its_field(bodies, path, body, field):
    plain, fast = bodies[path]
    with pytest.raises(AttributeError):
        plain.validate_python(body)
    with pytest.raises(ValidationError) as refused:
        fast.validate_python(body)
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


def test_a_check_that_is_broken_itself_is_not_hidden():
    class Body(BaseModel):
        number: int

        @model_validator(mode="before")
        @classmethod
        def check(cls, data):
            raise KeyError(data)

    with pytest.raises(KeyError):
        BodyValidator(TypeAdapter(Body).core_schema).validate_python({"number": 1})
    with pytest.raises(ValidationError, match="number"):
        BodyValidator(TypeAdapter(Body).core_schema).validate_python({"number": "one"})
