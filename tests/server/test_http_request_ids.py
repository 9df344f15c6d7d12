"""X-Request-Id on the way in and out, and the id that vLLM's engine knows a request by."""

import httpx
import pytest

CHAT = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 2}
COMPLETION = {"prompt": "hello", "max_tokens": 2}


def post(server, path, body, **headers):
    return httpx.post(f"{server.url}{path}", json={"model": "demo", **body}, headers=headers, timeout=60)


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
def test_a_client_names_its_request(server, path, body):
    answer = post(server, path, body, **{"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json()["id"].endswith("-mine-1")


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
def test_a_request_without_a_name_gets_one(server, path, body):
    first, second = (post(server, path, body) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.json()["id"].endswith(f"-{first.headers['x-request-id']}")


def test_the_body_may_name_it(server):
    answer = post(server, "/v1/chat/completions", {**CHAT, "request_id": "mine-2"})
    assert answer.headers["x-request-id"] == "mine-2"
    assert answer.json()["id"] == "chatcmpl-mine-2"


def test_two_names_must_agree(server):
    body = {**CHAT, "request_id": "mine-3"}
    assert post(server, "/v1/chat/completions", body, **{"X-Request-Id": "mine-3"}).status_code == 200
    answer = post(server, "/v1/chat/completions", body, **{"X-Request-Id": "mine-4"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "request_id"
    assert "request_id is 'mine-3' and X-Request-Id is 'mine-4'" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"] == "mine-4"


@pytest.mark.parametrize("name", ["", "two words", "x" * 129, "é"], ids=["empty", "space", "long", "not-ascii"])
def test_a_name_that_could_spoil_a_log_is_refused(server, name):
    answer = post(server, "/v1/chat/completions", CHAT, **{"X-Request-Id": name.encode()})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Request-Id"
    assert "must have 1 to 128 visible ASCII characters" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"] != name


def test_errors_and_other_routes_carry_it_too(server):
    for path in ("/health", "/livez", "/nowhere"):
        assert httpx.get(f"{server.url}{path}", headers={"X-Request-Id": "mine-5"}).headers["x-request-id"] == "mine-5"
    refused = post(server, "/v1/chat/completions", {**CHAT, "sparsity_p": 7}, **{"X-Request-Id": "mine-6"})
    assert (refused.status_code, refused.headers["x-request-id"]) == (400, "mine-6")


def test_nobody_chooses_the_id_of_a_stored_response(server):
    body = {"input": "Who are you?", "max_output_tokens": 2}
    answer = post(server, "/v1/responses", {**body, "request_id": "resp_of_somebody_else"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "request_id"
    named = post(server, "/v1/responses", body, **{"X-Request-Id": "mine-7"})
    assert named.headers["x-request-id"] == "mine-7"
    assert "mine-7" not in named.json()["id"]


def test_two_requests_of_one_name_do_not_disturb_each_other(server):
    """vLLM's engine adds something random to the name."""
    with httpx.Client(timeout=60) as client:
        body = {"model": "demo", **CHAT, "stream": True, "max_tokens": 200, "ignore_eos": True}
        with client.stream(
            "POST", f"{server.url}/v1/chat/completions", json=body, headers={"X-Request-Id": "twin"}
        ) as first:
            events = first.iter_lines()
            next(events)
            assert post(server, "/v1/chat/completions", CHAT, **{"X-Request-Id": "twin"}).status_code == 200
            assert [line for line in events if line][-1] == "data: [DONE]"
