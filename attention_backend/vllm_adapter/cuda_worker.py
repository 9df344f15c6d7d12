"""The worker on CUDA: chooses the attention backend and the model runner that prune."""

from vllm.config import get_layers_from_vllm_config
from vllm.model_executor.layers.attention import Attention
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from vllm.v1.worker.gpu_worker import Worker
from vllm.v1.worker.worker_base import CompilationTimes

from attention_backend.vllm_adapter.cuda_backend import TopPFlashAttentionMetadataBuilder
from attention_backend.vllm_adapter.cuda_model_runner import TopPGPUModelRunner
from attention_backend.vllm_adapter.cuda_warmup import warm_up
from attention_backend.vllm_adapter.pruning_worker import PruningWorker
from attention_backend.vllm_adapter.registration import CUDA_BACKEND_NAME


class TopPCUDAWorker(PruningWorker, Worker):
    """vLLM's GPU worker with token pruning."""

    builder_cls = TopPFlashAttentionMetadataBuilder

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # The layers, which are made later, take their backend from here.
        self.vllm_config.attention_config.backend = AttentionBackendEnum[CUDA_BACKEND_NAME]

    def compile_or_warm_up_model(self) -> CompilationTimes:
        times = super().compile_or_warm_up_model()
        layers = get_layers_from_vllm_config(self.vllm_config, Attention)
        warm_up(next(iter(layers.values())), self.model_runner.pruning, self.vllm_config)
        return times

    def _make_model_runner(self) -> TopPGPUModelRunner:
        return TopPGPUModelRunner(self.vllm_config, self.device)
