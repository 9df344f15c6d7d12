"""Keys, routes and policies of a server that runs."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.server.guarded import (
    ENDLESS_RESPONSE,
    KEYS,
    LONG,
    MAX_NUM_SEQS,
    MAX_QUEUED,
    MAX_REQUEST_S,
    QUESTION,
    ask,
    authorization,
)
from tests.server.harness import wait_until

CHAT = "/v1/chat/completions"
# Everything that vLLM's own key check leaves open, and what it guards.
GUARDED = [
    ("GET", "/v1/models"), ("POST", CHAT), ("POST", "/v1/completions"), ("POST", "/v1/responses"),
    ("GET", "/v1/responses/resp_1"), ("POST", "/v1/messages"), ("POST", "/invocations"), ("POST", "/tokenize"),
    ("POST", "/detokenize"), ("GET", "/version"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/redoc"),
    ("POST", "/is_scaling_elastic_ep"), ("POST", "/scale_elastic_ep"), ("POST", "/generative_scoring"),
    ("GET", "/metrics/"), ("GET", "/metricsx"), ("GET", "/"), ("GET", "/no/such/route"), ("OPTIONS", CHAT),
]  # fmt: skip

OFF = [
    "/scale_elastic_ep", "/generative_scoring", "/inference/v1/generate", "/inference/v1/abort_requests",
    "/v1/systemone", "/v1/load_lora_adapter", "/sleep", "/collective_rpc", "/v1/completions/render",
]  # fmt: skip


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-key-0123456789"}], ids=["no-key", "wrong-key"])
def test_every_route_but_the_probes_asks_for_a_key(guarded, headers):
    with httpx.Client(base_url=guarded.url, headers=headers, timeout=60) as client:
        for method, path in GUARDED:
            response = client.request(method, path)
            assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer"), path
        for path in ("/livez", "/health", "/metrics"):
            assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("name", ["plain", "spare", "narrow"])
def test_each_key_is_let_in(guarded, name):
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEYS[name], max_retries=0, timeout=60)
    assert client.chat.completions.create(**QUESTION).usage.completion_tokens > 0
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key=KEYS[name] + "x").models.list()


def test_no_key_and_no_prompt_in_the_log(guarded):
    ask(guarded, CHAT, {**QUESTION, "messages": [{"role": "user", "content": "a very private question"}]})
    text = guarded.log.read_text()
    assert not any(key in text for key in KEYS.values())
    assert "private question" not in text


def test_routes_that_nobody_asked_for_do_not_exist(guarded):
    for path in OFF:
        assert ask(guarded, path, key="operator").status_code == 404, path
    schema = httpx.get(f"{guarded.url}/openapi.json", headers=authorization("plain"), timeout=60).json()
    assert "/invocations" in schema["paths"]
    assert "/scale_elastic_ep" not in schema["paths"]


def test_routes_that_change_the_server_are_for_operators(guarded):
    assert ask(guarded, "/is_scaling_elastic_ep", key="operator").status_code == 200
    refused = ask(guarded, "/is_scaling_elastic_ep")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "PermissionDeniedError")


@pytest.mark.parametrize("path", [CHAT, "/invocations"])
def test_a_caller_has_its_own_default_and_bounds(guarded, path):
    assert ask(guarded, path, key="narrow").json()["usage"]["sparsity"]["sparsity_p"] == 0.8
    for sparsity_p in (0.4, 0.95, 1):
        refused = ask(guarded, path, {**QUESTION, "sparsity_p": sparsity_p}, key="narrow")
        assert refused.status_code == 400
        assert "but this server allows 0.5 to 0.9" in refused.json()["error"]["message"]
        assert ask(guarded, path, {**QUESTION, "sparsity_p": sparsity_p}).status_code == 200


def test_an_alias_stays_within_the_callers_bounds(guarded):
    refused = ask(guarded, CHAT, {**QUESTION, "model": "demo@p=0.95"}, key="narrow")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


def test_routes_without_the_field_run_with_the_callers_default(guarded):
    body = {"model": "demo", "max_tokens": 2, "messages": [{"role": "user", "content": "what color ?"}]}
    dense_before = guarded.metric("winnow_requests_total", mode="dense")
    assert ask(guarded, "/v1/messages", body, key="narrow").status_code == 200
    assert guarded.metric("winnow_requests_total", mode="dense") == dense_before


def test_a_caller_begins_so_many_requests_in_a_minute(guarded):
    statuses = [ask(guarded, CHAT, key="rated").status_code for _ in range(3)]
    refused = ask(guarded, CHAT, key="rated")
    assert (statuses, refused.status_code) == ([200] * 3, 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.json()["error"]["message"].startswith("3 requests of this key began in the last minute")
    assert ask(guarded, CHAT).status_code == 200


def test_a_caller_has_so_many_requests_at_a_time(guarded):
    body = {**LONG, "n": 1, "stream": True}
    headers = authorization("single")
    with httpx.stream("POST", f"{guarded.url}{CHAT}", json=body, headers=headers, timeout=60) as stream:
        # Kept: without its iterator the stream would close.
        lines = stream.iter_lines()
        next(lines)
        refused = ask(guarded, CHAT, key="single")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert ask(guarded, CHAT).status_code == 200
    wait_until(lambda: ask(guarded, CHAT, key="single").status_code == 200, 30, "the end of its only request")


def test_a_background_response_is_one_of_its_callers_requests_and_has_their_time(guarded):
    body = {**ENDLESS_RESPONSE, "background": True}
    response_id = ask(guarded, "/v1/responses", body, key="single").json()["id"]
    assert ask(guarded, CHAT, key="single").status_code == 429
    wait_until(
        lambda: read(guarded, response_id, "single").json().get("status") == "cancelled",
        3 * MAX_REQUEST_S,
        "the end of its time",
    )
    wait_until(lambda: ask(guarded, CHAT, key="single").status_code == 200, 30, "the end of its only request")


def read(server, response_id: str, key: str) -> httpx.Response:
    return httpx.get(f"{server.url}/v1/responses/{response_id}", headers=authorization(key), timeout=60)


def test_stored_responses_are_their_callers_own(guarded):
    body = {"model": "demo", "input": "what color ?", "max_output_tokens": 2}
    response_id = ask(guarded, "/v1/responses", body).json()["id"]
    assert read(guarded, response_id, "plain").status_code == 200
    assert read(guarded, response_id, "spare").status_code == 200
    assert read(guarded, response_id, "narrow").status_code == 404
    assert ask(guarded, f"/v1/responses/{response_id}/cancel", key="narrow").status_code == 404
    following = {**body, "previous_response_id": response_id}
    assert ask(guarded, "/v1/responses", following, key="narrow").status_code == 404
    assert ask(guarded, "/v1/responses", following).status_code == 200


def test_no_caller_sees_another_ones_prefix_cache(guarded):
    body = {**QUESTION, "sparsity_p": 1, "messages": [{"role": "user", "content": "isolated " * 60}]}

    def num_cached(key: str) -> float:
        before = guarded.metric("vllm:prefix_cache_hits_total")
        assert ask(guarded, CHAT, body, key=key).status_code == 200
        return guarded.metric("vllm:prefix_cache_hits_total") - before

    assert num_cached("plain") == 0
    assert num_cached("spare") > 0
    assert num_cached("operator") == 0


def test_a_full_server_says_when_to_come_again_and_its_probes_answer(guarded):
    wait_until(guarded.is_idle, 60, "the end of earlier requests")
    with ThreadPoolExecutor(2 * (MAX_NUM_SEQS + MAX_QUEUED)) as pool:
        waiting = [pool.submit(ask, guarded, CHAT, LONG) for _ in range(2 * (MAX_NUM_SEQS + MAX_QUEUED))]
        time.sleep(2)
        for path in ("/livez", "/health", "/metrics"):
            assert httpx.get(f"{guarded.url}{path}", timeout=MAX_REQUEST_S).status_code == 200
        answers = [future.result() for future in waiting]
    full = [answer for answer in answers if answer.status_code == 503]
    assert len(full) >= MAX_NUM_SEQS + MAX_QUEUED
    assert {answer.headers["Retry-After"] for answer in full} == {"1"}
    wait_until(guarded.is_idle, 60, "the end of what ran too long")
    assert ask(guarded, CHAT).status_code == 200
