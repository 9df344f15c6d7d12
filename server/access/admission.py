"""Lets a request run, or says when to come again: 429 when its caller asks for too much, 503 when all together do."""

from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.callers import current_caller
from server.access.rates import RETRY_AFTER_S, Excess
from server.refusals import Reason, refusal


class Admission:
    """ASGI middleware, inside the one that knows the caller.

    Args:
        app: the next layer.
        max_in_flight: requests without a whole answer, of all callers together.
        num_in_engine: how many the engine has; one HTTP request may be many there, or none any more.
        free_paths: that are not counted, so that they answer when the server is full.
    """

    def __init__(
        self, app: ASGIApp, max_in_flight: int, num_in_engine: Callable[[], int], free_paths: frozenset[str]
    ) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._num_in_engine = num_in_engine
        self._free_paths = free_paths
        self._num_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = current_caller()
        if scope["type"] != "http" or caller is None or self._is_free(scope):
            await self._app(scope, receive, send)
            return
        if (excess := caller.allowance.excess()) is not None:
            await _refused(excess, HTTPStatus.TOO_MANY_REQUESTS, "RateLimitError")(scope, receive, send)
            return
        if (excess := self._excess()) is not None:
            await _refused(excess, HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableError")(scope, receive, send)
            return
        self._num_in_flight += 1
        try:
            with caller.allowance.held():
                await self._app(scope, receive, send)
        finally:
            self._num_in_flight -= 1

    def _is_free(self, scope: Scope) -> bool:
        return scope["path"].removeprefix(scope.get("root_path", "")) in self._free_paths

    def _excess(self) -> Excess | None:
        num_in_flight = max(self._num_in_flight, self._num_in_engine())
        if num_in_flight < self._max_in_flight:
            return None
        return Excess(
            f"{num_in_flight} requests run or wait, but the server takes {self._max_in_flight} at a time "
            "(--max-num-seqs and --max-queued-requests together). Send it again later.",
            RETRY_AFTER_S,
            Reason.QUEUE,
        )


def _refused(excess: Excess, status: HTTPStatus, error_type: str) -> ASGIApp:
    headers = {"Retry-After": str(excess.retry_after_s)}
    return refusal(excess.message, reason=excess.reason, status=status, error_type=error_type, headers=headers)
