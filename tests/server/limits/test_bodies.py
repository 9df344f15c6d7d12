"""The layer that reads bodies, around a small application that counts what reaches it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from server.limits.bodies import Bodies
from server.limits.settings import MIB, RequestLimits

LIMITS = RequestLimits(max_body_mib=1, max_bodies_mib=2, max_upload_s=0.5)


async def size_of_body(scope, receive, send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@pytest.fixture
def post() -> Callable[..., httpx.Response]:
    """One layer for all calls of a test."""
    app = Bodies(size_of_body, LIMITS)

    def post(content, path: str = "/tokenize", **headers: str) -> httpx.Response:
        async def run() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
                return await client.post(path, content=content, headers=headers)

        return anyio.run(run)

    return post


async def pieces(num_bytes: int, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    """Without a length in front."""
    for start in range(0, num_bytes, 1 << 16):
        yield b"x" * min(1 << 16, num_bytes - start)
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("num_bytes", [0, 1, MIB - 1, MIB])
def test_bodies_within_the_limit_arrive_whole(post, num_bytes):
    assert post(b"x" * num_bytes).text == str(num_bytes)
    assert post(pieces(num_bytes)).text == str(num_bytes)


@pytest.mark.parametrize("body", [b"x" * (MIB + 1), None], ids=["length", "pieces"])
def test_larger_ones_are_refused(post, body):
    response = post(pieces(MIB + 1) if body is None else body)
    assert (response.status_code, response.headers["Connection"]) == (413, "close")
    assert f"but may have {MIB}. Send less" in response.json()["error"]["message"]


def test_a_length_is_believed_before_anything_is_read(post):
    assert post(b"x", **{"Content-Length": str(1 << 62)}).status_code == 413


def test_a_slow_body_is_not_waited_for(post):
    response = post(pieces(MIB, pause_s=0.2))
    assert (response.status_code, response.headers["Connection"]) == (408, "close")
    assert " bytes of the body have come in 0.5 s, but the whole of it must." in response.json()["error"]["message"]


def test_all_bodies_together_have_a_limit_and_are_given_back():
    is_over = asyncio.Event()

    async def hold(scope, receive, send) -> None:
        await is_over.wait()
        await size_of_body(scope, receive, send)

    async def run() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:

            async def post() -> int:
                return (await client.post("/", content=b"x" * MIB)).status_code

            running = [asyncio.create_task(post()) for _ in range(2)]
            await asyncio.sleep(0.1)
            refused = await client.post("/", content=b"x")
            assert refused.headers["Retry-After"] == "1"
            is_over.set()
            return [*(await asyncio.gather(*running)), refused.status_code, await post(), await post(), await post()]

    app = Bodies(hold, LIMITS)
    assert anyio.run(run) == [200, 200, 503, 200, 200, 200]


def test_a_client_that_leaves_is_not_answered():
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    anyio.run(Bodies(size_of_body, LIMITS), scope, receive, send)


def test_what_has_no_body_passes_untouched():
    passed = []

    async def app(scope, receive, send) -> None:
        passed.append((receive, send))

    anyio.run(Bodies(app, LIMITS), {"type": "http", "method": "GET"}, "receive", "send")
    assert passed == [("receive", "send")]


@pytest.mark.parametrize("path", ["/v1/messages", "/tokenize", "/v1/messages/count_tokens", "/generative_scoring"])
@pytest.mark.parametrize("name", ["sparsity_p", "sparsity_q", "sparsity", "Sparsity_P"])
def test_routes_without_the_field_refuse_it(post, path, name):
    response = post(json.dumps({"prompt": "x", name: 0.9}), path)
    assert (response.status_code, response.json()["error"]["param"]) == (400, name)
    assert f"{path} runs with the server's default" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        '{"prompt": "what is sparsity_p ?"}', '{"messages": [{"content": "x", "sparsity_p": 1}]}', '["sparsity_p"]',
        '"sparsity_p', "sparsity", '{"sparsity_p"', "[" * 100_000 + '"sparsity"', b"\xff\xfesparsity",
    ],
)  # fmt: skip
def test_the_word_elsewhere_is_left_to_vllm(post, body):
    assert post(body).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/invocations"])
def test_routes_with_the_field_check_it_themselves(post, path):
    assert post('{"sparsity_q": 1}', path).status_code == 200
