"""The worker: one KV cache group per layer, and the way between its backend and the scheduler."""

from typing import Any

from vllm.config import get_layers_from_vllm_config
from vllm.model_executor.layers.attention import Attention
from vllm.platforms import current_platform
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheSpec
from vllm.v1.outputs import ModelRunnerOutput

from attention_backend.config import SparsityConfig
from attention_backend.errors import UnsupportedConfiguration
from attention_backend.vllm_adapter.context import PruningContext
from attention_backend.vllm_adapter.cpu_backend import TopPCPUMetadataBuilder
from attention_backend.vllm_adapter.feedback import attach_feedback
from attention_backend.vllm_adapter.spec import top_p_specs
from attention_backend.vllm_adapter.startup_checks import check_hooks, check_layers, check_vllm_config

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    raise UnsupportedConfiguration(
        f"The platform is {current_platform.device_name}, but this version prunes on CPU only. "
        "Use a CPU build of vLLM, or serve with stock vLLM."
    )


class TopPWorker(PlatformWorker):
    """vLLM's worker with token pruning."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_hooks()
        check_vllm_config(self.vllm_config)
        self._pruning = PruningContext(SparsityConfig.from_additional_config(self.vllm_config.additional_config))

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        check_layers(get_layers_from_vllm_config(self.vllm_config, Attention))
        return top_p_specs(super().get_kv_cache_spec())

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        super().initialize_from_config(kv_cache_config)
        builders = self._metadata_builders()
        for builder in builders:
            if not isinstance(builder, TopPCPUMetadataBuilder):
                raise UnsupportedConfiguration(
                    f"A layer uses {type(builder).__name__}, but token pruning needs TopPCPUMetadataBuilder. "
                    "Let vLLM load the plugin `winnow` (see VLLM_PLUGINS) and choose no other attention backend."
                )
            if builder.block_size != self.cache_config.block_size:
                raise UnsupportedConfiguration(
                    f"The kernel block size is {builder.block_size} and the manager's {self.cache_config.block_size}, "
                    "but token pruning needs them equal. Set --block-size to the kernel's."
                )
            builder.context = self._pruning
        self._pruning.bind(
            self.model_runner.input_batch, kv_cache_config.num_blocks, len(builders), self.model_runner.device
        )

    def _metadata_builders(self) -> list[Any]:
        return [
            group.get_metadata_builder() for layer_groups in self.model_runner.attn_groups for group in layer_groups
        ]

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput | None:
        self._pruning.begin_step(scheduler_output)
        return self._with_feedback(super().execute_model(scheduler_output))

    def sample_tokens(self, grammar_output) -> ModelRunnerOutput:
        return self._with_feedback(super().sample_tokens(grammar_output))

    def _with_feedback(self, output: ModelRunnerOutput | None) -> ModelRunnerOutput | None:
        if output is not None and (feedback := self._pruning.take_feedback()):
            attach_feedback(output, feedback)
        return output

    def winnow_status(self) -> dict[str, Any]:
        """What is live in this worker, for the server's start-up proof (`collective_rpc`)."""
        builders = self._metadata_builders()
        return {
            "backend": type(builders[0]).__name__,
            "num_layers": sum(builder.context is self._pruning for builder in builders),
            "selection": self._pruning.config.selection,
        }
