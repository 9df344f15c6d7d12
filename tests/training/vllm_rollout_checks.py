"""Rollouts on real vLLM: their log-probabilities are those of the trained model under the masks that vLLM kept."""

import pytest
import torch

from training.arguments import InvalidTrainingOption, SparsityForcingArguments, SparsityForcingConfig
from training.grpo import parse
from training.objective import rollout_sparsity_p
from training.sparse_attention import SparseRows
from training.vllm_rollout import PromptMismatch

from .grpo_harness import IMAGE, LARGE, PICTURES, VIDEO, generation_batch, lora
from .test_trainer import reselect
from .vllm_harness import make_vllm_trainer, new_rollouts

SIZES = (IMAGE, VIDEO, PICTURES, LARGE)
SPARSITY = {"sparsity_p_min": 0.4, "sparsity_p_max": 1.0, "eval_sparsity_p": 0.6}
BATCH = {"per_device_train_batch_size": 16, "max_completion_length": 12}
FP32_ATOL = 1e-4


@pytest.fixture(scope="module")
def zipvl(tmp_path_factory):
    return make_vllm_trainer(tmp_path_factory.mktemp("zipvl"), SIZES, SPARSITY, **BATCH)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_vllm_trainer(tmp_path_factory.mktemp("keys"), SIZES, {**SPARSITY, "selection": "keys"}, **BATCH)


def logprob_error(inputs) -> torch.Tensor:
    """Largest difference between the trainer's and vLLM's log-probabilities, by row."""
    difference = (inputs["old_per_token_logps"] - inputs["sampling_per_token_logps"]).abs()
    return (difference * inputs["completion_mask"]).amax(dim=1)


def shake(model, share: float = 0.05) -> None:
    """Noise on every weight, in proportion to its spread."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += share * weight.std() * torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_replayed_masks_give_the_log_probabilities_of_the_rollout(request, selection):
    trainer = request.getfixturevalue(selection)
    inputs = new_rollouts(trainer, generation_batch(trainer))
    assert logprob_error(inputs).max() <= FP32_ATOL
    assert inputs["completion_mask"].sum() > 60
    grid = rollout_sparsity_p("grid", 0.4, 1.0, 4, range(4))
    assert sorted(inputs["sparsity_p"].tolist()) == pytest.approx(sorted(grid * 4))
    for row, media in enumerate(inputs["media"]):
        prompt = inputs["prompt_mask"][row].bool()
        assert inputs["prompt_ids"][row][prompt].tolist() == media.prompt_ids
        # What vLLM kept is what transformers selects with these weights, here in float32.
        assert torch.equal(inputs["kept"][row][:, prompt], reselect(trainer, inputs, row))
        assert not inputs["kept"][row][:, ~prompt].any()


def logprobs_under(trainer, inputs, kept: torch.Tensor) -> torch.Tensor:
    """Of the rollouts' completions, with the model as it is now."""
    trainer._rollouts.sparse = SparseRows(inputs["sparsity_p"].tolist(), inputs["prompt_mask"].bool(), kept)
    trainer._rollouts.media = inputs["media"]
    ids, mask = (torch.cat([inputs[f"prompt_{name}"], inputs[f"completion_{name}"]], dim=1) for name in ("ids", "mask"))
    num_tokens = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, num_tokens)[0]


def test_under_other_masks_they_differ(zipvl):
    """Else the agreement would say nothing about the masks."""
    inputs = new_rollouts(zipvl, generation_batch(zipvl))
    other_layers = inputs["kept"].roll(1, dims=1)
    error = logprob_error({**inputs, "old_per_token_logps": logprobs_under(zipvl, inputs, other_layers)})
    assert error[inputs["sparsity_p"] < 0.9].max() > 100 * FP32_ATOL
    assert error[inputs["sparsity_p"] == 1.0].max() <= FP32_ATOL


@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_token_ratios_are_those_of_serving(request, selection):
    trainer = request.getfixturevalue(selection)
    new_rollouts(trainer, generation_batch(trainer))
    ratios = trainer.vllm_generation.token_ratios()
    of_masks = trainer.vllm_generation.replayed_rows(None).token_ratios(selection)
    torch.testing.assert_close(ratios, of_masks)
    assert trainer._metrics["train"]["token_ratio"][-1] == pytest.approx(ratios.mean().item())
    assert ratios.min() < 0.7


