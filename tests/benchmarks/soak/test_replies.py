"""Whole answers and streams in one form."""

import json

import pytest

from benchmarks.soak.replies import parsed

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"


def stream(*events: dict, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end


def chunk(text: str, token_ids: list[int], index: int = 0, finish_reason: str | None = None) -> dict:
    choice = {"index": index, "delta": {"content": text}, "token_ids": token_ids, "finish_reason": finish_reason}
    return {"choices": [choice]}


def test_a_stream_is_its_answer_in_pieces():
    text = stream(
        chunk("re", [1]), chunk("b", [4], index=1), chunk("d", [2], finish_reason="stop"),
        chunk("lue", [5], index=1, finish_reason="length"), {"choices": [], "usage": {"prompt_tokens": 3}},
    )  # fmt: skip
    reply = parsed(200, EVENTS, text, 1.0)
    first, second = reply.choices
    assert (first.text, first.token_ids, first.finish_reason) == ("red", [1, 2], "stop")
    assert (second.text, second.token_ids, second.finish_reason) == ("blue", [4, 5], "length")
    assert reply.usage == {"prompt_tokens": 3}
    assert reply.is_whole


def test_a_whole_answer():
    body = {"choices": [{"index": 0, "message": {"content": "red"}, "finish_reason": "stop", "token_ids": None}]}
    reply = parsed(200, JSON, json.dumps(body), 1.0)
    assert [(choice.text, choice.token_ids) for choice in reply.choices] == [("red", [])]
    assert (reply.error, reply.usage) == (None, None)


def test_text_of_a_completion():
    body = {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}
    assert [choice.text for choice in parsed(200, JSON, json.dumps(body), 1.0).choices] == ["a", "b"]


def test_arguments_of_a_call_come_in_pieces():
    pieces = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}}]},
    ]
    (choice,) = parsed(200, EVENTS, stream(*pieces), 1.0).choices
    assert choice.tool_arguments == ['{"a": 1}']


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        (stream(chunk("a", [1])), True),
        (stream(chunk("a", [1]), end=""), False),
        ("", False),
        (stream({"type": "response.created"}, {"type": "response.completed"}, end=""), True),
        (stream({"type": "response.completed"}, {"type": "response.created"}, end=""), False),
    ],
    ids=["end", "no end", "empty", "end of a response", "response without end"],
)
def test_a_stream_without_its_end_is_not_whole(text, is_whole):
    assert parsed(200, EVENTS, text, 1.0).is_whole is is_whole


def test_an_error_is_found_wherever_it_stands():
    error = {"message": "m", "code": 500}
    assert parsed(500, JSON, json.dumps({"error": error}), 1.0).error == error
    assert parsed(200, EVENTS, stream(chunk("a", [1]), {"error": error}), 1.0).error == error


@pytest.mark.parametrize("text", ["", "<html>", "[1]", "null"])
def test_what_is_no_object_has_nothing_of_an_answer(text):
    reply = parsed(200, JSON, text, 1.0)
    assert (reply.choices, reply.usage, reply.error) == ([], None, None)
