"""p = 1 is stock vLLM: same tokens, same log-probabilities to the last bit."""

import pytest

from tests.integration.harness import PROMPTS, Ask, report_of, tokens_of


def as_dict(output):
    return {
        "token_ids": tokens_of(output),
        "logprobs": [next(iter(step.values())).logprob for step in output.outputs[0].logprobs],
    }


@pytest.mark.parametrize("name", PROMPTS)
def test_alone(zipvl_engine, stock_outputs, name):
    output = zipvl_engine.solo(Ask(PROMPTS[name]))
    assert as_dict(output) == stock_outputs["alone"][name]
    report = report_of(output)
    assert (report.token_ratio, report.kv_ratio, report.freed_blocks) == (1.0, 1.0, 0)
    assert report.kept_tokens_per_layer == [len(output.prompt_token_ids)] * 4


def test_in_one_batch(zipvl_engine, stock_outputs):
    outputs = zipvl_engine.run([Ask(prompt) for prompt in PROMPTS.values()])
    assert dict(zip(PROMPTS, map(as_dict, outputs), strict=True)) == stock_outputs["batch"]


def test_stock_tokens_are_not_trivial(stock_outputs):
    """The comparison would prove nothing if every prompt gave the same answer."""
    answers = {tuple(answer["token_ids"]) for answer in stock_outputs["alone"].values()}
    assert len(answers) == len(PROMPTS)