def test_new_weights_reach_the_engine(zipvl):
    """All of them: the vision tower, the layers, and the embedding with the head that is tied to it."""
    weights = {name: weight.clone() for name, weight in zipvl.model.state_dict().items()}
    rows = generation_batch(zipvl)
    shake(zipvl.model)
    try:
        inputs = new_rollouts(zipvl, rows)
        assert logprob_error(inputs).max() <= FP32_ATOL
        # The old weights say something else.
        zipvl.model.load_state_dict(weights)
        old = logprobs_under(zipvl, inputs, inputs["kept"])
        assert logprob_error({**inputs, "old_per_token_logps": old}).max() > 100 * FP32_ATOL
    finally:
        zipvl.model.load_state_dict(weights)
        zipvl.vllm_generation.sync_weights()


def test_adapters_are_merged_for_the_engine(tmp_path):
    trainer = make_vllm_trainer(tmp_path, SIZES, SPARSITY, trl=lora(), **BATCH)
    rows = generation_batch(trainer)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    inputs = new_rollouts(trainer, rows)
    assert logprob_error(inputs).max() <= FP32_ATOL
    assert (inputs["old_per_token_logps"] - inputs["ref_per_token_logps"]).abs().max() > 100 * FP32_ATOL


def test_evaluation_is_greedy_at_its_own_p(zipvl):
    zipvl.model.eval()
    try:
        rows = generation_batch(zipvl)
        first, second = (zipvl._generate_and_score_completions(rows) for _ in range(2))
    finally:
        zipvl.model.train()
    assert first["sparsity_p"].tolist() == [0.6] * 16
    assert torch.equal(first["completion_ids"], second["completion_ids"])
    assert len({tuple(ids) for ids in first["completion_ids"].tolist()}) <= len(SIZES)


def test_columns_follow_the_padding_of_trl(zipvl, monkeypatch):
    monkeypatch.setattr(zipvl, "pad_to_multiple_of", 64)
    inputs = new_rollouts(zipvl, generation_batch(zipvl))
    assert inputs["kept"].shape[-1] == inputs["prompt_ids"].shape[1] == 320
    assert logprob_error(inputs).max() <= FP32_ATOL


def test_training_steps_run_to_the_end(tmp_path):
    trainer = make_vllm_trainer(tmp_path, (IMAGE, VIDEO), {"sparsity_term": "pathwise"}, max_steps=2, num_rows=8)
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "token_ratio" in entry]
    assert len(entries) == 2
    # Weights of the second step are those after the first.
    assert max(entry["sampling/sampling_logp_difference/max"] for entry in entries) <= FP32_ATOL


def test_prompts_that_vllm_makes_differently_are_refused(zipvl):
    rows = generation_batch(zipvl)
    make = zipvl._tokenize_prompts

    def with_a_longer_picture(prompts):
        ids, requests, fields = make(prompts)
        token = next(index for index, token in enumerate(ids[0]) if token in requests[0].placeholders)
        return [[*ids[0][:token], ids[0][token], *ids[0][token:]], *ids[1:]], requests, fields

    zipvl._tokenize_prompts = with_a_longer_picture
    try:
        with pytest.raises(PromptMismatch, match="has 82 tokens in vLLM and 83 in training"):
            new_rollouts(zipvl, rows)
    finally:
        del zipvl._tokenize_prompts


def test_a_server_is_refused(tmp_path):
    with pytest.raises(InvalidTrainingOption, match=r"vllm_mode is 'server'.*Set vllm_mode to colocate"):
        SparsityForcingConfig(output_dir=str(tmp_path), use_vllm=True, vllm_mode="server", use_cpu=True, bf16=False)


def test_engine_arguments_come_as_a_mapping_or_as_json():
    assert SparsityForcingArguments(vllm_engine_args='{"block_size": 32}').vllm_engine_args == {"block_size": 32}
    assert SparsityForcingArguments(vllm_engine_args={"block_size": 32}).vllm_engine_args == {"block_size": 32}
    assert SparsityForcingArguments().vllm_engine_args == {}
    for wrong in ("block_size", "[32]"):
        with pytest.raises(InvalidTrainingOption, match="vllm_engine_args is"):
            SparsityForcingArguments(vllm_engine_args=wrong)


def test_the_command_line_takes_engine_arguments(tmp_path):
    recipe = tmp_path / "mine.yaml"
    common = f"output_dir: {tmp_path}\nuse_cpu: true\nbf16: false\nuse_vllm: true\n"
    recipe.write_text(common + "vllm_engine_args:\n  block_size: 32\n")
    options, _, config, _ = parse(["--config", str(recipe)])
    assert (config.use_vllm, options.vllm_engine_args) == (True, {"block_size": 32})
    options, *_ = parse(["--config", str(recipe), "--vllm_engine_args", '{"dtype": "float32"}'])
    assert options.vllm_engine_args == {"dtype": "float32"}
