"""Refusals of the layers around vLLM's application: their answers, in the shape of vLLM's own, and their number.

vLLM's `http_requests_total` counts what reaches its application, so it sees none of them.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from http import HTTPStatus

from prometheus_client import REGISTRY, Counter
from starlette.responses import JSONResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response


class Reason(StrEnum):
    """Why a request was refused: the label of `winnow_refused_requests_total`, and all of its values."""

    HEAD = "head"  # first line and headers too long or too slow
    REQUEST_ID = "request_id"
    HOST = "host"  # the name of somebody else
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"  # on an operator's route
    RATE = "rate"  # of one caller, in a minute
    CONCURRENCY = "concurrency"  # of one caller
    QUEUE = "queue"  # of the server
    BODY = "body"  # too large, of too many values, or no Unicode
    BODIES = "bodies"  # all of them together
    UPLOAD = "upload"  # took too long
    FIELD = "field"  # `sparsity...` where nobody reads it
    TIME = "time"  # of the whole request


@cache
def refused_requests() -> Counter:
    """The counter: declared once in a process, in the registry that /metrics shows, with every reason at 0."""
    counter = Counter(
        "winnow_refused_requests", "Requests that were refused before vLLM counted them, by reason.", ["reason"],
        registry=REGISTRY,
    )  # fmt: skip
    for reason in Reason:
        counter.labels(reason.value)
    return counter


def count_refusal(reason: Reason) -> None:
    """Count one refused request."""
    refused_requests().labels(reason.value).inc()


def refusal(
    message: str,
    *,
    reason: Reason | None,
    status: HTTPStatus = HTTPStatus.BAD_REQUEST,
    error_type: str = "BadRequestError",
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """OpenAI's error body, counted when it is made.

    Args:
        message: field, value, rule and remedy.
        reason: to count it under; None for an answer that refuses nobody, such as a probe's.
        status: of the answer.
        error_type: OpenAI's `error.type`.
        param: the header or field at fault.
        headers: such as Retry-After.
    """
    if reason is not None:
        count_refusal(reason)
    body = create_error_response(message, error_type, status, param)
    return JSONResponse(body.model_dump(), status_code=status, headers=dict(headers or {}))
