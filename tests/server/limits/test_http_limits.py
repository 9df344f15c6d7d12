"""The limits of one request on a server that runs; it answers the next one each time."""

import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.guarded import (
    ENDLESS_RESPONSE,
    LONG,
    MAX_OUTPUT_TOKENS,
    MAX_PROMPT_TOKENS,
    MAX_REQUEST_S,
    MAX_UPLOAD_S,
    QUESTION,
    ask,
    authorization,
)
from tests.server.harness import wait_until

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
PROMPT = {"model": "demo", "prompt": "what color ?", "max_tokens": 2}
INPUT = {"model": "demo", "input": "what color ?", "max_output_tokens": 2}


def json_schema(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


LARGE_SCHEMA = {"type": "object", "properties": {f"name{number}": {"type": "string"} for number in range(50)}}
LARGE_TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": LARGE_SCHEMA}}

REFUSED = {
    "n": (CHAT, {**QUESTION, "n": 9, "temperature": 1}, "n is 9"),
    "n-huge": (COMPLETIONS, {**PROMPT, "n": 10**9, "temperature": 1}, "n is 1000000000"),
    "n-negative": (CHAT, {**QUESTION, "n": -1, "temperature": 1}, "n must be at least 1"),
    "beams": (COMPLETIONS, {**PROMPT, "n": 9, "use_beam_search": True, "sparsity_p": 1}, "n is 9"),
    "prompts": (COMPLETIONS, {**PROMPT, "prompt": ["x"] * 9}, "9 prompt"),
    "conversations": (f"{CHAT}/batch", {**QUESTION, "messages": [QUESTION["messages"]] * 9}, "9 prompt"),
    "output": (CHAT, {**QUESTION, "max_tokens": MAX_OUTPUT_TOKENS + 1}, "max_tokens is 3501"),
    "output-responses": (RESPONSES, {**INPUT, "max_output_tokens": MAX_OUTPUT_TOKENS + 1}, "max_output_tokens is 3501"),
    "output-messages": (MESSAGES, {**QUESTION, "max_tokens": MAX_OUTPUT_TOKENS + 1}, "max_tokens is 3501"),
    "prompt": (COMPLETIONS, {**PROMPT, "prompt": [5] * (MAX_PROMPT_TOKENS + 1)}, "The prompt has 1501 tokens"),
    "prompt-dense": (
        COMPLETIONS,
        {**PROMPT, "prompt": [5] * (MAX_PROMPT_TOKENS + 1), "sparsity_p": 1},
        "The prompt has 1501 tokens",
    ),
    "prompt-responses": (RESPONSES, {**INPUT, "input": "color " * 1600, "stream": True}, "but may have 1500"),
    "prompt-messages": (
        MESSAGES,
        {**QUESTION, "messages": [{"role": "user", "content": "color " * 1600}]},
        "have 1500",
    ),
    "prompt-letters": (COMPLETIONS, {**PROMPT, "prompt": "x" * 190_000}, "maximum context length"),
    "text": (
        COMPLETIONS,
        {**PROMPT, "prompt": "x " * 200_000, "truncate_prompt_tokens": 5},
        "characters of text, but may have 200000",
    ),
    "text-tokenize": ("/tokenize", {"prompt": "x " * 200_000}, "characters of text, but may have 200000"),
    "text-detokenize": ("/detokenize", {"tokens": [5] * 200_001}, "characters of text, but may have 200000"),
    "stop-strings": (CHAT, {**QUESTION, "stop": ["a", "b", "c", "d", "e"]}, "at most 4 items"),
    "stop-long": (CHAT, {**QUESTION, "stop": "x" * 1025}, "stop has a string of 1025"),
    "stop-ids": (COMPLETIONS, {**PROMPT, "stop_token_ids": [1] * 17}, "stop_token_ids has 17"),
    "bias": (CHAT, {**QUESTION, "logit_bias": {str(token): 1 for token in range(17)}}, "logit_bias has 17"),
    "logprobs": (CHAT, {**QUESTION, "logprobs": True, "top_logprobs": 21}, "logprobs"),
    "logprobs-all": (CHAT, {**QUESTION, "logprobs": True, "top_logprobs": -1}, "logprobs"),
    "logprobs-prompt": (COMPLETIONS, {**PROMPT, "prompt_logprobs": 10**6, "sparsity_p": 1}, "logprobs"),
    "schema": (CHAT, {**QUESTION, "response_format": json_schema(LARGE_SCHEMA)}, "structured_outputs.json"),
    "schema-pattern": (CHAT, {**QUESTION, "response_format": json_schema({"pattern": "a" * 65})}, "65 characters"),
    "schema-tool": (CHAT, {**QUESTION, "tools": [LARGE_TOOL], "tool_choice": "required"}, "bytes, but may have 1024"),
    "schema-responses": (
        RESPONSES,
        {**INPUT, "text": {"format": {"type": "json_schema", "name": "x", "schema": LARGE_SCHEMA}}},
        "bytes, but may have 1024",
    ),
    "regex": (COMPLETIONS, {**PROMPT, "structured_outputs": {"regex": "(a|b)*" * 500}}, "3000 characters"),
    "grammar": (CHAT, {**QUESTION, "structured_outputs": {"grammar": 'root ::= "a"' + ' "a"' * 400}}, "bytes"),
    "choice": (CHAT, {**QUESTION, "structured_outputs": {"choice": ["x" * 100] * 20}}, "bytes"),
    "unknown": (CHAT, {**QUESTION, "sparsity_q": 0.9}, "sparsity_q is no field of a request"),
    "unknown-responses": (RESPONSES, {**INPUT, "sparsity": 0.9}, "sparsity is no field"),
    "unknown-invocations": ("/invocations", {**QUESTION, "sparsity_q": 0.9}, "sparsity_q is no field"),
    "unread": (MESSAGES, {**QUESTION, "sparsity_p": 0.9}, "runs with the server's default"),
    "unread-tokenize": ("/tokenize", {"prompt": "x", "sparsity_p": 0.9}, "runs with the server's default"),
    "extra-body": (CHAT, {**QUESTION, "extra_body": {"sparsity_p": 0.9}}, "argument of OpenAI's SDK"),
}


@pytest.mark.parametrize(("path", "body", "sentence"), REFUSED.values(), ids=REFUSED)
def test_too_much_is_refused_and_the_next_request_is_answered(guarded, path, body, sentence):
    response = ask(guarded, path, body)
    assert response.status_code == 400, response.text[:500]
    assert sentence in response.json()["error"]["message"]
    assert ask(guarded, COMPLETIONS, PROMPT).status_code == 200


def test_what_is_within_the_limits_is_answered(guarded):
    small = json_schema({"type": "object", "properties": {"color": {"type": "string", "pattern": "a|b"}}})
    for path, body in (
        (CHAT, {**QUESTION, "response_format": small, "n": 2, "temperature": 1}),
        (COMPLETIONS, {**PROMPT, "prompt": [5] * MAX_PROMPT_TOKENS, "structured_outputs": {"regex": "a|b"}}),
        (RESPONSES, {**INPUT, "max_output_tokens": 16}),
        (MESSAGES, QUESTION),
    ):
        assert ask(guarded, path, body).status_code == 200, path


def test_the_body_has_a_limit(guarded):
    refused = ask(guarded, CHAT, {**QUESTION, "messages": [{"role": "user", "content": "x" * (1 << 20)}]})
    assert (refused.status_code, refused.headers["Connection"]) == (413, "close")
    assert ask(guarded, CHAT).status_code == 200


def test_a_deep_body_is_refused(guarded):
    for body in ("[" * 200_000, '{"messages":' * 50_000, '{"model":"demo","messages":' + "[" * 2000 + "]" * 2000 + "}"):
        response = httpx.post(
            f"{guarded.url}{CHAT}", content=body, timeout=60,
            headers={**authorization("plain"), "Content-Type": "application/json"},
        )  # fmt: skip
        assert response.status_code in (400, 422)
    assert ask(guarded, CHAT).status_code == 200


def test_a_slow_body_is_not_waited_for(guarded):
    address = urlsplit(guarded.url)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        f"Authorization: {authorization('plain')['Authorization']}\r\n\r\n{{"
    )
    start_s = time.monotonic()
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(head.encode())
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start_s >= MAX_UPLOAD_S


