"""The blocks that pruning frees really go back to the pool, and none is ever lost."""

import pytest

from tests.integration.harness import PROMPTS, Ask, check_blocks, report_of, tokens_of


@pytest.mark.parametrize("sparsity_p", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("name", PROMPTS)
def test_pool_grows_by_the_reported_blocks(zipvl_engine, name, sparsity_p):
    free = {}

    def watch(engine, step):
        check_blocks(engine)
        free[step] = engine.num_free_blocks

    before = zipvl_engine.num_free_blocks
    output = zipvl_engine.run([Ask(PROMPTS[name], sparsity_p)], after_step=watch)[0]
    report = report_of(output)
    num_tokens, block_size = len(output.prompt_token_ids), 32
    dense_blocks = 4 * -(-num_tokens // block_size)
    by_layer = [
        num_tokens // block_size - min(-(-kept // block_size), num_tokens // block_size)
        for kept in report.kept_tokens_per_layer
    ]
    # The first step prefills into full rows and gives the surplus back before it ends.
    assert before - free[0] == dense_blocks - sum(by_layer)
    assert report.freed_blocks == sum(by_layer)
    assert report.kv_ratio == pytest.approx(1 - sum(by_layer) / dense_blocks)
    assert all(4 <= kept <= num_tokens for kept in report.kept_tokens_per_layer)
    assert zipvl_engine.num_free_blocks == before


def test_layers_keep_different_numbers(zipvl_engine):
    report = report_of(zipvl_engine.solo(Ask(PROMPTS["one-image"], 0.9)))
    assert len(set(report.kept_tokens_per_layer)) > 1


def test_nothing_is_kept_of_finished_requests(zipvl_engine):
    zipvl_engine.run([Ask(prompt, 0.7) for prompt in PROMPTS.values()])
    assert not zipvl_engine.scheduler._pruned
    zipvl_engine.solo(Ask(PROMPTS["text"]))
    assert not zipvl_engine.worker._pruning._sparsity_p
    assert not zipvl_engine.worker._pruning._returns_kept
    assert not zipvl_engine.worker._pruning.take_feedback()


def test_more_requests_run_at_once(small_engine):
    """A cache that holds 8 dense requests holds 8 / kv_ratio sparse ones, up to their prefill's full rows."""

    def most_running(sparsity_p):
        running = []
        asks = [Ask(PROMPTS["long"], sparsity_p, {"max_tokens": 24}) for _ in range(48)]
        outputs = small_engine.run(
            asks, after_step=lambda engine, step: (check_blocks(engine), running.append(len(engine.scheduler.running)))
        )
        assert all(len(tokens_of(output)) == 24 for output in outputs)
        return max(running), report_of(outputs[0]).kv_ratio

    dense, _ = most_running(1.0)
    assert dense == 8
    for sparsity_p in (0.9, 0.6):
        sparse, kv_ratio = most_running(sparsity_p)
        assert sparse >= 0.9 * dense / kv_ratio - 1
