"""vLLM's Model Runner V2 with token pruning."""

from contextlib import AbstractContextManager

import torch
from vllm.config import VllmConfig
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.model_runner import GPUModelRunner

from attention_backend.config import SparsityConfig
from attention_backend.vllm_adapter.cuda_context import CUDAPruningContext
from attention_backend.vllm_adapter.cuda_feedback import OutputWithFeedback


class TopPGPUModelRunner(GPUModelRunner):
    """Tells a `CUDAPruningContext` what comes in, and sends what was kept with the output."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        super().__init__(vllm_config, device)
        config = SparsityConfig.from_additional_config(vllm_config.additional_config)
        self.pruning = CUDAPruningContext(config, self.req_states, device)

    def initialize_kv_cache(
        self,
        kv_cache_config: KVCacheConfig,
        is_profiling: bool = False,
        kv_cache_allocation_context: AbstractContextManager | None = None,
    ) -> None:
        super().initialize_kv_cache(kv_cache_config, is_profiling, kv_cache_allocation_context)
        layers = [group.kv_cache_spec.layer for group in kv_cache_config.kv_cache_groups]
        self.pruning.bind(self.block_tables, layers, kv_cache_config.num_blocks)
        for index, (attn_group,) in enumerate(self.attn_groups):
            builder = attn_group.get_metadata_builder()
            builder.context, builder.group = self.pruning, index

    def add_requests(self, scheduler_output: SchedulerOutput) -> None:
        super().add_requests(scheduler_output)
        self.pruning.add_requests(scheduler_output.scheduled_new_reqs)

    def prepare_attn(self, input_batch: InputBatch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        block_tables, slot_mappings = super().prepare_attn(input_batch)
        self.pruning.begin_step(input_batch, slot_mappings)
        return block_tables, slot_mappings

    @torch.inference_mode()
    def sample_tokens(self, grammar_output: GrammarOutput | None) -> AsyncModelRunnerOutput | ModelRunnerOutput | None:
        feedback = self.pruning.take_feedback()
        output = super().sample_tokens(grammar_output)
        return output if feedback is None else OutputWithFeedback(output, feedback)
