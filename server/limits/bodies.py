"""Limits on the bodies of requests: their size, all of them together, and the time they take to arrive.

The body is read here as a whole, as FastAPI does for every route of vLLM anyway, and handed on in one piece.
"""

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.limits.encoding import problem_of_text
from server.limits.fields import unknown_sparsity_field
from server.limits.settings import MIB, RequestLimits
from server.limits.values import num_values_over_limit
from server.refusals import Reason, refusal

BODILESS = ("GET", "HEAD", "OPTIONS")
RETRY_AFTER_S = 1
# What the client still sends is not worth reading.
CLOSE = {"Connection": "close"}


class Bodies:
    """ASGI middleware, inside the one that lets a caller in: who may not ask makes the server read nothing.

    Args:
        app: the next layer.
        limits: the operator's.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits
        self._num_held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("Content-Length", "")
        if declared.isdecimal() and int(declared) > self._limits.max_body_bytes:
            await self._too_large(int(declared))(scope, receive, send)
            return
        held = _Held(self)
        try:
            answer = await self._read(receive, held)
            if answer is None:
                body = held.whole()
                answer = (
                    self._too_many_values(body)
                    or _not_unicode(scope, body)
                    or unknown_sparsity_field(scope, body)
                    or self._app
                )
                receive = _replayed(body, receive)
            await answer(scope, receive, send)
        except ClientGone:
            return
        finally:
            held.release()

    async def _read(self, receive: Receive, held: "_Held") -> ASGIApp | None:
        """Fill `held`; what is returned refuses the request.

        Raises:
            ClientGone: before the body was whole.
        """
        try:
            async with asyncio.timeout(self._limits.max_upload_s):
                is_whole = False
                while not is_whole:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    held.add(message.get("body", b""))
                    is_whole = not message.get("more_body", False)
                    if held.num_bytes > self._limits.max_body_bytes:
                        return self._too_large(held.num_bytes)
                    if self._num_held_bytes > self._limits.max_bodies_bytes:
                        return self._too_many(self._num_held_bytes)
        except TimeoutError:
            return self._too_slow(held.num_bytes)
        return None

    def _too_large(self, num_bytes: int) -> ASGIApp:
        return refusal(
            f"The body has {num_bytes} bytes or more, but may have {self._limits.max_body_bytes}. Send less, such as "
            "smaller pictures or their URLs, or raise --max-body-mib.",
            reason=Reason.BODY,
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            param="Content-Length",
            headers=CLOSE,
        )

    def _too_many_values(self, body: bytes) -> ASGIApp | None:
        num_values = num_values_over_limit(body, self._limits)
        if num_values is None:
            return None
        return refusal(
            f"The body has {num_values} JSON values, but may have {self._limits.max_json_values}. Send fewer, such as "
            "a text instead of its tokens, or raise --max-json-values.",
            reason=Reason.BODY,
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )

    def _too_many(self, num_bytes: int) -> ASGIApp:
        return refusal(
            f"Requests in flight hold {num_bytes // MIB} MiB, but may hold {self._limits.max_bodies_mib} together. "
            "Send it again later, or raise --max-bodies-mib.",
            reason=Reason.BODIES,
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            error_type="ServiceUnavailableError",
            headers={**CLOSE, "Retry-After": str(RETRY_AFTER_S)},
        )

    def _too_slow(self, num_bytes: int) -> ASGIApp:
        return refusal(
            f"{num_bytes} bytes of the body have come in {self._limits.max_upload_s:g} s, but the whole of it must. "
            "Send it faster, or raise --max-upload-s.",
            reason=Reason.UPLOAD,
            status=HTTPStatus.REQUEST_TIMEOUT,
            error_type="RequestTimeoutError",
            headers=CLOSE,
        )

    def count(self, num_bytes: int) -> None:
        """Bytes that are held more, or fewer."""
        self._num_held_bytes += num_bytes


class ClientGone(Exception):
    """The client left before its request was whole; nobody is there to answer."""


class _Held:
    """The body of one request, counted while it is held."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self.num_bytes = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.num_bytes += len(piece)
        self._bodies.count(len(piece))

    def whole(self) -> bytes:
        """To be called once: the pieces are given up."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    def release(self) -> None:
        self._bodies.count(-self.num_bytes)


def _not_unicode(scope: Scope, body: bytes) -> ASGIApp | None:
    problem = problem_of_text(body) if "json" in Headers(scope=scope).get("Content-Type", "").lower() else None
    return None if problem is None else refusal(problem, reason=Reason.BODY)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
