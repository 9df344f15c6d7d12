"""Figures under load, from steps made up by hand."""

from types import SimpleNamespace

import pytest

from benchmarks.engine.load import Step, reported, summarise


def step(seconds, tokens, scheduled, waiting, preempted=0, peak=100, held=80):
    return Step(seconds, tokens, scheduled, waiting, preempted, peak, held)


STEPS = [
    # Two prompts of 50 tokens, while four requests wait.
    step(1.0, 2, 100, 4, peak=120, held=40),
    # Decoding, two waiting: the cache is full.
    step(0.1, 4, 4, 2, held=80),
    step(0.3, 2, 2, 3, preempted=1, held=60),
    # A prompt beside three that decode.
    step(0.5, 4, 53, 1),
    # Decoding, but nobody waits.
    step(0.1, 5, 5, 0),
]


def test_only_pure_decode_steps_with_others_waiting_count_as_full_cache():
    assert [step.is_full_cache_decode for step in STEPS] == [False, True, True, False, False]


def test_summary_by_hand():
    found = summarise(STEPS)
    assert found["peak_running"] == 5
    assert found["preemptions"] == 1
    assert found["peak_kv_bytes"] == 120
    assert found["mean_kv_bytes"] == pytest.approx((40 * 1.0 + 80 * 0.1 + 60 * 0.3 + 80 * 0.5 + 80 * 0.1) / 2.0)
    assert found["full_cache_steps"] == 2
    assert found["full_cache_running"] == 3
    assert found["full_cache_tokens_per_s"] == pytest.approx(6 / 0.4)
    assert found["full_cache_step_ms"] == pytest.approx(200)
    assert found["kv_bytes_per_request"] == pytest.approx((80 / 4 + 60 / 2) / 2)


def test_a_cache_that_was_never_full_has_no_such_figures():
    found = summarise([STEPS[0], STEPS[4]])
    assert (found["full_cache_steps"], found["full_cache_tokens_per_s"], found["kv_bytes_per_request"]) == (
        0,
        None,
        None,
    )


def test_ratios_are_means_and_stock_vllm_has_none():
    def output(kv_ratio):
        return SimpleNamespace(kv_transfer_params={"winnow": {"kv_ratio": kv_ratio, "token_ratio": kv_ratio / 2}})

    assert reported([output(0.2), output(0.4)]) == pytest.approx({"kv_ratio": 0.3, "token_ratio": 0.15})
    assert reported([SimpleNamespace(kv_transfer_params=None)]) == {"kv_ratio": None, "token_ratio": None}
