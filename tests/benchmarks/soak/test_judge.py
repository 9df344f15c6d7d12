"""What a reply must be, by what was planned."""

from dataclasses import replace

import pytest

from benchmarks.soak.judge import fault
from benchmarks.soak.plan import CHAT, RESPONSES, Planned
from benchmarks.soak.prompts import Prompt
from benchmarks.soak.replies import Reply

PLANNED = Planned("any", CHAT, b"")
REFUSED = replace(PLANNED, statuses=frozenset({400}), param="n")
ERROR = {"message": "n is 0.", "type": "BadRequestError", "param": "n", "code": 400}


def refusal(status: int = 400, **changes) -> Reply:
    return Reply(0.1, status, {"error": ERROR | changes})


def test_an_answer_and_a_refusal_as_they_must_be(make_reply):
    assert fault(PLANNED, make_reply()) is None
    assert fault(REFUSED, refusal()) is None
    assert fault(replace(PLANNED, statuses=frozenset({200, 429})), refusal(429, code=429)) is None


@pytest.mark.parametrize(
    ("planned", "reply", "said"),
    [
        (PLANNED, refusal(503), "got status 503, not 200: n is 0."),
        (REFUSED, refusal(500, code=500), "got status 500, not 400"),
        (REFUSED, refusal(param="p"), "got a refusal that names 'p', not 'n'"),
        (REFUSED, refusal(code=500), "got status 400 without OpenAI's error body"),
        (REFUSED, Reply(0.1, 400, {"detail": "no"}), "got status 400 without OpenAI's error body"),
        (PLANNED, Reply(0.1, transport_error="ReadError: "), "was not answered (ReadError: )"),
        (PLANNED, Reply(0.1, 200, events=[{"error": ERROR}]), "got an error inside its stream: n is 0."),
        (PLANNED, Reply(0.1, 200, events=[{"choices": []}], is_whole=False), "got a stream without its end"),
    ],
    ids=["refused", "status", "param", "code", "body", "transport", "error in stream", "cut"],
)
def test_what_is_wrong_is_said(planned, reply, said):
    assert fault(planned, reply).startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices": []}, "got 0 answers, not 1"),
        ({"choice": {"finish_reason": "abort"}}, "ended with {'abort'}"),
        ({"choice": {"finish_reason": None}}, "ended with {None}"),
        ({"usage": {"prompt_tokens": 3}}, "got the usage"),
    ],
    ids=["none", "abort", "never", "usage"],
)
def test_answers_that_are_none(make_reply, changes, said):
    assert fault(PLANNED, make_reply(**changes)).startswith(said)


def test_a_client_that_left_got_what_it_got_but_one_that_stayed_is_judged():
    leaving = replace(PLANNED, leaves_after_s=0.1)
    assert fault(leaving, Reply(0.1, is_whole=False)) is None
    assert fault(leaving, Reply(0.1, 200, is_whole=False)) is None
    assert fault(leaving, refusal(500, code=500)).startswith("got status 500")


def test_a_greedy_answer_is_compared(make_reply, reference):
    planned = replace(PLANNED, prompt=Prompt({}, reference))
    assert fault(planned, make_reply()) is None
    assert fault(planned, make_reply(choice={"token_ids": [1]})).startswith("generated [1], but [5, 6, 7] alone")


@pytest.mark.parametrize(
    ("text", "is_right"),
    [('{"color": "red"}', True), ('{"color": "black"}', False), ('{"color"', False), ("[]", False), ("{}", False)],
)
def test_json_and_calls_keep_their_schema(make_reply, text, is_right):
    call = {"message": {"tool_calls": [{"function": {"name": "paint", "arguments": text}}]}}
    for form, choice in (("color", {"message": {"content": text}}), ("call", call)):
        wrong = fault(replace(PLANNED, form=form), make_reply(choice=choice))
        assert (wrong is None) is is_right, form


def test_an_answer_without_a_call_is_wrong(make_reply):
    assert fault(replace(PLANNED, form="call"), make_reply()) == "got 0 tool calls, not 1"


def test_responses_have_a_status_of_their_own():
    planned = replace(PLANNED, path=RESPONSES)
    assert fault(planned, Reply(0.1, 200, {"status": "completed"})) is None
    events = [{"type": "response.created"}, {"type": "response.completed", "response": {"status": "incomplete"}}]
    assert fault(planned, Reply(0.1, 200, events=events)) is None
    assert fault(planned, Reply(0.1, 200, {"status": "failed"})).startswith("got the response")