def test_who_has_no_key_sends_no_body(guarded):
    """The refusal comes before the body; nothing of it is kept."""
    address = urlsplit(guarded.url)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: server\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_request_has_so_much_time(guarded):
    start_s = time.monotonic()
    response = ask(guarded, CHAT, LONG)
    assert response.status_code == 504
    assert response.json()["error"]["message"].startswith(f"The answer was not whole after {MAX_REQUEST_S} s")
    assert time.monotonic() - start_s >= MAX_REQUEST_S
    wait_until(guarded.is_idle, 60, "the abort")


@pytest.mark.parametrize(("path", "body"), [(CHAT, LONG), (RESPONSES, ENDLESS_RESPONSE)], ids=["chat", "responses"])
def test_a_stream_has_so_much_time_and_says_so(guarded, path, body):
    text = ask(guarded, path, {**body, "stream": True}).text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["code"] == 504
    wait_until(guarded.is_idle, 60, "the abort")


def test_a_client_that_leaves_stops_costing(guarded):
    """While it waits in the queue, too."""
    bodies = [{**LONG, "n": 4}, {**LONG, "n": 4}]
    for body in bodies:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{guarded.url}{CHAT}", json=body, headers=authorization("plain"), timeout=1)
    wait_until(guarded.is_idle, MAX_REQUEST_S, "the abort")
    assert ask(guarded, CHAT).status_code == 200
