"""Refusals of the middleware: outside vLLM's exception handlers, in the same shape as theirs."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response


def refusal(
    message: str,
    *,
    status: HTTPStatus = HTTPStatus.BAD_REQUEST,
    error_type: str = "BadRequestError",
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """OpenAI's error body.

    Args:
        message: field, value, rule and remedy.
        status: of the answer.
        error_type: OpenAI's `error.type`.
        param: the header or field at fault.
        headers: such as Retry-After.
    """
    body = create_error_response(message, error_type, status, param)
    return JSONResponse(body.model_dump(), status_code=status, headers=dict(headers or {}))
