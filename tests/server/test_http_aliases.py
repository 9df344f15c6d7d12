"""`demo@p=0.6` through HTTP: on every route, echoed, refused as the field is, and nowhere in lists and labels."""

import json

import httpx
import openai
import pytest

from tests.server.harness import DEFAULT_SPARSITY_P, MIN_SPARSITY_P
from tests.server.test_http_errors import BODIES

LIMITS = {"chat/completions": "max_tokens", "completions": "max_tokens", "responses": "max_output_tokens"}


def post(server, path: str, model: str, **fields) -> httpx.Response:
    return server.post(path, json.dumps({"model": model, LIMITS[path]: 4, "temperature": 0, **BODIES[path], **fields}))


def without_ids(body: dict) -> list:
    """What was generated, and what it took."""
    return [body.get("choices") or body["output"][0]["content"], body["usage"]]


@pytest.mark.parametrize("path", BODIES)
def test_an_alias_is_the_field(server, path):
    by_alias = post(server, path, "demo@p=0.6").json()
    by_field = post(server, path, "demo", sparsity_p=0.6).json()
    assert by_alias["usage"]["sparsity"]["sparsity_p"] == 0.6
    assert (by_alias["model"], by_field["model"]) == ("demo@p=0.6", "demo")
    assert without_ids(by_alias) == without_ids(by_field)
    assert post(server, path, "demo").json()["usage"]["sparsity"]["sparsity_p"] == DEFAULT_SPARSITY_P


@pytest.mark.parametrize("path", BODIES)
def test_one_is_dense_and_the_same_value_in_the_field_agrees(server, path):
    for fields in ({}, {"sparsity_p": 1}, {"sparsity_p": None}):
        sparsity = post(server, path, "demo@p=1", **fields).json()["usage"]["sparsity"]
        assert (sparsity["sparsity_p"], sparsity["token_ratio"]) == (1.0, 1.0)


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_every_chunk_of_a_stream_names_the_alias(server, path):
    response = post(server, path, "demo@p=0.6", stream=True, stream_options={"include_usage": True})
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    chunks = [json.loads(event) for event in events]
    assert {chunk["model"] for chunk in chunks} == {"demo@p=0.6"}
    assert chunks[-1]["usage"]["sparsity"]["sparsity_p"] == 0.6


def test_streamed_response(client):
    stream = client.responses.create(model="demo@p=0.6", input="what color ?", max_output_tokens=4, stream=True)
    completed = list(stream)[-1].response
    assert (completed.model, completed.usage.sparsity["sparsity_p"]) == ("demo@p=0.6", 0.6)


def test_prompts_in_a_batch(server, about_picture):
    body = {"model": "demo@p=0.6", "messages": [about_picture] * 2, "max_tokens": 4}
    answer = server.post("chat/completions/batch", json.dumps(body)).json()
    assert (answer["model"], answer["usage"]["sparsity"]["sparsity_p"]) == ("demo@p=0.6", 0.6)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", BODIES)
def test_bad_values(server, path, stream):
    for text in ("abc", "", "0", "1.5", "nan", str(MIN_SPARSITY_P - 0.01)):
        response = post(server, path, f"demo@p={text}", stream=stream)
        error = response.json()["error"]
        assert (response.status_code, error["param"], error["code"]) == (400, "model", 400), text
        assert error["message"].startswith("sparsity_p is "), text
        assert ". Send a number" in error["message"], text


@pytest.mark.parametrize("path", BODIES)
def test_a_field_that_disagrees_is_refused(server, path):
    response = post(server, path, "demo@p=0.6", sparsity_p=0.5)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "sparsity_p")
    assert "sparsity_p is 0.5 and model is 'demo@p=0.6'" in response.json()["error"]["message"]


@pytest.mark.parametrize("model", ["nobody@p=0.6", "nobody@p=abc", "@p=0.6"])
def test_an_unknown_model_is_vllms_own_404(client, model):
    with pytest.raises(openai.NotFoundError, match=f"The model `{model}` does not exist"):
        client.chat.completions.create(model=model, **BODIES["chat/completions"])


def test_lists_and_labels_name_models_only(server, client):
    post(server, "completions", "demo@p=0.61")
    assert [model.id for model in client.models.list().data] == ["demo"]
    assert "@p=" not in httpx.get(f"{server.url}/metrics", timeout=60).text
