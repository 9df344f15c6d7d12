"""A client that goes away: its request is aborted, its blocks are back, the next one is answered."""

import json

import httpx
import pytest

from tests.server.harness import wait_until

ABORT_TIMEOUT_S = 20


def long_request(about_picture, **fields) -> dict:
    """Would run until the context is full."""
    return {"model": "demo", "messages": about_picture, "max_tokens": 1800, "ignore_eos": True, "sparsity_p": 0.6,
            **fields}  # fmt: skip


def check_still_serving(server, client, about_picture) -> None:
    wait_until(server.is_idle, ABORT_TIMEOUT_S, "the return of all blocks")
    answer = client.chat.completions.create(
        model="demo", messages=about_picture, max_tokens=4, extra_body={"sparsity_p": 0.6}
    )
    assert answer.usage.sparsity["sparsity_p"] == 0.6


@pytest.mark.parametrize("sparsity_p", [0.6, 1.0])
def test_in_the_middle_of_a_stream(server, client, about_picture, sparsity_p):
    finished_before = server.metric("winnow_requests_total")
    body = long_request(about_picture, stream=True, sparsity_p=sparsity_p)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response:
        assert response.status_code == 200
        wait_until(lambda: server.metric("vllm:num_requests_running") == 1, ABORT_TIMEOUT_S, "the start")
        assert server.metric("vllm:kv_cache_usage_perc") > 0
    wait_until(server.is_idle, ABORT_TIMEOUT_S, "the abort")
    assert server.metric("winnow_requests_total") == finished_before
    check_still_serving(server, client, about_picture)


def test_while_waiting_for_a_whole_response(server, client, about_picture):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json=long_request(about_picture), timeout=0.5)
    check_still_serving(server, client, about_picture)


def test_responses_stream(server, client):
    body = {"model": "demo", "input": "what color ?", "stream": True, "max_output_tokens": 1800, "sparsity_p": 0.6}
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=60) as response:
        next(response.iter_lines())
    wait_until(server.is_idle, ABORT_TIMEOUT_S, "the abort")


def test_bodies_that_are_no_json(server):
    response = httpx.post(
        f"{server.url}/v1/completions", content=json.dumps({"prompt": "x"})[:-3],
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert response.status_code == 400
