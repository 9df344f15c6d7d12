"""The time limit of a whole request: when it is over, vLLM sees what it sees when a client leaves, and stops."""

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

from server.refusals import Reason, count_refusal, refusal

# For vLLM to stop by itself; then its code is cancelled.
GRACE_S = 10.0


class Deadlines:
    """ASGI middleware that gives every request the same time.

    Args:
        app: the next layer.
        max_request_s: from the first byte of the request to the last of the answer.
    """

    def __init__(self, app: ASGIApp, max_request_s: float) -> None:
        self._app = app
        self._max_request_s = max_request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(receive, send)
        timer = asyncio.get_running_loop().call_later(self._max_request_s, answer.expire)
        try:
            async with asyncio.timeout(self._max_request_s + GRACE_S):
                await self._app(scope, answer.receive, answer.send)
        except TimeoutError:
            if not answer.has_expired:
                raise
        finally:
            timer.cancel()
        if answer.has_expired:
            # A client that reads nothing would hold this up without end.
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await self._end(answer, scope, receive, send)

    async def _end(self, answer: "_Answer", scope: Scope, receive: Receive, send: Send) -> None:
        """Say why, where that is still possible: instead of an answer, or as the last event of a stream."""
        message = (
            f"The answer was not whole after {self._max_request_s:g} s, but must be. Ask for fewer tokens, or raise "
            "--max-request-s."
        )
        status, error_type = HTTPStatus.GATEWAY_TIMEOUT, "TimeoutError"
        if not answer.has_begun:
            await refusal(message, reason=Reason.TIME, status=status, error_type=error_type)(scope, receive, send)
        elif answer.is_open_stream:
            count_refusal(Reason.TIME)
            event = json.dumps(create_error_response(message, error_type, status).model_dump())
            body = f"data: {event}\n\ndata: [DONE]\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": False})


class _Answer:
    """One answer on its way out, until its time is over."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._expiry = asyncio.Event()
        self._is_stream = False
        self._is_whole = False
        self.has_begun = False

    @property
    def has_expired(self) -> bool:
        return self._expiry.is_set()

    @property
    def is_open_stream(self) -> bool:
        """Whether events can still be sent."""
        return self._is_stream and not self._is_whole

    def expire(self) -> None:
        """From now on the client seems to be gone."""
        if not self._is_whole:
            self._expiry.set()

    async def receive(self) -> Message:
        coming, expiry = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._expiry.wait())
        try:
            await asyncio.wait((coming, expiry), return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            expiry.cancel()

    async def send(self, message: Message) -> None:
        if self.has_expired:
            return
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._is_stream = Headers(raw=message["headers"]).get("Content-Type", "").startswith("text/event-stream")
        self._is_whole |= message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)
