"""The rule of names, and how a body's name and a header's meet."""

import asyncio
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from vllm.entrypoints.openai.chat_completion.protocol import BatchChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from server.errors import RequestRefused
from server.record import RequestRecord, begin_record, current_record
from server.request_ids import RequestIds, settle_request_id


@pytest.fixture
def client() -> TestClient:
    """An application that says what its request is called, and what a layer within answered before."""

    async def name(request):
        return PlainTextResponse(current_record().request_id, headers={"X-Request-Id": "of vLLM"})

    return TestClient(RequestIds(Starlette(routes=[Route("/", name)])))


@pytest.mark.parametrize("name", ["a", "x" * 128, "0af76519-16cd/43dd:8448=eb21,1c80@319c", "!~"])
def test_a_good_name_goes_in_and_out(client, name):
    answer = client.get("/", headers={"X-Request-Id": name})
    assert answer.text == name
    assert answer.headers.get_list("x-request-id") == [name]


def test_without_a_name_one_is_made(client):
    answer = client.get("/")
    assert len(answer.text) == 32
    assert answer.headers.get_list("x-request-id") == [answer.text]


def test_two_names_are_refused(client):
    answer = client.get("/", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "X-Request-Id is there 2 times, but names one request. Send it once."


def test_only_the_beginning_of_a_bad_name_is_repeated(client):
    answer = client.get("/", headers={"X-Request-Id": "x" * 5000})
    assert answer.json()["error"]["message"] == (
        f"X-Request-Id is '{'x' * 80}' (5000 characters), but must have 1 to 128 visible ASCII characters. "
        "Send such a name, or none."
    )


def test_other_protocols_pass_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    call = ({"type": "lifespan"}, object(), object())
    asyncio.run(RequestIds(app)(*call))
    assert seen == [call]


def settle(request, record) -> None:
    async def settle():
        begin_record(record)
        settle_request_id(request)

    asyncio.run(settle())


@pytest.mark.parametrize(
    "request_body",
    [
        CompletionRequest(prompt="hello"),
        BatchChatCompletionRequest(messages=[[{"role": "user", "content": "hello"}]]),
        BatchChatCompletionRequest(messages=[[{"role": "user", "content": "hello"}]], request_id=None),
    ],
    ids=["completion", "batch", "batch-null"],
)
def test_vllm_gets_the_name_of_the_record(request_body):
    settle(request_body, RequestRecord("made-up"))
    assert request_body.request_id == "made-up"


def test_the_record_gets_the_name_of_the_body():
    record = RequestRecord("made-up")
    settle(CompletionRequest(prompt="hello", request_id="mine"), record)
    assert record.request_id == "mine"


@pytest.mark.parametrize("name", ["", "line\nbreak", "x" * 129])
def test_the_rule_holds_for_the_body_too(name):
    with pytest.raises(RequestRefused, match=r"request_id is .* visible ASCII characters") as refused:
        settle(CompletionRequest(prompt="hello", request_id=name), RequestRecord("made-up"))
    assert refused.value.parameter == "request_id"


def test_without_a_record_nothing_changes():
    request = SimpleNamespace(model_fields_set=set(), request_id="vllm")
    settle_request_id(request)
    assert request.request_id == "vllm"
