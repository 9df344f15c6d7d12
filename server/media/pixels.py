"""Decoded pixels of all requests in flight: a few hundred kB of pictures may hold gigabytes of them."""

import threading
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access.rates import RETRY_AFTER_S
from server.errors import RequestRefused, ServerFull


class Pixels:
    """ASGI middleware, the innermost: what a request decodes is counted until its answer is whole.

    Args:
        app: vLLM's application.
        max_pixels: of all requests together.
    """

    def __init__(self, app: ASGIApp, max_pixels: int) -> None:
        self._app = app
        self._max_pixels = max_pixels
        self._num_held = 0
        # Pictures are decoded in threads.
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_retry(message: Message) -> None:
            """vLLM's handler of errors knows no headers."""
            if message["type"] == "http.response.start" and message["status"] == 503:
                MutableHeaders(scope=message).setdefault("Retry-After", str(RETRY_AFTER_S))
            await send(message)

        held = HeldPixels(self)
        _current.set(held)
        try:
            await self._app(scope, receive, send_with_retry)
        finally:
            held.release()

    def take(self, num_pixels: int, num_held_by_request: int, param: str) -> None:
        """Count pixels that are about to be decoded.

        Raises:
            RequestRefused: the request has too many even if it is alone.
            ServerFull: there are too many with those of other requests.
        """
        num_of_request = num_held_by_request + num_pixels
        if num_of_request > self._max_pixels:
            raise RequestRefused(
                f"{param} brings the pixels of this request to {num_of_request}, but it may decode {self._max_pixels}. "
                "Send fewer or smaller pictures.",
                param=param,
            )
        with self._lock:
            if self._num_held + num_pixels > self._max_pixels:
                raise ServerFull(
                    f"Requests in flight hold {self._num_held} decoded pixels, but may hold {self._max_pixels} "
                    "together. Send it again later, or raise --max-decoded-pixels."
                )
            self._num_held += num_pixels

    def give_back(self, num_pixels: int) -> None:
        """Their request has its answer."""
        with self._lock:
            self._num_held -= num_pixels


class HeldPixels:
    """What one request holds.

    Args:
        pixels: of all requests.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self._num_pixels = 0
        self._is_over = False
        self._lock = threading.Lock()

    def take(self, num_pixels: int, param: str) -> None:
        """Count pixels that are about to be decoded.

        Args:
            num_pixels: of one picture, or of all sampled frames of a video.
            param: the request's field that holds it.

        Raises:
            RequestRefused, ServerFull: they are too many.
        """
        with self._lock:
            # A thread that still decodes when its client is gone.
            if self._is_over:
                return
            self._pixels.take(num_pixels, self._num_pixels, param)
            self._num_pixels += num_pixels

    def release(self) -> None:
        """Give all of them back."""
        with self._lock:
            self._is_over = True
            self._pixels.give_back(self._num_pixels)


_current: ContextVar[HeldPixels | None] = ContextVar("winnow_pixels", default=None)


def current_pixels() -> HeldPixels | None:
    """Those of the request that the running code works for; None outside HTTP requests."""
    return _current.get()
