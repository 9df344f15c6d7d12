"""Requests that ask are told which tokens were kept, on real vLLM."""

import numpy as np
import pytest

from tests.integration.harness import PROMPTS, Ask, report_of, tokens_of

ASKING = {"extra_args": {"winnow_return_kept": True}}


@pytest.mark.parametrize("sparsity_p", [0.9, 0.5])
@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_the_mask_counts_what_the_report_counts(request, selection, name, sparsity_p):
    engine = request.getfixturevalue(f"{selection}_engine")
    output = engine.solo(Ask(PROMPTS[name], sparsity_p, ASKING))
    report = report_of(output)
    mask = report.unpacked_mask()
    assert mask.shape == (4, len(output.prompt_token_ids))
    assert mask.sum(axis=1).tolist() == report.kept_tokens_per_layer
    assert mask[:, -4:].all(), "the last tokens are always kept"
    assert len(report.kept_mask) == -(-mask.size // 8)


def test_a_dense_prompt_keeps_all(zipvl_engine):
    report = report_of(zipvl_engine.solo(Ask(PROMPTS["text"], 1.0, ASKING)))
    assert report.unpacked_mask().all()
    assert report.unpacked_mask().sum(axis=1).tolist() == report.kept_tokens_per_layer


def test_nobody_else_carries_a_mask(zipvl_engine):
    asks = [Ask(PROMPTS["text"], 0.6), Ask(PROMPTS["one-image"], 0.6, ASKING), Ask(PROMPTS["text"])]
    masks = [report_of(output).kept_mask for output in zipvl_engine.run(asks)]
    assert [mask is None for mask in masks] == [True, False, True]


def test_a_preempted_request_reports_the_mask_that_it_has_alone(small_engine):
    preempted = set()

    def watch(engine, step):
        preempted.update(name for name, request in engine.scheduler.requests.items() if request.num_preemptions)

    params = [{"max_tokens": 96, "seed": i, **ASKING} for i in range(20)]
    asks = [Ask(PROMPTS["long"], p, own) for own, p in zip(params, [0.9, 0.7, 0.5, 1.0] * 5, strict=True)]
    outputs = small_engine.run(asks, after_step=watch)
    assert len(preempted) >= 3, "the scenario must preempt"
    alone = {p: report_of(small_engine.solo(Ask(PROMPTS["long"], p, params[0]))) for p in (0.9, 0.7, 0.5, 1.0)}
    for ask, output in zip(asks, outputs, strict=True):
        assert np.array_equal(report_of(output).unpacked_mask(), alone[ask.sparsity_p].unpacked_mask())


def test_answers_do_not_depend_on_asking(zipvl_engine):
    told, untold = (zipvl_engine.solo(Ask(PROMPTS["one-image"], 0.7, params)) for params in (ASKING, {}))
    assert tokens_of(told) == tokens_of(untold)
