"""One record per request: what it says, when it is written, and what it leaves out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive

from server.access_log import AccessLog
from server.exchange import Exchange, ReportSlot
from server.record import RequestRecord, begin_record, current_record


@pytest.fixture
def records(monkeypatch) -> Iterator[list[logging.LogRecord]]:
    """What the logger gets; vLLM's loggers may hand nothing on to the root, where pytest listens."""
    records = []
    logger = logging.getLogger("vllm.server.access_log")
    monkeypatch.setattr(logger, "handle", records.append)
    logger.setLevel(logging.INFO)
    yield records
    logger.setLevel(logging.NOTSET)


def application(make_report):
    """Answers, refuses, and fails."""

    async def answer(request):
        record = current_record()
        record.key, record.model = "lab", "demo" + "!" * 300
        record.exchange = Exchange(0.9, slots=[ReportSlot(make_report()), ReportSlot(make_report(token_ratio=0.6))])
        return PlainTextResponse("yes")

    async def refuse(request):
        return PlainTextResponse("no", status_code=403)

    async def fail(request):
        raise RuntimeError("nobody expects this")

    routes = [Route("/answer", answer), Route("/quiet", refuse), Route("/fail", fail), Route("/silent", answer)]
    app = AccessLog(Starlette(routes=routes), quiet_paths=frozenset({"/quiet", "/silent"}))

    async def with_record(scope, receive, send):
        begin_record(RequestRecord("mine"))
        await app(scope, receive, send)

    return with_record


@pytest.fixture
def client(make_report) -> TestClient:
    return TestClient(application(make_report), raise_server_exceptions=False)


def test_the_record_says_what_pruning_saved_and_not_what_was_asked(client, records):
    client.get("/answer?secret=1", headers={"Authorization": "Bearer secret"})
    (record,) = records
    wanted = {
        "request_id": "mine", "method": "GET", "path": "/answer", "status": 200, "client": "testclient", "key": "lab",
        "model": "demo" + "!" * 196 + "...", "sparsity_p": 0.9, "token_ratio": 0.5, "kv_ratio": 0.5,
        "prompt_tokens": 200,
    }  # fmt: skip
    assert {name: vars(record)[name] for name in wanted} == wanted
    assert record.getMessage().startswith("GET /answer 200 duration_s=0.")
    assert "token_ratio=0.5" in record.getMessage()
    assert "secret" not in str(vars(record))


def test_quiet_paths_speak_up_when_something_is_wrong(client, records):
    client.get("/silent")
    assert records == []
    client.get("/quiet")
    assert [record.status for record in records] == [403]


def test_a_failure_is_a_500(client, records):
    assert client.get("/fail").status_code == 500
    assert [record.status for record in records] == [500]


def test_a_route_that_knows_no_sparsity_says_nothing_about_it(client, records):
    client.get("/nowhere")
    (record,) = records
    assert record.status == 404
    assert not hasattr(record, "sparsity_p")


MESSAGES = {
    "nothing": [],
    "start": [{"type": "http.response.start", "status": 200, "headers": []}],
    "part": [{"type": "http.response.body", "body": b"1", "more_body": True}],
    "all": [{"type": "http.response.body", "body": b"2"}],
}


def answer_that_stops(event: Callable[[Receive], Awaitable[None]], after: str) -> None:
    """Send an answer message by message, with an event after one of them."""

    async def app(scope, receive, send):
        for name, parts in MESSAGES.items():
            for message in parts:
                await send(message)
            if name == after:
                await event(receive)

    async def disconnect():
        return {"type": "http.disconnect"}

    async def drop(message):
        pass

    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/%0a", "client": None}
    asyncio.run(AccessLog(app, frozenset())(scope, disconnect, drop))


@pytest.mark.parametrize(("after", "status"), [("nothing", 499), ("start", 499), ("part", 499), ("all", 200)], ids=str)
def test_a_client_that_leaves_before_the_end_is_499(records, after, status):
    answer_that_stops(lambda receive: receive(), after)
    (record,) = records
    assert (record.status, record.path) == (status, "/%0a")


@pytest.mark.parametrize(("after", "status"), [("nothing", 500), ("start", 500), ("part", 500), ("all", 200)], ids=str)
def test_an_answer_that_breaks_off_is_a_500_and_its_fault_goes_on(records, after, status):
    async def fail(receive):
        raise RuntimeError("nobody expects this")

    with pytest.raises(RuntimeError, match="nobody expects this"):
        answer_that_stops(fail, after)
    assert [record.status for record in records] == [status]
