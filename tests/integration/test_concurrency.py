"""Mixed p, staggered arrival, preemption and abort: every request answers as if it ran alone."""

import pytest

from tests.integration.harness import PROMPTS, Ask, check_blocks, report_of, tokens_of

MIXED = [
    (name, sparsity_p) for name in ("text", "one-image", "several-images", "video") for sparsity_p in (1.0, 0.9, 0.5)
]


def answer(output):
    return tokens_of(output), report_of(output).kept_tokens_per_layer


def logprobs(output):
    return [next(iter(step.values())).logprob for step in output.outputs[0].logprobs]


def check_equal_to_solo(engine, asks, outputs):
    for ask, output in zip(asks, outputs, strict=True):
        alone = engine.solo(Ask(ask.prompt, ask.sparsity_p, ask.params))
        assert answer(output) == answer(alone)
        assert logprobs(output) == pytest.approx(logprobs(alone), abs=1e-3)


@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_mixed_p_in_one_batch(request, selection):
    engine = request.getfixturevalue(f"{selection}_engine")
    asks = [Ask(PROMPTS[name], sparsity_p) for name, sparsity_p in MIXED]
    outputs = engine.run(asks, after_step=lambda engine, step: check_blocks(engine))
    check_equal_to_solo(engine, asks, outputs)


def test_staggered_arrival(zipvl_engine):
    """Sparse prefills meet running decodes of pruned and of dense requests."""
    asks = [Ask(PROMPTS[name], p, {"max_tokens": 20}, start_step=3 * i) for i, (name, p) in enumerate(MIXED)]
    outputs = zipvl_engine.run(asks, after_step=lambda engine, step: check_blocks(engine))
    check_equal_to_solo(zipvl_engine, asks, outputs)


def test_abort_leaves_the_others_alone(zipvl_engine):
    before = zipvl_engine.num_free_blocks
    asks = [
        Ask(PROMPTS[name], p, {"max_tokens": 16}, abort_step=2 + i if i % 3 == 0 else None)
        for i, (name, p) in enumerate(MIXED)
    ]
    outputs = zipvl_engine.run(asks, after_step=lambda engine, step: check_blocks(engine))
    assert [output is None for output in outputs] == [ask.abort_step is not None for ask in asks]
    assert zipvl_engine.num_free_blocks == before
    survivors = [(ask, output) for ask, output in zip(asks, outputs, strict=True) if output is not None]
    check_equal_to_solo(zipvl_engine, *zip(*survivors, strict=True))


def test_preempted_requests_select_and_answer_the_same(small_engine):
    """Decoding outgrows the cache: requests are evicted, prefilled again with their answer so far, and go on."""
    preempted = set()

    def watch(engine, step):
        check_blocks(engine)
        preempted.update(
            request.request_id for request in engine.scheduler.requests.values() if request.num_preemptions
        )

    asks = [Ask(PROMPTS["long"], p, {"max_tokens": 96, "seed": i}) for i, p in enumerate([0.9, 0.7, 0.5, 1.0] * 5)]
    before = small_engine.num_free_blocks
    outputs = small_engine.run(asks, after_step=watch)
    assert len(preempted) >= 3, "the scenario must preempt"
    assert small_engine.num_free_blocks == before
    check_equal_to_solo(small_engine, asks, outputs)


def test_feedback_of_a_request_that_is_gone_is_dropped_and_counted(zipvl_engine):
    """The pruning result of an aborted request must not touch blocks that have a new owner."""
    from attention_backend.vllm_adapter.feedback import Kept, attach_feedback

    scheduler = zipvl_engine.scheduler
    before = zipvl_engine.num_free_blocks
    real_update = scheduler.update_from_output

    def with_late_feedback(scheduler_output, model_runner_output):
        attach_feedback(model_runner_output, {"gone": Kept([4, 4, 4, 4])})
        scheduler.update_from_output = real_update
        return real_update(scheduler_output, model_runner_output)

    scheduler.update_from_output = with_late_feedback
    output = zipvl_engine.solo(Ask(PROMPTS["text"]))
    assert report_of(output).feedback_dropped == 1
    assert zipvl_engine.num_free_blocks == before
    assert report_of(zipvl_engine.solo(Ask(PROMPTS["text"]))).feedback_dropped == 0


def test_stop_string_ends_with_a_report(zipvl_engine):
    """Stop strings are found by the front end, after the engine core has sent the output."""
    params = {"max_tokens": 40, "min_tokens": 0}
    text = zipvl_engine.solo(Ask(PROMPTS["text"], 0.8, params)).outputs[0].text
    output = zipvl_engine.solo(Ask(PROMPTS["text"], 0.8, params | {"stop": [text[1:3]]}))
    assert output.outputs[0].finish_reason == "stop"
    assert report_of(output).token_ratio < 1


def test_one_token_answers_are_reported(zipvl_engine):
    report = report_of(zipvl_engine.solo(Ask(PROMPTS["one-image"], 0.6, {"max_tokens": 1})))
    assert report.freed_blocks > 0
