"""The time limit, around small applications that take too long in each of the ways that vLLM can."""

import asyncio
import json
import time

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from server.limits import deadlines
from server.limits.deadlines import Deadlines

TIME_S = 0.2


def call(app) -> tuple[httpx.Response, float]:
    async def run() -> tuple[httpx.Response, float]:
        start_s = time.monotonic()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(Deadlines(app, TIME_S)), base_url="http://server"
        ) as client:
            response = await client.post("/", content=b"{}")
            return response, time.monotonic() - start_s

    return anyio.run(run)


def test_answers_in_time_pass_untouched():
    async def app(scope, receive, send) -> None:
        await JSONResponse(await Request(scope, receive).json())(scope, receive, send)

    assert call(app)[0].json() == {}


def test_instead_of_an_answer_there_is_an_error():
    seen = []

    async def app(scope, receive, send) -> None:
        """As vLLM's `with_cancellation`: it waits for the client's leaving and answers null, which nobody reads."""
        request = Request(scope, receive)
        await request.body()
        seen.append(await receive())
        await JSONResponse(None)(scope, receive, send)

    response, _ = call(app)
    assert seen == [{"type": "http.disconnect"}]
    assert response.status_code == 504
    assert response.json()["error"]["message"].startswith("The answer was not whole after 0.2 s, but must be.")


def test_a_stream_ends_with_an_event_that_says_why():
    is_closed = []

    async def events():
        try:
            while True:
                yield 'data: {"choices":[]}\n\n'
                await asyncio.sleep(0.05)
        finally:
            is_closed.append(True)

    async def app(scope, receive, send) -> None:
        await Request(scope, receive).body()
        await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)

    response, _ = call(app)
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert is_closed == [True]
    assert lines[0] == '{"choices":[]}'
    assert lines[-1] == "[DONE]"
    assert json.loads(lines[-2])["error"]["code"] == 504


def test_what_does_not_stop_by_itself_is_cancelled(monkeypatch):
    monkeypatch.setattr(deadlines, "GRACE_S", 0.2)

    async def app(scope, receive, send) -> None:
        await asyncio.sleep(3600)

    response, wall_s = call(app)
    assert response.status_code == 504
    assert 2 * TIME_S <= wall_s < 60


def test_a_client_that_reads_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(deadlines, "GRACE_S", 0.2)
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def app(scope, receive, send) -> None:
        await StreamingResponse(iter(["data: x\n\n"] * 10), media_type="text/event-stream")(scope, receive, send)

    async def receive():
        return messages.pop() if messages else await asyncio.sleep(3600)

    async def send(message):
        await asyncio.sleep(3600)

    async def run() -> float:
        start_s = time.monotonic()
        await Deadlines(app, TIME_S)({"type": "http"}, receive, send)
        return time.monotonic() - start_s

    assert anyio.run(run) < 60


def test_a_timeout_within_vllm_is_not_ours():
    async def app(scope, receive, send) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        call(app)


def test_a_client_that_leaves_is_seen_as_before():
    async def app(scope, receive, send) -> None:
        assert await receive() == {"type": "http.disconnect"}

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    anyio.run(Deadlines(app, 60), {"type": "http"}, receive, send)
