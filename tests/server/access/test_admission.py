"""Who takes a place of the server's capacity, and from when."""

import asyncio
from collections.abc import Callable

import anyio
import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from server.access.admission import Admission, Capacity, Places
from server.access.callers import anonymous, begin_call
from server.access.settings import AccessSettings
from server.limits.bodies import Bodies
from server.limits.settings import RequestLimits
from server.settings import ServerSettings

MAX_IN_FLIGHT = 2


class Stack:
    """The layers in the order of server/middleware.py, around an application that answers when it is let.

    Args:
        num_in_engine: what the engine says that it has.
        concurrent_requests: of the only caller.
    """

    def __init__(self, num_in_engine: int = 0, concurrent_requests: int = 0) -> None:
        self.capacity = Capacity(MAX_IN_FLIGHT, lambda: num_in_engine, frozenset({"/readyz"}))
        self.may_answer = asyncio.Event()
        self._app = Admission(Bodies(Places(self._answer, self.capacity), RequestLimits()), self.capacity)
        self._caller = anonymous(ServerSettings(access=AccessSettings(concurrent_requests=concurrent_requests)))

    async def __call__(self, scope, receive, send) -> None:
        begin_call(self._caller)
        await self._app(scope, receive, send)

    async def _answer(self, scope, receive, send) -> None:
        await self.may_answer.wait()
        await PlainTextResponse("done")(scope, receive, send)


def statuses(run: Callable, stack: ASGIApp) -> list[int]:
    async def within() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(stack), base_url="http://server") as client:
            return [response.status_code for response in await run(client)]

    return anyio.run(within)


async def endless():
    yield b"{"
    await asyncio.Event().wait()


def test_as_many_as_fit_and_the_next_when_one_is_done():
    stack = Stack()

    async def run(client) -> list[httpx.Response]:
        running = [asyncio.create_task(client.post("/", content=b"{}")) for _ in range(MAX_IN_FLIGHT)]
        await asyncio.sleep(0.05)
        refused = await client.post("/", content=b"{}")
        assert refused.headers["Retry-After"] == "1"
        stack.may_answer.set()
        return [refused, *await asyncio.gather(*running), await client.post("/", content=b"{}")]

    assert statuses(run, stack) == [503, 200, 200, 200]
    assert stack.capacity.num_in_flight == 0


def test_bodies_that_never_end_keep_nobody_out():
    stack = Stack()
    stack.may_answer.set()

    async def run(client) -> list[httpx.Response]:
        slow = [asyncio.create_task(client.post("/", content=endless())) for _ in range(5 * MAX_IN_FLIGHT)]
        await asyncio.sleep(0.05)
        answer = await client.post("/", content=b"{}")
        for task in slow:
            task.cancel()
        return [answer]

    assert statuses(run, stack) == [200]


@pytest.mark.parametrize("path", ["/", "/readyz"])
def test_what_the_engine_has_counts_but_for_probes(path):
    stack = Stack(num_in_engine=MAX_IN_FLIGHT)
    stack.may_answer.set()

    async def run(client) -> list[httpx.Response]:
        return [await client.get(path)]

    assert statuses(run, stack) == [200 if path == "/readyz" else 503]


def test_a_caller_has_its_own_limit_from_the_first_byte():
    stack = Stack(concurrent_requests=1)
    stack.may_answer.set()

    async def run(client) -> list[httpx.Response]:
        slow = asyncio.create_task(client.post("/", content=endless()))
        await asyncio.sleep(0.05)
        refused = await client.post("/", content=b"{}")
        slow.cancel()
        await asyncio.sleep(0.05)
        return [refused, await client.post("/", content=b"{}")]

    assert statuses(run, stack) == [429, 200]
