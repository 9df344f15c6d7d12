"""API keys: every route asks for one, except those that say whether the server lives.

vLLM's own check (`--api-key`) looks at the paths under /v1, /v2, /inference and /cohere and lets all others through.
Here it is the other way round: what is not named as open asks for a key, so no spelling of a path leads around it.
"""

from collections.abc import Iterable
from hmac import compare_digest
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.callers import Caller, begin_call
from server.access.paths import path_of
from server.access.policies import digest_of
from server.record import current_record
from server.refusals import Reason, count_refusal, refusal

# Where Anthropic's SDK puts its key.
ANTHROPIC_HEADER = "X-Api-Key"
WEBSOCKET_POLICY_VIOLATION = 1008


class Keys:
    """ASGI middleware that lets a request in with its caller, or refuses it.

    Args:
        app: the next layer.
        callers: those whom keys name; without any, everyone is let in.
        anonymous: who everyone is then, and who asks on the open paths.
        open_paths: that ask for no key.
    """

    def __init__(
        self, app: ASGIApp, callers: Iterable[Caller], anonymous: Caller, open_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._callers = tuple(callers)
        self._anonymous = anonymous
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if not self._callers or self._is_open(scope):
            begin_call(self._anonymous)
            await self._app(scope, receive, send)
            return
        given = _given_key(Headers(scope=scope))
        caller = None if given is None else self._caller_with(given)
        if caller is not None:
            _let_in(caller)
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            count_refusal(Reason.UNAUTHORIZED)
            await send({"type": "websocket.close", "code": WEBSOCKET_POLICY_VIOLATION})
        else:
            await _unauthorized(is_missing=given is None)(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Only an exact path is open: one that is spelt otherwise may lead to another route."""
        if scope["type"] == "http" and _is_preflight(scope):
            return True
        return path_of(scope) in self._open_paths

    def _caller_with(self, key: str) -> Caller | None:
        """Looks at every key, whether or not an earlier one fits, so that the time says nothing."""
        digest, found = digest_of(key), None
        for caller in self._callers:
            for own in caller.digests:
                if compare_digest(digest, own):
                    found = caller
        return found


def _is_preflight(scope: Scope) -> bool:
    """A browser's question about another origin, which carries no key; vLLM's CORS layer answers it itself."""
    return scope["method"] == "OPTIONS" and "Access-Control-Request-Method" in Headers(scope=scope)


def _given_key(headers: Headers) -> str | None:
    """What the request shows; several different ones are as good as none."""
    given = {value.strip() for value in headers.getlist(ANTHROPIC_HEADER)}
    for value in headers.getlist("Authorization"):
        scheme, _, key = value.strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        given.add(key.strip())
    return given.pop() if len(given) == 1 else None


def _let_in(caller: Caller) -> None:
    begin_call(caller)
    record = current_record()
    if record is not None:
        record.key = caller.name


def _unauthorized(*, is_missing: bool) -> ASGIApp:
    problem = "carries no API key" if is_missing else "carries an API key that this server does not know"
    return refusal(
        f"The request {problem}, but this route asks for one. Send one key as `Authorization: Bearer KEY`.",
        reason=Reason.UNAUTHORIZED,
        status=HTTPStatus.UNAUTHORIZED,
        error_type="AuthenticationError",
        param="Authorization",
        headers={"WWW-Authenticate": "Bearer"},
    )
