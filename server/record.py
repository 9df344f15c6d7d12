"""What is known of the HTTP request that the running code works for: other layers write it, the access log reads it.

It travels in a context variable, like the exchange, because vLLM's code lies between those who write.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from server.exchange import Exchange


@dataclass(slots=True)
class RequestRecord:
    """One HTTP request.

    Attributes:
        request_id: the client's, or one made for it; the answer carries it in X-Request-Id.
        is_named: whether the client chose `request_id` in a header.
        key: name of the API key that let it in.
        model: as the request names it, on the routes that know `sparsity_p`.
        exchange: its `sparsity_p` and reports, on these routes.
    """

    request_id: str
    is_named: bool = False
    key: str | None = None
    model: str | None = None
    exchange: Exchange | None = None


_current: ContextVar[RequestRecord | None] = ContextVar("winnow_request_record", default=None)


def current_record() -> RequestRecord | None:
    """The record of the request that the running code works for; None outside HTTP requests."""
    return _current.get()


def begin_record(record: RequestRecord) -> None:
    """Make `record` the current one of this task and of those that it starts."""
    _current.set(record)
