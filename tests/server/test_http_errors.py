"""Bad input: HTTP 400 with OpenAI's error body, the engine never sees it, and the next request is answered."""

import json

import httpx
import openai
import pytest

from tests.server.harness import MIN_SPARSITY_P

BODIES = {
    "chat/completions": {"messages": [{"role": "user", "content": "what color is the square ?"}]},
    "completions": {"prompt": "what color is the square ?"},
    "responses": {"input": "what color is the square ?"},
}
# As JSON text, because NaN and Infinity are none.
BAD_VALUES = [
    "0", "-0.5", "1.5", "NaN", "Infinity", "-Infinity", "1e400", "true", "false", '"0.9"', "[0.9]", '{"p": 0.9}',
    "1" + "0" * 400, str(MIN_SPARSITY_P - 0.01),
]  # fmt: skip


def engine_requests(server) -> float:
    return server.metric("winnow_requests_total") + server.metric("vllm:num_requests_running")


@pytest.mark.parametrize("stream", ["false", "true"], ids=["whole", "stream"])
@pytest.mark.parametrize("path", BODIES)
def test_bad_values(server, path, stream):
    seen_before = engine_requests(server)
    fields = json.dumps(BODIES[path])[1:-1]
    for value in BAD_VALUES:
        response = server.post(path, f'{{"model": "demo", "stream": {stream}, "sparsity_p": {value}, {fields}}}')
        assert response.status_code == 400, value
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["param"], error["code"]) == ("sparsity_p", 400), value
        assert error["message"].startswith("sparsity_p is "), value
        assert "but " in error["message"], value
        assert ". Send a number" in error["message"], value
        assert len(error["message"]) < 250, value
    assert engine_requests(server) == seen_before
    response = server.post(path, f'{{"model": "demo", "sparsity_p": 0.9, {fields}}}')
    assert response.json()["usage"]["sparsity"]["sparsity_p"] == 0.9


def test_sdk_raises_bad_request(client):
    with pytest.raises(openai.BadRequestError, match="at most 1") as raised:
        client.chat.completions.create(model="demo", extra_body={"sparsity_p": 2}, **BODIES["chat/completions"])
    assert (raised.value.param, raised.value.status_code) == ("sparsity_p", 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"echo": True, "logprobs": 1}, "prompt_logprobs"),
        ({"use_beam_search": True, "n": 2}, "sparsity_p"),
        ({"vllm_xargs": {"sparsity_p": 0.01}}, "vllm_xargs"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_cannot_be_sparse(server, fields, param, stream):
    body = {"model": "demo", "sparsity_p": 0.9, "stream": stream, **BODIES["completions"], **fields}
    response = server.post("completions", json.dumps(body))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_beam_search_needs_an_explicit_one_where_the_default_is_sparse(server):
    body = {"model": "demo", "use_beam_search": True, "n": 2, "max_tokens": 2, **BODIES["completions"]}
    refused = server.post("completions", json.dumps(body))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "sparsity_p")
    assert server.post("completions", json.dumps({**body, "sparsity_p": 1})).status_code == 200


def test_vllms_own_errors_stay(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", **BODIES["chat/completions"])
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.completions.create(model="demo", prompt=[5] * 5000, max_tokens=1)


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_value_that_vllms_checks_trip_over(server, path):
    response = server.post(path, json.dumps({"model": "demo", "structured_outputs": False, **BODIES[path]}))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "body.structured_outputs"


def test_other_routes_stay(server, client):
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert [model.id for model in client.models.list().data] == ["demo"]
    message = {"model": "demo", "max_tokens": 4, "messages": [{"role": "user", "content": "what color ?"}]}
    assert httpx.post(f"{server.url}/v1/messages", json=message, timeout=60).status_code == 200


def test_schema_shows_the_field(server):
    schemas = httpx.get(f"{server.url}/openapi.json", timeout=60).json()["components"]["schemas"]
    for name in ("ChatCompletionRequest", "CompletionRequest", "ResponsesRequest"):
        assert schemas[name]["properties"]["sparsity_p"]["anyOf"][0]["minimum"] == MIN_SPARSITY_P
