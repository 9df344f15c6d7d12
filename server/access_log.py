"""One log record for every HTTP request, without anything that it said; it takes the place of uvicorn's access log.

With `--logging-config.formatter json` (vLLM's option) the fields stand beside the message, otherwise within it.
"""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vllm.logger import init_logger

from server.record import RequestRecord, current_record
from server.usage import sparsity_usage

logger = init_logger(f"vllm.{__name__}")

MAX_TEXT_CHARS = 200

# As nginx has it: the client left before it had the whole answer.
CLIENT_LEFT = 499
SERVER_FAILED = 500


class AccessLog:
    """ASGI middleware, directly inside the one that starts the record.

    Args:
        app: the next layer.
        quiet_paths: whose answers below 400 are not logged.
    """

    def __init__(self, app: ASGIApp, quiet_paths: frozenset[str]) -> None:
        self._app = app
        self._quiet_paths = quiet_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_s = time.monotonic()
        answer = _Answer(receive, send)
        try:
            await self._app(scope, answer.receive, answer.send)
        except Exception:
            answer.fail()
            raise
        finally:
            status = answer.status
            if status >= 400 or scope["path"] not in self._quiet_paths:
                _log(scope, status, time.monotonic() - start_s, current_record())


class _Answer:
    """Follows one answer on its way out."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._status = SERVER_FAILED
        self._is_whole = False
        self._client_left = False

    @property
    def status(self) -> int:
        """What was sent; 500 where nothing was, or not all of it because the server failed."""
        return CLIENT_LEFT if self._client_left else self._status

    def fail(self) -> None:
        """The layers within have given up."""
        if not self._is_whole:
            self._status = SERVER_FAILED

    async def receive(self) -> Message:
        message = await self._receive()
        # It also comes after the last byte.
        if message["type"] == "http.disconnect" and not self._is_whole:
            self._client_left = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        # Before it is sent: whoever listens for the client's leaving may run meanwhile.
        self._is_whole |= message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def _log(scope: Scope, status: int, duration_s: float, record: RequestRecord | None) -> None:
    fields = {
        # As it came: decoded, it could hold a line break. The query stays out: it may hold a secret.
        "path": _shortened(scope["raw_path"].decode("latin-1")),
        "method": scope["method"],
        "status": status,
        "duration_s": round(duration_s, 4),
        "client": scope["client"][0] if scope.get("client") else None,
        **({} if record is None else _known(record)),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    others = " ".join(f"{name}={value!r}" for name, value in fields.items() if name not in ("method", "path", "status"))
    logger.info("%s %s %d %s", fields["method"], fields["path"], status, others, extra=fields)


def _known(record: RequestRecord) -> dict[str, Any]:
    """What the layers within have written; the values of pruning are those of `usage.sparsity`."""
    fields = {
        "request_id": record.request_id,
        "key": record.key,
        "model": None if record.model is None else _shortened(record.model),
    }
    if record.exchange is None:
        return fields
    reports = record.exchange.reports
    fields["sparsity_p"] = record.exchange.sparsity_p
    if (sparsity := sparsity_usage(reports)) is not None:
        fields["token_ratio"] = round(sparsity.token_ratio, 4)
        fields["kv_ratio"] = round(sparsity.kv_ratio, 4)
        fields["prompt_tokens"] = sum(report.num_prompt_tokens for report in reports)
    return fields


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else f"{text[:MAX_TEXT_CHARS]}..."
