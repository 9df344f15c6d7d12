"""vLLM's load generator, against a made-up server that streams."""

from statistics import median

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load.generator import Load, Target, drive, sample_requests
from benchmarks.questions import Question

from .streaming_server import TOKEN_S, streaming

QUESTIONS = [Question("image", "color", [{"type": "text", "text": text}], "red") for text in ("one", "two")]


def test_requests_take_the_questions_in_turn():
    texts = [request.chat_messages[0]["content"][0]["text"] for request in sample_requests(QUESTIONS, 5, 8)]
    assert texts == ["one", "two", "one", "two", "one"]


@pytest.mark.parametrize(("load", "expected"), [(Load("concurrency", 4), 12), (Load("concurrency", 2), 8)])
def test_many_in_flight_make_more_requests(load, expected):
    assert load.num_requests(8) == expected


@pytest.mark.parametrize("load", [Load("concurrency", 2), Load("request_rate", 100.0)], ids=lambda load: load.kind)
def test_what_is_sent_and_what_is_measured(load):
    with streaming(["a", "b", "c"]) as server:
        target = Target(server.url, "some-model", {"sparsity_p": 0.9})
        measured = drive(target, sample_requests(QUESTIONS, 6, 3), load, {"ttft": 60_000, "tpot": 60_000})

    for body in server.bodies:
        assert (body["model"], body["sparsity_p"], body["temperature"]) == ("some-model", 0.9, 0)
        assert (body["max_completion_tokens"], body["ignore_eos"]) == (3, True)
    assert len(server.bodies) == 6
    assert measured.texts == ["abc"] * 6
    assert len(measured.ttft_ms) == len(measured.tpot_ms) == 6
    # The median: a word may be late on a busy machine, and the next one then seems early.
    assert median(measured.tpot_ms) >= 0.9 * 1000 * TOKEN_S
    # Every request met so wide an objective.
    assert measured.goodput == pytest.approx(measured.request_throughput)
    assert measured.output_throughput == pytest.approx(3 * measured.request_throughput)
    assert (measured.peak_kv_usage, measured.num_preemptions) == (0.25, 0.0)


def test_no_request_meets_an_objective_below_the_time_of_a_token():
    with streaming(["a", "b", "c"]) as server:
        load, slo_ms = Load("concurrency", 1), {"tpot": 1000 * TOKEN_S / 2}
        measured = drive(Target(server.url, "m", {}), sample_requests(QUESTIONS, 2, 3), load, slo_ms)
    assert measured.goodput == 0


def test_a_refused_request_is_an_error():
    with streaming(None) as server, pytest.raises(BenchmarkError, match="failed 2 of 2 requests: Bad Request"):
        drive(Target(server.url, "m", {}), sample_requests(QUESTIONS, 2, 3), Load("concurrency", 1))


def test_a_server_that_is_gone_is_an_error():
    with streaming(["a"]) as server:
        pass
    with pytest.raises(BenchmarkError, match="does not answer"):
        drive(Target(server.url, "m", {}), sample_requests(QUESTIONS, 1, 3), Load("concurrency", 1))
