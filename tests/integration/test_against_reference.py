"""Pruned log-probabilities equal an independent dense-mask reference on transformers, teacher-forced in float32."""

import pytest
import torch

from attention_backend import SparsityConfig
from attention_backend.ops.estimate import probe_positions
from tests.integration.harness import DEMO_MODEL, PROMPTS, Ask, report_of, tokens_of
from tests.reference.dense_mask import Rule, teacher_forced

NUM_TOKENS = 32


@pytest.fixture(scope="session")
def transformers_model():
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(DEMO_MODEL, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(DEMO_MODEL)


def media_inputs(processor, prompt):
    """The prompt as transformers' own processor gives it: token ids, and the rest."""
    media = prompt.get("multi_modal_data", {})
    images = media.get("image")
    inputs = processor(text=[prompt["prompt"]], images=images, return_tensors="pt")
    token_ids = inputs.pop("input_ids")[0].tolist()
    inputs.pop("attention_mask")
    return token_ids, dict(inputs)


@pytest.mark.parametrize("sparsity_p", [0.975, 0.8, 0.5])
@pytest.mark.parametrize("name", ["text", "one-image", "several-images"])
@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_teacher_forced_logprobs(request, transformers_model, selection, name, sparsity_p):
    engine = request.getfixturevalue(f"{selection}_engine")
    model, processor = transformers_model
    output = engine.solo(Ask(PROMPTS[name], sparsity_p, {"max_tokens": NUM_TOKENS}))
    token_ids = tokens_of(output)
    logprobs = torch.tensor(
        [step[token].logprob for step, token in zip(output.outputs[0].logprobs, token_ids, strict=True)]
    )
    prompt_token_ids, media = media_inputs(processor, PROMPTS[name])
    assert prompt_token_ids == output.prompt_token_ids
    config = SparsityConfig(selection=selection)
    rule = Rule(sparsity_p, selection, lambda length, layer: probe_positions(length, layer, config))
    expected = teacher_forced(model, prompt_token_ids, token_ids, rule, **media)

    assert report_of(output).kept_tokens_per_layer == expected.kept_tokens_per_layer
    assert (logprobs - expected.logprobs).abs().max() <= 1e-3
    # The reference would agree with a dense engine too if pruning changed nothing.
    dense = teacher_forced(model, prompt_token_ids, token_ids, Rule(), **media)
    assert (logprobs - dense.logprobs).abs().max() > 1e-3
