"""A client that goes away: its request is aborted, its blocks are back, the next one is answered."""

import base64
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server.guarded import ENDLESS_RESPONSE
from tests.server.harness import encoded, picture, question, wait_until

ABORT_TIMEOUT_S = 30
MAX_TOKENS = 3500
# So many of them take longer than this process may have to wait for its turn.
NUM_SEQUENCES = 16


def long_request(about_picture, **fields) -> dict:
    """Would run until the context is full."""
    length = {"max_tokens": MAX_TOKENS, "ignore_eos": True, "n": NUM_SEQUENCES, "temperature": 1}
    return {"model": "demo", "messages": about_picture, "sparsity_p": 0.6, **length, **fields}


@contextlib.contextmanager
def cut_off(server, num_tokens: int) -> Iterator[None]:
    """A request of this length begins within the block, and never comes to its end."""
    generated_before = server.metric("vllm:generation_tokens_total")
    yield
    wait_until(server.is_idle, ABORT_TIMEOUT_S, "the abort")
    assert server.metric("vllm:generation_tokens_total") - generated_before < num_tokens


def check_still_serving(server, client, about_picture) -> None:
    wait_until(server.is_idle, ABORT_TIMEOUT_S, "the return of all blocks")
    answer = client.chat.completions.create(
        model="demo", messages=about_picture, max_tokens=4, extra_body={"sparsity_p": 0.6}
    )
    assert answer.usage.sparsity["sparsity_p"] == 0.6


@pytest.mark.parametrize("sparsity_p", [0.6, 1.0])
def test_in_the_middle_of_a_stream(server, client, about_picture, sparsity_p):
    body = long_request(about_picture, stream=True, sparsity_p=sparsity_p)
    with (
        cut_off(server, NUM_SEQUENCES * MAX_TOKENS),
        httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response,
    ):
        assert response.status_code == 200
        assert next(response.iter_lines()).startswith('data: {"id":"chatcmpl-')
    check_still_serving(server, client, about_picture)


def test_others_in_the_same_batch_get_what_they_get_alone(server, client, about_picture):
    values = [0.3, 0.6, 0.9, 1.0]

    def answer(sparsity_p):
        response = client.chat.completions.create(
            model="demo", messages=about_picture, max_tokens=48, temperature=0,
            extra_body={"sparsity_p": sparsity_p, "ignore_eos": True},
        )  # fmt: skip
        return response.choices[0].message.content, response.usage.sparsity

    def leave(sparsity_p):
        body = long_request(about_picture, stream=True, sparsity_p=sparsity_p, n=1)
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response:
            next(response.iter_lines())

    alone = [answer(value) for value in values]
    with ThreadPoolExecutor(16) as pool:
        leaving = [pool.submit(leave, value) for value in values]
        together = list(pool.map(answer, values * 3))
        for future in leaving:
            future.result()
    assert together == alone * 3
    check_still_serving(server, client, about_picture)


def test_while_waiting_for_a_whole_response(server, client, about_picture):
    with cut_off(server, NUM_SEQUENCES * MAX_TOKENS), pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json=long_request(about_picture), timeout=1)
    check_still_serving(server, client, about_picture)


def test_its_picture_is_answered_for_others(server, client):
    """The picture was read, but never reached the engine: refused after reading, or its client left too early."""
    for number, timeout_s in enumerate([None, 0.01, 0.02, 0.05, 0.1]):
        url = "data:image/png;base64," + base64.b64encode(encoded(picture("red", 280 + 28 * number), "PNG")).decode()
        messages = question({"type": "image_url", "image_url": {"url": url}})
        body = {"model": "demo", "messages": messages, "max_tokens": 4, "sparsity_p": 0.6, "prompt_logprobs": 1}
        if timeout_s is None:
            assert httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).status_code == 400
        else:
            del body["prompt_logprobs"]
            with contextlib.suppress(httpx.TimeoutException):
                httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=timeout_s)
        check_still_serving(server, client, messages)


def test_responses_stream(server, client):
    body = {**ENDLESS_RESPONSE, "stream": True, "sparsity_p": 0.6}
    with (
        cut_off(server, ENDLESS_RESPONSE["max_output_tokens"]),
        httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=60) as response,
    ):
        next(response.iter_lines())


def test_bodies_that_are_no_json(server):
    response = httpx.post(
        f"{server.url}/v1/completions", content=json.dumps({"prompt": "x"})[:-3],
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert response.status_code == 400
