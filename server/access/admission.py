"""Lets a request run, or says when to come again: 429 when its caller asks for too much, 503 when all together do."""

from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.callers import current_caller
from server.access.paths import path_of
from server.access.rates import RETRY_AFTER_S, Excess
from server.refusals import Reason, refusal


class Capacity:
    """How many requests there may be, running and waiting; one for a server.

    Args:
        max_in_flight: requests without a whole answer, of all callers together.
        num_in_engine: how many the engine has; one HTTP request may be many there, or none any more.
        free_paths: that are not counted, so that they answer when the server is full.
    """

    def __init__(self, max_in_flight: int, num_in_engine: Callable[[], int], free_paths: frozenset[str]) -> None:
        self._max_in_flight = max_in_flight
        self._num_in_engine = num_in_engine
        self._free_paths = free_paths
        self.num_in_flight = 0

    def counts(self, scope: Scope) -> bool:
        """Whether a request takes a place."""
        return scope["type"] == "http" and current_caller() is not None and path_of(scope) not in self._free_paths

    def excess(self) -> Excess | None:
        """What stands against one request more; None when nothing does."""
        num_in_flight = max(self.num_in_flight, self._num_in_engine())
        if num_in_flight < self._max_in_flight:
            return None
        return Excess(
            f"{num_in_flight} requests run or wait, but the server takes {self._max_in_flight} at a time "
            "(--max-num-seqs and --max-queued-requests together). Send it again later.",
            RETRY_AFTER_S,
            Reason.QUEUE,
        )


class Admission:
    """ASGI middleware, inside the one that knows the caller and before the body is read.

    Args:
        app: the next layer.
        capacity: of the server; whoever finds it full need not send a body.
    """

    def __init__(self, app: ASGIApp, capacity: Capacity) -> None:
        self._app = app
        self._capacity = capacity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._capacity.counts(scope):
            await self._app(scope, receive, send)
            return
        allowance = current_caller().allowance
        if (excess := allowance.excess() or self._capacity.excess()) is not None:
            await _refused(excess)(scope, receive, send)
            return
        with allowance.held():
            await self._app(scope, receive, send)


class Places:
    """ASGI middleware, behind the one that reads bodies: what is not yet whole takes no place from others.

    Args:
        app: the next layer.
        capacity: of the server.
    """

    def __init__(self, app: ASGIApp, capacity: Capacity) -> None:
        self._app = app
        self._capacity = capacity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._capacity.counts(scope):
            await self._app(scope, receive, send)
            return
        if (excess := self._capacity.excess()) is not None:
            await _refused(excess)(scope, receive, send)
            return
        self._capacity.num_in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._capacity.num_in_flight -= 1


def _refused(excess: Excess) -> ASGIApp:
    is_of_all = excess.reason is Reason.QUEUE
    return refusal(
        excess.message,
        reason=excess.reason,
        status=HTTPStatus.SERVICE_UNAVAILABLE if is_of_all else HTTPStatus.TOO_MANY_REQUESTS,
        error_type="ServiceUnavailableError" if is_of_all else "RateLimitError",
        headers={"Retry-After": str(excess.retry_after_s)},
    )
