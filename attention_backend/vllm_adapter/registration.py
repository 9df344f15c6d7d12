"""Registration with vLLM's registries; called by the plugin entry point."""

from vllm.platforms import current_platform
from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.kv_cache_spec_registry import KVCacheSpecRegistry

from attention_backend.vllm_adapter.manager import TopPManager
from attention_backend.vllm_adapter.spec import TopPSpec

CPU_BACKEND = "attention_backend.vllm_adapter.cpu_backend.TopPCPUAttentionBackend"
CUDA_BACKEND = "attention_backend.vllm_adapter.cuda_backend.TopPFlashAttentionBackend"
CUDA_BACKEND_NAME = "TOP_P_FLASH_ATTN"


def register_with_vllm() -> None:
    """Register the KV cache spec with its manager and the backend of this platform."""
    # Registering into an empty registry would keep vLLM from filling in its own specs.
    KVCacheSpecRegistry._ensure_registered()
    KVCacheSpecRegistry.register(TopPSpec, manager_class=TopPManager, uniform_type_base_spec=FullAttentionSpec)
    if current_platform.is_cpu():
        # vLLM's CPU platform ignores the chosen backend and always takes this member.
        register_backend(AttentionBackendEnum.CPU_ATTN, CPU_BACKEND)
    elif CUDA_BACKEND_NAME not in AttentionBackendEnum.__members__:
        register_backend(CUDA_BACKEND_NAME, CUDA_BACKEND)
