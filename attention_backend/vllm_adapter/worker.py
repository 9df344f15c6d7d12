"""The worker of this machine's platform, under the one name that engine arguments give."""

from vllm.platforms import current_platform

from attention_backend.errors import UnsupportedConfiguration

if current_platform.is_cpu():
    from attention_backend.vllm_adapter.cpu_worker import TopPCPUWorker as TopPWorker
elif current_platform.is_cuda():
    from attention_backend.vllm_adapter.cuda_worker import TopPCUDAWorker as TopPWorker
else:
    raise UnsupportedConfiguration(
        f"The platform is {current_platform.device_name}, but token pruning runs on CUDA and CPU. "
        "Serve with stock vLLM there."
    )

__all__ = ["TopPWorker"]
