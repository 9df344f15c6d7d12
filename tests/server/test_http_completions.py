"""/v1/completions through the official SDK."""

import pytest

PROMPT = "how many red squares are there in the picture ? how many blue circles are there ?"


def complete(client, prompt=PROMPT, sparsity_p=0.6, **options):
    defaults = {"model": "demo", "max_tokens": 6, "temperature": 0, "extra_body": {"sparsity_p": sparsity_p}}
    return client.completions.create(prompt=prompt, **{**defaults, **options})


def test_whole_response(client):
    usage = complete(client).usage
    assert usage.sparsity["sparsity_p"] == 0.6
    assert all(4 <= kept < usage.prompt_tokens for kept in usage.sparsity["kept_tokens_per_layer"])


def test_stream(client):
    *_, last = complete(client, stream=True, stream_options={"include_usage": True})
    assert last.usage.sparsity == complete(client).usage.sparsity


def test_several_prompts_add_up(client):
    prompts = [PROMPT, "what color is the square ?"]
    both = complete(client, prompts).usage
    single = [complete(client, prompt).usage for prompt in prompts]
    assert both.sparsity["kept_tokens_per_layer"] == [
        sum(layer) for layer in zip(*(usage.sparsity["kept_tokens_per_layer"] for usage in single), strict=True)
    ]
    assert both.sparsity["token_ratio"] == pytest.approx(
        sum(usage.sparsity["token_ratio"] * usage.prompt_tokens for usage in single) / both.prompt_tokens
    )


def test_echo_and_prompt_logprobs_work_dense(client):
    answer = complete(client, sparsity_p=1, echo=True, logprobs=1)
    assert answer.choices[0].text.startswith("how many red")
    assert answer.usage.sparsity["token_ratio"] == 1.0


def test_echo_without_logprobs_works_sparse(client):
    answer = complete(client, echo=True)
    assert answer.choices[0].text.startswith("how many red")
    assert answer.usage.sparsity["token_ratio"] < 1.0
