"""Every refusal of the layers around vLLM's application is counted once, under its reason."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import anyio
import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from server.access.admission import Admission, Capacity, Places
from server.access.callers import anonymous, begin_call, callers_of
from server.access.keys import Keys
from server.access.policies import read_policies
from server.access.routes import OperatorsOnly
from server.access.settings import AccessSettings
from server.limits.bodies import Bodies
from server.limits.deadlines import Deadlines
from server.limits.settings import MIB, RequestLimits
from server.refusals import Reason, refusal, refused_requests
from server.request_ids import RequestIds
from server.settings import ServerSettings

METRIC = "winnow_refused_requests_total"
PASSES = PlainTextResponse("passed")


async def slow(scope, receive, send) -> None:
    """Stops when the client seems to be gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def slow_stream(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await slow(scope, receive, send)


def of_alice(app: ASGIApp, **access: object) -> ASGIApp:
    """Called as a caller that has a key."""
    policies = read_policies(None, "alice=a-key-of-alice-0123456789", [])
    settings = ServerSettings(access=AccessSettings(policies=policies, **access))
    (caller,) = callers_of(settings)

    async def called(scope, receive, send) -> None:
        begin_call(caller)
        await app(scope, receive, send)

    called.caller = caller
    return called


def keys() -> ASGIApp:
    return Keys(PASSES, [of_alice(PASSES).caller], anonymous(ServerSettings()))


def admission(num_in_engine: int = 0, **access: object) -> ASGIApp:
    return of_alice(Admission(PASSES, Capacity(1, lambda: num_in_engine, frozenset())), **access)


def full_when_the_body_is_there() -> ASGIApp:
    return of_alice(Places(PASSES, Capacity(1, lambda: 1, frozenset())))


def busy() -> ASGIApp:
    app = admission(concurrent_requests=1)
    app.caller.allowance.begin()
    return app


def bodies(**limits: object) -> ASGIApp:
    return Bodies(PASSES, RequestLimits(max_body_mib=1, **limits))


def full_of_bodies() -> ASGIApp:
    app = bodies(max_bodies_mib=1)
    app.count(MIB)
    return app


async def dripping() -> AsyncIterator[bytes]:
    for _ in range(5):
        yield b"x"
        await asyncio.sleep(0.1)


# What is around it, what is sent, the answer's status, and the reason.
REFUSED = {
    "header": (lambda: RequestIds(PASSES), {"headers": {"X-Request-Id": "two words"}}, 400, Reason.REQUEST_ID),
    "no-key": (keys, {}, 401, Reason.UNAUTHORIZED),
    "wrong-key": (keys, {"headers": {"Authorization": "Bearer x"}}, 401, Reason.UNAUTHORIZED),
    "no-operator": (lambda: of_alice(OperatorsOnly(PASSES)), {}, 403, Reason.FORBIDDEN),
    "concurrency": (busy, {}, 429, Reason.CONCURRENCY),
    "queue": (partial(admission, num_in_engine=1), {}, 503, Reason.QUEUE),
    "queue-meanwhile": (full_when_the_body_is_there, {}, 503, Reason.QUEUE),
    "large": (bodies, {"content": bytes(MIB + 1)}, 413, Reason.BODY),
    "all-bodies": (full_of_bodies, {"content": b"x"}, 503, Reason.BODIES),
    "slow-body": (partial(bodies, max_upload_s=0.2), {"content": dripping}, 408, Reason.UPLOAD),
    "unread-field": (bodies, {"content": b'{"sparsity_p": 1}'}, 400, Reason.FIELD),
    "time": (lambda: Deadlines(slow, 0.1), {}, 504, Reason.TIME),
    "time-of-a-stream": (lambda: Deadlines(slow_stream, 0.1), {}, 200, Reason.TIME),
}


def post(app: ASGIApp, content: object = b"", **options: object) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return await client.post("/tokenize", content=content() if callable(content) else content, **options)

    return anyio.run(run)


@pytest.fixture
def counted() -> Callable[[], dict[str, float]]:
    """The reasons that were counted since the test began."""

    def values() -> dict[str, float]:
        return {reason: REGISTRY.get_sample_value(METRIC, {"reason": reason}) for reason in Reason}

    refused_requests()
    before = values()
    return lambda: {reason: value - before[reason] for reason, value in values().items() if value != before[reason]}


@pytest.mark.parametrize(("app", "request_", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_counts_once(counted, app, request_, status, reason):
    assert post(app(), **request_).status_code == status
    assert counted() == {reason: 1}


def test_the_rate_of_a_caller(counted):
    app = admission(requests_per_minute=2)
    assert [post(app).status_code for _ in range(4)] == [200, 200, 429, 429]
    assert counted() == {Reason.RATE: 2}


def test_what_is_let_through_does_not_count(counted):
    for app in (RequestIds(PASSES), admission(), bodies(), Deadlines(PASSES, 60)):
        assert post(app, content=b"{}").status_code == 200
    assert counted() == {}


def test_a_probes_answer_refuses_nobody(counted):
    refusal("The engine is dead.", reason=None)
    assert counted() == {}


def test_every_reason_is_a_series_from_the_start_and_there_are_no_others():
    refused_requests()
    (family,) = [family for family in REGISTRY.collect() if family.name == "winnow_refused_requests"]
    series = {sample.labels["reason"] for sample in family.samples if sample.name == METRIC}
    assert series == {reason.value for reason in Reason}
