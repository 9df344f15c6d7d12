"""Selection does not depend on block size, number of ranks or process layout; a wrong start is refused."""

import json
import math

import numpy as np
import pytest
from vllm.config import get_layers_from_vllm_config
from vllm.model_executor.layers.attention import Attention

from attention_backend import SparsityConfig, UnsupportedConfiguration
from attention_backend.ops.ranking import baseline_score
from attention_backend.vllm_adapter.startup_checks import check_layers
from tests.integration.harness import PROMPTS, Ask, Engine, check_blocks, report_of, run_script, tokens_of


def check_same_answer(output, token_ids, kept, logprobs):
    assert tokens_of(output) == token_ids
    assert report_of(output).kept_tokens_per_layer == kept
    own = [next(iter(step.values())).logprob for step in output.outputs[0].logprobs]
    assert own == pytest.approx(logprobs, abs=1e-3)


def test_tensor_parallel_ranks_select_the_same(zipvl_engine, tmp_path):
    """Two ranks hold one KV head each; the engine core and the workers are processes of their own."""
    out, options = tmp_path / "answers.json", json.dumps({"tensor_parallel_size": 2})
    result = run_script("pruned_vllm.py", str(out), options, VLLM_ENABLE_V1_MULTIPROCESSING="1")
    assert result.returncode == 0, result.stderr[-3000:]
    printed = json.loads(out.read_text())
    assert [status["num_layers"] for status in printed["status"]] == [4, 4]
    for name, answer in printed["answers"].items():
        output = zipvl_engine.solo(Ask(PROMPTS[name], 0.8, {"extra_args": {"winnow_return_kept": True}}))
        assert report_of(output).unpacked_mask().tolist() == answer.pop("mask")
        check_same_answer(output, **answer)


def test_block_size_changes_nothing_but_rounding(zipvl_engine):
    coarse = Engine(SparsityConfig(), enable_prefix_caching=False, block_size=64)
    for prompt in PROMPTS.values():
        output, reference = coarse.solo(Ask(prompt, 0.7)), zipvl_engine.solo(Ask(prompt, 0.7))
        report, expected = report_of(output), report_of(reference)
        logprobs = [next(iter(step.values())).logprob for step in reference.outputs[0].logprobs]
        check_same_answer(output, tokens_of(reference), expected.kept_tokens_per_layer, logprobs)
        assert report.token_ratio == expected.token_ratio
        assert report.kv_ratio >= expected.kv_ratio


def test_fixed_selection_keeps_its_ratio_whatever_sparsity_p_says():
    engine = Engine(SparsityConfig(selection="fixed", fixed_token_ratio=0.25), enable_prefix_caching=False)
    for sparsity_p in (0.99, 0.3):
        report = report_of(engine.solo(Ask(PROMPTS["one-image"], sparsity_p)))
        kept = math.ceil(0.25 * report.num_prompt_tokens)
        assert report.kept_tokens_per_layer == [kept] * 4
        assert report.token_ratio == pytest.approx(kept / report.num_prompt_tokens)
    assert report_of(engine.solo(Ask(PROMPTS["one-image"]))).token_ratio == 1.0


@pytest.mark.parametrize(("ranking", "selection"), [("random", "zipvl"), ("recent", "keys")])
def test_a_baseline_ranking_keeps_tokens_without_looking_at_attention(request, ranking, selection):
    config = SparsityConfig(selection=selection, ranking=ranking, num_sink_tokens=2)
    engine = Engine(config, enable_prefix_caching=False)
    by_attention = request.getfixturevalue(f"{selection}_engine")
    asking = {"extra_args": {"winnow_return_kept": True}}
    for sparsity_p in (0.9, 0.5):
        ask = Ask(PROMPTS["one-image"], sparsity_p, asking)
        output = engine.solo(ask)
        report, mask = report_of(output), report_of(output).unpacked_mask()
        assert report.ranking == ranking
        # The first layer sees the same hidden states, so its masses ask for the same number of tokens.
        assert report.kept_tokens_per_layer[0] == report_of(by_attention.solo(ask)).kept_tokens_per_layer[0]
        for layer, num_kept in enumerate(report.kept_tokens_per_layer):
            assert mask[layer].nonzero()[0].tolist() == baseline_kept(mask.shape[1], layer, num_kept, ranking)
        assert np.array_equal(report_of(engine.solo(ask)).unpacked_mask(), mask)
    dense, stock = (each.solo(Ask(PROMPTS["one-image"])) for each in (engine, by_attention))
    assert tokens_of(dense) == tokens_of(stock)
    assert report_of(dense).token_ratio == 1.0
    check_blocks(engine)


