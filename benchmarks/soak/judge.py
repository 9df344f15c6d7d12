"""Whether a reply is what its request must get."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus

from benchmarks.soak.answers import difference
from benchmarks.soak.plan import CHAT, COLORS, RESPONSES, Planned
from benchmarks.soak.replies import Choice, Reply

FINISH_REASONS = {"stop", "length", "tool_calls"}
ERROR_FIELDS = {"message", "type", "param", "code"}


def fault(planned: Planned, reply: Reply) -> str | None:
    """What is wrong with a reply, in one sentence; None where it is as it must be."""
    if reply.transport_error is not None:
        return f"was not answered ({reply.transport_error})"
    if planned.may_leave and not reply.is_whole:
        return None
    if reply.status not in planned.statuses:
        expected = " or ".join(map(str, sorted(planned.statuses)))
        return f"got status {reply.status}, not {expected}: {_told(reply)}"
    if reply.status != HTTPStatus.OK:
        return _fault_of_refusal(planned, reply)
    if reply.error is not None:
        return f"got an error inside its stream: {_told(reply)}"
    if not reply.is_whole:
        return "got a stream without its end"
    return _fault_of_answer(planned, reply)


def _told(reply: Reply) -> str:
    return str((reply.error or {}).get("message", reply.body))[:200]


def _fault_of_refusal(planned: Planned, reply: Reply) -> str | None:
    error = reply.error or {}
    if set(error) != ERROR_FIELDS or error["code"] != reply.status:
        return f"got status {reply.status} without OpenAI's error body: {reply.body}"
    if planned.param is not None and error["param"] != planned.param:
        return f"got a refusal that names {error['param']!r}, not {planned.param!r}: {_told(reply)}"
    return None


def _fault_of_answer(planned: Planned, reply: Reply) -> str | None:
    if planned.path == RESPONSES:
        response = reply.body or reply.events[-1].get("response", {})
        return None if response.get("status") in ("completed", "incomplete") else f"got the response {response}"
    if len(reply.choices) != planned.num_choices:
        return f"got {len(reply.choices)} answers, not {planned.num_choices}"
    if strange := {choice.finish_reason for choice in reply.choices} - FINISH_REASONS:
        return f"ended with {strange}"
    if planned.path == CHAT and "sparsity" not in (reply.usage or {}):
        return f"got the usage {reply.usage}, which lacks `sparsity`"
    if planned.prompt is not None:
        return difference(planned.prompt.reference, reply)
    return FORMS[planned.form](reply.choices[0])


def _fault_of_color(text: str) -> str | None:
    try:
        is_color = json.loads(text)["color"] in COLORS
    except (ValueError, TypeError, KeyError):
        is_color = False
    return None if is_color else f"got {text!r}, which breaks its schema"


def _fault_of_call(choice: Choice) -> str | None:
    if len(choice.tool_arguments) != 1:
        return f"got {len(choice.tool_arguments)} tool calls, not 1"
    return _fault_of_color(choice.tool_arguments[0])


FORMS: Mapping[str, Callable[[Choice], str | None]] = {
    "text": lambda choice: None,
    "color": lambda choice: _fault_of_color(choice.text),
    "call": _fault_of_call,
}
"""What an answer must look like, by `Planned.form`."""
