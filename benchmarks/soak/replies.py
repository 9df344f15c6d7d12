"""What a server answered, whole or as a stream, in one form."""

import json
from dataclasses import dataclass, field
from typing import Any

STREAM_END = "[DONE]"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to a prompt.

    Attributes:
        text: the answer.
        token_ids: its tokens; empty where the request did not ask for them.
        finish_reason: why it ended; None where a stream broke off.
        tool_arguments: JSON text of every tool call.
    """

    text: str
    token_ids: list[int]
    finish_reason: str | None
    tool_arguments: list[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request.

    Attributes:
        latency_s: from sending the request to the last byte.
        status: of HTTP; None where the client left before it had one.
        body: the object of a whole answer.
        events: the objects of a stream.
        is_whole: whether the answer was read to its end.
        transport_error: what went wrong below HTTP, if anything.
    """

    latency_s: float
    status: int | None = None
    body: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    is_whole: bool = True
    transport_error: str | None = None

    @property
    def error(self) -> dict[str, Any] | None:
        """The error object, of a refusal or inside a stream."""
        return next((part["error"] for part in self._parts() if part.get("error")), None)

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last one that was sent."""
        return next((part["usage"] for part in reversed(self._parts()) if part.get("usage")), None)

    @property
    def choices(self) -> list[Choice]:
        """In the order of their index."""
        found: dict[int, list[dict[str, Any]]] = {}
        for part in self._parts():
            for choice in part.get("choices") or []:
                found.setdefault(choice["index"], []).append(choice)
        return [_joined(found[index]) for index in sorted(found)]

    def _parts(self) -> list[dict[str, Any]]:
        return self.events if self.body is None else [self.body]


def _joined(parts: list[dict[str, Any]]) -> Choice:
    """One choice from its chunks; a whole answer is one chunk. Arguments of a streamed call come in pieces."""
    messages = [part.get("message") or part.get("delta") or {} for part in parts]
    calls: dict[int, list[str]] = {}
    for message in messages:
        for position, call in enumerate(message.get("tool_calls") or []):
            pieces = calls.setdefault(call.get("index", position), [])
            pieces.append(call["function"].get("arguments") or "")
    return Choice(
        text="".join(
            part.get("text") or message.get("content") or "" for part, message in zip(parts, messages, strict=True)
        ),
        token_ids=[token for part in parts for token in part.get("token_ids") or []],
        finish_reason=next((part["finish_reason"] for part in parts if part.get("finish_reason")), None),
        tool_arguments=["".join(calls[index]) for index in sorted(calls)],
    )


def parsed(status: int, content_type: str, text: str, latency_s: float, is_whole: bool = True) -> Reply:
    """A reply from its text. A stream that lacks its end is not whole.

    Args:
        status: of HTTP.
        content_type: tells a stream from a whole answer.
        text: the body, as far as it was read.
        latency_s: see `Reply`.
        is_whole: whether it was read to its end.
    """
    if not content_type.startswith("text/event-stream"):
        return Reply(latency_s, status, body=_object(text), is_whole=is_whole)
    data = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    events = [_object(item) for item in data if item != STREAM_END]
    has_end = STREAM_END in data[-1:] or (bool(events) and events[-1].get("type") == "response.completed")
    return Reply(latency_s, status, events=events, is_whole=is_whole and has_end)


def _object(text: str) -> dict[str, Any]:
    """A JSON object; anything else becomes one that has none of the fields an answer needs."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"unreadable": text}
    return found if isinstance(found, dict) else {"unreadable": text}
