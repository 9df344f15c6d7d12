"""Requests drawn from the server's own OpenAPI description, valid and broken ones: no HTTP 5xx, and it lives on.

`pytest --hypothesis-profile=wide tests/server/test_http_schema.py` draws 500 for each route and mode.
"""

from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema

from server.access.paths import METRICS, SERVED
from server.openapi import REQUEST_SCHEMAS
from tests.server.harness import DEFAULT_SPARSITY_P, MIN_SPARSITY_P, wait_until

TIMEOUT_S = 60
NUM_EXAMPLES = settings().max_examples // 4
# What is drawn for these must not take long.
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens", "n", "best_of")
MAX_LENGTH = 3
IDLE_WITHIN_S = 60

QUESTION = [{"role": "user", "content": "what color ?"}]
VALID = {
    "/v1/chat/completions": {"messages": QUESTION},
    "/v1/chat/completions/batch": {"messages": [QUESTION]},
    "/v1/completions": {"prompt": "what color ?"},
    "/v1/responses": {"input": "what color ?"},
    "/v1/messages": {"messages": QUESTION, "max_tokens": MAX_LENGTH},
    "/tokenize": {"prompt": "what color ?"},
}
# Answers on these routes are as long as the context unless their request says otherwise.
LENGTH_ON = {path: "max_output_tokens" if path == "/v1/responses" else "max_tokens" for path in VALID}


@pytest.fixture(scope="module")
def description(server) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=schemathesis.Config())


@pytest.fixture(autouse=True)
def _the_server_lives_on(server, client):
    yield
    wait_until(server.is_idle, IDLE_WITHIN_S, "the end of all requests")
    assert httpx.get(f"{server.url}/readyz", timeout=TIMEOUT_S).status_code == 200
    assert client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=2).usage.completion_tokens
    assert "Exception in ASGI application" not in server.log.read_text()


def bounded(path: str, body: Any) -> Any:
    """A body that asks for few tokens of the model that is served."""
    if not isinstance(body, dict):
        return body
    lengths = {name: min(body[name], MAX_LENGTH) for name in LENGTHS if isinstance(body.get(name), int)}
    if path in LENGTH_ON and body.get(LENGTH_ON[path]) is None:
        lengths[LENGTH_ON[path]] = MAX_LENGTH
    return {**body, **lengths, "model": "demo"}


def test_every_route_is_described_and_drawn_from(description):
    assert {operation.ok().path for operation in description.get_all_operations()} == SERVED | METRICS


def test_the_field_is_described_wherever_it_is_read(server):
    described = httpx.get(f"{server.url}/openapi.json", timeout=TIMEOUT_S).json()
    for name in REQUEST_SCHEMAS:
        field = described["components"]["schemas"][name]["properties"]["sparsity_p"]
        assert field["anyOf"][0] == {"type": "number", "minimum": MIN_SPARSITY_P, "maximum": 1.0}
        assert field["default"] == DEFAULT_SPARSITY_P


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", sorted(SERVED | METRICS))
def test_a_drawn_request_breaks_nothing(server, description, path, mode):
    for operation in description[path].values():
        # Any text in a path is a valid one.
        if mode.is_negative and not (operation.body or operation.query):
            continue

        @settings(max_examples=NUM_EXAMPLES)
        @given(operation.as_strategy(generation_mode=mode))
        def check(case):
            case.body = bounded(path, case.body)
            case.call_and_validate(server.url, checks=[not_a_server_error], timeout=TIMEOUT_S)

        check()


@pytest.mark.parametrize("path", VALID)
def test_a_question_with_any_drawn_fields_breaks_nothing(server, description, path):
    """Deeper than whole drawn bodies come: with a prompt that can be answered, most of these reach the engine."""
    operation = description[path]["POST"]
    statuses = set()

    @settings(max_examples=NUM_EXAMPLES)
    @given(operation.as_strategy(), st.data())
    def check(case, data):
        drawn = case.body if isinstance(case.body, dict) else {}
        names = data.draw(st.lists(st.sampled_from(sorted(drawn)), max_size=3)) if drawn else []
        body = bounded(path, {**{name: drawn[name] for name in names}, **VALID[path]})
        response = requests.post(f"{server.url}{path}", json=body, timeout=TIMEOUT_S)
        assert response.status_code < 500, response.text[:500]
        statuses.add(response.status_code)

    check()
    assert 200 in statuses
