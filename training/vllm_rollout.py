"""Rollouts through this project's vLLM backend in TRL's colocate mode: a `sparsity_p` for each, masks read back.

TRL's `VLLMGeneration` does the work: prompts of tensor-parallel ranks, sleep mode, weights, log-probabilities. Here it
gets an engine that prunes, a request for each row, and what CPU needs for new weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch

from attention_backend import REPORT, SparsityReport, engine_args

from .arguments import SparsityForcingArguments
from .rollout_requests import RolloutRequest
from .sparse_attention import SparseRows
from .trl_import import VLLMGeneration, grpo_trainer, vllm_generation, without_version_warning


class PromptMismatch(ValueError):
    """vLLM made other prompt tokens than the trainer, so that its masks would not fit."""


@contextmanager
def vllm_backend(sparsity: SparsityForcingArguments) -> Iterator[None]:
    """A `GRPOTrainer` that is made inside, with `use_vllm`, rolls out through this project's backend."""
    with _replaced(grpo_trainer, "VLLMGeneration", partial(SparseVLLMGeneration, sparsity)):
        yield


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """A name of a module stands for something else inside: TRL makes these objects itself, deep in its constructors."""
    stock = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, stock)


class SparseVLLMGeneration(VLLMGeneration):
    """TRL's generation through vLLM with an engine that prunes.

    Args:
        sparsity: our options.
        trl: what `VLLMGeneration` takes.
    """

    def __init__(self, sparsity: SparsityForcingArguments, **trl: Any) -> None:
        self.sparsity = sparsity
        self._reports: list[SparsityReport] = []
        super().__init__(**trl)

    def _init_vllm(self) -> None:
        with _replaced(vllm_generation, "LLM", self._make_engine), without_version_warning():
            super()._init_vllm()

    def _make_engine(self, **trl: Any) -> Any:
        """The engine that TRL asks for, with pruning; a sparse prompt is prefilled in one step."""
        from vllm import LLM

        max_model_len = trl["max_model_len"]
        # Without a limit vLLM takes the model's, and prefills as many tokens at once.
        trl["max_num_batched_tokens"] = max_model_len and max(max_model_len, trl["max_num_batched_tokens"])
        llm = LLM(**engine_args(self.sparsity.sparsity_config(), **(trl | self.sparsity.vllm_engine_args)))
        llm.generate = partial(self._generate_rows, llm.generate)
        return llm

    def _generate_rows(self, generate: Any, prompts: list[dict], sampling_params: Any, **options: Any) -> list:
        """The engine's `generate` as TRL calls it, for rows that differ in more than their prompts."""
        requests: list[RolloutRequest] = [prompt["multi_modal_data"]["image"] for prompt in prompts]
        token_ids = [prompt["prompt_token_ids"] for prompt in prompts]
        rows = [request.prompt(ids) for request, ids in zip(requests, token_ids, strict=True)]
        outputs = generate(rows, [request.sampling_params(sampling_params) for request in requests], **options)
        for output, ids in zip(outputs, token_ids, strict=True):
            if list(output.prompt_token_ids) != list(ids):
                raise PromptMismatch(
                    f"A prompt has {len(output.prompt_token_ids)} tokens in vLLM and {len(ids)} in "
                    "training, or other ones, but the kept masks need equal prompts. Let both use one processor "
                    "configuration: that of the model's folder."
                )
        self._reports = [SparsityReport.from_dict(output.kv_transfer_params[REPORT]) for output in outputs]
        return outputs

    def generate(
        self, prompts: list[list[int]], images: list[RolloutRequest], num_generations: int, profiler: Any = None
    ) -> tuple:
        """TRL's `generate` for rows with a request each, in the place of pictures."""
        output = super().generate(prompts, [[request] for request in images], num_generations, profiler)
        if self.tensor_parallel_size > 1:
            first = torch.distributed.get_rank(group=self.tp_group) * len(prompts)
            self._reports = self._reports[first : first + len(prompts)]
        return output

    def sync_weights(self) -> None:
        """TRL's, on CPU too; and what the vision tower said with its old weights is forgotten."""
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            self._reload_packed_weights()
        else:
            super().sync_weights()
        self.llm.llm_engine.reset_encoder_cache()

    def _reload_packed_weights(self) -> None:
        """On CPU vLLM packs the weights that it has loaded and drops them, so TRL's sync finds parameters without a
        loader. vLLM's own reload brings them back, layer by layer."""
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
        # Copies: a layer may be packed when all others are loaded, and PEFT has then unmerged its adapters.
        runner.reload_weights(weights_iterator=((name, p.clone()) for name, p in self._iter_named_params()))
        for module in runner.model.modules():
            if isinstance(module, ParallelLMHead):
                # One that is tied to the embedding has a packed copy of it, which the reload leaves as it was.
                module.quant_method.process_weights_after_loading(module)
        self.llm.reset_prefix_cache()

    def token_ratios(self) -> torch.Tensor:
        """Of the last rollouts, as serving reports them. [B], float32."""
        return torch.tensor([report.token_ratio for report in self._reports], device=self.accelerator.device)

    def replayed_rows(self, pad_to_multiple_of: int | None) -> SparseRows:
        """The last rollouts with the masks that the engine kept, prompts padded on the left as TRL does.

        Args:
            pad_to_multiple_of: TRL's option.
        """
        multiple, lengths = pad_to_multiple_of or 1, [report.num_prompt_tokens for report in self._reports]
        num_columns = -(-max(lengths) // multiple) * multiple
        # [B, P]
        prompt_mask = torch.stack([_padded(torch.ones(length, dtype=torch.bool), num_columns) for length in lengths])
        # [B, num_layers, P]
        kept = torch.stack([_padded(torch.from_numpy(report.unpacked_mask()), num_columns) for report in self._reports])
        sparsity_p, device = [report.sparsity_p for report in self._reports], self.accelerator.device
        return SparseRows(sparsity_p, prompt_mask.to(device), kept.to(device))


def _padded(mask: torch.Tensor, num_columns: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (num_columns - mask.shape[-1], 0))
