"""The worker on CPU: the way between its backend and the scheduler."""

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.worker.cpu_worker import CPUWorker

from attention_backend.config import SparsityConfig
from attention_backend.vllm_adapter.cpu_backend import TopPCPUMetadataBuilder
from attention_backend.vllm_adapter.cpu_block_table import TopPBlockTables
from attention_backend.vllm_adapter.cpu_context import CPUPruningContext
from attention_backend.vllm_adapter.feedback import attach_feedback
from attention_backend.vllm_adapter.pruning_worker import PruningWorker


class TopPCPUWorker(PruningWorker, CPUWorker):
    """vLLM's CPU worker with token pruning."""

    builder_cls = TopPCPUMetadataBuilder

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._pruning = CPUPruningContext(SparsityConfig.from_additional_config(self.vllm_config.additional_config))

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        super().initialize_from_config(kv_cache_config)
        builders = self.metadata_builders()
        for builder in builders:
            builder.context = self._pruning
        TopPBlockTables.take_over(self.model_runner.input_batch.block_table)
        self._pruning.bind(
            self.model_runner.input_batch, kv_cache_config.num_blocks, len(builders), self.model_runner.device
        )

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput | None:
        self._pruning.begin_step(scheduler_output)
        return self._with_feedback(super().execute_model(scheduler_output))

    def sample_tokens(self, grammar_output) -> ModelRunnerOutput:
        return self._with_feedback(super().sample_tokens(grammar_output))

    def _with_feedback(self, output: ModelRunnerOutput | None) -> ModelRunnerOutput | None:
        if output is not None and (feedback := self._pruning.take_feedback()):
            attach_feedback(output, feedback)
        return output
