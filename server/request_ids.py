"""X-Request-Id: a name for each request, the client's or one made here, in the answer, in logs and in traces.

vLLM has `--enable-request-id-headers`, but the id that it makes up for the answer is not the one that its engine uses.
"""

import re
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import RequestRefused
from server.record import RequestRecord, begin_record, current_record
from server.refusals import Reason, refusal

HEADER = "X-Request-Id"
FIELD = "request_id"

# What can neither break a log line nor fill it.
RULE = re.compile(r"[!-~]{1,128}")
MAX_SHOWN_CHARS = 80
RULE_IN_WORDS = "must have 1 to 128 visible ASCII characters"


class RequestIds:
    """ASGI middleware, the outermost: it starts the request's record and writes its id into the answer.

    Args:
        app: the next layer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist(HEADER)
        is_valid = len(given) == 1 and RULE.fullmatch(given[0]) is not None
        record = RequestRecord(given[0] if is_valid else uuid4().hex, is_named=is_valid)
        begin_record(record)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = record.request_id
            await send(message)

        app = self._app if is_valid or not given else _refusal_of(given)
        await app(scope, receive, send_with_id)


def _refusal_of(given: list[str]) -> ASGIApp:
    if len(given) > 1:
        message = f"{HEADER} is there {len(given)} times, but names one request. Send it once."
    else:
        message = _broken_rule(HEADER, given[0])
    return refusal(message, reason=Reason.REQUEST_ID, param=HEADER)


def _broken_rule(name: str, value: str) -> str:
    shown = f"{value[:MAX_SHOWN_CHARS]!r} ({len(value)} characters)"
    return f"{name} is {shown}, but {RULE_IN_WORDS}. Send such a name, or none."


def settle_request_id(request: Any) -> None:
    """Let a body's `request_id` and the record agree: vLLM names its engine requests by the one or by the header.

    Args:
        request: a body of chat completions or completions, before vLLM has it.

    Raises:
        RequestRefused: the field breaks the rule, or says otherwise than the header.
    """
    record = current_record()
    if record is None:
        return
    if FIELD not in request.model_fields_set or request.request_id is None:
        request.request_id = record.request_id
        return
    if RULE.fullmatch(request.request_id) is None:
        raise RequestRefused(_broken_rule(FIELD, request.request_id), param=FIELD)
    if record.is_named and request.request_id != record.request_id:
        raise RequestRefused(
            f"{FIELD} is {request.request_id!r} and {HEADER} is {record.request_id!r}, but a request has one name. "
            "Leave one of them out.",
            param=FIELD,
        )
    record.request_id = request.request_id


def refuse_chosen_response_id(request: Any) -> None:
    """On /v1/responses vLLM stores the response under `request_id`, and whoever knows that name may read or cancel it.

    Raises:
        RequestRefused: the client chose it, so could choose the name of another client's response.
    """
    if FIELD in request.model_fields_set:
        raise RequestRefused(
            f"{FIELD} is {request.request_id[:MAX_SHOWN_CHARS]!r}, but the server chooses the ids of responses, so "
            f"that nobody can guess them. Leave it out; the header {HEADER} names a request.",
            param=FIELD,
        )
