"""TRL's private methods that the trainer overrides are as it expects them: what to look at when TRL is upgraded."""

import ast
import inspect
import textwrap
from importlib.metadata import version

import pytest
from trl import GRPOTrainer

from training.trainer import SparsityForcingTrainer
from training.trl_import import VLLMGeneration, grpo_trainer
from training.vllm_rollout import SparseVLLMGeneration

SIGNATURES = {
    "_generate": "(self, prompts: list)",
    "_tokenize_prompts": "(self, prompts: list)",
    "_generate_single_turn": "(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False)",
    "_generate_and_score_completions": (
        "(self, inputs: list[dict[str, torch.Tensor | typing.Any]]) -> dict[str, torch.Tensor | typing.Any]"
    ),
    "_calculate_rewards": "(self, inputs, prompts, completions, completion_ids_list)",
    "_get_per_token_logps_and_entropies": (
        "(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, "
        "compute_aux_loss=False, pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, "
        "spatial_shapes=None, num_tiles=None, image_sizes=None, token_type_ids=None, mm_token_type_ids=None, "
        "image_position_ids=None) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]"
    ),
    "_compute_loss": "(self, model, inputs)",
    "_load_from_checkpoint": "(self, resume_from_checkpoint: str, model: torch.nn.modules.module.Module | None = None) "
    "-> None",
}


def source(name: str) -> str:
    return inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, name)))


def test_trl_is_the_version_that_was_read():
    assert version("trl").startswith("1.16.")


@pytest.mark.parametrize("name", SIGNATURES)
def test_an_overridden_method_has_the_signature_it_had(name):
    assert str(inspect.signature(getattr(GRPOTrainer, name))) == SIGNATURES[name]


def test_every_private_override_is_guarded():
    own = {name for name, value in vars(SparsityForcingTrainer).items() if callable(value)}
    inherited = {name for name in own if hasattr(GRPOTrainer, name)} - {"__init__"}
    assert inherited == set(SIGNATURES)


def test_log_probabilities_use_the_model_only_by_calling_it():
    """It is handed a function there, which adds the masks and the media of the rows."""
    tree = ast.parse(textwrap.dedent(source("_get_per_token_logps_and_entropies")))
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "model"]
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert uses
    assert all(use in calls for use in uses)


def test_generate_returns_extra_fields_and_images_where_they_are_looked_for():
    last = source("_generate").rstrip().splitlines()[-1].strip()
    assert last == (
        "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images"
    )


def test_completions_are_shuffled_and_split_by_row():
    assert "shuffle_sequence_dict(generation_batch)" in source("_prepare_inputs")
    assert "split_tensor_dict(generation_batch, self.args.steps_per_generation)" in source("_prepare_inputs")


VLLM_SIGNATURES = {
    "_init_vllm": "(self)",
    "sync_weights": "(self)",
    "_iter_named_params": "(self)",
    "generate": (
        "(self, prompts: list[list[int]], images: list[list | None] | None, num_generations: int, "
        "profiler: trl.extras.profiling.ProfilingContext | None = None) -> tuple"
    ),
}


@pytest.mark.parametrize("name", VLLM_SIGNATURES)
def test_generation_through_vllm_has_the_signatures_it_had(name):
    assert str(inspect.signature(getattr(VLLMGeneration, name))) == VLLM_SIGNATURES[name]


def test_every_override_of_generation_through_vllm_is_guarded():
    own = {name for name, value in vars(SparseVLLMGeneration).items() if callable(value)}
    assert {name for name in own if hasattr(VLLMGeneration, name)} - {"__init__"} <= set(VLLM_SIGNATURES)


@pytest.mark.parametrize(
    ("owner", "name", "text"),
    [
        (GRPOTrainer, "__init__", "self.vllm_generation = VLLMGeneration("),
        (GRPOTrainer, "_generate_single_turn", "images=images,"),
        (VLLMGeneration, "_init_vllm", "self.llm = LLM("),
        (VLLMGeneration, "_init_vllm", "max_model_len=self.max_model_length,"),
        (VLLMGeneration, "_init_vllm", 'logprobs_mode="processed_logprobs",'),
        (VLLMGeneration, "sync_weights", "for name, param in self._iter_named_params():"),
        (VLLMGeneration, "sync_weights", "self.llm.llm_engine.model_executor.driver_worker.model_runner.model."),
        (VLLMGeneration, "generate", "torch.distributed.all_gather_object(gathered_images, local_images,"),
        (VLLMGeneration, "generate", '{"image": img_list if len(img_list) > 1 else img_list[0]}'),
        (
            VLLMGeneration,
            "generate",
            "self.llm.generate(vllm_prompts, sampling_params=sampling_params, use_tqdm=False)",
        ),
        (VLLMGeneration, "generate", "slice(local_rank_in_group * orig_size, (local_rank_in_group + 1) * orig_size)"),
    ],
)
def test_generation_through_vllm_is_where_our_engine_takes_its_place(owner, name, text):
    assert text in inspect.getsource(inspect.unwrap(getattr(owner, name)))


def test_the_trainer_looks_up_its_generation_by_name():
    assert grpo_trainer.VLLMGeneration is VLLMGeneration