def baseline_kept(num_tokens: int, layer: int, num_kept: int, ranking: str) -> list[int]:
    """Two sinks and the last four, then the tokens of highest baseline score."""
    forced = [0, 1, *range(num_tokens - 4, num_tokens)]
    ranked = baseline_score(num_tokens, layer, ranking).argsort(descending=True, stable=True).tolist()
    return sorted([*forced, *(position for position in ranked if position not in forced)][:num_kept])


def test_prefix_cache_serves_dense_requests_and_never_holds_sparse_ones():
    engine = Engine(SparsityConfig(), enable_prefix_caching=True)
    prompt = PROMPTS["one-image"]
    assert engine.solo(Ask(prompt, 0.6)).num_cached_tokens == 0
    assert engine.solo(Ask(prompt, 0.6)).num_cached_tokens == 0
    # Neither did they leave anything behind for a dense request.
    first = engine.solo(Ask(prompt))
    assert first.num_cached_tokens == 0
    second = engine.solo(Ask(prompt))
    assert second.num_cached_tokens > 0
    assert tokens_of(second) == tokens_of(first)
    # A sparse request does not read what the dense one cached: its selection needs every row.
    sparse = engine.solo(Ask(prompt, 0.6))
    assert sparse.num_cached_tokens == 0
    assert report_of(sparse).freed_blocks > 0
    check_blocks(engine)


def test_sparse_prompt_waits_for_the_encoder_instead_of_being_cut(small_engine, monkeypatch):
    """Room for one picture a step: the second request must start a step later, whole."""
    prompts = [PROMPTS["long"], PROMPTS["one-image"]]
    alone = [small_engine.solo(Ask(prompt, 0.6)) for prompt in prompts]
    small_engine.scheduler.encoder_cache_manager.reset()
    monkeypatch.setattr(small_engine.scheduler, "max_num_encoder_input_tokens", 300)
    started = []

    def watch(engine, step):
        started.append(len(engine.scheduler.running))

    together = small_engine.run([Ask(prompt, 0.6) for prompt in prompts], after_step=watch)
    assert started[:2] == [1, 2]
    assert [tokens_of(output) for output in together] == [tokens_of(output) for output in alone]
    assert [report_of(output) for output in together] == [report_of(output) for output in alone]


def test_sparse_prompt_that_the_encoder_can_never_take_ends_with_an_error(small_engine, monkeypatch):
    small_engine.scheduler.encoder_cache_manager.reset()
    monkeypatch.setattr(small_engine.scheduler, "max_num_encoder_input_tokens", 200)
    output, other = small_engine.run([Ask(PROMPTS["long"], 0.6), Ask(PROMPTS["one-image"], 0.6, start_step=3)])
    assert output.outputs[0].finish_reason == "error"
    assert len(tokens_of(other)) == 12, "the engine goes on"
    check_blocks(small_engine)


def test_engine_without_the_plugin_is_refused(tmp_path):
    """vLLM swallows plugin errors; nothing may run dense in silence."""
    result = run_script("pruned_vllm.py", str(tmp_path / "answers.json"), "{}", VLLM_PLUGINS="")
    assert result.returncode != 0
    assert "VLLM_PLUGINS" in result.stderr
    assert "UnsupportedConfiguration" in result.stderr


@pytest.mark.parametrize("bad", [0, 1.5, "0.9", True, float("nan")])
def test_bad_value_through_plain_vllm_ends_with_an_error_and_the_engine_goes_on(zipvl_engine, bad):
    """The server refuses these with HTTP 400; here nobody checked before."""
    broken = Ask(PROMPTS["text"], params={"extra_args": {"sparsity_p": bad}})
    output, other = zipvl_engine.run([broken, Ask(PROMPTS["text"], 0.8)])
    assert output.outputs[0].finish_reason == "error"
    assert tokens_of(output) == []
    assert len(tokens_of(other)) == 12
    check_blocks(zipvl_engine)
    assert not zipvl_engine.scheduler._refused


@pytest.mark.parametrize(
    ("owner", "attribute", "value", "named"),
    [
        ("impl", "alibi_slopes", [0.5], "ALiBi"),
        ("impl", "logits_soft_cap", 30.0, "caps its logits"),
        ("impl", "sinks", [0.0], "attention sinks"),
        ("layer", "kv_sharing_target_layer_name", "model.layers.0", "shares the KV cache"),
    ],
)
def test_layers_that_do_more_than_plain_attention_are_refused(
    zipvl_engine, monkeypatch, owner, attribute, value, named
):
    """On the layers of a real model, changed one attribute at a time."""
    layers = get_layers_from_vllm_config(zipvl_engine.worker.vllm_config, Attention)
    check_layers(layers)
    layer = list(layers.values())[2]
    monkeypatch.setattr(layer if owner == "layer" else layer.impl, attribute, value)
    with pytest.raises(UnsupportedConfiguration, match=rf"layers\.2\..*{named}"):
        check_layers(layers)
