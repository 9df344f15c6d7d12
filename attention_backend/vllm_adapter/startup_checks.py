"""Refuse, with a clear sentence, every configuration that token pruning cannot work with."""

from collections.abc import Iterator, Mapping, Sequence

import vllm
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.platforms import current_platform
from vllm.v1.attention.backends.flash_attn import FlashAttentionImpl, FlashAttentionMetadataBuilder
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.worker import gpu_model_runner
from vllm.v1.worker.block_table import MultiGroupBlockTable
from vllm.v1.worker.gpu import model_runner as gpu_model_runner_v2
from vllm.v1.worker.gpu_worker import Worker

from attention_backend.config import SparsityConfig
from attention_backend.errors import UnsupportedConfiguration
from attention_backend.vllm_adapter.manager import TopPManager
from attention_backend.vllm_adapter.registration import CUDA_BACKEND_NAME

SUPPORTED_VLLM = "0.32.0"
CPU_KERNEL_BLOCK_SIZE = 32

# Private hooks of vLLM that this package overrides or calls, by owner.
HOOKS: dict[type, tuple[str, ...]] = {
    AsyncScheduler: (
        "_try_schedule_encoder_inputs",
        "_handle_blocked_waiting_request",
        "_free_request",
        "update_from_output",
        "add_request",
    ),
    StructuredOutputManager: ("_create_grammar",),
    KVCacheManager: ("allocate_slots", "cache_blocks"),
    SingleTypeKVCacheManager: ("_remove_blocks_in_range", "cache_blocks", "allocate_new_blocks"),
    MultiGroupBlockTable: ("compute_slot_mapping",),
    Worker: ("execute_model", "sample_tokens", "get_kv_cache_spec", "initialize_from_config", "_make_model_runner"),
    gpu_model_runner.GPUModelRunner: ("_build_attention_metadata", "_get_slot_mappings"),
    gpu_model_runner_v2.GPUModelRunner: (
        "initialize_kv_cache",
        "add_requests",
        "prepare_attn",
        "sample_tokens",
    ),
    FlashAttentionMetadataBuilder: ("build", "build_for_cudagraph_capture", "get_cudagraph_support"),
    FlashAttentionImpl: ("forward", "do_kv_cache_update"),
}


def check_hooks() -> None:
    """Check the vLLM version and every private hook that the adapter leans on.

    Raises:
        UnsupportedConfiguration: another version, or a hook is missing.
    """
    if vllm.__version__.split("+")[0] != SUPPORTED_VLLM:
        raise UnsupportedConfiguration(
            f"vLLM is {vllm.__version__}, but this version of Winnow is made for {SUPPORTED_VLLM}. "
            f"Install vllm=={SUPPORTED_VLLM}."
        )
    for owner, names in HOOKS.items():
        for name in names:
            if not hasattr(owner, name):
                raise UnsupportedConfiguration(
                    f"vLLM's {owner.__name__}.{name} does not exist, but token pruning hooks into it. "
                    f"Install an unmodified vllm=={SUPPORTED_VLLM}."
                )


def check_vllm_config(vllm_config: VllmConfig) -> None:
    """Check the engine's configuration.

    Raises:
        UnsupportedConfiguration: names the first setting that excludes pruning.
        InvalidSparsityConfig: a pruning option is out of range.
    """
    SparsityConfig.from_additional_config(vllm_config.additional_config)
    for is_at_fault, sentence in _refusals(vllm_config):
        if is_at_fault:
            raise UnsupportedConfiguration(sentence)


