"""What is sent: the same in every run, of every kind, and as hostile as it says."""

import json
from collections import Counter

import pytest

from benchmarks.soak.plan import KINDS, LEAVING_S, Plan
from benchmarks.soak.prompts import ANSWER_TOKENS, SPARSITY_P, TEXTS, prompts, questions

NUM_DRAWN = 600


@pytest.fixture(scope="module")
def plan() -> Plan:
    asked = questions(5)
    return Plan("demo", prompts("demo", asked, 63, 5), asked, [1, 2], 5)


@pytest.fixture(scope="module")
def drawn(plan) -> list:
    return [plan.request(number) for number in range(NUM_DRAWN)]


def test_a_request_depends_on_its_number_and_the_seed_alone(plan, drawn):
    assert plan.request(41) == drawn[41]
    assert plan.request(42) == drawn[42]
    other = Plan(plan.model, plan.prompts, plan.questions, plan.blanks, 6)
    assert [other.request(number).body for number in range(20)] != [planned.body for planned in drawn[:20]]


def test_kinds_come_in_their_shares(drawn):
    counts = Counter(planned.kind for planned in drawn)
    assert sum(share for share, _ in KINDS.values()) == pytest.approx(1)
    for kind, (share, _) in KINDS.items():
        assert counts[kind] / NUM_DRAWN == pytest.approx(share, abs=0.05), kind
        assert counts[kind], kind


def test_the_greedy_requests_have_every_kind_of_media_and_value(plan):
    parts = [Counter(part["type"] for part in prompt.body["messages"][0]["content"]) for prompt in plan.prompts]
    assert {part["image_url"] for part in parts} == {0, 1, 2, 3, 4}
    assert any(part["video_url"] for part in parts)
    assert sum(part["text"] == 1 and len(part) == 1 for part in parts) >= len(TEXTS)
    assert {prompt.body.get("sparsity_p") for prompt in plan.prompts} == {*SPARSITY_P}
    assert {prompt.body["max_tokens"] for prompt in plan.prompts} == {*ANSWER_TOKENS}
    # The same question comes with different values.
    assert len({json.dumps(prompt.body) for prompt in plan.prompts}) == len(plan.prompts)


def test_streams_and_whole_answers_are_mixed(drawn):
    greedy = [json.loads(planned.body) for planned in drawn if planned.kind == "greedy"]
    assert 0.3 < sum(body.get("stream", False) for body in greedy) / len(greedy) < 0.7


def test_clients_leave_before_an_answer_and_within(drawn):
    leaving = [planned for planned in drawn if planned.kind == "leaving client"]
    assert {planned.leaves_after_s for planned in leaving} >= {*LEAVING_S, None}
    assert all(planned.may_leave for planned in leaving)
    assert not any(planned.may_leave for planned in drawn if planned.kind != "leaving client")


def test_what_must_be_refused_may_not_be_answered(drawn):
    for planned in drawn:
        if planned.kind in ("hostile media", "bad field"):
            assert not {200, 500} & planned.statuses
