"""Decoded pixels of all requests: what they hold together, and that they give it back."""

import asyncio

import anyio
import httpx
import pytest
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO

from server.errors import RequestRefused, ServerFull
from server.media.connector import CheckedMediaConnector
from server.media.pixels import HeldPixels, Pixels, current_pixels
from server.media.settings import MediaSettings
from tests.server.harness import picture, video_url_of
from tests.server.media import corpus

MAX_PIXELS = 100


def pixels(app=None) -> Pixels:
    return Pixels(app, MAX_PIXELS)


def test_a_request_gets_no_more_than_all_may_have():
    held = HeldPixels(pixels())
    held.take(60, "image_url")
    with pytest.raises(
        RequestRefused, match="brings the pixels of this request to 101, but it may decode 100"
    ) as refused:
        held.take(41, "image_url")
    assert refused.value.parameter == "image_url"
    held.take(40, "image_url")


def test_requests_share_them_and_give_them_back():
    shared = pixels()
    first, second = HeldPixels(shared), HeldPixels(shared)
    first.take(60, "image_url")
    with pytest.raises(ServerFull, match="hold 60 decoded pixels, but may hold 100 together") as full:
        second.take(50, "image_url")
    assert full.value.http_status == 503
    second.take(40, "image_url")
    first.release()
    second.take(60, "image_url")


def test_a_thread_that_decodes_for_nobody_takes_nothing():
    shared = pixels()
    gone = HeldPixels(shared)
    gone.release()
    gone.take(MAX_PIXELS, "image_url")
    HeldPixels(shared).take(MAX_PIXELS, "image_url")


def test_a_request_holds_them_until_its_answer_is_whole():
    is_over = asyncio.Event()

    async def app(scope, receive, send) -> None:
        try:
            current_pixels().take(int(await Request(scope, receive).body()), "image_url")
        except ServerFull as full:
            await PlainTextResponse(full.message, full.http_status)(scope, receive, send)
            return
        await is_over.wait()
        await PlainTextResponse("done")(scope, receive, send)

    async def run() -> None:
        transport = httpx.ASGITransport(pixels(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            running = asyncio.create_task(client.post("/", content=b"70"))
            await asyncio.sleep(0.05)
            full = await client.post("/", content=b"31")
            assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
            is_over.set()
            assert (await running).status_code == 200
            assert (await client.post("/", content=b"100")).status_code == 200

    anyio.run(run)


@pytest.fixture
def held_by() -> int:
    """How many pixels a request holds after loading media of a kind."""

    def load(url: str, media_io) -> int:
        shared = Pixels(None, 1 << 30)

        async def run() -> int:
            async def app(scope, receive, send) -> None:
                settings = MediaSettings()
                connector = CheckedMediaConnector(settings=settings, fetcher=None)
                await connector.load_from_url_async(url, media_io)
                numbers.append(shared._num_held)

            numbers = []
            shared._app = app
            await shared({"type": "http"}, None, None)
            return (*numbers, shared._num_held)

        return anyio.run(run)

    return load


def test_pictures_count_by_their_size(held_by):
    url = corpus.Case("", lambda: corpus.saved(Image.new("L", (30, 20)), "PNG"), "image", "image/png").content
    assert held_by(url["image_url"]["url"], ImageMediaIO()) == (600, 0)


def test_videos_count_by_the_frames_that_are_sampled(held_by):
    url = corpus.Case("", corpus.video, "video", "video/mp4").content["video_url"]["url"]
    assert held_by(url, VideoMediaIO(ImageMediaIO(), num_frames=3)) == (3 * 64 * 64, 0)


def test_jpeg_frames_count_once(held_by):
    url = video_url_of([picture("red", 56)] * 4)
    assert held_by(url, VideoMediaIO(ImageMediaIO(), num_frames=8)) == (4 * 56 * 56, 0)