def _refusals(config: VllmConfig) -> Iterator[tuple[bool, str]]:
    """Pairs of (is this configured?, why not and what to do)."""
    parallel, scheduler, model = config.parallel_config, config.scheduler_config, config.model_config
    yield (
        parallel.pipeline_parallel_size > 1,
        f"pipeline_parallel_size is {parallel.pipeline_parallel_size}, but token pruning needs 1. "
        "Use tensor parallelism instead.",
    )
    yield (
        parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1,
        "Context parallelism is on, but token pruning compacts the KV cache of a whole sequence. Set both "
        "context-parallel sizes to 1.",
    )
    yield (
        parallel.use_ubatching,
        "Micro-batching (DBO) is on, but token pruning plans a step as one batch. Turn it off.",
    )
    yield (
        config.kv_transfer_config is not None,
        "A KV connector is configured, but pruned KV caches cannot be transferred. Remove --kv-transfer-config.",
    )
    yield (
        config.speculative_config is not None,
        "Speculative decoding is configured, but draft tokens are not supported with token pruning. "
        "Remove --speculative-config.",
    )
    yield (
        scheduler.enable_chunked_prefill,
        "Chunked prefill is on, but token pruning selects over the whole prompt at once. "
        "Use --no-enable-chunked-prefill.",
    )
    yield (
        scheduler.long_prefill_token_threshold > 0,
        f"long_prefill_token_threshold is {scheduler.long_prefill_token_threshold}, but a sparse prompt must not be "
        "split. Set it to 0.",
    )
    yield (
        scheduler.max_num_batched_tokens < model.max_model_len,
        f"max_num_batched_tokens is {scheduler.max_num_batched_tokens} and max_model_len {model.max_model_len}, but a "
        "sparse prompt must fit one step. Raise --max-num-batched-tokens or lower --max-model-len.",
    )
    yield (
        bool(scheduler.disable_hybrid_kv_cache_manager),
        "The hybrid KV cache manager is disabled, but token pruning needs a block table per layer. "
        "Remove --disable-hybrid-kv-cache-manager.",
    )
    yield (
        current_platform.is_cpu() and config.cache_config.block_size % CPU_KERNEL_BLOCK_SIZE != 0,
        f"The KV block size is {config.cache_config.block_size}, but vLLM's CPU kernels take multiples of "
        f"{CPU_KERNEL_BLOCK_SIZE} and token pruning needs manager and kernel blocks to be equal. Set --block-size to "
        f"a multiple of {CPU_KERNEL_BLOCK_SIZE}.",
    )
    yield (
        model.is_encoder_decoder or model.runner_type != "generate",
        "The model does not generate with a decoder only, but token pruning needs that. Serve it with stock vLLM.",
    )
    yield (
        model.is_mm_prefix_lm,
        "The model lets picture tokens attend in both directions, but token pruning is causal. "
        "Serve it with stock vLLM.",
    )
    yield (
        current_platform.is_cpu() and config.use_v2_model_runner,
        "Model Runner V2 is on, but on CPU token pruning needs V1. Set VLLM_USE_V2_MODEL_RUNNER=0.",
    )
    # What makes vLLM fall back to V1 by itself (pipeline parallelism, speculative decoding, DBO) is refused above.
    yield (
        current_platform.is_cuda() and not config.use_v2_model_runner,
        "Model Runner V1 is on, but on CUDA token pruning needs V2. Remove VLLM_USE_V2_MODEL_RUNNER.",
    )
    backend = config.attention_config.backend
    yield (
        current_platform.is_cuda() and backend is not None and backend.name != CUDA_BACKEND_NAME,
        f"attention_backend is {backend and backend.name}, but token pruning needs {CUDA_BACKEND_NAME}. "
        "Remove --attention-backend.",
    )


def check_layers(layers: Mapping[str, Attention]) -> None:
    """Check that every attention layer is one that sparse prefills can compute.

    Args:
        layers: vLLM's attention layers of the decoder, by name.

    Raises:
        UnsupportedConfiguration: a layer does more than causal softmax attention over its own keys and values.
    """
    for name, layer in layers.items():
        extras = {
            "shares the KV cache of another layer": layer.kv_sharing_target_layer_name is not None,
            "has ALiBi slopes": layer.impl.alibi_slopes is not None,
            "caps its logits": bool(layer.impl.logits_soft_cap),
            "has attention sinks": layer.impl.sinks is not None,
        }
        if extra := next((extra for extra, is_present in extras.items() if is_present), None):
            raise UnsupportedConfiguration(
                f"Layer {name} {extra}, but token pruning needs plain causal attention over a cache of its own. "
                "Serve this model with stock vLLM."
            )


def check_managers(managers: Sequence[SingleTypeKVCacheManager]) -> None:
    """Check that every layer got a KV cache group of its own, managed by this package.

    Raises:
        UnsupportedConfiguration: the worker or the plugin of this package is not in place.
    """
    if not managers or not all(isinstance(manager, TopPManager) for manager in managers):
        raise UnsupportedConfiguration(
            "The KV cache groups are not managed by Winnow, so nothing would be pruned. Start the engine with "
            "attention_backend.engine_args(...) and let vLLM load the plugin `winnow` (see VLLM_PLUGINS)."
        )
